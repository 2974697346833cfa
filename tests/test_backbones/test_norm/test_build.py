from __future__ import annotations

import pytest
import torch
from torch import nn

from backbones.norm import IBN, build_norm
from backbones.norm.build import NORMS
from backbones.registry import MODELS


@pytest.mark.parametrize("name", NORMS)
def test_every_norm_normalises(name) -> None:
    layer = build_norm(name, 64)
    if name == "ilm":  # it predicts a scale and an offset even before training
        nn.init.zeros_(layer.fc_weight[1].weight), nn.init.zeros_(layer.fc_bias[1].weight)
        nn.init.constant_(layer.weight_bias, 0.5)  # and sigmoid(0) is the other half
    y = layer(3 + 2 * torch.randn(4, 64, 8, 8))
    assert y.shape == (4, 64, 8, 8)
    assert abs(y.mean()) < 1e-3 and abs(y.var() - 1) < 0.05


@pytest.mark.parametrize("name", NORMS)
def test_same_arguments_for_every_norm(name) -> None:
    """``eps`` is what mmcv gives each; the error names what the layer takes."""
    layer = build_norm(dict(type=name.upper(), eps=0.5), 64)
    assert 0.5 in {getattr(m, "eps", None) for m in layer.modules()}
    assert layer.num_features == 64
    assert build_norm(f"backbones.{name}", 64).state_dict().keys() == layer.state_dict().keys()


@pytest.mark.parametrize("name", ["bn", "ibn", "bin", "sn"])
def test_synchronous_names(name) -> None:
    plain, synchronous = build_norm(name, 8), build_norm(f"sync{name}", 8)
    assert synchronous.sync and not plain.sync and type(plain) is type(synchronous)
    assert plain.state_dict().keys() == synchronous.state_dict().keys()


def test_specs() -> None:
    assert isinstance(build_norm("BN", 8), nn.BatchNorm2d)
    assert build_norm("in", 8).affine
    assert build_norm("ln", 8).num_groups == 1
    assert build_norm(dict(type="GN", num_groups=4), 8).num_groups == 4
    ibn = build_norm(dict(type="backbones.IBN", ratio=0.25), 8)
    assert isinstance(ibn, IBN) and ibn.IN.num_features == 2
    assert build_norm(dict(type="ILM", base="ln"), 48).base == "ln"
    sn = build_norm(dict(type="SN", using_bn=False, using_moving_average=False), 8)
    assert sn.statistics == ("in", "ln") and not sn.using_moving_average


def test_spec_is_not_changed() -> None:
    spec = dict(type="BN", eps=1e-3)
    build_norm(spec, 4)
    assert spec == dict(type="BN", eps=1e-3)


@pytest.mark.parametrize("spec", ["instance", dict(type="IBNX"), dict(ratio=0.5), "", "mmcv.bn"])
def test_unknown_norm_lists_the_known(spec) -> None:
    with pytest.raises(ValueError, match="unknown norm") as caught:
        build_norm(spec, 8)
    assert str(sorted(NORMS)) in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "near"), [("ibnn", "ibn"), ("SyncBN2", "syncbn"), ("ilm_gn", "ilm"), ("bin2", "bin")]
)
def test_unknown_norm_suggests_the_nearest(spec, near) -> None:
    with pytest.raises(ValueError, match=f"did you mean '{near}'"):
        build_norm(spec, 8)


@pytest.mark.parametrize("channels", [0, -1, 8.0, "8", None])
@pytest.mark.parametrize("name", NORMS)
def test_wrong_number_of_channels(name, channels) -> None:
    with pytest.raises(ValueError, match="number of channels, 1 or more, got"):
        build_norm(name, channels)


def test_plain_norms_are_torch_s_own_for_other_tools() -> None:
    """Optimiser rules and conversions look for these classes; mmcv knows their short names."""
    for name, kind in dict(
        bn=nn.BatchNorm2d, gn=nn.GroupNorm, ln=nn.GroupNorm, **{"in": nn.InstanceNorm2d}
    ).items():
        assert isinstance(build_norm(name, 64), kind)
        assert name.upper() not in MODELS.module_dict
    assert {"IBN", "BIN", "SN", "ILM"} <= MODELS.module_dict.keys()


def test_unknown_argument() -> None:
    with pytest.raises(TypeError, match="ratioo"):
        build_norm(dict(type="IBN", ratioo=0.5), 8)


def test_groups_that_do_not_divide() -> None:
    with pytest.raises(ValueError, match="num_groups"):
        build_norm("gn", 48)
