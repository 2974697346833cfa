"""Batch statistics: torch's running averages, and two processes equal to one large batch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from backbones.norm import BIN, BN, IBN, IN, SN, Norm, build_norm, sync_norms
from backbones.norm.batch import batch_moments, batch_tables
from backbones.norm.moments import Moments

C, SAMPLES, SIZE = 6, 5, (4, 3)
State = dict[str, Tensor]


class Named(nn.Module):
    """A foreign layer that happens to have an attribute of our name."""

    def __init__(self) -> None:
        super().__init__()
        self.sync = False
        self.inner = BIN(C)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


def _small_network() -> nn.Module:
    """Every norm in a row; IN has nothing to share."""
    norms = [build_norm(kind, C) for kind in ("bn", "ibn", "bin", "sn", "in")]
    return nn.Sequential(*(m for norm in norms for m in (nn.Conv2d(C, C, 1), norm)), Named())


# name -> a layer before and after it is told to share its statistics
CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], nn.Module]]] = {
    "bn": (lambda: BN(C), sync_norms),
    "bn_cumulative": (lambda: BN(C, momentum=None), sync_norms),
    "bn_bare": (lambda: BN(C, affine=False), sync_norms),
    "ibn": (lambda: IBN(C), sync_norms),
    "ibn_reversed": (lambda: IBN(C, ratio=0.4, order="bn_in"), sync_norms),
    "ibn_by_torch": (lambda: IBN(C), nn.SyncBatchNorm.convert_sync_batchnorm),
    "bin": (lambda: BIN(C), sync_norms),
    "bin_bare": (lambda: BIN(C, affine=False), sync_norms),
    "sn": (lambda: SN(C), sync_norms),
    "sn_average": (lambda: SN(C, using_moving_average=False), sync_norms),
    "sn_without_bn": (lambda: SN(C, using_bn=False), sync_norms),
    "network": (_small_network, sync_norms),
    **{
        f"sync{name}": (lambda n=name: build_norm(n, C), lambda m, n=name: _like(m, f"sync{n}"))
        for name in ("bn", "ibn", "bin", "sn")
    },
}
SHARES = {"3 and 2": 3, "none and 5": 0, "1 and 4": 1}  # samples of the first process


def _like(module: nn.Module, name: str) -> nn.Module:
    """The same state in a norm that was built as a synchronous one."""
    synchronous = build_norm(name, C).double()
    synchronous.load_state_dict(module.state_dict())
    return synchronous


def _make(name: str) -> nn.Module:
    layer = CASES[name][0]().double()
    generator = torch.Generator().manual_seed(3)
    for key, p in layer.named_parameters():
        r = torch.randn(p.shape, generator=generator, dtype=p.dtype)
        p.data = (0.5 + 0.2 * r).clamp(0.05, 0.95) if key.endswith("gate") else 0.4 + 0.5 * r
    return layer


def _inputs() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(3, SAMPLES, C, *SIZE, dtype=torch.float64).unbind()


def _steps(layer: nn.Module, x: Tensor, residual: Tensor, gy: Tensor) -> State:
    """Two training steps, so that the second meets moved buffers; then an evaluation."""
    for _ in range(2):
        layer.zero_grad()
        x, residual = (t.detach().clone().requires_grad_() for t in (x, residual))
        y = layer(x, residual, relu=True) if isinstance(layer, Norm) else layer(x + residual)
        y.backward(gy)
    result = {"y": y.detach(), "gx": x.grad, "g_residual": residual.grad}
    result |= {f"grad/{n}": p.grad for n, p in layer.named_parameters()}
    result |= {n: b.clone() for n, b in layer.named_buffers()}
    if getattr(layer, "using_moving_average", True):
        result["y_eval"] = layer.eval()(x).detach()
    return result


def _maps_of_different_sizes(rank: int) -> Tensor:
    torch.manual_seed(rank)
    return torch.randn(2 + rank, C, 3 + 2 * rank, 4, dtype=torch.float64)


def _process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(str(Path(folder, "store")), 2)
    # a hang becomes an error
    dist.init_process_group(
        "gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=30)
    )
    groups = [dist.new_group([r]) for r in range(2)]
    results: dict[str, Any] = {}
    for name, (_, convert) in CASES.items():
        for share, first in SHARES.items():
            layer = convert(_make(name))
            part = slice(0, first) if rank == 0 else slice(first, None)
            results[f"{name}/{share}"] = _steps(layer, *(t[part] for t in _inputs()))

    for name in ("bn", "ibn", "bin", "sn"):  # a group of its own is no company
        layer = sync_norms(_make(name), groups[rank])
        results[f"{name}/alone"] = _steps(layer, *(t[rank : rank + 2] for t in _inputs()))

    for name in ("bn", "ibn", "bin", "sn"):
        layer = sync_norms(_make(name))
        x = _maps_of_different_sizes(rank).requires_grad_()
        y = layer(x)
        y.square().sum().backward()
        results[f"{name}/sizes"] = {"y": y.detach(), "gx": x.grad, **dict(layer.named_buffers())}

        layer = sync_norms(_make(name))
        one = _inputs()[0][: 1 - rank, :, :1, :1]  # one value per channel in all the world
        try:
            layer(one)
            results[f"{name}/refused"] = False
        except ValueError as error:
            results[f"{name}/refused"] = "more than one value" in str(error)

        layer = sync_norms(_make(name))
        empty = _inputs()[0][:0].requires_grad_()
        layer(empty).sum().backward()
        results[f"{name}/nobody"] = dict(layer.named_buffers())

        if rank == 0:  # evaluation is nobody else's business
            layer.eval()(_inputs()[0])
    with torch.no_grad():  # recalibration: training mode without gradients
        layer = sync_norms(_make("bin"))
        layer(_inputs()[0][: 2 * rank])
        results["bin/no_grad"] = dict(layer.named_buffers())
    torch.save(results, Path(folder, f"{rank}.pt"))
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two processes found; started once, because importing torch takes seconds."""
    if not (dist.is_available() and dist.is_gloo_available()):
        pytest.skip("needs the gloo backend")
    folder = tmp_path_factory.mktemp("processes")
    mp.spawn(_process, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("share", SHARES)
def test_two_processes_equal_one_large_batch(processes, name, share) -> None:
    expected = _steps(_make(name), *_inputs())
    first, second = (found[f"{name}/{share}"] for found in processes)
    assert first.keys() == second.keys() == expected.keys()
    for key, value in expected.items():
        if key in ("y", "gx", "g_residual", "y_eval"):
            got = torch.cat([first[key], second[key]])
        elif key.startswith("grad/"):
            got = first[key] + second[key]  # what DistributedDataParallel averages
        else:
            assert torch.equal(first[key], second[key]), key
            got = first[key]
        torch.testing.assert_close(got, value, msg=lambda m, k=key: f"{k}: {m}")


@pytest.mark.parametrize("name", ["bn", "ibn", "bin", "sn"])
def test_a_group_is_respected(processes, name) -> None:
    for rank, found in enumerate(processes):
        expected = _steps(_make(name), *(t[rank : rank + 2] for t in _inputs()))
        for key, value in expected.items():
            torch.testing.assert_close(found[f"{name}/alone"][key], value)


@pytest.mark.parametrize("name", ["bn", "ibn", "bin", "sn"])
def test_every_value_counts_the_same_where_map_sizes_differ(processes, name) -> None:
    """As in torch's SyncBatchNorm; buffers must not drift apart."""
    parts = [found[f"{name}/sizes"] for found in processes]
    for key in parts[0]:
        if "running" in key:
            assert torch.equal(parts[0][key], parts[1][key])
    if name != "bn":
        return
    values = [_maps_of_different_sizes(rank).requires_grad_() for rank in range(2)]
    flat = torch.cat([v.transpose(0, 1).flatten(1) for v in values], 1)[None]  # (1, C, all)
    plain = nn.BatchNorm1d(C).double()
    plain.load_state_dict(_make("bn").state_dict())
    y = plain(flat)
    y.square().sum().backward()
    got = torch.cat([p["y"].transpose(0, 1).flatten(1) for p in parts], 1)[None]
    torch.testing.assert_close(got, y)
    for part, value in zip(parts, values, strict=True):
        torch.testing.assert_close(part["gx"], value.grad)
        torch.testing.assert_close(part["running_mean"], plain.running_mean)
        torch.testing.assert_close(part["running_var"], plain.running_var)


@pytest.mark.parametrize("name", ["bn", "ibn", "bin", "sn"])
def test_one_value_in_all_processes_is_refused_by_all(processes, name) -> None:
    assert [found[f"{name}/refused"] for found in processes] == [True, True]


@pytest.mark.parametrize("name", ["bn", "ibn", "bin", "sn"])
def test_batches_that_are_empty_everywhere_move_nothing(processes, name) -> None:
    before = dict(_make(name).named_buffers())
    for found in processes:
        for key, value in found[f"{name}/nobody"].items():
            if "running" in key:
                assert torch.equal(value, before[key]), key


def test_recalibration_without_gradients(processes) -> None:
    layer = _make("bin")
    with torch.no_grad():
        layer(_inputs()[0][:2])
    for found in processes:
        for key, value in layer.named_buffers():
            torch.testing.assert_close(found["bin/no_grad"][key], value)


def test_sync_norms_reaches_ours_and_torch_s_and_nothing_else() -> None:
    model = _small_network()
    model.append(nn.BatchNorm2d(C))
    model.append(nn.ModuleDict({"deep": nn.BatchNorm1d(C)}))
    before = copy.deepcopy(model.state_dict())
    assert sync_norms(model) is model
    for module in model.modules():
        if isinstance(module, (BN, BIN, SN, IBN)):
            assert module.sync
    assert isinstance(model[-2], nn.SyncBatchNorm)
    assert isinstance(model[-1]["deep"], nn.SyncBatchNorm)
    assert isinstance(sync_norms(nn.BatchNorm2d(C)), nn.SyncBatchNorm)
    named = next(m for m in model if isinstance(m, Named))
    assert named.sync is False and not hasattr(named, "process_group") and named.inner.sync
    assert not any(m.sync for m in model.modules() if isinstance(m, IN))
    assert model.state_dict().keys() == before.keys()
    x = torch.randn(4, C, 3, 3)  # alone, all of this is plain batch statistics
    torch.testing.assert_close(model[:-1](x), _small_network_like(before)(x))


def test_sync_norms_keeps_shared_layers_shared() -> None:
    for layer in (nn.BatchNorm2d(C), SN(C)):
        model = nn.ModuleDict({"a": layer, "b": layer, "c": nn.Sequential(layer)})
        sync_norms(model)
        assert model["a"] is model["b"] is model["c"][0]
        assert isinstance(model["a"], nn.SyncBatchNorm) or model["a"].sync


def _small_network_like(state: State) -> nn.Module:
    model = _small_network()
    model.append(nn.BatchNorm2d(C))
    model.load_state_dict({k: v for k, v in state.items() if "deep" not in k})
    return model


# --------------------------------------------------------------------------- one process


@pytest.mark.parametrize("momentum", [0.1, 0.5, None])
def test_running_statistics_move_as_torch_s(momentum) -> None:
    ours, plain = BN(C, momentum=momentum), nn.BatchNorm2d(C, momentum=momentum)
    for _ in range(3):
        x = 2 + torch.randn(4, C, 5, 3)
        moments = Moments(x.mean((2, 3)), x.var((2, 3), correction=0), 15)
        mean, var = batch_tables(ours, moments)
        plain(x)
        torch.testing.assert_close(mean, x.mean((0, 2, 3)))
        torch.testing.assert_close(var, x.var((0, 2, 3), correction=0))
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], value)


