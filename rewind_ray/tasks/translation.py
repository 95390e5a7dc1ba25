"""Translation: pairs of sentences, cross-entropy of the next subword, and BLEU."""

from __future__ import annotations

import base64
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from rewind_ray.datasets.catalog import FOLDER_PREFIX
from rewind_ray.datasets.split import subset_indices
from rewind_ray.datasets.text.batches import IGNORED, PairBatch, Plan, epoch_batches
from rewind_ray.datasets.text.corpora import CORPORA, check_corpus, read_corpus
from rewind_ray.datasets.text.prepared import (
    Recipe,
    TranslationData,
    prepare,
    what_was_left_out,
)
from rewind_ray.datasets.text.subwords import END, START
from rewind_ray.errors import UserError
from rewind_ray.models.beam_search import beam_search
from rewind_ray.models.gnmt import Gnmt, build_gnmt, initialise_gnmt_
from rewind_ray.network_options import Option, options_of
from rewind_ray.spec import Protocol
from rewind_ray.task_options import TASK_OPTIONS
from rewind_ray.tasks.bleu import TOKENIZERS, bleu
from rewind_ray.tasks.task import Loss, LossOf, Metric, Sizes, Task

log = logging.getLogger(__name__)

EXAMPLE_LENGTH = 25
"""Subwords of source and target that multiply-adds are counted of: about WMT16's mean."""
TRANSLATED_AT_ONCE = 200
"""Beginnings of translations; changes memory and time."""


