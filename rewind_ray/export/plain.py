"""A network as the source of a plain PyTorch module: no code but torch's, trainable, of any sizes.

The network is traced by ``torch.fx``. Its layers stay layers of ``torch.nn`` under their names, so
that its state_dict fits, and dropout and BatchNorm know training from evaluation; what happens
between them becomes the lines of one ``forward``.
"""

from __future__ import annotations

import builtins
import copy
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from rewind_ray.models.norms import BatchNorm
from rewind_ray.models.padding import SamePaddedConv2d

LAYERS_OF_OURS: dict[type[nn.Module], type[nn.Module]] = {
    BatchNorm: nn.BatchNorm2d,
    SamePaddedConv2d: nn.Conv2d,
}
"""Subclass in ``rewind_ray.models`` -> the layer of torch that stands for it."""
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)
TORCHS = ("torch", "builtins", "_operator", "operator", "math")
"""Packages whose functions the source may call."""
TOLERANCE = 1e-5
FREED = re.compile(r";  (\w+ = )+None")
"""What ``torch.fx`` writes behind a variable's last use, to free its memory."""
TRAINS_TOO = "A pruned network in plain PyTorch; load its state_dict into Network()."
EVALUATES = (
    f"{TRAINS_TOO} It computes as in evaluation: what its code did otherwise in training, outside "
    "of torch's layers, isn't here."
)
Argument = tuple[str, Any]


class NotPlain(Exception):
    """A network that can't be written so, and why."""


def plain_source(network: nn.Module, example: tuple[Tensor, ...]) -> str:
    """Source of a module without the project's code, with a class ``Network`` of no arguments.

    ``Network().load_state_dict(...)`` takes the network's state. example: inputs of one forward
    pass, whose sizes padding may depend on. Raises NotPlain for what isn't made of layers of
    ``torch.nn`` and calls of torch's functions, or whose path through the layers depends on values.
    """
    network = copy.deepcopy(network).eval()
    own = dict(network.named_parameters(remove_duplicate=False))
    if len({id(parameter) for parameter in own.values()}) < len(own):
        raise NotPlain("two of its layers share a parameter")
    graph, fixed = _traced(network, example)
    layers = {name: _layer(name, module) for name, module in _leaves(network, graph)}
    loose = _loose_tensors(network, layers)
    _check(network, example, graph, layers, loose)
    code = graph.python_code("self")
    lines = [
        f'"""{TRAINS_TOO if not fixed else EVALUATES}"""',
        "",
        "import torch",
        "from torch import nn",
        *sorted(_import(name, thing) for name, thing in _called(code)),
        "",
        "",
        "class Network(nn.Module):",
        "    def __init__(self):",
        "        super().__init__()",
        *(f"        {line}" for line in _construction(layers, loose)),
        "",
        *(f"    {FREED.sub('', line)}".rstrip() for line in code.src.strip().splitlines()),
    ]
    return "\n".join(lines) + "\n"


# The path through the network


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return _stands_for(m) is not None


def _stands_for(module: nn.Module) -> type[nn.Module] | None:
    """The layer of torch that it is; None for what is made of others."""
    kind = LAYERS_OF_OURS.get(type(module), type(module))
    of_torch = kind.__module__.startswith("torch.nn.modules")
    return kind if of_torch and not isinstance(module, CONTAINERS) else None


def _traced(network: nn.Module, example: tuple[Tensor, ...]) -> tuple[fx.Graph, bool]:
    """And whether it goes another way in training, which is lost."""
    shapes: dict[str, torch.Size] = {}
    hooks = [
        module.register_forward_pre_hook(_noting(shapes, name))
        for name, module in network.named_modules()
        if isinstance(module, SamePaddedConv2d)
    ]
    with torch.no_grad():
        output = network(*example)
    for hook in hooks:
        hook.remove()
    if not isinstance(output, Tensor):
        raise NotPlain(f"its output is a {type(output).__name__}")
    try:
        graph = _Tracer().trace(network)
        in_training = _Tracer().trace(copy.deepcopy(network).train())
    except Exception as error:  # whatever its code makes of a stand-in for a tensor
        raise NotPlain(f"torch.fx can't trace it: {str(error).partition(chr(10))[0]}") from error
    fixed = graph.python_code("self").src != in_training.python_code("self").src
    for node in list(graph.nodes):
        node.type = None  # an annotation, whose names the source would have to know
        if node.op == "call_module" and node.target in shapes:
            layer = network.get_submodule(node.target)
            assert isinstance(layer, SamePaddedConv2d)
            with graph.inserting_before(node):
                padding = layer.padding_of(*shapes[node.target][2:])
                padded = graph.call_function(F.pad, (node.args[0], padding))
            node.args = (padded,)
    return graph, fixed


def _noting(shapes: dict[str, torch.Size], name: str) -> Callable[[nn.Module, Any], None]:
    def note(module: nn.Module, inputs: Any) -> None:
        shapes[name] = inputs[0].shape

    return note


def _leaves(network: nn.Module, graph: fx.Graph) -> Iterator[tuple[str, nn.Module]]:
    """Layers that are called, and those that have a state."""
    called = {node.target for node in graph.nodes if node.op == "call_module"}
    for name, module in network.named_modules():
        if _stands_for(module) and (name in called or module.state_dict()):
            yield name, module