def test_running_statistics_serve_evaluation() -> None:
    ours = BN(C).eval()
    ours.running_mean.normal_()
    before = copy.deepcopy(ours.state_dict())
    mean, var = batch_tables(ours, Moments(torch.randn(2, C).double(), torch.rand(2, C), 4))
    assert mean.dtype == torch.float64
    torch.testing.assert_close(mean, ours.running_mean.double())
    torch.testing.assert_close(var, ours.running_var.double())
    assert all(torch.equal(value, before[key]) for key, value in ours.state_dict().items())


def test_without_running_statistics_the_batch_s_serve_evaluation() -> None:
    ours = BN(C, track_running_stats=False).eval()
    moments = Moments(torch.randn(3, C), torch.rand(3, C), 4)
    torch.testing.assert_close(batch_tables(ours, moments)[0], moments.mean.mean(0))


def test_batch_moments_are_those_of_all_values() -> None:
    x = torch.randn(4, C, 5, 3, dtype=torch.float64)
    moments = Moments(x.mean((2, 3)), x.var((2, 3), correction=0), 15)
    mean, var, values = batch_moments(moments, sync=True)  # no process group: nothing to share
    torch.testing.assert_close(mean, x.mean((0, 2, 3)))
    torch.testing.assert_close(var, x.var((0, 2, 3), correction=0))
    assert values == 60


@pytest.mark.parametrize("large", [False, True])  # torch's operation, and the core's
@pytest.mark.parametrize("training", [True, False])
def test_bn_equals_torch_s(large, training) -> None:
    ours, plain = BN(8), nn.BatchNorm2d(8)
    shape = (2, 8, 256, 256) if large else (3, 8, 6, 5)
    for p, q in zip(ours.parameters(), plain.parameters(), strict=True):
        q.data.copy_(p.data.normal_())
    ours.train(training), plain.train(training)
    x, r = torch.randn(2, *shape)
    inputs = [[t.clone().requires_grad_() for t in (x, r)] for _ in range(2)]
    y = ours(*inputs[0], relu=True)
    expected = (plain(inputs[1][0]) + inputs[1][1]).relu()
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
    gy = torch.randn(shape)
    y.backward(gy), expected.backward(gy)
    for a, b in zip(*inputs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5)
    for p, q in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=2e-3)
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], value)