class Translation(Task):
    """Sentences of ``datasets.text``, networks of ``models.gnmt``."""

    metric = Metric("bleu")
    formats: ClassVar[tuple[str, ...]] = ("safetensors", "state_dict", "json")
    option_defaults: ClassVar[Mapping[str, Option]] = TASK_OPTIONS["translation"]

    def __init__(self, protocol: Protocol, data: str | None, device: torch.device) -> None:
        """Raises UserError for an unknown data set, network or option, and for settings that
        translation doesn't have or that don't go together."""
        super().__init__(protocol, data, device)
        check_corpus(protocol.dataset)
        check_options(protocol, self.options)
        self.meta_network()

    # Data

    @property
    def recipe(self) -> Recipe:
        chosen = self.options
        return Recipe(
            source_language=str(chosen["source"]),
            target_language=str(chosen["target"]),
            subwords=int(chosen["subwords"]),
            longest=int(chosen["longest"]),
        )

    @cached_property
    def text(self) -> TranslationData:
        """Raises what ``datasets.text.prepared.prepare`` does."""
        return prepare(self.protocol.dataset, self.data, self.recipe)

    @cached_property
    def plan(self) -> Plan:
        protocol = self.protocol
        source, target = self.text.source["train"], self.text.target["train"]
        if protocol.train_examples is not None:
            rows = chosen_rows("train", len(source), protocol.train_examples)
            source, target = source.only(rows), target.only(rows)
        if len(source) < protocol.batch_size:
            raise UserError(
                f"{protocol.dataset} has {len(source):,} pairs to train on, fewer than a batch, "
                f"which is {protocol.batch_size:,}; give a smaller --batch-size or more text"
            )
        return Plan(
            source=source,
            target=target,
            batch_size=protocol.batch_size,
            bucket_width=int(self.options["bucket_width"]),
            steps_per_epoch=protocol.steps_per_epoch,
        )

    @property
    def steps_per_epoch(self) -> int:
        return self.plan.steps

    def batches(self, part: str, seed: int, epoch: int) -> Iterator[PairBatch]:
        """Of "train"; the other parts are translated, see ``evaluate``."""
        if part != "train":
            raise ValueError(f"part is {part!r}; only 'train' comes in batches of pairs")
        return epoch_batches(self.plan, seed, epoch)

    def prepare(self) -> None:
        for line in what_was_left_out(self.text):
            log.warning("%s, left out of training: %s", self.protocol.dataset, line)

    def load(self) -> None:
        if self.protocol.precision == "bf16":
            check_bf16(self.device)
        if self.protocol.data_digest not in ("", self.text.text_digest):
            raise UserError(
                f"{self.protocol.dataset} is {self.text.text_digest} here, and the stage was made "
                f"for {self.protocol.data_digest}: its text has changed since; start the sweep "
                "anew, or put the old one back"
            )
        assert self.plan

    def sizes(self) -> Sizes:
        protocol = self.protocol
        corpus = CORPORA.get(protocol.dataset)
        if corpus is None:
            return Sizes(steps_per_epoch=self.steps_per_epoch)
        pairs = protocol.train_examples or corpus.num_train
        evaluated = {
            part: min(number, protocol.test_examples or number)
            for part, number in corpus.num_pairs.items()
        }
        return Sizes(
            steps_per_epoch=protocol.steps_per_epoch or max(1, pairs // protocol.batch_size),
            num_val=evaluated["val"] if protocol.validation == "own" else None,
            num_test=evaluated["test"],
        )

    @property
    def prepared_digest(self) -> str:
        return self.text.digest

    def data_digest(self) -> str:
        return self.text.text_digest

    @classmethod
    def located(
        cls, dataset: str, data: str | None, wanted: Mapping[str, Any]
    ) -> tuple[str, str | None, dict[str, Any]]:
        """A folder's sentences are read, for their digest."""
        place: dict[str, Any] = {"augmentation": "none"}
        if not dataset.startswith(FOLDER_PREFIX):
            check_corpus(dataset)
            return dataset, None if data is None else os.path.abspath(data), place
        path = dataset.removeprefix(FOLDER_PREFIX)
        if data is not None and Path(data).absolute().name == path:
            path = data
        folder = Path(os.path.abspath(Path(path).expanduser()))
        options = {**cls.option_defaults, **dict(wanted["task_options"])}
        languages = (str(options["source"]), str(options["target"]))
        text = read_corpus(FOLDER_PREFIX + folder.name, str(folder), languages)
        return FOLDER_PREFIX + folder.name, str(folder), place | {"data_digest": text.digest}

    @classmethod
    def tiny(cls, protocol: Protocol) -> dict[str, Any]:
        """``gnmt_tiny``, and 64 numbers in words; in fp32, as few CPUs have LSTMs in bf16."""
        kept = ("shared_embedding", "input_feeding", "pass_state", "dropout")
        given = dict(protocol.network_options)
        as_before = {**options_of(protocol.network), **given}
        of_text = {"source": "en", "target": "de", "subwords": 90, "longest": 47}
        of_output = {"longest_output": 20, "bleu_tokenizer": "char"}
        return {
            "network": "gnmt_tiny",
            "network_options": {name: as_before[name] for name in kept if name in as_before},
            "task_options": {**dict(protocol.task_options), **of_text, **of_output},
            "dataset": "number_words",
            "data_digest": "",
            "train_examples": 64,
            "test_examples": 4,
            "batch_size": 32,
            "precision": "fp32",
        }

    # Networks

    @classmethod
    def rebuilt(cls, facts: Mapping[str, Any]) -> nn.Module:
        protocol = facts["spec"]["protocol"]
        options = {**cls.option_defaults, **dict(protocol["task_options"])}
        given = dict(protocol["network_options"])
        return build_gnmt(protocol["network"], int(options["subwords"]), given)

    def attachments(self) -> dict[str, bytes]:
        return {"vocabulary": self.vocabulary_model}

    @cached_property
    def vocabulary_model(self) -> bytes:
        """As sentencepiece wrote it."""
        return self.text.vocabulary.model

    def kept_of_data(self) -> dict[str, Any]:
        vocabulary = base64.b64encode(self.vocabulary_model).decode()
        return {**super().kept_of_data(), "vocabulary": vocabulary}

    @classmethod
    def recalled(cls, protocol: Protocol, kept: Mapping[str, Any], data: str | None) -> Translation:
        task = cls(protocol, data, torch.device("cpu"))
        task.vocabulary_model = base64.b64decode(kept["vocabulary"], validate=True)
        return task

    def network(self, seed: int) -> nn.Module:
        network = self.empty_network()
        initialise_gnmt_(network, seed, self.protocol.initial_weights)
        return self.placed(network)

    def empty_network(self) -> Gnmt:
        """On PyTorch's current device, not initialised."""
        protocol = self.protocol
        options = dict(protocol.network_options)
        return build_gnmt(protocol.network, int(self.options["subwords"]), options)

    def meta_network(self) -> nn.Module:
        with torch.device("meta"):
            return self.empty_network()

    def example(self) -> tuple[Tensor, ...]:
        """Source and target of one sentence, (1, 25) int64 each."""
        sentence = torch.full((1, EXAMPLE_LENGTH), END)
        return (sentence, sentence)

    # Loss

    def loss(self, network: nn.Module, batch: PairBatch) -> Loss:
        """Mean cross-entropy over the subwords of the translations and their ends."""
        here = batch.to(self.device)
        logits = network(here.source, here.before, here.lengths, here.noise)
        smoothing = self.protocol.label_smoothing
        after = here.after.flatten()
        mean = F.cross_entropy(
            logits.flatten(0, 1).float(), after, ignore_index=IGNORED, label_smoothing=smoothing
        )
        right = logits.detach().argmax(dim=-1).flatten() == after
        return Loss(mean=mean, examples=batch.num_tokens, correct=right.sum())

    def backward(
        self, network: nn.Module, batch: PairBatch, loss_of: LossOf, clip: Callable[[], None]
    ) -> Loss:
        """Shard by shard, each in parts: the gradients of parts are added up, those of shards
        clipped and averaged."""
        shards = equal_parts(batch, int(self.options["shards"]))
        totals: list[Tensor] = []
        losses: list[Loss] = []
        for shard in shards:
            network.zero_grad()
            for part in parts_of(shard, int(self.options["at_once"])):
                loss = loss_of(part)
                whole = 1 if self.options["sum_loss"] else shard.num_tokens
                (loss.mean * (loss.examples / whole)).backward()  # type: ignore[no-untyped-call]
                losses.append(loss)
            clip()
            if len(shards) > 1:
                add_gradients_(totals, network)
        for parameter, total in zip(network.parameters(), totals, strict=len(shards) > 1):
            parameter.grad = total.div_(len(shards))
        return of_all(losses)

    # Metric

    @torch.no_grad()
    def translate(self, network: nn.Module, sentences: list[list[int]]) -> list[list[int]]:
        """Subwords of each sentence -> those of its translation."""
        chosen = self.options
        width = int(chosen["beam_width"])
        order = sorted(range(len(sentences)), key=lambda row: len(sentences[row]))
        step = max(1, TRANSLATED_AT_ONCE // width)
        found: dict[int, list[int]] = {}
        for first in range(0, len(order), step):
            rows = order[first : first + step]
            lengths = torch.tensor([len(sentences[row]) for row in rows])
            source = torch.full((len(rows), int(lengths.max())), END)
            for place, row in enumerate(rows):
                source[place, : len(sentences[row])] = torch.tensor(sentences[row])
            translations = beam_search(
                network,  # type: ignore[arg-type]
                source.to(self.device),
                lengths,
                start=START,
                end=END,
                longest=int(chosen["longest_output"]),
                width=width,
                length_penalty=float(chosen["length_penalty"]),
                coverage_penalty=float(chosen["coverage_penalty"]),
            )
            found |= dict(zip(rows, translations, strict=True))
        return [found[row] for row in range(len(sentences))]

    def evaluate(self, network: nn.Module, part: str) -> float | None:
        """BLEU / 100 of the part's translations, as text, against the references in the files."""
        if part not in self.evaluated_rows:
            return None
        rows = self.evaluated_rows[part]
        sentences = self.text.source[part].only(rows)
        starts = sentences.ends - sentences.lengths
        tokens = [
            sentences.tokens[start:end].tolist()
            for start, end in zip(starts, sentences.ends, strict=True)
        ]
        translations = self.text.vocabulary.decode(self.translate(network, tokens))
        references = [self.text.references[part][row] for row in np.flatnonzero(rows)]
        return self.bleu(translations, references)[0]

    def bleu(self, translations: list[str], references: list[str]) -> tuple[float, str]:
        lowercase, tokenizer = self.options["bleu_lowercase"], self.options["bleu_tokenizer"]
        return bleu(translations, references, bool(lowercase), str(tokenizer))

    @cached_property
    def evaluated_rows(self) -> dict[str, NDArray[np.bool_]]:
        """Part -> which of its sentences count. Without "val" where the protocol wants none."""
        parts = ("val", "test") if self.protocol.validation == "own" else ("test",)
        missing = [part for part in parts if part not in self.text.references]
        if missing:
            raise UserError(
                f"{self.protocol.dataset} has no {missing[0]}, and validation is 'own'; add it, or "
                "choose validation 'none'"
            )
        count = self.protocol.test_examples
        numbers = {part: len(self.text.references[part]) for part in parts}
        return {p: chosen_rows(p, n, min(n, count or n)) for p, n in numbers.items()}

    @property
    def metric_details(self) -> str:
        """sacreBLEU's signature, and how translations were searched for."""
        _, signature = self.bleu(["a"], ["a"])
        width = self.options["beam_width"]
        if width == 1:
            return f"{signature}, greedy"
        penalties = f"{self.options['length_penalty']:g}, {self.options['coverage_penalty']:g}"
        return f"{signature}, beam of {width}, penalties of length and coverage {penalties}"


# Settings


def check_options(protocol: Protocol, chosen: Mapping[str, Option]) -> None:
    """Raises UserError, naming the value and the allowed ones."""
    least = {"subwords": 4, "longest": 1, "bucket_width": 1, "shards": 1, "at_once": 0}
    for name, number in (least | {"beam_width": 1, "longest_output": 1}).items():
        value = chosen[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < number:
            raise UserError(f"{name} is {value!r}; allowed: whole numbers from {number} up")
    if protocol.batch_size % int(chosen["shards"]):
        raise UserError(
            f"shards is {chosen['shards']}, which doesn't divide the batch of {protocol.batch_size}"
        )
    if chosen["bleu_tokenizer"] not in TOKENIZERS:
        raise UserError(
            f"unknown bleu_tokenizer {chosen['bleu_tokenizer']!r}; known: {', '.join(TOKENIZERS)}"
        )
    if protocol.validation not in ("none", "own"):
        raise UserError(
            f"validation is {protocol.validation!r}; translation has a validation set of its own, "
            "so allowed: none, own"
        )


def check_bf16(device: torch.device) -> None:
    """Raises UserError on a CPU whose LSTMs have no bfloat16."""
    try:
        with torch.autocast(device.type, torch.bfloat16):
            nn.LSTM(2, 2, device=device)(torch.zeros(1, 1, 2, device=device))
    except RuntimeError as error:
        raise UserError(
            f"precision bf16 on {device.type}: PyTorch has no LSTM in bfloat16 for it (a CPU needs "
            "AVX-512); choose fp32"
        ) from error


def chosen_rows(part: str, number: int, count: int) -> NDArray[np.bool_]:
    """``count`` of them, a fixed random choice. (number,)"""
    chosen = np.zeros(number, dtype=np.bool_)
    chosen[subset_indices(number, count, f"{part} pairs").numpy()] = True
    return chosen


# Parts of a batch


def equal_parts(batch: PairBatch, number: int) -> list[PairBatch]:
    return parts_of(batch, len(batch) // number)


def parts_of(batch: PairBatch, size: int) -> list[PairBatch]:
    """Of ``size`` sentences each, the last of what is left; 0: all of them at once."""
    if size == 0 or size >= len(batch):
        return [batch]
    return [batch.part(slice(first, first + size)) for first in range(0, len(batch), size)]


def add_gradients_(totals: list[Tensor], network: nn.Module) -> None:
    """Add the network's gradients to the totals, which are empty at first."""
    gradients = [
        torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in network.parameters()
    ]
    if totals:
        torch._foreach_add_(totals, gradients)
    else:
        totals.extend(gradients)


def of_all(losses: list[Loss]) -> Loss:
    """The loss of a batch of whose parts these are."""
    if len(losses) == 1:
        return losses[0]
    examples = sum(loss.examples for loss in losses)
    means = torch.stack([loss.mean.detach() * (loss.examples / examples) for loss in losses])
    correct = torch.stack([loss.correct for loss in losses if loss.correct is not None])
    return Loss(mean=means.sum(), examples=examples, correct=correct.sum())
