"""The model card beside an exported file: what the network is and can do, for people, as Markdown.

In the style of Hugging Face's cards: a head in YAML, then sections. The code under "Use" runs as it
stands, in the folder that the file lies in.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from rewind_ray.export.quantise import EXAMPLES
from rewind_ray.importing import GIVEN, is_import_path
from rewind_ray.text import printable

CLASSES_SHOWN = 20
CONTENTS = {
    "safetensors": "weights and BatchNorm's statistics by name",
    "state_dict": "a `state_dict` that `torch.save` wrote",
    "pt2": "a program of `torch.export`",
    "onnx": "an ONNX model",
}
PIPELINES = {"image_classification": "image-classification", "translation": "translation"}
"""Task -> Hugging Face's name of it."""
LIBRARIES = {"onnx": "onnx"}

Facts = Mapping[str, Any]


def model_card(facts: Facts) -> str:
    """facts: those of FILE.json."""
    protocol = facts["spec"]["protocol"]
    sections = [
        ("", [described(facts)]),
        ("How it was made", made(facts)),
        ("Accuracy", [*accuracies(facts), *accuracy_notes(facts)]),
        ("Size", sizes(facts)),
        ("Latency", latencies(facts)),
        ("Input and output", inputs(facts)),
        ("Use", ["```python", snippet(facts).rstrip(), "```"]),
        ("Limits", [f"- {limit}" for limit in limits(facts)]),
    ]
    lines = [*head(facts), f"# {shown(protocol['network'])}, {pruned_to(facts)}", ""]
    for title, body in sections:
        if body:
            lines += [f"## {title}", ""] if title else []
            lines += [*body, ""]
    return "\n".join(lines).rstrip() + "\n"


def shown(text: Any) -> str:
    """Names that others chose, in a line of Markdown."""
    escaped = printable(str(text)).replace("\\", "\\\\")
    for sign in "`*[]<>|#":
        escaped = escaped.replace(sign, f"\\{sign}")
    return escaped


def head(facts: Facts) -> list[str]:
    """Text is quoted as in JSON, which YAML includes."""
    protocol, metric = facts["spec"]["protocol"], metric_of(facts)
    values: dict[str, Any] = {
        "library_name": LIBRARIES.get(facts["format"], "pytorch"),
        "pipeline_tag": PIPELINES.get(protocol["task"]),
        "tags": ["pruning", *(["quantised"] if facts["dtype"] == "int8" else [])],
        "datasets": [protocol["dataset"]],
        "metrics": [metric],
    }
    lines = [f"{key}: {json.dumps(value)}" for key, value in values.items() if value is not None]
    return ["---", *lines, "---", ""]


def metric_of(facts: Facts) -> str:
    return str((facts["row"] or {}).get("metric", "accuracy"))


def pruned_to(facts: Facts) -> str:
    if facts["density"] == 1:
        return "dense"
    return f"{100 * facts['density']:.3g}% of its prunable weights"


def described(facts: Facts) -> str:
    protocol = facts["spec"]["protocol"]
    task = protocol["task"].replace("_", " ")
    what = f"{CONTENTS[facts['format']]}, {facts['dtype']}"
    return (
        f"{shown(protocol['network'])} for {shown(task)}, trained on {shown(protocol['dataset'])}"
        f" and pruned by rewind-ray. `{facts['file']}` is {what}; what is known of it is in "
        f"`{facts['file']}.json`."
    )


# How it was made


def made(facts: Facts) -> list[str]:
    spec, protocol = facts["spec"], facts["spec"]["protocol"]
    lines = [
        f"1. Dense network: {protocol['epochs']} epochs of {shown(protocol['optimizer'])}, batches "
        f"of {protocol['batch_size']}, seed {spec['seed']}."
        if not protocol["init"]
        else f"1. Dense network: given with trained weights ({shown(protocol['init'])})."
    ]
    for said, times in groupby(map(step_line, spec["steps"])):
        again = len(list(times))
        lines.append(f"{len(lines) + 1}. {said}{f', {again} times over' if again > 1 else ''}.")
    if facts["shrunk"]:
        lines.append(f"{len(lines) + 1}. Pruned filters cut out: the file holds a smaller network.")
    return [*lines, "", f"Stage `{facts['stage_id']}`, epoch {facts['epoch']}."]


