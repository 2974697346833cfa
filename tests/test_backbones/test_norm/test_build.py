from __future__ import annotations

import pytest
import torch
from torch import nn

from backbones.norm import IBN, build_norm
from backbones.norm.build import NORMS


@pytest.mark.parametrize("name", NORMS)
def test_every_norm_normalises(name) -> None:
    layer = build_norm(name, 64)
    y = layer(3 + 2 * torch.randn(4, 64, 8, 8))
    assert y.shape == (4, 64, 8, 8)
    assert abs(y.mean()) < 1e-5 and abs(y.var() - 1) < 0.01


def test_specs() -> None:
    assert isinstance(build_norm("BN", 8), nn.BatchNorm2d)
    assert build_norm("in", 8).affine
    assert build_norm("ln", 8).num_groups == 1
    assert build_norm(dict(type="GN", num_groups=4), 8).num_groups == 4
    ibn = build_norm(dict(type="backbones.IBN", ratio=0.25), 8)
    assert isinstance(ibn, IBN) and ibn.IN.num_features == 2


def test_spec_is_not_changed() -> None:
    spec = dict(type="BN", eps=1e-3)
    build_norm(spec, 4)
    assert spec == dict(type="BN", eps=1e-3)


@pytest.mark.parametrize("spec", ["batch", dict(type="IBNX"), dict(ratio=0.5)])
def test_unknown_norm_lists_the_known(spec) -> None:
    with pytest.raises(ValueError, match=r"choose one of \['bn', 'gn', 'ibn', 'in', 'ln'\]"):
        build_norm(spec, 8)


def test_unknown_argument() -> None:
    with pytest.raises(TypeError, match="ratioo"):
        build_norm(dict(type="IBN", ratioo=0.5), 8)


def test_groups_that_do_not_divide() -> None:
    with pytest.raises(ValueError, match="num_groups"):
        build_norm("gn", 48)
