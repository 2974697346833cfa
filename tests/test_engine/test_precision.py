from __future__ import annotations

import pytest
import torch
from torch import nn

from engine import precision
from engine.precision import (
    AutocastOptimWrapper,
    Precision,
    autocast,
    choose_dtype,
    has_bfloat16,
)


def test_bfloat16_on_the_cpu(make_runner) -> None:
    wrapper = dict(
        type="engine.AutocastOptimWrapper", dtype="bfloat16", optimizer=dict(type="SGD", lr=0.1)
    )
    runner = make_runner(optim_wrapper=wrapper)
    seen = []
    runner.model.linear.register_forward_hook(lambda m, i, out: seen.append(out.dtype))
    runner.train()
    assert set(seen) == {torch.bfloat16}
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in runner.model.parameters())


def test_gradient_clipping_and_accumulation(make_runner) -> None:
    wrapper = dict(
        type="engine.AutocastOptimWrapper",
        dtype="bfloat16",
        optimizer=dict(type="SGD", lr=1.0),
        clip_grad=dict(max_norm=1e-6),
    )
    runner = make_runner(optim_wrapper=wrapper)
    before = runner.model.linear.weight.clone()
    runner.train()
    assert 0 < (runner.model.linear.weight - before).norm() < 1e-4


def test_channels_last() -> None:
    model = Precision(channels_last=True).apply(nn.Conv2d(4, 8, 3))
    assert model.weight.is_contiguous(memory_format=torch.channels_last)


def test_compiled_backbone_gives_the_same(monkeypatch) -> None:
    model = nn.Module()
    model.backbone = nn.Linear(3, 3)
    compiled = []
    monkeypatch.setattr(model.backbone, "compile", lambda: compiled.append(True))
    Precision(compile=True).apply(model)
    assert compiled == [True]


def test_autocast_can_be_off() -> None:
    with autocast("float32", "cpu"):
        assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype == torch.float32


@pytest.mark.parametrize(("fast", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_auto_is_bfloat16_where_that_is_fast(fast, expected, monkeypatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda: fast)
    assert choose_dtype("auto") == expected and choose_dtype("float16") == "float16"
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), 0.1)
    assert AutocastOptimWrapper(dtype="auto", optimizer=optimizer).dtype == expected
    assert Precision(dtype="auto").eval_dtype == "float32"
    assert isinstance(has_bfloat16(), bool)


def test_wrong_dtypes() -> None:
    with pytest.raises(ValueError, match="unknown dtype 'bf16'; choose one of"):
        Precision(dtype="bf16")
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), 0.1)
    with pytest.raises(ValueError, match="unknown dtype"):
        AutocastOptimWrapper(dtype="int8", optimizer=optimizer)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="float16 needs a CUDA device"):
            AutocastOptimWrapper(dtype="float16", optimizer=optimizer)
