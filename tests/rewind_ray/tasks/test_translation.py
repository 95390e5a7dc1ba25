"""Loss, gradient and metric of translation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rewind_ray.datasets.text.batches import IGNORED
from rewind_ray.datasets.text.number_words import number_pairs
from rewind_ray.errors import UserError
from rewind_ray.protocols import renda_gnmt
from rewind_ray.pruning import prunable_parameters
from rewind_ray.tasks import Loss, task_of
from rewind_ray.tasks.translation import Translation, parts_of
from rewind_ray.training.epoch import evaluate, train_epoch
from rewind_ray.training.update import clip_gradients_, multipliers_of
from tests.rewind_ray.tasks.words import task, words


def first_batch(of: Translation) -> Any:
    return next(iter(of.batches("train", 0, 0)))


def gradients(of: Translation, limit: float | None = None) -> tuple[dict[str, Tensor], Loss]:
    """Of the first batch, and its loss."""
    network, batch = of.network(0), first_batch(of)

    def clip() -> None:
        if limit is not None:
            clip_gradients_(network, [], [], limit)

    loss = of.backward(network, batch, lambda part: of.loss(network, part), clip)
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}, loss


def norm(of: dict[str, Tensor]) -> float:
    return float(torch.stack([gradient.norm() for gradient in of.values()]).norm())


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    largest = max(float(gradient.abs().max()) for gradient in other.values())
    for name, gradient in one.items():
        torch.testing.assert_close(gradient, other[name], rtol=1e-4, atol=1e-5 * largest, msg=name)


# Loss and gradient


def test_the_loss_is_the_mean_over_subwords_and_ends() -> None:
    of = task()
    network, batch = of.network(0), first_batch(of)
    loss = of.loss(network, batch)
    logits = network(batch.source, batch.before, batch.lengths, batch.noise)
    shares = logits.log_softmax(dim=-1)
    losses, right = [], 0
    for row, step in (batch.after != IGNORED).nonzero().tolist():
        token = int(batch.after[row, step])
        at_place = shares[row, step]
        losses.append(-0.9 * at_place[token] - 0.1 * at_place.mean())
        right += int(logits[row, step].argmax()) == token
    torch.testing.assert_close(loss.mean, torch.stack(losses).mean())
    assert (loss.examples, int(loss.correct)) == (len(losses), right)  # type: ignore[arg-type]
    ends = (batch.after == 2).sum(dim=1)
    assert ends.tolist() == [1] * 16  # the end of a sentence is learnt, padding isn't


@pytest.mark.parametrize("at_once", [1, 5, 8, 16, 100])
def test_a_batch_in_parts_gives_the_same_numbers(at_once: int) -> None:
    """Dropout included: what is dropped doesn't depend on the parts."""
    whole, loss = gradients(task())
    in_parts, same_loss = gradients(task(task_options={"at_once": at_once}))
    assert_close(in_parts, whole)
    torch.testing.assert_close(same_loss.mean, loss.mean.detach())
    assert same_loss.examples == loss.examples
    assert torch.equal(same_loss.correct, loss.correct)  # type: ignore[arg-type]


