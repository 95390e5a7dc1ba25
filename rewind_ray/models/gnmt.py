"""GNMT: an encoder and a decoder of LSTMs with attention, for translation.

Wu et al. 2016, in the form that Renda et al. 2020 trained ("gnmt_v2" of the TensorFlow code that
they published, ``gnmt/model/nmt``): a first encoder layer in both directions, normalised Bahdanau
attention from the first decoder layer to all decoder layers, residual connections from the third
layer on, dropout on what every LSTM reads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rewind_ray.errors import UserError
from rewind_ray.models.initial import DRAW
from rewind_ray.models.seeded_dropout import dropped, stays
from rewind_ray.network_options import options_of

NAMES = ("gnmt", "gnmt_small", "gnmt_tiny")
"""Their options and defaults are in ``rewind_ray.network_options``; the last is for ``--smoke``."""
RESIDUAL_FROM = 2
"""Position of the first layer whose input is added to its output."""
LstmState = tuple[Tensor, Tensor]
"""Hidden and cell state, (1, N, units) each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Encoded sentences."""

    values: Tensor
    """(N, S, units): what attention gives."""
    keys: Tensor
    """(N, S, units): what it compares."""
    padding: Tensor
    """(N, S) bool: places after the end of a sentence."""

    def at(self, rows: Tensor) -> Memory:
        """Of the sentences at these positions, (M,) int64."""
        return Memory(values=self.values[rows], keys=self.keys[rows], padding=self.padding[rows])


@dataclass(frozen=True, kw_only=True, slots=True)
class DecoderState:
    """What the decoder remembers of the tokens that it has read."""

    layers: tuple[LstmState, ...]
    context: Tensor
    """(N, 1, units): what attention gave last; 0 at the start."""

    def at(self, rows: Tensor) -> DecoderState:
        """Of the sentences at these positions, (M,) int64."""
        layers = tuple((hidden[:, rows], cell[:, rows]) for hidden, cell in self.layers)
        return DecoderState(layers=layers, context=self.context[rows])


class Gnmt(nn.Module):
    def __init__(
        self,
        *,
        vocabulary: int,
        layers: int,
        units: int,
        dropout: float,
        shared_embedding: bool,
        input_feeding: bool,
        pass_state: bool,
    ) -> None:
        """vocabulary: number of tokens, source and target together. layers: of the encoder, and of
        the decoder. shared_embedding: one for both. input_feeding: the first decoder layer reads
        the context of the token before, so tokens can't be decoded at once in training.
        pass_state: the decoder's layers start from the encoder's final states, not from 0.
        """
        super().__init__()
        if layers < 2:
            raise UserError(f"layers is {layers}; allowed: 2 and more")
        self.encoder = Encoder(nn.Embedding(vocabulary, units), layers, dropout, pass_state)
        embedding = self.encoder.embedding if shared_embedding else nn.Embedding(vocabulary, units)
        self.decoder = Decoder(embedding, layers, dropout, input_feeding)

    def forward(
        self,
        source: Tensor,
        target: Tensor,
        lengths: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Logits (N, T, vocabulary) of the token after each of ``target``.

        source: (N, S) int64, padded behind. target: (N, T) int64, what comes before each token.
        lengths: (N,) int64, of the source, on the CPU; None: there is no padding. noise: (N,)
        int32, random keys of the sentences, see ``seeded_dropout``; None: no dropout.
        """
        memory, state = self.encode(source, lengths, noise)
        logits, _, _ = self.decode(target, memory, state, noise)
        return logits

    def encode(
        self, source: Tensor, lengths: Tensor | None = None, noise: Tensor | None = None
    ) -> tuple[Memory, DecoderState]:
        """Arguments as of ``forward``."""
        values, keys, states = self.encoder(source, lengths, noise)
        padding = torch.zeros_like(source, dtype=torch.bool)
        if lengths is not None:
            places = torch.arange(source.shape[1], device=source.device)
            padding = places >= lengths.to(source.device)[:, None]
        nothing = torch.zeros_like(values[:, :1])
        if not states:
            zero = nothing.transpose(0, 1).contiguous()
            states = [(zero, zero)] * len(self.decoder.layers)
        memory = Memory(values=values, keys=keys, padding=padding)
        return memory, DecoderState(layers=tuple(states), context=nothing)

    def decode(
        self, tokens: Tensor, memory: Memory, state: DecoderState, noise: Tensor | None = None
    ) -> tuple[Tensor, DecoderState, Tensor]:
        """Read tokens, (N, T) int64 -> logits (N, T, vocabulary) of what follows each of them, the
        state after the last, and where each looked: (N, T, S), of sum 1 over the source."""
        logits, after, weights = self.decoder(tokens, memory, state, noise)
        return logits, after, weights


