from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.model import BaseModel
from torch import Tensor, nn

from backbones import create_model
from backbones.calibrate import calibrate
from backbones.convert import convert_norm
from backbones.norm import BIN, IBN, SN


def images(*sizes: int, pixels: int = 6, channels: int = 4) -> list[Tensor]:
    """Batches whose contents differ, so that the variance of their means counts."""
    return [3 * i + (1 + i) * torch.randn(n, channels, pixels, pixels) for i, n in enumerate(sizes)]


def state_of(model: nn.Module) -> dict[str, Any]:
    """All that calibration may not change, but for the statistics, and these under 'buffers'."""
    return {
        "modes": [m.training for m in model.modules()],
        "momentum": [getattr(m, "momentum", None) for m in model.modules()],
        "averages": [getattr(m, "using_moving_average", None) for m in model.modules()],
        "trained": [p.requires_grad for p in model.parameters()],
        "hooks": [len(m._forward_pre_hooks) for m in model.modules()],
        "added": [getattr(m, "batches_added", None) for m in model.modules()],
        "weights": [p.detach().clone() for p in model.parameters()],
        "buffers": [b.clone() for b in model.buffers()],
    }


def check_untouched(model: nn.Module, before: dict[str, Any], *but: str) -> None:
    for key, value in state_of(model).items():
        if key in but:
            continue
        if key in ("weights", "buffers"):
            torch.testing.assert_close(value, before[key], rtol=0, atol=0)
        else:
            assert value == before[key], key


def values(batches: list[Tensor]) -> Tensor:
    """(C, all values)."""
    return torch.cat([b.transpose(0, 1).flatten(1) for b in batches], 1).double()


# ------------------------------------------------------------------------------ the statistics


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm2d(4),
        nn.BatchNorm2d(4, momentum=None),
        nn.SyncBatchNorm(4),
        BIN(4),
        IBN(4, ratio=0.0),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_variance_is_that_of_all_data(layer: nn.Module) -> None:
    batches = images(5, 3, 2)  # unequal, as the last of a loader
    if isinstance(layer, nn.SyncBatchNorm):
        layer = nn.Sequential(layer)  # also as a child
    assert calibrate(layer, batches) == 3
    keeper = next(m for m in layer.modules() if getattr(m, "running_mean", None) is not None)
    torch.testing.assert_close(keeper.running_mean.double(), values(batches).mean(1))
    torch.testing.assert_close(keeper.running_var.double(), values(batches).var(1))
    if isinstance(keeper, BIN):
        assert int(keeper.num_batches_tracked) == 0


@pytest.mark.parametrize("moving", [True, False])
def test_sn_averages_its_own_kind_of_moments(moving: bool) -> None:
    """The authors': mean = sum of means / n, var = sum of second moments / n - mean^2."""
    layer = SN(4, using_moving_average=moving)
    batches = images(3, 3, 3)
    sums = SN(4, using_moving_average=False).train()
    for batch in batches:
        sums(batch)
    if not moving:  # what training has left in the buffers does not count
        layer.train()(100 + batches[0])
    calibrate(layer, batches)
    mean = sums.running_mean / 3
    torch.testing.assert_close(layer.running_mean, mean)
    torch.testing.assert_close(layer.running_var, sums.running_var / 3 - mean**2)
    assert layer.batches_added == 0
    layer.eval()(batches[0])  # not refused any more


def test_no_digits_are_lost_at_a_large_mean() -> None:
    layer = SN(2, using_moving_average=False)
    batches = [3000 + 0.01 * torch.randn(4, 2, 16, 16) for _ in range(3)]
    calibrate(layer, batches)
    planes = torch.cat(batches).double().flatten(2)
    expected = planes.var(2).mean(0) + planes.mean(2).var(0, correction=0)
    torch.testing.assert_close(layer.running_var.flatten().double(), expected, rtol=0.02, atol=0)


@pytest.mark.parametrize("order", ["in_bn", "bn_in"])
def test_batch_half_of_ibn(order: str) -> None:
    layer = IBN(5, ratio=0.4, order=order)
    batches = images(3, 2, channels=5)
    calibrate(layer, batches)
    half = slice(2, 5) if order == "in_bn" else slice(0, 3)
    torch.testing.assert_close(layer.BN.running_mean.double(), values(batches).mean(1)[half])
    torch.testing.assert_close(layer.BN.running_var.double(), values(batches).var(1)[half])


def test_instance_norm_tracks_the_average_instance() -> None:
    layer = nn.InstanceNorm2d(4, track_running_stats=True)
    batches = images(3, 2)
    calibrate(layer, batches)
    planes = torch.cat(batches).flatten(2)
    torch.testing.assert_close(layer.running_mean, planes.mean(2).mean(0))
    torch.testing.assert_close(layer.running_var, planes.var(2).mean(0))


