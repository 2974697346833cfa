"""Batch norms folded into the convolutions before them: fewer passes over the maps in prediction.

In evaluation a batch norm multiplies every channel by a constant and adds another. Where its input
is the output of a convolution and of nothing else, the constants go into the convolution's weights
and bias, and the norm becomes ``nn.Identity``. Which convolution stands before which norm is not
read from names: the network is run once on an example, and run again afterwards to see that it
still gives the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["fold_batch_norms"]


@torch.no_grad()
def fold_batch_norms(
    model: nn.Module, network: Callable[[Tensor], Tensor], example: Tensor, tolerance: float = 1e-3
) -> int:
    """Fold what can be folded, in place. ``model.state_dict()`` has other keys afterwards.

    Args:
        model: in evaluation mode.
        network: runs the model on an input like ``example``.
        tolerance: largest difference of the outputs, relative to the largest output; above it,
            everything is put back.

    Returns:
        The number of norms that were folded; 0 leaves the model as it was.

    Raises:
        ValueError: a model in training mode.
    """
    if any(isinstance(m, nn.BatchNorm2d) and m.training for m in model.modules()):
        raise ValueError("only a model in evaluation mode can be folded: call model.eval() first")
    with _pairs(model) as pairs:
        before = network(example)
    places = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if child in pairs
    ]
    saved = [(conv, conv.weight, conv.bias) for conv in pairs.values()]
    for norm, conv in pairs.items():
        _fold(conv, norm)
    for parent, name, _ in places:
        setattr(parent, name, nn.Identity())
    difference = (network(example) - before).abs().max()
    if difference <= tolerance * before.abs().max():  # False for NaN
        return len(pairs)
    for conv, weight, bias in saved:
        conv.weight, conv.bias = weight, bias
    for parent, name, norm in places:
        setattr(parent, name, norm)
    return 0


@contextmanager
def _pairs(model: nn.Module) -> Iterator[dict[nn.BatchNorm2d, nn.Conv2d]]:
    """Filled while the model runs: norm -> the convolution that alone feeds it, and only it."""
    made: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # the tensor is kept, so that its id is
    readers: dict[nn.Conv2d, list[nn.Module]] = {}
    calls: Counter[nn.Module] = Counter()

    def note_output(module: nn.Module, _: Any, output: Any) -> None:
        calls[module] += 1
        if type(module) is nn.Conv2d:
            made[id(output)] = module, output

    def note_input(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        for value in inputs:
            if id(value) in made:
                readers.setdefault(made[id(value)][0], []).append(module)

    leaves = [m for m in model.modules() if not any(True for _ in m.children())]
    handles = [m.register_forward_hook(note_output) for m in leaves]
    handles += [m.register_forward_pre_hook(note_input) for m in leaves]
    pairs: dict[nn.BatchNorm2d, nn.Conv2d] = {}
    try:
        yield pairs
    finally:
        for handle in handles:
            handle.remove()
    for conv, modules in readers.items():
        norm = modules[0]
        if len(modules) > 1 or not isinstance(norm, nn.BatchNorm2d):
            continue
        if calls[conv] == calls[norm] == 1 and norm.running_mean is not None:
            pairs[norm] = conv


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None and norm.running_var is not None
    scale = torch.rsqrt(norm.running_var.double() + norm.eps)
    shift = -norm.running_mean.double()
    if conv.bias is not None:
        shift = shift + conv.bias
    shift = shift * scale
    if norm.affine:
        scale, shift = scale * norm.weight, shift * norm.weight + norm.bias
    weight = conv.weight * scale.view(-1, 1, 1, 1)
    # in the memory format that the weight had
    new = torch.empty_like(conv.weight).copy_(weight)
    conv.weight = nn.Parameter(new, requires_grad=False)
    conv.bias = nn.Parameter(shift.to(conv.weight.dtype), requires_grad=False)
