"""ILM: one encoder under three names, and the channels that it takes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from backbones.norm import ILM

ALIASES = ("fc_embed.0.weight", "fc_weight.0.0.weight", "fc_bias.0.0.weight")


@pytest.mark.parametrize("base", ["gn", "in"])
def test_golden_training_step(check_golden_layer, base) -> None:
    check_golden_layer(ILM(64, base=base), f"ilm_{base}")


def test_state_keys_are_those_of_the_published_files() -> None:
    state = ILM(64).state_dict()
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    assert shapes == {
        "weight_bias": (1, 64, 1, 1),
        "bias_bias": (1, 64, 1, 1),
        **dict.fromkeys(ALIASES, (2, 4)),
        "fc_weight.1.weight": (4, 2),
        "fc_bias.1.weight": (4, 2),
    }


def tied(layer: ILM) -> bool:
    encoders = (layer.fc_embed[0], layer.fc_weight[0][0], layer.fc_bias[0][0])
    return len({id(e.weight) for e in encoders}) == 1


def test_the_encoder_is_one() -> None:
    layer = ILM(64)
    assert tied(layer) and [n for n, _ in layer.named_parameters()].count(ALIASES[0]) == 1
    assert len(list(layer.parameters())) == 5
    state = layer.state_dict()  # one storage: a file format without aliases can tell
    assert len({state[key].untyped_storage().data_ptr() for key in ALIASES}) == 1


def test_it_stays_one() -> None:
    layer = ILM(64)
    copied = copy.deepcopy(layer)
    loaded = ILM(64)
    loaded.load_state_dict(layer.state_dict())
    moved = copy.deepcopy(layer).double()
    for other in (copied, loaded, moved):
        assert tied(other)
        assert torch.equal(other.fc_embed[0].weight.float(), layer.fc_embed[0].weight)
    copied.fc_embed[0].weight.data.add_(1)
    assert not torch.equal(copied.fc_embed[0].weight, layer.fc_embed[0].weight)


@pytest.mark.parametrize(
    ("base", "channels", "embedding"),
    [
        *[("gn", 64, 2), ("gn", 256, 1), ("gn", 512, 2), ("gn", 2048, 8)],
        *[("in", 64, 2), ("in", 256, 2), ("in", 512, 2), ("in", 2048, 8)],
        *[("ln", 16, 2), ("ln", 256, 2), ("ln", 288, 1), ("ln", 2048, 8)],
    ],
)
def test_width_of_the_code(base, channels, embedding) -> None:
    layer = ILM(channels, base=base)
    keys = channels // 16
    assert layer.fc_embed[0].weight.shape == (embedding, keys)
    assert layer.fc_weight[1].weight.shape == layer.fc_bias[1].weight.shape == (keys, embedding)
    assert sum(p.numel() for p in layer.parameters()) == 2 * channels + 3 * keys * embedding
    assert layer(torch.randn(2, channels, 2, 2)).isfinite().all()


def test_the_first_scale_is_about_one_and_a_half() -> None:
    """weight_bias 1 + sigmoid around 0, where the decoders start near it."""
    layer = ILM(64, base="in")
    nn.init.zeros_(layer.fc_weight[1].weight), nn.init.zeros_(layer.fc_bias[1].weight)
    x = torch.randn(4, 64, 16, 16)
    torch.testing.assert_close(layer(x), 1.5 * nn.InstanceNorm2d(64)(x), rtol=5e-3, atol=5e-3)


def test_samples_do_not_meet_and_modes_do_not_differ() -> None:
    layer = ILM(64)
    x = torch.randn(3, 64, 5, 4)
    y = layer(x)
    torch.testing.assert_close(layer(x[1:2]), y[1:2])
    torch.testing.assert_close(layer.eval()(x), y, rtol=0, atol=0)
    assert not list(layer.buffers())


@pytest.mark.parametrize(
    ("base", "channels", "multiple"),
    [("gn", 48, 32), ("gn", 31, 32), ("in", 16, 32), ("ln", 40, 16), ("ln", 8, 16)],
)
def test_channels_that_do_not_divide(base, channels, multiple) -> None:
    with pytest.raises(ValueError, match=rf"ILM: on '{base}' .*multiple of {multiple}, got"):
        ILM(channels, base=base)


@pytest.mark.parametrize("base", ["bn", "GN", "", None])
def test_unknown_base(base) -> None:
    with pytest.raises(ValueError, match="base must be 'gn', 'in' or 'ln'"):
        ILM(64, base=base)


def test_optimiser_rules_need_to_know_of_the_aliases() -> None:
    """mmengine lists a shared layer once for each of its names unless it is told not to."""
    from mmengine.optim import DefaultOptimWrapperConstructor

    optim = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.1))
    rules = dict(custom_keys={"fc_": dict(lr_mult=0.1)}, bypass_duplicate=True)
    layer = nn.Sequential(ILM(64))
    groups = DefaultOptimWrapperConstructor(optim, rules)(layer).optimizer.param_groups
    assert sum(len(group["params"]) for group in groups) == len(list(layer.parameters()))
    with pytest.raises(ValueError, match="more than one parameter group"):
        DefaultOptimWrapperConstructor(optim, dict(rules, bypass_duplicate=False))(layer)