def step_line(step: Facts) -> str:
    prune, retrain = step["prune"], step["retrain"]
    amount = "" if prune["fraction"] is None else f" {100 * prune['fraction']:.3g}% of the rest"
    return (
        f"Pruned{amount}, {shown(prune['structure'])} by {shown(prune['criterion'])}; retrained "
        f"{retrain['epochs']} epochs, {shown(retrain['method'])}"
    )


# What it reaches


def table(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    titles = list(titles)
    rule = ["---", *["---:"] * (len(titles) - 1)]
    return [f"| {' | '.join(row)} |" for row in (titles, rule, *rows)]


def percent(fraction: float | None) -> str:
    return "not known" if fraction is None else f"{100 * fraction:.2f}%"


def accuracies(facts: Facts) -> list[str]:
    row = facts["row"] or {}
    found = [
        ("dense", row.get("baseline_test_accuracy")),
        ("right after pruning, before retraining", facts["pruned_accuracy"]),
        ("pruned and retrained, in fp32", facts["test_accuracy"]),
    ]
    if facts["density"] == 1:
        found = [("dense", facts["test_accuracy"])]
    if facts["dtype"] != "fp32":
        found.append((f"this file, {facts['dtype']}", facts["test_accuracy_exported"]))
    return table(
        ("network", f"{shown(metric_of(facts))} on test data"),
        ([name, percent(value)] for name, value in found if value is not None or "file" in name),
    )


def accuracy_notes(facts: Facts) -> list[str]:
    found = []
    protocol = facts["spec"]["protocol"]
    if protocol["validation"] == "test" and protocol["validation_fraction"]:
        share = protocol["validation_fraction"]
        found += [
            "",
            f"Test data are {1 - share:.4g} of the data's test part, a random choice; the other "
            f"{share:.4g} validated. Over all of it the accuracy is nearly, not exactly, this.",
        ]
    if facts["dtype"] != "fp32" and facts["test_accuracy_exported"] is None:
        found += ["", "The file's own accuracy wasn't measured: the test data weren't there."]
    return found


def sizes(facts: Facts) -> list[str]:
    counts = [
        ("parameters", "params_total", "params_exported"),
        ("prunable weights that aren't zero", "params_prunable", "params_remaining"),
        ("multiply-adds of a dense computation", "flops_dense", "flops_exported"),
        ("multiply-adds, zeros skipped (theoretical)", "flops_dense", "flops_remaining"),
    ]
    rows = [[title, f"{facts[dense]:,}", f"{facts[here]:,}"] for title, dense, here in counts]
    rows.append(["bytes of the file", "", f"{facts['bytes']:,}"])
    return table(("", "dense network", "this file"), rows)


def latencies(facts: Facts) -> list[str]:
    """Empty where none was measured."""
    if (measured := facts.get("latency")) is None:
        return []
    rows = (
        [
            *(f"{one['batch_size']}", f"{one['dense_ms']:.3f}", f"{one['exported_ms']:.3f}"),
            f"{one['ratio']:.2f} ({one['lowest_ratio']:.2f} to {one['highest_ratio']:.2f})",
        ]
        for one in measured["batches"]
    )
    return [
        f"A forward pass on {shown(measured['device'])}, {measured['threads']} threads, "
        f"{measured['precision']}, PyTorch without compilation:",
        "",
        *table(("batch", "dense, ms", "this network, ms", "ratio (lowest to highest)"), rows),
    ]


def inputs(facts: Facts) -> list[str]:
    given, output = facts["input"], facts["output"]
    lines = [f"- input: {given['dtype']}, shape {shape(given)}"]
    if given.get("standardised"):
        lines.append(f"- standardised: {given['standardised']}")
        if given["mean"] is not None:
            lines.append(f"- mean {given['mean']}, std {given['std']}")
    if given.get("channels"):
        lines.append(f"- channels: {given['channels']}")
    if given.get("resized"):
        lines.append(f"- images of another size: {given['resized']}")
    if "vocabulary" in facts:
        lines.append(f"- subwords: sentencepiece's model `{facts['vocabulary']['file']}`")
    if "shape" in output:
        lines.append(f"- output: {output['dtype']}, shape {shape(output)}")
    if names := given.get("classes"):
        more = f", ... ({len(names)} in all)" if len(names) > CLASSES_SHOWN else ""
        lines.append(f"- classes: {', '.join(map(shown, names[:CLASSES_SHOWN]))}{more}")
    return lines


def shape(tensor: Facts) -> str:
    return f"({', '.join(map(str, tensor['shape']))})"


# How to load it


def snippet(facts: Facts) -> str:
    """Ends with ``outputs`` of ``network`` on an example, where it has one input."""
    load = LOADERS[facts["format"]](facts)
    return "\n".join([*load, "", *example(facts)])


def from_pt2(facts: Facts) -> list[str]:
    return ["import torch", "", f"network = torch.export.load({facts['file']!r}).module()"]


def from_onnx(facts: Facts) -> list[str]:
    name = facts["input"]["name"]
    return [
        *("import onnxruntime", "import torch", ""),
        f"session = onnxruntime.InferenceSession({facts['file']!r})",
        *("", ""),
        f"def network({name}):",
        f"    (found,) = session.run(None, {{{name!r}: {name}.numpy()}})",
        "    return torch.from_numpy(found)",
        "",
    ]


def from_safetensors(facts: Facts) -> list[str]:
    file = facts["file"]
    if facts["source"] is None and not is_import_path(facts["spec"]["protocol"]["network"]):
        return [
            *("import torch", "from rewind_ray.export import read_safetensors", ""),
            f"network, facts = read_safetensors({file!r})",
        ]
    imports, building = built(facts)
    return [
        *imports,
        *("import torch", "from safetensors.torch import load_file", ""),
        *building,
        f"network.load_state_dict(load_file({file!r}))",
        "network.eval()",
    ]


def from_state_dict(facts: Facts) -> list[str]:
    imports, building = built(facts)
    lines = [*imports, "import torch"]
    lines += ["from torch.nn.utils import prune", ""] if facts["masks"] else [""]
    lines += [*building, f"state = torch.load({facts['file']!r}, weights_only=True)"]
    if facts["masks"]:
        lines += [
            "for name in [name for name in state if name.endswith('_mask')]:",
            "    path, _, parameter = name.removesuffix('_mask').rpartition('.')",
            "    prune.custom_from_mask(network.get_submodule(path), parameter, state[name])",
        ]
    return [*lines, "network.load_state_dict(state)", "network.eval()"]


def built(facts: Facts) -> tuple[list[str], list[str]]:
    """Imports, and what makes the network before its weights are loaded."""
    protocol = facts["spec"]["protocol"]
    if facts["source"] is not None:
        return ["import runpy", ""], [
            f"network = runpy.run_path({facts['source']['file']!r})['Network']()"
        ]
    module, _, name = protocol["network"].partition(":")
    if is_import_path(protocol["network"]) and module != GIVEN:
        options = ", ".join(f"{key}={value!r}" for key, value in protocol["network_options"])
        return [f"from {module} import {name.partition('.')[0]}"], [f"network = {name}({options})"]
    return [], ["network = ...  # build the module that has these weights"]


LOADERS = {
    "pt2": from_pt2,
    "onnx": from_onnx,
    "safetensors": from_safetensors,
    "state_dict": from_state_dict,
}


def example(facts: Facts) -> list[str]:
    """A call of ``network``; for images from pixels on."""
    if facts["num_inputs"] > 1:
        return []
    given = facts["input"]
    sizes = given["shape"][1:]
    if not given.get("standardised"):
        drawn = "torch.rand" if given["dtype"].startswith("float") else "torch.zeros"
        dtype = f"dtype=torch.{given['dtype']}"
        return [
            f"inputs = {drawn}({', '.join(['2', *map(str, sizes)])}, {dtype})  # put yours here",
            "with torch.no_grad():",
            "    outputs = network(inputs)",
            "print(outputs)",
        ]
    channels, height, width = sizes
    return [
        "",
        "def standardised(pixels):",
        '    """(N, H, W, C), from 0 to 255 -> what the network takes."""',
        *(f"    {line}" for line in standardising(given)),
        *("", ""),
        f"pixels = torch.randint(256, (2, {height}, {width}, {channels}))  # put your images here",
        "with torch.no_grad():",
        "    outputs = network(standardised(pixels))",
        *named(facts),
    ]


def standardising(given: Facts) -> list[str]:
    end = "return images.permute(0, 3, 1, 2).contiguous()"
    if given["mean"] is not None:
        mean, std = json.dumps(given["mean"]), json.dumps(given["std"])
        return [f"images = (pixels.float() - torch.tensor({mean})) / torch.tensor({std})", end]
    if "of each image" in given["standardised"]:
        return [
            "pixels = pixels.float()",
            "mean = pixels.mean((1, 2, 3), keepdim=True)",
            "std = pixels.std((1, 2, 3), correction=0, keepdim=True)",
            "images = (pixels - mean) / std.clamp(min=pixels[0].numel() ** -0.5)",
            end,
        ]
    return [
        "raise NotImplementedError('mean and deviation of the data set were not known')",
    ]


def named(facts: Facts) -> list[str]:
    names = facts["input"].get("classes")
    if not names:
        return ["print(outputs.argmax(1))"]
    if len(names) <= CLASSES_SHOWN:
        listed = [f"classes = {[str(name) for name in names]!r}"]
    else:
        listed = [
            "import json",
            "",
            f"classes = json.load(open({facts['file'] + '.json'!r}))['input']['classes']",
        ]
    return [*listed, "print([classes[number] for number in outputs.argmax(1)])"]


# What to know before using it


def limits(facts: Facts) -> list[str]:
    found = []
    if facts["density"] < 1 and not facts["shrunk"]:
        found.append(
            "Pruned weights are zeros in a dense file: it isn't smaller than the dense network's "
            "until compressed, and dense kernels compute it no faster."
        )
    if facts["shrunk"] and facts["params_remaining"] < facts["params_exported"]:
        found.append("Some of the remaining weights are zeros; dense kernels don't skip them.")
    of_format = {
        "pt2": "Loading a `.pt2` unpickles: load only files you trust. Later versions of PyTorch "
        f"may not read it (written by {facts['torch_version']}). BatchNorm and dropout are fixed "
        "in evaluation: to train further, export `--format state_dict`.",
        "onnx": "For inference only.",
    }
    if facts["format"] in of_format:
        found.append(of_format[facts["format"]])
    if facts["format"] in ("safetensors", "state_dict"):
        found.append(trainable(facts))
    if facts.get("masks"):
        found.append(
            "`NAME_orig` is zero where `NAME_mask` is: the values that pruned weights had aren't "
            "kept."
        )
    if facts["dtype"] == "fp16" and facts["format"] in ("pt2", "onnx"):
        found.append("Computes in fp16; inputs and outputs are fp32.")
    if facts["dtype"] == "fp16" and facts["format"] in ("safetensors", "state_dict"):
        found.append("Weights are stored in fp16; loaded as above they compute in fp32.")
    if facts["dtype"] == "int8":
        found.append(
            f"Activations outside of the ranges of {EXAMPLES} training examples are clipped."
        )
    found.append(
        f"Measured on {shown(facts['spec']['protocol']['dataset'])} only. Pruning may cost more on "
        "rare classes than the mean shows."
    )
    return found


def trainable(facts: Facts) -> str:
    if facts["source"] is not None:
        return (
            f"`{facts['source']['file']}` is the network in plain PyTorch; `network.train()` and "
            "train it further. Pruned weights stay zero only if masked after every update (or "
            "by `torch.nn.utils.prune`: export `--format state_dict --masks`)."
        )
    return (
        f"The weights alone are no network, and its code can't be written for it: "
        f"{shown(facts['no_source'])}."
    )


def card_path(file: Path) -> Path:
    return Path(f"{file}.md")
