"""Against an implementation of its own: cell by cell, token by token, in double precision."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rewind_ray.models.gnmt import Gnmt, build_gnmt, initialise_gnmt_
from rewind_ray.models.seeded_dropout import stays
from rewind_ray.network_options import options_of
from rewind_ray.pruning import prunable_parameters
from rewind_ray.pruning.flops import multiply_adds, remaining_multiply_adds

UNITS = 8
VOCABULARY = 11
ALL_ON = dict.fromkeys(("shared_embedding", "input_feeding", "pass_state"), True)


def tiny(layers: int = 4, **options: Any) -> Gnmt:
    chosen = {"dropout": 0.2, **ALL_ON, **options}
    network = Gnmt(vocabulary=VOCABULARY, layers=layers, units=UNITS, **chosen)
    initialise_gnmt_(network, 0, "uniform")
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.empty(parameter.shape).uniform_(-1, 1, generator=generator))
    return network.double()


SENTENCES = ([4, 5, 6, 7, 3], [8, 9, 10], [3, 2])
TRANSLATIONS = ([1, 3, 4, 5], [1, 9, 9, 2], [1, 6, 2, 2])


def batch() -> dict[str, Tensor]:
    lengths = torch.tensor([len(sentence) for sentence in SENTENCES])
    source = torch.full((len(SENTENCES), 5), 2)
    for row, sentence in enumerate(SENTENCES):
        source[row, : len(sentence)] = torch.tensor(sentence)
    return {
        "source": source,
        "target": torch.tensor(TRANSLATIONS),
        "lengths": lengths,
        "noise": torch.tensor([17, -5, 2_000_000_000], dtype=torch.int32),
    }


# The other implementation


def cell(layer: nn.LSTM, x: Tensor, hidden: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    gates = layer.weight_ih_l0 @ x + layer.weight_hh_l0 @ hidden + layer.bias_ih_l0
    i, f, g, o = gates.split(UNITS)
    memory = torch.sigmoid(f) * memory + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(memory), memory


class ByHand:
    """Of one sentence and its translation."""

    def __init__(self, network: Gnmt, key: int | None) -> None:
        self.network, self.key = network, key
        self.zero = torch.zeros(UNITS, dtype=torch.float64)

    def drop(self, x: Tensor, site: int, step: int) -> Tensor:
        if self.key is None:
            return x
        keys = torch.tensor([self.key], dtype=torch.int32)
        return x * stays(keys, site, step + 1, len(x), 0.2)[0, step] / 0.8

    def run(self, layer: nn.LSTM, inputs: list[Tensor], site: int) -> tuple[list[Tensor], Any]:
        hidden, memory, outputs = self.zero, self.zero, []
        for step, x in enumerate(inputs):
            hidden, memory = cell(layer, self.drop(x, site, step), hidden, memory)
            outputs.append(hidden)
        return outputs, (hidden, memory)

    def logits(self, sentence: list[int], translation: list[int]) -> Tensor:
        encoder, decoder = self.network.encoder, self.network.decoder
        words = [encoder.embedding.weight[token] for token in sentence]
        ahead, _ = self.run(encoder.ahead, words, 0)
        back, state = self.run(encoder.back, words[::-1], 1)
        values = [torch.cat(pair) for pair in zip(ahead, back[::-1], strict=True)]
        states = [state]
        for number, layer in enumerate(encoder.layers, start=2):
            outputs, state = self.run(layer, values, number)
            residual = number >= 3  # from the third layer on
            values = [o + v if residual else o for o, v in zip(outputs, values, strict=True)]
            states.append(state)
        if not encoder.pass_state:
            states = [(self.zero, self.zero) for _ in states]
        first_site = len(decoder.layers) + 1
        context = self.zero
        logits = []
        for step, token in enumerate(translation):
            x = decoder.embedding.weight[token]
            if decoder.input_feeding:
                x = torch.cat([x, context])
            states[0] = cell(decoder.layers[0], self.drop(x, first_site, step), *states[0])
            value = states[0][0]
            context = self.attend(value, values)
            for number, layer in enumerate(decoder.layers[1:], start=2):
                x = self.drop(torch.cat([value, context]), first_site + number - 1, step)
                states[number - 1] = cell(layer, x, *states[number - 1])
                output = states[number - 1][0]
                value = output + value if number >= 3 else output
            logits.append(decoder.projection.weight @ value)
        return torch.stack(logits)

    def attend(self, query: Tensor, values: list[Tensor]) -> Tensor:
        attention = self.network.decoder.attention
        v = attention.score.weight[0]
        v = attention.score.scale * v / v.square().sum().sqrt()
        q, m = attention.query.weight, self.network.encoder.keys.weight
        scores = [v @ torch.tanh(q @ query + m @ value + attention.bias) for value in values]
        weights = torch.stack(scores).exp()
        weights = weights / weights.sum()
        return sum((w * value for w, value in zip(weights, values, strict=True)), self.zero)


OPTIONS = [ALL_ON, *({**ALL_ON, name: False} for name in ALL_ON), dict.fromkeys(ALL_ON, False)]


@pytest.mark.parametrize(
    ("options", "noisy"), [(ALL_ON, False), *((options, True) for options in OPTIONS)]
)
def test_a_padded_batch_gives_what_each_sentence_gives_by_hand(
    options: dict[str, bool], noisy: bool
) -> None:
    network, inputs = tiny(**options), batch()
    found = network(**inputs if noisy else {**inputs, "noise": None})
    for row, (sentence, translation) in enumerate(zip(SENTENCES, TRANSLATIONS, strict=True)):
        by_hand = ByHand(network, int(inputs["noise"][row]) if noisy else None)
        expected = by_hand.logits(sentence, translation)
        torch.testing.assert_close(found[row], expected, rtol=1e-9, atol=1e-9)


def test_a_training_step_is_the_one_by_hand() -> None:
    """Smoothed cross-entropy, its gradients, and Adam's first step."""
    inputs, smoothing, lr = batch(), 0.1, 0.01
    after = torch.tensor([[3, 4, 5, 2], [9, 9, 2, -100], [6, 2, -100, -100]])
    network, twin = tiny(), tiny()
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    loss = nn.functional.cross_entropy(
        network(**inputs).flatten(0, 1), after.flatten(), label_smoothing=smoothing
    )
    loss.backward()
    optimizer.step()

    losses = []
    for row, (sentence, translation) in enumerate(zip(SENTENCES, TRANSLATIONS, strict=True)):
        logits = ByHand(twin, int(inputs["noise"][row])).logits(sentence, translation)
        log_shares = logits - logits.exp().sum(dim=1, keepdim=True).log()
        for step, token in enumerate(after[row].tolist()):
            if token != -100:
                wanted = torch.full((VOCABULARY,), smoothing / VOCABULARY, dtype=torch.float64)
                wanted[token] += 1 - smoothing
                losses.append(-(wanted * log_shares[step]).sum())
    expected = torch.stack(losses).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    expected.backward()
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            assert parameter.grad is not None
            gradient = network.get_parameter(name).grad
            torch.testing.assert_close(gradient, parameter.grad, rtol=1e-7, atol=1e-12, msg=name)
            # after one update both moments, corrected, are those of this gradient
            parameter -= lr * parameter.grad / (parameter.grad.abs() + 1e-8)
            torch.testing.assert_close(network.get_parameter(name), parameter, rtol=1e-6, atol=1e-8)


