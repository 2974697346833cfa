"""SN: what it mixes, what it remembers, and when it refuses."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from backbones.norm import SN

FAR = 40.0  # a logit that takes all of the softmax


def test_golden_training_step(check_golden_layer) -> None:
    check_golden_layer(SN(64), "sn")


def test_golden_training_step_without_batch_statistics(check_golden_layer) -> None:
    check_golden_layer(SN(64, using_bn=False), "sn_nobn")


def choosing(k: int, **arguments) -> SN:
    """An SN whose softmaxes have settled on the k-th statistic."""
    layer = SN(6, **arguments)
    with torch.no_grad():
        layer.mean_weight[k] = layer.var_weight[k] = FAR
    return layer


@pytest.mark.parametrize("using_bn", [True, False])
def test_statistics_stand_in_the_order_in_ln_bn(using_bn) -> None:
    """Each alone is the norm of its name, up to the unbiased variance of the planes."""
    x = torch.randn(5, 6, 40, 40) * torch.rand(5, 6, 1, 1) + torch.randn(5, 6, 1, 1)
    plain = [nn.InstanceNorm2d(6), nn.GroupNorm(1, 6), nn.BatchNorm2d(6)]
    for k, norm in enumerate(plain[: 3 if using_bn else 2]):
        y = choosing(k, using_bn=using_bn)(x)
        torch.testing.assert_close(y, norm(x), rtol=2e-3, atol=2e-3)
        others = [other(x) for other in plain if other is not norm]
        assert all((y - other).abs().max() > 0.1 for other in others)


def test_means_and_variances_have_weights_of_their_own() -> None:
    layer = SN(6, using_bn=False)
    with torch.no_grad():
        layer.mean_weight[0] = layer.var_weight[1] = FAR
    x = torch.randn(2, 6, 5, 4, dtype=torch.float64)
    planes = x.var((2, 3), keepdim=True)
    mean = x.mean((2, 3), keepdim=True)
    var = (planes + mean.square()).mean(1, keepdim=True) - mean.mean(1, keepdim=True).square()
    expected = (x - mean) / (var + 1e-5).sqrt()
    torch.testing.assert_close(layer.double()(x), expected)


def test_names_and_shapes_are_those_of_the_published_files() -> None:
    shapes = {key: tuple(value.shape) for key, value in SN(6).state_dict().items()}
    assert shapes == dict(
        weight=(1, 6, 1, 1),
        bias=(1, 6, 1, 1),
        mean_weight=(3,),
        var_weight=(3,),
        running_mean=(1, 6, 1),
        running_var=(1, 6, 1),
    )
    assert not SN(6).running_mean.any() and not SN(6).running_var.any()  # both start at zero
    assert SN(6, spatial_dims=3).weight.shape == (1, 6, 1, 1, 1)
    assert SN(6, spatial_dims=1).weight.shape == (1, 6, 1)


def test_without_batch_statistics_there_is_nothing_to_remember() -> None:
    layer = SN(6, using_bn=False)
    assert not list(layer.buffers()) and layer.mean_weight.shape == (2,)
    assert not any("running" in key for key in layer.state_dict())
    x = torch.randn(3, 6, 5, 4)
    y = layer(x)
    torch.testing.assert_close(layer.eval()(x), y, rtol=0, atol=0)
    torch.testing.assert_close(layer(x)[1:2], layer(x[1:2]))  # nor do samples meet


def test_last_gamma() -> None:
    layer = SN(6, last_gamma=True)
    assert not layer.weight.any() and SN(6).weight.all()
    x = torch.randn(3, 6, 5, 4)
    assert not layer(x).any()
    layer(x).mul(torch.randn_like(x)).sum().backward()
    assert layer.weight.grad.all()  # it learns although its branch is silent


def batch_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    mean, var = x.mean((2, 3)), x.var((2, 3))
    batch = mean.mean(0)
    return batch, (var + mean.square()).mean(0) - batch.square()


@pytest.mark.parametrize("momentum", [0.9, 0.997, 0.0])
def test_momentum_is_the_share_that_stays(momentum) -> None:
    layer = SN(6, momentum=momentum)
    mean, var = torch.zeros(6), torch.zeros(6)
    for _ in range(3):
        x = 2 + torch.randn(4, 6, 5, 3)
        layer(x)
        batch_mean, batch_var = batch_statistics(x)
        mean = momentum * mean + (1 - momentum) * batch_mean
        var = momentum * var + (1 - momentum) * batch_var
    torch.testing.assert_close(layer.running_mean.flatten(), mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer.running_var.flatten(), var, rtol=1e-4, atol=1e-5)


def test_batch_average_adds_up_means_and_second_moments() -> None:
    layer = SN(6, using_moving_average=False)
    mean, power = torch.zeros(6), torch.zeros(6)
    for _ in range(3):
        x = 2 + torch.randn(4, 6, 5, 3)
        layer(x)
        batch_mean, batch_var = batch_statistics(x)
        mean += batch_mean
        power += batch_var + batch_mean.square()
    torch.testing.assert_close(layer.running_mean.flatten(), mean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(layer.running_var.flatten(), power, rtol=1e-4, atol=1e-4)
    assert layer.batches_added == 3


def test_sums_are_not_mistaken_for_statistics() -> None:
    """The authors' code evaluates with them, and is wrong in silence."""
    layer = SN(6, using_moving_average=False)
    x = torch.randn(4, 6, 5, 3)
    layer(x), layer(x)
    with pytest.raises(RuntimeError, match=r"sums over training batches.*backbones\.calibrate"):
        layer.eval()(x)
    with pytest.raises(RuntimeError, match="sums over training batches"):
        copy.deepcopy(layer)(x)
    layer.train()(x)  # training goes on
    assert layer.batches_added == 3