class Encoder(nn.Module):
    def __init__(
        self, embedding: nn.Embedding, layers: int, dropout: float, pass_state: bool
    ) -> None:
        super().__init__()
        units = embedding.embedding_dim
        self.dropout, self.pass_state = dropout, pass_state
        self.embedding = embedding
        self.ahead = Lstm(units, units)
        self.back = Lstm(units, units)
        sizes = [2 * units] + [units] * (layers - 2)
        self.layers = nn.ModuleList(Lstm(size, units) for size in sizes)
        self.keys = nn.Linear(units, units, bias=False)

    def forward(
        self, tokens: Tensor, lengths: Tensor | None, noise: Tensor | None
    ) -> tuple[Tensor, Tensor, list[LstmState]]:
        """tokens: (N, S) -> values and keys of the ``Memory``, (N, S, units) each, and the final
        states, if they are passed on: of the first layer's backward direction, and of the layers
        above."""
        embedded = self.embedding(tokens)
        turn = reversal(lengths, tokens)
        read = dropped(embedded, noise, 0, self.dropout)
        read_back = dropped(taken(embedded, turn), noise, 1, self.dropout)
        ahead, _ = self.run(self.ahead, read, lengths)
        back, state = self.run(self.back, read_back, lengths)
        values, states = torch.cat([ahead, taken(back, turn)], dim=-1), [state]
        for position, layer in enumerate(self.layers, start=1):
            read = dropped(values, noise, position + 1, self.dropout)
            output, state = self.run(layer, read, lengths)
            values = output + values if position >= RESIDUAL_FROM else output
            states.append(state)
        return values, self.keys(values), states if self.pass_state else []

    def run(
        self, layer: nn.Module, read: Tensor, lengths: Tensor | None
    ) -> tuple[Tensor, LstmState]:
        """What comes out after the end of a sentence may be anything: nothing looks at it.

        The state after the last token of each sentence needs packed sequences. On a CPU they cost
        half as much again, so without ``pass_state`` padding is run through.
        """
        if lengths is None or not self.pass_state:
            output, state = layer(read)
            return output, state
        packed = pack_padded_sequence(read, lengths, batch_first=True, enforce_sorted=False)
        output, state = layer(packed)
        padded, _ = pad_packed_sequence(output, batch_first=True, total_length=read.shape[1])
        return padded, state


class Decoder(nn.Module):
    def __init__(
        self, embedding: nn.Embedding, layers: int, dropout: float, input_feeding: bool
    ) -> None:
        super().__init__()
        units = embedding.embedding_dim
        self.dropout, self.input_feeding = dropout, input_feeding
        self.embedding = embedding
        sizes = [2 * units if input_feeding else units] + [2 * units] * (layers - 1)
        self.layers = nn.ModuleList(Lstm(size, units) for size in sizes)
        self.attention = Attention(units)
        self.projection = nn.Linear(units, embedding.num_embeddings, bias=False)
        self.site = layers + 1
        """Of the first layer's dropout; the encoder's come before."""

    def forward(
        self, tokens: Tensor, memory: Memory, state: DecoderState, noise: Tensor | None
    ) -> tuple[Tensor, DecoderState, Tensor]:
        """See ``Gnmt.decode``."""
        embedded = self.embedding(tokens)
        if self.input_feeding:
            values, contexts, weights, after = self.feed(embedded, memory, state, noise)
        else:
            read = dropped(embedded, noise, self.site, self.dropout)
            values, after = self.layers[0](read, state.layers[0])
            contexts, weights = self.attention(values, memory)
        states = [after]
        for position in range(1, len(self.layers)):
            both = torch.cat([values, contexts], dim=-1)
            read = dropped(both, noise, self.site + position, self.dropout)
            output, after = self.layers[position](read, state.layers[position])
            values = output + values if position >= RESIDUAL_FROM else output
            states.append(after)
        read_all = DecoderState(layers=tuple(states), context=contexts[:, -1:])
        return self.projection(values), read_all, weights

    def feed(
        self, embedded: Tensor, memory: Memory, state: DecoderState, noise: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, LstmState]:
        """The first layer, token by token, and attention: outputs, contexts, weights, state."""
        steps, width = embedded.shape[1], 2 * embedded.shape[2]
        stay = None
        if noise is not None and self.dropout:
            stay = stays(noise, self.site, steps, width, self.dropout) * (1 / (1 - self.dropout))
        context, after = state.context, state.layers[0]
        outputs, contexts, weights = [], [], []
        for step in range(steps):
            read = torch.cat([embedded[:, step : step + 1], context], dim=-1)
            if stay is not None:
                read = read * stay[:, step : step + 1]
            output, after = self.layers[0](read, after)
            context, weight = self.attention(output, memory)
            outputs.append(output)
            contexts.append(context)
            weights.append(weight)
        return torch.cat(outputs, 1), torch.cat(contexts, 1), torch.cat(weights, 1), after


