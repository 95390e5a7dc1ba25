"""What code, networks and tensors of the user's own are, as digests for a stage's id.

Code is compared as Python reads it: comments, docstrings and layout don't count.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import sys
import sysconfig
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

DIGEST_LENGTH = 16  # hex digits
FOREIGN = frozenset(
    {"torch", "numpy", "rewind_ray", "sweeps", "trainables", "analysis", "builtins"}
    | set(sys.stdlib_module_names)
) - {"__main__"}
"""Packages whose code isn't looked at: their versions are no part of an id, and ours has
``spec.NUMERICS``."""
INSTALLED = tuple({sysconfig.get_paths()[name] for name in ("purelib", "platlib")})
"""Folders of this environment's packages."""
PACKAGE_FOLDERS = frozenset({"site-packages", "dist-packages"})
"""Names of such folders anywhere: of the user (``pip install --user``), of the system, of an
environment that a ``.pth`` file adds."""
SCALARS = (bool, int, float, complex, str, bytes, type(None), torch.dtype)


def network_digest(network: nn.Module, builder: Any) -> str:
    """Two digests of 16 hex digits, joined by a hyphen: of code and structure, and of the weights.

    Structure: names, types, settings and shapes of modules, parameters and buffers. Code: that of
    ``builder`` and of all modules' classes, with what they use of the user's own code.
    """
    classes = {type(module) for module in network.modules()}
    replaced = [vars(m)["forward"] for m in network.modules() if "forward" in vars(m)]
    code = code_text([builder, *classes, *replaced])
    weights = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    return f"{text_digest(f'{structure_text(network)} {code}')}-{tensors_digest(weights)}"


def structure_text(network: nn.Module) -> str:
    """One line a module, parameter and buffer."""
    lines = [
        f"{name}: {_name(type(module))}({module.extra_repr()}) {_settings(module)}"
        for name, module in network.named_modules(remove_duplicate=False)
    ]
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        lines.append(f"{name}: {tuple(tensor.shape)} {tensor.dtype} {tensor.requires_grad}")
    return "\n".join(lines)


def _settings(module: nn.Module) -> str:
    """A module's plain attributes; a class of its own may read them in ``forward``."""
    return " ".join(
        f"{name}={text}"
        for name, value in sorted(vars(module).items())
        if not name.startswith("_")
        and name != "training"
        and (text := value_text(value)) is not None
    )


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Of names, types, shapes and values. On any device."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor_bytes(tensor))
    return digest.hexdigest()[:DIGEST_LENGTH]


def tensor_bytes(tensor: Tensor) -> memoryview:
    flat = tensor.detach().to("cpu").contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")


def code_digest(roots: Iterable[Any]) -> str:
    return text_digest(code_text(roots))


def text_digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:DIGEST_LENGTH]


# Code


def code_text(roots: Iterable[Any]) -> str:
    """The roots' code and all that it uses of the user's own, each under its name.

    Followed are functions, classes, their bases and constants that code refers to by global names,
    by modules' attributes or in closures; not what is installed, unless a root is of that package.
    """
    waiting = [root for root in roots if not _is_foreign(root)]
    packages = {_package(root) for root in waiting}
    texts: dict[str, str] = {}
    seen: set[int] = set()
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        name = _name(thing)
        texts[name] = texts.get(name, "") + _own_text(thing)
        for label, used in _uses(thing):
            if (text := value_text(used)) is not None:
                texts[f"{name} {label}"] = text
            elif not _is_foreign(used) and (_package(used) in packages or not _installed(used)):
                waiting.append(used)
    return "\n".join(f"{name}: {text}" for name, text in sorted(texts.items()))