def test_vectors() -> None:
    batches = [torch.randn(5, 4), 2 + torch.randn(3, 4)]
    plain, switchable = nn.BatchNorm1d(4), SN(4, spatial_dims=0)
    calibrate(nn.Sequential(plain), batches), calibrate(switchable, batches)
    data = torch.cat(batches)
    torch.testing.assert_close(plain.running_var, data.var(0))
    torch.testing.assert_close(switchable.running_var.flatten(), data.var(0, correction=0))


def test_images_of_several_sizes_count_by_their_values() -> None:
    layer = nn.BatchNorm2d(4)
    batches = [torch.randn(2, 4, 4, 4), 5 + torch.randn(3, 4, 9, 9)]
    calibrate(layer, batches)
    torch.testing.assert_close(layer.running_mean.double(), values(batches).mean(1))


def test_deeper_layers_see_what_they_saw_in_training() -> None:
    """Each batch is normalised by its own statistics on its way, and dropout is off."""
    first, second = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
    model = nn.Sequential(first, nn.Dropout(0.9), nn.Conv2d(4, 4, 3), second)
    batches = images(4, 4)
    calibrate(model, batches)
    whitened = [nn.BatchNorm2d(4).train()(b).detach() for b in batches]
    inputs = [model[2](w).detach() for w in whitened]
    torch.testing.assert_close(second.running_var.double(), values(inputs).var(1))


def test_a_layer_used_twice_counts_both() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(x) + self.norm(input=x + 10)

    model, (batch,) = Twice(), images(4)
    calibrate(model, [batch])
    torch.testing.assert_close(
        model.norm.running_mean, torch.cat([batch, batch + 10]).mean((0, 2, 3))
    )


@pytest.mark.parametrize("norm", ["bn", "ibn", "bin", "sn"])
def test_evaluation_on_the_calibrated_batch_is_training(norm: str) -> None:
    """With one batch, evaluation mode must compute what training mode computes on it."""
    model = create_model("cifar_resnet8_bn_basic", num_classes=3)
    if norm != "bn":
        convert_norm(model, norm)
    batch = torch.randn(16, 3, 32, 32)
    calibrate(model, [batch])
    expected = copy.deepcopy(model).train()(batch)
    # running variances are unbiased, those of a training batch are not
    torch.testing.assert_close(model.eval()(batch), expected, rtol=0.02, atol=0.02)


# ------------------------------------------------------------------------------ what stays


def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(4, 32, 3),
        nn.BatchNorm2d(32, momentum=None),
        nn.Sequential(BIN(32), nn.Dropout()),
        SN(32, using_moving_average=False),
        IBN(32),
    )
    model.train()(torch.randn(2, 4, 6, 6))
    model[2].requires_grad_(False).eval()
    return model


def test_all_but_the_statistics_stays() -> None:
    model = network()
    before = state_of(model)
    calibrate(model, images(2, 3))
    check_untouched(model, before, "buffers", "added")
    for place in ("1", "2.0", "3", "4.BN"):
        layer, old = model.get_submodule(place), network().get_submodule(place)
        assert not torch.allclose(layer.running_var, old.running_var), place
    assert int(model[1].num_batches_tracked) == 1
    assert model[3].batches_added == 0


class Interrupted(Exception):
    pass


def failing():
    yield from images(3, 3)
    raise Interrupted


def not_finite():
    yield from images(3)
    yield torch.full((2, 4, 6, 6), torch.inf)


@pytest.mark.parametrize(
    ("loader", "error", "message"),
    [
        (failing, Interrupted, None),
        (lambda: [*images(3), "image.jpg"], TypeError, "forward=lambda"),
        (lambda: [{"image": torch.zeros(1)}], TypeError, "forward=lambda"),
        (lambda: [], ValueError, "no batch"),
        (not_finite, FloatingPointError, "inputs of 1 were not finite"),
        (lambda: [*images(3), torch.randn(1, 4, 3, 3)], ValueError, "more than 1 value|one value"),
    ],
)
def test_an_error_leaves_everything_as_it_was(loader, error, message) -> None:
    model = network()
    before = state_of(model)
    with pytest.raises(error, match=message):
        calibrate(model, loader())
    check_untouched(model, before)


def test_chosen_layers() -> None:
    model, batches = network(), images(4)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    calibrate(model, batches, where=["1", "3", "4"])
    changed = {n for n, b in model.named_buffers() if not torch.equal(b, before[n])}
    assert changed == {f"{p}.running_{k}" for p in ("1", "3", "4.BN") for k in ("mean", "var")}


def test_nothing_to_calibrate() -> None:
    with pytest.raises(ValueError, match="no such layer"):
        calibrate(nn.Sequential(nn.InstanceNorm2d(4), SN(4, using_bn=False)), images(2))