def _loose_tensors(
    network: nn.Module, layers: dict[str, tuple[type[nn.Module], list[Argument]]]
) -> dict[str, tuple[Tensor, str]]:
    """Tensors that no layer of torch has: name -> it, and how it is made."""
    found: dict[str, tuple[Tensor, str]] = {}
    for name, module in network.named_modules():
        if name in layers or any(name.startswith(f"{layer}.") for layer in layers):
            continue
        for key, parameter in module.named_parameters(recurse=False):
            made = f"nn.Parameter(torch.empty({tuple(parameter.shape)}))"
            found[f"{name}.{key}".strip(".")] = parameter, f"register_parameter({key!r}, {made})"
        for key, buffer in module.named_buffers(recurse=False):
            if key in module._non_persistent_buffers_set:
                raise NotPlain(f"its buffer {name}.{key} isn't in its state_dict")
            made = f"torch.empty({tuple(buffer.shape)}, dtype={buffer.dtype})"
            found[f"{name}.{key}".strip(".")] = buffer, f"register_buffer({key!r}, {made})"
    return found


# A layer as the call that makes it


def _layer(name: str, module: nn.Module) -> tuple[type[nn.Module], list[Argument]]:
    """Its class and the arguments that aren't its defaults. Raises NotPlain for what it keeps in
    another way than as attributes of their names."""
    kind = _stands_for(module)
    assert kind is not None
    arguments = []
    for argument in inspect.signature(kind.__init__).parameters.values():
        key = argument.name
        if key in ("self", "device", "dtype") or key.startswith("_"):
            continue
        if argument.kind not in (argument.POSITIONAL_OR_KEYWORD, argument.KEYWORD_ONLY):
            raise NotPlain(f"{name} is a {kind.__name__}, whose arguments can't be read from it")
        if not hasattr(module, key):
            raise NotPlain(f"{name} is a {kind.__name__}, whose {key} can't be read from it")
        value = getattr(module, key)
        if key == "bias" and isinstance(argument.default, bool):
            value = value is not None
        if not _is_literal(value):
            raise NotPlain(f"{name} is a {kind.__name__} with {key} a {type(value).__name__}")
        if argument.default is argument.empty or value != argument.default:
            arguments.append((key, value))
    if isinstance(module, SamePaddedConv2d):  # padded before it
        arguments = [(key, value) for key, value in arguments if key != "padding"]
    return kind, arguments


def _is_literal(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return all(map(_is_literal, value))
    return value is None or type(value) in (bool, int, float, str)


def _construction(
    layers: dict[str, tuple[type[nn.Module], list[Argument]]],
    loose: dict[str, tuple[Tensor, str]],
) -> Iterator[str]:
    made: set[str] = set()

    def parents(path: str) -> Iterator[str]:
        """Modules that hold others and are no layers themselves."""
        if path and path not in made:
            before, _, name = path.rpartition(".")
            yield from parents(before)
            made.add(path)
            yield f"{_place(before)}.add_module({name!r}, nn.Module())"

    for path, (kind, arguments) in layers.items():
        folder, _, name = path.rpartition(".")
        yield from parents(folder)
        given = ", ".join(f"{key}={value!r}" for key, value in arguments)
        yield f"{_place(folder)}.add_module({name!r}, nn.{kind.__name__}({given}))"
    for path, (_, making) in loose.items():
        folder = path.rpartition(".")[0]
        yield from parents(folder)
        yield f"{_place(folder)}.{making}"


def _place(path: str) -> str:
    return f"self.get_submodule({path!r})" if path else "self"


def _called(code: Any) -> Iterator[tuple[str, Any]]:
    """What the forward needs besides torch and Python's own, by the name it has there."""
    for name, thing in code.globals.items():
        known = thing is torch or getattr(builtins, name, None) is thing
        if not known and re.search(rf"\b{name}\b", code.src):
            yield name, thing


def _import(name: str, thing: Any) -> str:
    """The line that makes it known. Raises NotPlain for what isn't torch's."""
    if isinstance(thing, float):  # inf, nan
        return f"from math import {name}"
    module, kind = getattr(thing, "__module__", None), getattr(thing, "__qualname__", name)
    if module is None and getattr(torch, kind, None) is thing:
        module = "torch"
    if module is None or module.partition(".")[0] not in TORCHS:
        raise NotPlain(f"it calls {getattr(thing, '__name__', name)}, which isn't torch's")
    return f"from {module} import {kind} as {name}"


# Proof


@torch.no_grad()
def _check(
    network: nn.Module,
    example: tuple[Tensor, ...],
    graph: fx.Graph,
    layers: dict[str, tuple[type[nn.Module], list[Argument]]],
    loose: dict[str, tuple[Tensor, str]],
) -> None:
    """Raises NotPlain unless a network of the same parts has the same state and output."""
    built: nn.Module = nn.Module()
    for path, (kind, arguments) in layers.items():
        _put(built, path, kind(**dict(arguments)))
    for path, (tensor, _) in loose.items():
        folder, _, name = path.rpartition(".")
        holder = _folder(built, folder)
        if isinstance(tensor, nn.Parameter):
            holder.register_parameter(name, nn.Parameter(torch.empty_like(tensor)))
        else:
            holder.register_buffer(name, torch.empty_like(tensor))
    try:
        built.load_state_dict(network.state_dict())
        plain = fx.GraphModule(built, graph).eval()
        inputs = [
            torch.randn_like(given) if given.is_floating_point() else given for given in example
        ]
        torch.testing.assert_close(plain(*inputs), network(*inputs), rtol=TOLERANCE, atol=TOLERANCE)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise NotPlain(f"written so it is another network: {reason}") from error


def _folder(network: nn.Module, path: str) -> nn.Module:
    here = network
    for name in filter(None, path.split(".")):
        if name not in dict(here.named_children()):
            here.add_module(name, nn.Module())
        here = here.get_submodule(name)
    return here


def _put(network: nn.Module, path: str, layer: nn.Module) -> None:
    folder, _, name = path.rpartition(".")
    _folder(network, folder).add_module(name, layer)
