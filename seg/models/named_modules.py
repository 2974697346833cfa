"""Reach inside any network by the names of its modules, with forward hooks and without editing it.

Names are those of ``named_modules()``: ``"layer1"``, ``"layer2.0.bn1"``. In a sequence a negative
number counts from the end, so that ``"layer1.-1.IN"`` is the last block's norm at any depth.

Hooks leave parameters, buffers and the state dict as they are. They work under DDP and
torch.utils.checkpoint; a network that was compiled does not run hooks, which is an error here.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

Measure = Callable[[Tensor], Tensor]


def find_module(network: nn.Module, name: str) -> nn.Module:
    """The module of that name inside ``network``.

    Raises:
        ValueError: there is none; the nearest names are listed.
    """
    module = network
    for part in name.split(".") if name else [""]:
        children = dict(module.named_children())
        if part.startswith("-") and part[1:].isdigit() and 0 < int(part[1:]) <= len(children):
            part = list(children)[int(part)]
        if part not in children:
            raise ValueError(_unknown(network, name))
        module = children[part]
    return module


def _unknown(network: nn.Module, name: str) -> str:
    names = [known for known, _ in network.named_modules() if known]
    near = difflib.get_close_matches(name, names, n=6, cutoff=0.4)
    children = [child for child, _ in network.named_children()]
    return (
        f"{type(network).__name__} has no module {name!r}; "
        + (f"did you mean one of {near}? " if near else "")
        + f"its parts are {children}, and 'layer1.-1' means the last module inside layer1"
    )


@contextmanager
def measuring(
    network: nn.Module, measures: Sequence[tuple[str, Measure]]
) -> Iterator[list[Tensor | None]]:
    """While the context lasts, measure the outputs of named modules.

    A measure is taken at the moment that the module returns: whatever overwrites the map later (a
    ReLU in place) does not matter, as long as the measure itself keeps no reference to the map.

    Args:
        network: where the names are looked up.
        measures: (name of a module, function of its output).

    Yields:
        The results in the order of ``measures``, filled in as the network runs; of a module that
        runs several times, the last. None for one that has not run.

    Raises:
        ValueError: an unknown name, or a compiled network.
    """
    if measures:
        refuse_compiled(network)
    results: list[Tensor | None] = [None] * len(measures)
    handles: list[RemovableHandle] = []
    try:
        for place, (name, measure) in enumerate(measures):
            hook = _Recorder(name, measure, results, place)
            handles.append(find_module(network, name).register_forward_hook(hook))
        yield results
    finally:
        for handle in handles:
            handle.remove()


class _Recorder:
    """A forward hook that measures the output, and leaves it as it is."""

    def __init__(
        self, name: str, measure: Measure, results: list[Tensor | None], place: int
    ) -> None:
        self.name, self.measure, self.results, self.place = name, measure, results, place
        self.expects_gradient = torch.is_grad_enabled()

    def __call__(self, module: nn.Module, inputs: object, output: object) -> None:
        if self.expects_gradient and not torch.is_grad_enabled():
            raise ValueError(
                f"{self.name!r} runs inside a part that is checkpointed with use_reentrant=True, "
                "where maps have no gradient; name the module around that part (e.g. 'layer1'), or "
                "switch checkpointing off (with_cp=False)"
            )
        self.results[self.place] = self.measure(one_map(output, self.name))


def transform_output(
    network: nn.Module, name: str, transform: Callable[[Tensor], Tensor]
) -> RemovableHandle:
    """From now on, pass the output of the named module through ``transform``.

    The hook stays until its handle is removed. A deep copy of a module that holds both the network
    and ``transform`` gets a hook with its own copy of ``transform``.

    Raises:
        ValueError: an unknown name.
    """
    return find_module(network, name).register_forward_hook(_Transformer(name, transform))


class _Transformer:
    """A forward hook that replaces the output. An object, because deepcopy copies no closures."""

    def __init__(self, name: str, transform: Callable[[Tensor], Tensor]) -> None:
        self.name, self.transform = name, transform

    def __call__(self, module: nn.Module, inputs: object, output: object) -> Tensor:
        return self.transform(one_map(output, self.name))


def refuse_compiled(network: nn.Module) -> None:
    """Raises ValueError if hooks inside ``network`` would not run."""
    if hasattr(network, "_orig_mod") or getattr(network, "_compiled_call_impl", None) is not None:
        raise ValueError(
            f"{type(network).__name__} is compiled, and hooks inside it would be passed over: use "
            "precision.compile=False together with feature losses and styles"
        )


def one_map(output: object, name: str) -> Tensor:
    """The (N, C, H, W) map that the named module returned, or ValueError."""
    if isinstance(output, Tensor) and output.ndim == 4:
        return output
    got: object = type(output).__name__
    if isinstance(output, Tensor):
        got = f"a tensor of shape {tuple(output.shape)}"
    raise ValueError(
        f"{name!r} returns {got}; expected one (N, C, H, W) map: name a module inside it"
    )


@torch.no_grad()
def channels_of(
    network: nn.Module, names: Sequence[str], in_channels: int = 3
) -> Mapping[str, int]:
    """Channels of the maps that named modules return, found out with one small image.

    Raises:
        ValueError: an unknown name, a module that does not run, or one that returns no map.
    """
    parameter = next(network.parameters(), None)
    image = torch.zeros(1, in_channels, 64, 64)
    image = image if parameter is None else image.to(parameter.device, parameter.dtype)
    counts: dict[str, int] = {}
    with evaluating(network), measuring(network, [(name, _identity) for name in names]) as maps:
        network(image)
    for name, found in zip(names, maps, strict=True):
        if found is None:
            raise ValueError(
                f"{name!r} exists in {type(network).__name__} but did not run; name a module that "
                "the forward pass calls itself"
            )
        counts[name] = found.shape[1]
    return counts


def _identity(x: Tensor) -> Tensor:
    return x


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode for a while; afterwards every part is in the mode that it had."""
    before = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in before:
            part.training = mode