class Attention(nn.Module):
    """Bahdanau et al. 2015, §3.1, normalised: softmax(g * v / |v| · tanh(W q + U m + b)) over m.

    U is the encoder's ``keys``, so that it is applied once.
    """

    def __init__(self, units: int) -> None:
        super().__init__()
        self.query = nn.Linear(units, units, bias=False)
        self.score = NormalisedScore(units)
        self.bias = nn.Parameter(torch.empty(units))

    def forward(self, queries: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """queries: (N, T, units) -> contexts (N, T, units), weights (N, T, S), 0 on padding."""
        query = self.query(queries) + self.bias
        energies = torch.tanh(query[:, :, None] + memory.keys[:, None])
        scores = self.score(energies).masked_fill(memory.padding[:, None], -math.inf)
        weights = scores.softmax(dim=-1)  # in fp32 under autocast
        contexts = torch.bmm(weights.to(memory.values.dtype), memory.values)
        return contexts, weights


class NormalisedScore(nn.Module):
    def __init__(self, units: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1, units))
        self.scale = nn.Parameter(torch.empty(1))

    def forward(self, energies: Tensor) -> Tensor:
        """(..., units) -> (...). Where all of ``weight`` is pruned every score is 0."""
        length = self.weight.norm().clamp_min(torch.finfo(self.weight.dtype).tiny)
        return F.linear(energies, self.scale * self.weight / length).squeeze(-1)


class Lstm(nn.LSTM):
    """One layer in one direction, batch first, with one bias, as TensorFlow's cells have.

    PyTorch's LSTM adds two, which together learn twice as fast; the second is a constant 0 here.
    """

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__(inputs, units, batch_first=True)
        del self._parameters["bias_hh_l0"]
        self.register_buffer("bias_hh_l0", torch.zeros(4 * units), persistent=False)
        self._init_flat_weights()


def reversal(lengths: Tensor | None, tokens: Tensor) -> Tensor:
    """(N, S) int64: for each place the one that has it in the sentence read backwards; padding
    stays where it is, behind."""
    places = torch.arange(tokens.shape[1], device=tokens.device).expand(tokens.shape)
    if lengths is None:
        return places.flip(1)
    ends = lengths.to(tokens.device)[:, None]
    return torch.where(places < ends, ends - 1 - places, places)


class _Taken(torch.autograd.Function):
    """Reversing twice changes nothing, so the gradient is reversed the same way: no sums, which
    would cost time, and on a GPU the same order every time."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, turn: Tensor) -> Tensor:
        ctx.save_for_backward(turn)
        return values[torch.arange(len(turn), device=turn.device)[:, None], turn]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (turn,) = ctx.saved_tensors
        return gradient[torch.arange(len(turn), device=turn.device)[:, None], turn], None


def taken(values: Tensor, turn: Tensor) -> Tensor:
    """values: (N, S, C), turn: a ``reversal`` -> (N, S, C), each sentence backwards."""
    return _Taken.apply(values, turn)  # type: ignore[no-any-return]


def build_gnmt(name: str, vocabulary: int, options: Mapping[str, Any]) -> Gnmt:
    """One of NAMES, its weights not yet meaningful: see ``initialise_gnmt_``.

    Raises UserError, listing what is known, for an unknown name or option.
    """
    if name not in NAMES:
        raise UserError(f"unknown network {name!r} for translation; known: {', '.join(NAMES)}")
    known = options_of(name)
    for option in options:
        if option not in known:
            raise UserError(f"network {name} has no option {option!r}; known: {', '.join(known)}")
    return Gnmt(vocabulary=vocabulary, **{**known, **options})


@torch.no_grad()
def initialise_gnmt_(network: Gnmt, seed: int, kind: str) -> None:
    """Fresh weights, a function of the seed alone: matrices as ``kind`` says (a key of
    ``initial.DRAW``), biases 0, the score's scale 1 / sqrt(units), as the published code starts.

    Drawn on the CPU, in the order of the modules.
    """
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        if parameter.dim() > 1:
            parameter.copy_(DRAW[kind](parameter, generator))
        else:
            parameter.zero_()
    score = network.decoder.attention.score
    score.scale.fill_(1 / math.sqrt(score.weight.shape[1]))
