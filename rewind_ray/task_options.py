"""The built-in tasks' options and what they are if not given. Plain data, no torch."""

from __future__ import annotations

from rewind_ray.network_options import Option

TRANSLATION: dict[str, Option] = {
    "source": "en",  # languages, as the files' names end
    "target": "de",
    "subwords": 32_000,  # size of the vocabulary, both languages together
    "longest": 47,  # subwords of a sentence; pairs with longer ones aren't trained on
    "bucket_width": 10,  # subwords: batches are of sentences whose lengths differ by less
    "shards": 1,  # parts of a batch whose gradients are clipped each, and then averaged
    "at_once": 0,  # sentences of a forward and backward pass; 0: a shard's
    "sum_loss": False,  # a shard's loss is the sum over its subwords, else the mean
    "beam_width": 1,  # translations that are continued; 1: greedy
    "length_penalty": 0.6,  # of beam search
    "coverage_penalty": 0.1,
    "longest_output": 150,  # subwords of a translation, at most
    "bleu_lowercase": False,
    "bleu_tokenizer": "13a",  # of sacreBLEU
}

TASK_OPTIONS: dict[str, dict[str, Option]] = {
    "image_classification": {"split": 0.0},
    "classification": {"split": 0.0},
    "translation": TRANSLATION,
}
"""Key of ``rewind_ray.tasks.TASKS`` -> the task's options and their defaults."""
