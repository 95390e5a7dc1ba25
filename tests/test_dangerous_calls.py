"""What executes code that it reads, or starts a program on it, is nowhere in the product."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import rewind_ray

PROJECT = Path(rewind_ray.__file__).parent.parent
PRODUCT = [
    path
    for folder in ("rewind_ray", "sweeps", "trainables", "analysis", "cluster")
    for path in sorted((PROJECT / folder).rglob("*.py"))
]
PICKLES = {
    "pickle",
    "cPickle",
    "cloudpickle",
    "dill",
    "shelve",
    "marshal",
    "joblib",
    "ray.cloudpickle",
}
READS_PICKLES = {"get_pickled_error", "read_pickle", "ResultGrid", "load_experiment_checkpoint"}
"""Names of attributes; the first two unpickle, the third does so for every failed trial."""
EXECUTES = {"eval", "exec", "compile", "__import__"}


def dangers(source: str) -> Iterator[str]:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names if name.name in PICKLES)
            case ast.ImportFrom(module=str(module)) if module in PICKLES:
                yield module
            case ast.ImportFrom(names=names):
                yield from (n.name for n in names if n.name in PICKLES | READS_PICKLES)
            case ast.Attribute(attr=name) if name in READS_PICKLES:
                yield name
            case ast.Call():
                yield from dangerous_call(node)


def dangerous_call(call: ast.Call) -> Iterator[str]:
    name = ast.unparse(call.func)
    given = {word.arg: ast.unparse(word.value) for word in call.keywords}
    if name in EXECUTES:
        yield name
    if name == "torch.load" and given.get("weights_only") != "True":
        yield "torch.load without weights_only"
    if given.get("shell", "False") != "False" or name in ("os.system", "os.popen"):
        yield "a shell"
    if name in ("Image.open", "PIL.Image.open") and "formats" not in given:
        yield "Image.open without formats"
    if name in ("np.load", "numpy.load") and given.get("allow_pickle", "False") != "False":
        yield "np.load of pickles"
    if name in ("yaml.load", "yaml.unsafe_load", "yaml.full_load"):
        yield name
    if name.endswith("Tuner") or name.endswith("Tuner.restore"):
        yield "a Tuner, whose fit() unpickles error.pkl of each failed trial"


def test_product_files_are_found() -> None:
    assert len(PRODUCT) > 100


@pytest.mark.parametrize("path", PRODUCT, ids=lambda path: str(path.relative_to(PROJECT)))
def test_nothing_read_is_executed(path: Path) -> None:
    assert list(dangers(path.read_text())) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "import ray.cloudpickle as p",
        "from ray import cloudpickle",
        "trial.get_pickled_error()",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "subprocess.run(line, shell=True)",
        "os.system(line)",
        "Image.open(path)",
        "np.load(path, allow_pickle=True)",
        "eval(text)",
        "tune.Tuner(thing).fit()",
    ],
)
def test_each_of_them_is_noticed(code: str) -> None:
    assert list(dangers(code))


@pytest.mark.parametrize(
    "code",
    [
        "torch.load(path, weights_only=True)",
        "Image.open(file, formats=FORMATS)",
        "network.eval()",
        "re.compile(text)",
    ],
)
def test_what_is_harmless_is_left_alone(code: str) -> None:
    assert list(dangers(code)) == []