def test_tokens_one_by_one_are_tokens_at_once() -> None:
    for options in OPTIONS:
        network, inputs = tiny(**options), batch()
        memory, state = network.encode(inputs["source"], inputs["lengths"])
        whole, last, looked = network.decode(inputs["target"], memory, state)
        for step in range(inputs["target"].shape[1]):
            token = inputs["target"][:, step : step + 1]
            logits, state, weights = network.decode(token, memory, state)
            torch.testing.assert_close(logits[:, 0], whole[:, step])
            torch.testing.assert_close(weights[:, 0], looked[:, step])
        torch.testing.assert_close(state.context, last.context)
        assert torch.equal(looked.sum(-1).round(decimals=5), torch.ones(3, 4))
        assert not looked[1, :, 3:].any()  # padding


def test_with_attention_pruned_away_it_looks_everywhere_alike() -> None:
    network = tiny()
    with torch.no_grad():
        network.decoder.attention.score.weight.zero_()
    memory, state = network.encode(batch()["source"], batch()["lengths"])
    _, _, weights = network.decode(batch()["target"], memory, state)
    assert weights[1, 0].tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0, 0])


# Sizes


def on_meta(name: str, vocabulary: int, **options: Any) -> Gnmt:
    with torch.device("meta"):
        return build_gnmt(name, vocabulary, options)