@pytest.mark.parametrize("at_once", [0, 3])
def test_each_shard_is_clipped_and_shards_are_averaged(at_once: int) -> None:
    of = task(task_options={"shards": 4, "sum_loss": True, "at_once": at_once})
    limit = 2.0
    expected: dict[str, Tensor] = {}
    norms = []
    for shard in parts_of(first_batch(of), 4):
        network = of.network(0)
        (of.loss(network, shard).mean * shard.num_tokens).backward()
        found = {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
        norms.append(norm(found))
        for name, gradient in found.items():
            share = gradient * min(1, limit / norms[-1]) / 4
            expected[name] = expected.get(name, 0) + share
    assert min(norms) > limit  # a sum's gradient is large: all are clipped
    assert_close(gradients(of, limit)[0], expected)


def test_a_summed_loss_scales_the_gradient() -> None:
    mean, loss = gradients(task())
    total, same = gradients(task(task_options={"sum_loss": True}))
    assert_close({name: g / loss.examples for name, g in total.items()}, mean)
    torch.testing.assert_close(same.mean, loss.mean)  # as it is shown


def test_a_gradient_is_clipped_by_what_is_left_of_the_network() -> None:
    network = nn.Linear(4, 2)
    network.weight.grad = torch.tensor([[3.0, 40, 0, 0], [0, 4, 0, 0]])
    network.bias.grad = torch.tensor([12.0, 0])
    mask = {"weight": torch.tensor([[1, 0, 1, 1], [1, 1, 1, 1]], dtype=torch.bool)}
    masked = [network.weight]
    multipliers = multipliers_of({"weight": network.weight}, mask)
    clip_gradients_(network, masked, multipliers, 6.5)  # of sqrt(9 + 16 + 144) = 13
    expected = torch.tensor([[1.5, 0, 0, 0], [0, 2, 0, 0]])
    torch.testing.assert_close(network.weight.grad, expected)
    torch.testing.assert_close(network.bias.grad, torch.tensor([6.0, 0]))
    clip_gradients_(network, masked, multipliers, 100.0)
    torch.testing.assert_close(network.weight.grad, expected)


def test_training_clips_to_the_protocols_norm() -> None:
    """With plain SGD at rate 1 an update is the gradient."""
    of = task()
    for limit in (None, 0.01):
        network = of.network(0)
        before = {name: p.detach().clone() for name, p in network.named_parameters()}
        train_epoch(
            network=network,
            optimizer=torch.optim.SGD(network.parameters(), lr=1.0),
            batches=[first_batch(of)],
            batch_loss=of.loss,
            learning_rate=lambda update: 1.0,
            parameters={},
            mask={},
            precision="fp32",
            backward=of.backward,
            max_gradient_norm=limit,
        )
        moved = norm({n: p.detach() - before[n] for n, p in network.named_parameters()})
        assert moved == pytest.approx(limit or norm(gradients(of)[0]), rel=1e-4)


# Metric


def test_bleu_is_of_text_against_the_files_references() -> None:
    of = task()
    text, rows = of.text, of.evaluated_rows["test"].nonzero()[0]
    references = [text.references["test"][row] for row in rows]
    sources, _ = number_pairs()["test"]
    assert len(references) == 5
    perfect = text.vocabulary.encode(references)

    class Said(Translation):
        said = perfect

        def translate(self, network: nn.Module, sentences: list[list[int]]) -> list[list[int]]:
            assert text.vocabulary.decode(sentences) == [sources[row] for row in rows]
            return self.said

    knows = Said(of.protocol, None, of.device)
    assert evaluate(knows, of.network(0), "test") == 1
    knows.said = [perfect[1], *perfect[1:]]
    score = evaluate(knows, of.network(0), "test")
    expected, _ = of.bleu([references[1], *references[1:]], references)
    assert score == expected and 0 < expected < 1


def test_translations_come_back_in_order() -> None:
    """They are made sorted by length, many at once."""
    of = task()
    network = of.network(3).eval()
    sentences = [[5, 6, 7, 8], [9], [4, 4], [11, 12, 13]]
    together = of.translate(network, sentences)
    assert together == [of.translate(network, [sentence])[0] for sentence in sentences]


def test_metrics_say_how_bleu_was_counted() -> None:
    assert task().metric_details.endswith("greedy")
    details = task_of(renda_gnmt(), "/nowhere").metric_details
    assert "case:lc" in details and "tok:intl" in details and "version:" in details
    assert "beam of 5" in details and "0.6, 0.1" in details


def test_without_validation_there_is_none() -> None:
    assert task(validation="none").evaluate(task().network(0), "val") is None
    assert set(task().evaluated_rows) == {"val", "test"}


# Settings


@pytest.mark.parametrize(
    ("changes", "words_of_message"),
    [
        ({"dataset": "cifar10"}, r"unknown dataset 'cifar10'; known: multi30k"),
        ({"network": "resnet20"}, r"unknown network 'resnet20'.*gnmt_small"),
        ({"network_options": {"depth": 3}}, r"no option 'depth'"),
        ({"task_options": {"beams": 3}}, r"no option 'beams'.*beam_width"),
        ({"task_options": {"beam_width": 0}}, r"beam_width is 0; allowed: whole numbers from 1"),
        ({"task_options": {"shards": 3}}, r"shards is 3.*16"),
        ({"task_options": {"bleu_tokenizer": "x"}}, r"unknown bleu_tokenizer 'x'; known: 13a"),
        ({"validation": "test", "validation_fraction": 0.2}, r"validation is 'test'"),
    ],
)
def test_settings_that_it_has_not_are_refused(
    changes: dict[str, Any], words_of_message: str
) -> None:
    with pytest.raises(UserError, match=words_of_message):
        task_of(words(**changes), None)


def test_too_few_pairs_are_refused() -> None:
    with pytest.raises(UserError, match="8 pairs"):
        task(train_examples=8)


def test_bf16_is_refused_where_the_cpu_has_none() -> None:
    of = task_of(words(precision="bf16"), None)
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        of.load()
    else:
        with pytest.raises(UserError, match="bf16"):
            of.load()


def test_sizes_are_known_before_any_file_is_read() -> None:
    sizes = task_of(renda_gnmt(), None).sizes()
    assert (sizes.steps_per_epoch, sizes.num_val, sizes.num_test) == (863, 3003, 2169)
    tiny = task_of(words(), None).sizes()
    assert (tiny.steps_per_epoch, tiny.num_val, tiny.num_test) == (4, 5, 5)
    assert task().steps_per_epoch == 4


def test_published_settings_make_the_published_network() -> None:
    """165 million parameters with one embedding, Table 1; 198 with two, as the code has it. All but
    0.03% of them can be pruned."""
    for shared, millions in ((True, 165), (False, 198)):
        protocol = renda_gnmt(network_options={"shared_embedding": shared})
        network = task_of(protocol, None).meta_network()
        total = sum(parameter.numel() for parameter in network.parameters())
        prunable = prunable_parameters(network, protocol.prunable).values()
        assert round(total / 1e6) == millions
        assert 0.9997 < sum(p.numel() for p in prunable) / total < 1


def test_train_examples_are_a_fixed_choice() -> None:
    few, more = task(train_examples=32), task(train_examples=64)
    sentences = [
        {tuple(of.plan.source.padded(np.array([row]), -1)[0]) for row in range(len(of.plan.source))}
        for of in (few, more)
    ]
    assert len(sentences[0]) == 32 and sentences[0] <= sentences[1]


def test_files_that_are_not_given_are_asked_for() -> None:
    with pytest.raises(UserError, match="--data"):
        task_of(words(dataset="multi30k"), None).load()