def test_a_layer_that_is_not_reached_is_named(caplog) -> None:
    class Auxiliary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.head = nn.BatchNorm2d(4), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.norm(x)) if self.training else self.norm(x)

    model = Auxiliary()
    model.head.running_mean.fill_(5)
    calibrate(model, images(2))
    assert (model.head.running_mean == 5).all() and not (model.norm.running_mean == 0).any()
    assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING"] == [
        "head: not reached, statistics left as they are"
    ]


# ------------------------------------------------------------------------------ how many, of what


def test_number_of_batches(caplog) -> None:
    layer, batches = nn.BatchNorm2d(4), images(2, 2, 2)
    assert calibrate(layer, iter(batches), 2) == 2
    torch.testing.assert_close(layer.running_mean.double(), values(batches[:2]).mean(1))
    assert calibrate(layer, batches, 10) == 3
    assert "asked for 10 batches, had and used 3" in caplog.text
    with pytest.raises(ValueError, match="1 or more"):
        calibrate(layer, batches, 0)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: (x, torch.zeros(len(x))),
        lambda x: [x, torch.zeros(len(x))],
        lambda x: {"inputs": x, "pid": torch.zeros(len(x))},
    ],
)
def test_kinds_of_batches(wrap) -> None:
    layer, (batch,) = nn.BatchNorm2d(4), images(3)
    calibrate(layer, [wrap(batch)])
    torch.testing.assert_close(layer.running_mean, batch.mean((0, 2, 3)))


def test_forward_of_the_user() -> None:
    layer, (batch,) = nn.BatchNorm2d(4), images(3)
    calibrate(layer, [{"image": batch}], forward=lambda model, b: model(b["image"] + 1))
    torch.testing.assert_close(layer.running_mean, batch.mean((0, 2, 3)) + 1)


def test_mmengine_models_preprocess() -> None:
    class Model(BaseModel):
        def __init__(self) -> None:
            super().__init__(dict(type="ImgDataPreprocessor", mean=[100.0] * 3, std=[10.0] * 3))
            self.norm = nn.BatchNorm2d(3)

        def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = "loss") -> Tensor:
            assert mode == "tensor" and not self.training
            return self.norm(inputs)

    model = Model()
    batch = torch.randint(0, 255, (3, 5, 5), dtype=torch.uint8)
    calibrate(model, [{"inputs": [batch, batch], "data_samples": None}])
    torch.testing.assert_close(model.norm.running_mean, (batch.float().mean((1, 2)) - 100) / 10)


def test_compiled_models_are_measured(caplog) -> None:
    """Code that was compiled before knows nothing of the hooks that measure."""
    model = nn.Sequential(nn.BatchNorm2d(4))
    batches = images(3)
    torch.compiler.reset()
    model.compile(backend="eager")
    model(batches[0])
    calibrate(model, batches)
    torch.testing.assert_close(model[0].running_mean.double(), values(batches).mean(1))
    calibrate(torch.compile(model, backend="eager"), batches)
    assert "not reached" not in caplog.text


# ------------------------------------------------------------------------------ several processes


def shares() -> list[list[Tensor]]:
    torch.manual_seed(1)
    batches = images(3, 2, 4, 2, 3, channels=8)
    return [batches[:2], batches[2:]]  # the second has one batch more


def model_of_two() -> nn.Module:
    torch.manual_seed(2)
    return nn.ModuleDict(
        {
            "plain": nn.BatchNorm2d(8),
            "synced": BIN(8, sync=True),
            "ibn": IBN(8),
            "sn": SN(8, using_moving_average=False, sync=True),
            "tracked": nn.InstanceNorm2d(8, track_running_stats=True),
            "unused": nn.BatchNorm2d(8),
        }
    )


class Parallel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norms = model_of_two()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.weight
        return sum(self.norms[n](x) for n in ("plain", "synced", "ibn", "sn", "tracked"))


def _process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(str(Path(folder, "store")), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    model = nn.parallel.DistributedDataParallel(Parallel())
    with pytest.raises(ValueError, match="convert first, then wrap"):
        convert_norm(model, "bin")
    used = calibrate(model, shares()[rank], 10)
    with pytest.raises(ValueError, match="no batch in one process"):
        calibrate(model, shares()[rank] if rank else [])
    torch.save({"used": used, **model.module.state_dict()}, Path(folder, f"{rank}.pt"))
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_end_with_the_statistics_of_all_data(tmp_path: Path) -> None:
    mp.spawn(_process, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{i}.pt", weights_only=True) for i in range(2))
    assert first["used"] == second["used"] == 4
    one = Parallel()
    a, b = shares()
    calibrate(one, [a[0], b[0], a[1], b[1]])
    for name, value in one.state_dict().items():
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0)
        torch.testing.assert_close(first[name], value, msg=lambda m, n=name: f"{n}: {m}")