def size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameters_are_the_published_ones() -> None:
    """165 million: Renda et al. 2020, Table 1. 32,317 tokens: MLPerf's vocabulary of WMT16."""
    assert round(size(on_meta("gnmt", 32_317)) / 1e6) == 165
    # run.py says --share_vocab=False: another matrix of embeddings
    assert round(size(on_meta("gnmt", 32_317, shared_embedding=False)) / 1e6) == 198


def test_parameters_are_mlperfs() -> None:
    """160,671,297 in NVIDIA's PyTorch code of MLPerf: without input feeding, but with two biases in
    each of 9 LSTMs and one of the projection; its vocabulary is a multiple of 8."""
    ours = size(on_meta("gnmt", 32_320, input_feeding=False))
    assert ours + 9 * 4 * 1024 + 32_320 == 160_671_297


def test_all_matrices_can_be_pruned_and_no_bias() -> None:
    network = on_meta("gnmt", 100)
    prunable = prunable_parameters(network, "*")
    others = {name for name, _ in network.named_parameters()} - prunable.keys()
    assert {name.rpartition(".")[2] for name in others} == {"bias_ih_l0", "bias", "scale"}
    assert set(prunable_parameters(network, "decoder.attention.*")) == {
        f"decoder.attention.{name}.weight" for name in ("query", "score")
    }


def test_multiply_adds_are_those_of_the_formulas() -> None:
    length, units, vocabulary, layers = 7, 16, 30, 3
    network = build_gnmt("gnmt_small", vocabulary, {"units": units, "layers": layers})
    initialise_gnmt_(network, 0, "uniform")
    sentence = torch.zeros(1, length, dtype=torch.long)
    per_step = 4 * units * units  # of a gate matrix of one input of this width
    lstms = 2 * 2 * per_step + 3 * per_step + 2 * per_step  # two directions; 2 units wide; 1
    lstms += 2 * per_step + 2 * 3 * per_step  # decoder: the word; value and context
    attention = 2 * units**2 + length * (units + units)  # query, memory; score and context
    expected = length * (lstms + attention + units * vocabulary)
    for network_ in (network, on_meta("gnmt_small", vocabulary, units=units, layers=layers)):
        found = multiply_adds(network_, (sentence, sentence))
        assert sum(found.values()) == expected
    half = {
        name: torch.arange(p.numel()).view(p.shape) % 2 == 0
        for name, p in prunable_parameters(network, "*").items()
    }
    unpruned = length * length * units  # the context has no weights
    assert remaining_multiply_adds(found, half) == (expected - unpruned) / 2 + unpruned


def test_weights_start_uniform_and_follow_from_the_seed() -> None:
    one, same, other = (build_gnmt("gnmt_tiny", 50, {}) for _ in range(3))
    for network, seed in ((one, 3), (same, 3), (other, 4)):
        initialise_gnmt_(network, seed, "uniform")
    for (name, a), b, c in zip(
        one.named_parameters(), same.parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(a, b)
        if a.dim() > 1:
            assert not torch.equal(a, c)
            assert 0.09 < float(a.detach().abs().max()) <= 0.1
        elif name.endswith("scale"):
            assert a.item() == pytest.approx(1 / math.sqrt(32))
        else:
            assert not a.any()


def test_unknown_names_and_options_are_refused() -> None:
    with pytest.raises(ValueError, match="gnmt_small"):
        build_gnmt("resnet20", 10, {})
    with pytest.raises(ValueError, match="input_feeding"):
        build_gnmt("gnmt", 10, {"feeding": True})
    with pytest.raises(ValueError, match="1"):
        build_gnmt("gnmt_tiny", 10, {"layers": 1})
    assert options_of("gnmt_small")["units"] == 256