def _uses(thing: Any) -> Iterator[tuple[str, Any]]:
    """What the code of a function, class or other callable refers to, with a label."""
    if isinstance(thing, functools.partial):
        yield "function", thing.func
        yield from ((f"argument {i}", value) for i, value in enumerate(thing.args))
        yield from ((f"argument {name}", value) for name, value in thing.keywords.items())
    elif isinstance(thing, MethodType):
        yield "function", thing.__func__
        yield "class", type(thing.__self__)
    elif isinstance(thing, type):
        yield from ((f"base {base.__name__}", base) for base in thing.__mro__[1:])
        for name, content in vars(thing).items():
            for function in _functions(content):
                yield name, function
            if not name.startswith("__"):
                yield f"attribute {name}", content
    elif isinstance(thing, FunctionType):
        for i, value in enumerate(thing.__defaults__ or ()):
            yield f"default {i}", value
        for name, value in (thing.__kwdefaults__ or {}).items():
            yield f"default {name}", value
        for cell in thing.__closure__ or ():
            try:
                yield "closure", cell.cell_contents
            except ValueError:  # not yet filled
                continue
        if hasattr(thing, "__wrapped__"):
            yield "wrapped", thing.__wrapped__
        yield from _globals_used(thing)
    elif not isinstance(thing, ModuleType):
        yield "class", type(thing)


def _globals_used(function: FunctionType) -> Iterator[tuple[str, Any]]:
    names = set(_names(function.__code__))
    for name in sorted(names & function.__globals__.keys()):
        value = function.__globals__[name]
        if isinstance(value, ModuleType):
            if not _is_foreign(value):
                attributes = sorted(names & vars(value).keys())
                yield from ((f"{name}.{each}", vars(value)[each]) for each in attributes)
        else:
            yield name, value


def _names(code: CodeType) -> Iterator[str]:
    """Names that are looked up, also by functions inside."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _functions(content: Any) -> Iterator[FunctionType]:
    """Of what stands in a class."""
    if isinstance(content, property):
        accessors = (content.fget, content.fset)
        yield from (each for each in accessors if isinstance(each, FunctionType))
    elif isinstance(content, (staticmethod, classmethod)):
        yield from _functions(content.__func__)
    elif isinstance(content, FunctionType):
        yield content


def _own_text(thing: Any) -> str:
    if not isinstance(thing, (type, FunctionType)):
        return ""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
    except (OSError, TypeError, SyntaxError):  # made without a file, or a part of an expression
        return compiled_text(thing.__code__) if isinstance(thing, FunctionType) else ""
    for node in ast.walk(tree):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def compiled_text(code: CodeType) -> str:
    """For code without a source: other versions of Python give others."""
    constants = [
        compiled_text(constant) if isinstance(constant, CodeType) else repr(constant)
        for constant in code.co_consts
    ]
    return f"{code.co_code.hex()} {code.co_names} {code.co_varnames} {constants}"


def value_text(value: Any) -> str | None:
    """Of plain values, tensors, arrays, and collections of these; None for all else."""
    if isinstance(value, SCALARS):
        return repr(value)
    if isinstance(value, Tensor):
        return "meta tensor" if value.is_meta else tensors_digest({"": value})
    if isinstance(value, np.ndarray) and value.dtype != object:
        return f"{value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"
    texts: list[str | None]
    if isinstance(value, (tuple, list)):
        texts = [value_text(each) for each in value]
    elif isinstance(value, (set, frozenset)):
        texts = [*sorted(text or "" for text in map(value_text, value))]
    elif isinstance(value, dict):
        texts = [value_text(each) for pair in value.items() for each in pair]
    else:
        return None
    return None if None in texts else f"{type(value).__name__}({', '.join(map(str, texts))})"


def _name(thing: Any) -> str:
    if isinstance(thing, ModuleType):
        return thing.__name__
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    module = getattr(named, "__module__", None)
    if module is None:  # a method written in C has only its class's
        module = getattr(getattr(named, "__objclass__", None), "__module__", "builtins")
    return f"{module}.{named.__qualname__}"


def _package(thing: Any) -> str:
    return _name(thing).partition(".")[0]


def _is_foreign(thing: Any) -> bool:
    return _package(thing) in FOREIGN


def _installed(thing: Any) -> bool:
    name = thing.__name__ if isinstance(thing, ModuleType) else getattr(thing, "__module__", None)
    return is_installed(getattr(sys.modules.get(str(name)), "__file__", None) or "")


def is_installed(place: str) -> bool:
    """Whether a file or folder is of an installed package, not of the user's own code."""
    return place.startswith(INSTALLED) or not PACKAGE_FOLDERS.isdisjoint(Path(place).parts)
