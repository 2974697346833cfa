"""BIN: the gate, its bounds, and what other tools may do to the layer."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import Tensor, nn

from backbones import ResNet, clamp_gates
from backbones.norm import BIN


def filled(channels: int = 6, **arguments) -> BIN:
    layer = BIN(channels, **arguments)
    with torch.no_grad():
        for name, p in layer.named_parameters():
            p.uniform_(0.1, 0.9) if name == "gate" else p.normal_()
    return layer


def test_golden_training_step(check_golden_layer) -> None:
    check_golden_layer(BIN(64), "bin")


@pytest.mark.parametrize("gate", [0.0, 1.0])
def test_the_ends_of_the_gate_are_the_two_norms(gate) -> None:
    layer = filled()
    layer.gate.data.fill_(gate)
    x = torch.randn(3, 6, 5, 4)
    plain = (nn.BatchNorm2d if gate else nn.InstanceNorm2d)(6, affine=True)
    plain.load_state_dict(dict(weight=layer.weight, bias=layer.bias), strict=False)
    torch.testing.assert_close(layer(x), plain(x), rtol=1e-4, atol=1e-5)


def test_starts_as_batch_norm() -> None:
    layer, plain = BIN(6), nn.BatchNorm2d(6)
    assert torch.equal(layer.gate, torch.ones(6)) and layer.gate.requires_grad
    for _ in range(3):
        x = 2 + torch.randn(3, 6, 5, 4)
        torch.testing.assert_close(layer(x), plain(x), rtol=1e-4, atol=1e-5)
    assert layer.num_batches_tracked == 0  # as the authors'
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(layer, name), getattr(plain, name))
    torch.testing.assert_close(layer.eval()(x), plain.eval()(x), rtol=1e-4, atol=1e-5)


def test_instance_statistics_are_the_sample_s_own_in_evaluation() -> None:
    layer = filled().eval()
    x = torch.randn(3, 6, 5, 4)
    torch.testing.assert_close(layer(x)[1:2], layer(x[1:2]))
    layer.gate.data.zero_()
    torch.testing.assert_close(layer(x), layer(5 * x + 7), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_a_gate_outside_its_bounds_is_read_as_the_bound(training) -> None:
    """With the bound's gradient: whether the hook has run changes nothing within a step."""
    outside = filled().train(training)
    with torch.no_grad():
        outside.gate.copy_(torch.tensor([-0.5, -1e-3, 0.0, 1.0, 1.001, 3.0]))
    clamped = copy.deepcopy(outside)
    clamp_gates(clamped)
    assert torch.equal(clamped.gate, torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1.0]))
    x, gy = torch.randn(2, 3, 6, 5, 4)
    results = []
    for layer in (outside, clamped):
        leaf = x.clone().requires_grad_()
        y = layer(leaf)
        y.backward(gy)
        results.append((y, leaf.grad, *(p.grad for p in layer.parameters())))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)
    assert outside.gate.grad.abs().min() > 0  # one that has left can come back


def test_a_step_from_outside_the_bounds_comes_back() -> None:
    layer = BIN(2)
    layer.gate.data.fill_(1.5)
    optimizer = torch.optim.SGD([layer.gate], 0.1)
    x = torch.randn(8, 2, 4, 4) * torch.rand(8, 2, 1, 1)
    instance = nn.InstanceNorm2d(2)(x)
    for _ in range(200):
        optimizer.zero_grad()
        (layer(x) - instance).square().mean().backward()
        optimizer.step()
    assert layer.gate.max() < 0.2  # instance norm was asked for


def test_clamp_gates_reaches_every_gate_and_nothing_else() -> None:
    model = nn.Sequential(BIN(3), nn.Sequential(nn.Conv2d(3, 3, 1), BIN(3)), nn.Linear(3, 3))
    model.register_parameter("gate", nn.Parameter(torch.full((2,), 9.0)))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(2)
    before = copy.deepcopy(model.state_dict())
    assert clamp_gates(model) is None
    for key, value in model.state_dict().items():
        expected = torch.ones(3) if key in ("0.gate", "1.1.gate") else before[key]
        assert torch.equal(value, expected), key
    model[0].gate.sum().backward()  # still a leaf


def test_without_weight_and_bias() -> None:
    layer = filled(affine=False)
    assert [name for name, _ in layer.named_parameters()] == ["gate"]
    assert layer.weight is None and layer.bias is None
    full = BIN(6)
    full.load_state_dict({**full.state_dict(), **layer.state_dict()})
    x = torch.randn(3, 6, 5, 4)
    torch.testing.assert_close(layer(x), full(x))


def test_state_keys_are_those_of_the_published_files() -> None:
    layer = BIN(6)
    assert list(layer.state_dict()) == [
        *("weight", "bias", "gate"),
        *("running_mean", "running_var", "num_batches_tracked"),
    ]
    assert all(v.shape == (6,) for k, v in layer.state_dict().items() if "tracked" not in k)


def test_copies_keep_the_gate_working() -> None:
    """The authors' layer forgets that its gate is one when it is copied."""
    layer = filled()
    for other in (copy.deepcopy(layer), _through_a_file(layer)):
        assert torch.equal(other.gate, layer.gate)
        other.gate.data.fill_(2.0)
        clamp_gates(other)
        assert torch.equal(other.gate, torch.ones(6)) and layer.gate.max() < 1


def _through_a_file(layer: BIN) -> BIN:
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other = BIN(layer.num_features)
    other.load_state_dict(torch.load(file, weights_only=True))
    return other


@pytest.mark.parametrize("wrap", [False, True])
def test_conversion_to_synchronous_batch_norm_leaves_it(wrap) -> None:
    """torch's conversion would replace a subclass of its batch norm, gate and all."""
    layer = filled()
    model = nn.Sequential(layer, nn.BatchNorm2d(6)) if wrap else layer
    x = torch.randn(3, 6, 5, 4)
    expected = copy.deepcopy(layer)(x)
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    kept = converted[0] if wrap else converted
    assert kept is layer and not layer.sync
    torch.testing.assert_close(kept(x), expected)
    if wrap:
        assert isinstance(converted[1], nn.SyncBatchNorm)


# ------------------------------------------------------------------------------- optimisers


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.norm = BIN(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


@pytest.mark.parametrize("network", ["small", "resnet"])
def test_documented_optimiser_rule_for_gates(network) -> None:
    """Ten times the rate and no decay, as the authors train them."""
    from mmengine.optim import DefaultOptimWrapperConstructor

    model = Small() if network == "small" else ResNet(18, norm="bin")
    constructor = DefaultOptimWrapperConstructor(
        dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.1, weight_decay=1e-4)),
        paramwise_cfg=dict(custom_keys={"gate": dict(lr_mult=10, decay_mult=0)}),
    )
    optimizer = constructor(model).optimizer
    rule = {
        id(p): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    names = {name: rule[id(p)] for name, p in model.named_parameters()}
    gates = {name for name in names if name.endswith(".gate")}
    assert len(gates) == sum(isinstance(m, BIN) for m in model.modules()) > 0
    assert len(gates) == (1 if network == "small" else 20)
    for name, (rate, decay) in names.items():
        assert (rate, decay) == ((1.0, 0.0) if name in gates else (0.1, 1e-4)), name