def test_sums_stay_known_as_such_in_a_state(tmp_path) -> None:
    layer, x = SN(6, using_moving_average=False), torch.randn(4, 6, 5, 3)
    layer(x), layer(x)
    assert set(layer.state_dict()) == set(SN(6).state_dict())
    torch.save(nn.Sequential(layer).state_dict(), tmp_path / "sums.pth")
    other = nn.Sequential(SN(6, using_moving_average=False))
    other.load_state_dict(torch.load(tmp_path / "sums.pth", weights_only=True))
    with pytest.raises(RuntimeError, match="sums over training batches"):
        other.eval()(x)
    other.load_state_dict({"0.weight": layer.weight}, strict=False)  # says nothing of the buffers
    assert other[0].batches_added == 2


def test_adding_up_is_compiled_once() -> None:
    """Not anew for every number of batches, which ends in no compilation at all."""
    layer = SN(6, using_moving_average=False)
    other = copy.deepcopy(layer)
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    with torch._dynamo.config.patch(recompile_limit=1):
        for _ in range(4):
            x = torch.randn(4, 6, 5, 3)
            torch.testing.assert_close(compiled(x), other(x), rtol=1e-4, atol=1e-5)
    torch._dynamo.reset()
    torch.testing.assert_close(layer.running_var, other.running_var)
    with pytest.raises(RuntimeError, match="sums over training batches"):
        layer.eval()(x)


def test_a_state_that_was_loaded_is_believed() -> None:
    layer, other = SN(6, using_moving_average=False), SN(6)
    x = torch.randn(4, 6, 5, 3)
    layer(x), other(x)
    layer.load_state_dict(other.state_dict())
    assert layer.batches_added == 0
    torch.testing.assert_close(layer.eval()(x), other.eval()(x))


def test_a_state_that_was_refused_changes_nothing() -> None:
    layer = SN(6, using_moving_average=False)
    layer(torch.randn(4, 6, 5, 3))
    with pytest.raises(RuntimeError, match="size mismatch"):
        layer.load_state_dict(SN(5).state_dict())


@pytest.mark.parametrize("training", [True, False])
def test_vectors(training) -> None:
    """spatial_dims=0: (N, C), with LN and BN; a single value has no variance of its own."""
    layer = SN(6, spatial_dims=0).double()
    assert layer.statistics == ("ln", "bn") and layer.weight.shape == (1, 6)
    with torch.no_grad():
        layer.weight.normal_(), layer.bias.normal_()
        layer.mean_weight.normal_(), layer.var_weight.normal_()
        layer.running_mean.normal_(), layer.running_var.uniform_(0.5, 2)
    layer.train(training)
    exact = copy.deepcopy(layer)
    x, r, gy = torch.randn(3, 5, 6, dtype=torch.float64)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    batch = (b.mean(0, keepdim=True), b.var(0, keepdim=True, correction=0))
    if not training:
        batch = (exact.running_mean.view(1, 6), exact.running_var.view(1, 6))
    layer_wise = (b.mean(1, keepdim=True), b.var(1, keepdim=True, correction=0))
    w, v = exact.mean_weight.softmax(0), exact.var_weight.softmax(0)
    mean = w[0] * layer_wise[0] + w[1] * batch[0]
    var = v[0] * layer_wise[1] + v[1] * batch[1]
    expected = ((b - mean) / (var + 1e-5).sqrt() * exact.weight + exact.bias + r).relu()
    y = layer(a, r, relu=True)
    torch.testing.assert_close(y, expected)
    y.backward(gy), expected.backward(gy)
    torch.testing.assert_close(a.grad, b.grad)
    for p, q in zip(layer.parameters(), exact.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)
    with pytest.raises(ValueError, match=r"SN: expected \(N, 6\), got shape \(5, 6, 2, 2\)"):
        layer(torch.randn(5, 6, 2, 2))
    if training:
        with pytest.raises(ValueError, match="SN: training needs more than one value"):
            layer(x[:1])


def test_the_number_of_spatial_dimensions_is_kept() -> None:
    with pytest.raises(ValueError, match=r"SN: expected \(N, 6, H, W\), got shape \(2, 6, 4\)"):
        SN(6)(torch.randn(2, 6, 4))
    with pytest.raises(ValueError, match=r"SN: expected \(N, 6, L\), got"):
        SN(6, spatial_dims=1)(torch.randn(2, 6, 4, 4))


def test_wrong_arguments() -> None:
    for wrong in (4, -1, None, 1.5):
        with pytest.raises(ValueError, match="spatial_dims is 0 to 3"):
            SN(6, spatial_dims=wrong)
    with pytest.raises(ValueError, match="only LN would be left"):
        SN(6, spatial_dims=0, using_bn=False)


def test_half_precision_buffers_move_too() -> None:
    layer = SN(6).bfloat16()
    layer(torch.randn(4, 6, 5, 3).bfloat16())
    assert layer.running_var.dtype == torch.bfloat16 and layer.running_var.all()
    average = SN(6, using_moving_average=False).half()
    average(torch.randn(4, 6, 5, 3).half())
    assert average.running_var.dtype == torch.float16 and average.running_var.all()
