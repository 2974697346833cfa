"""Center loss: its closed-form step against an explicit SGD, in one process and in two."""

import copy
import math

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from reid.losses import CenterLoss
from reid.registry import MODELS

P, D = 5, 4


def batch(seed, n=8, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, D, dtype=dtype, generator=generator)
    return x, torch.randint(0, P, (n,), generator=generator)


def explicit_loss(x, labels, centers):
    """The unweighted loss with centers that autograd differentiates, sample by sample."""
    terms = [(row - centers[k]).pow(2).sum() for row, k in zip(x, labels.tolist(), strict=True)]
    return torch.stack(terms).clamp(1e-12, 1e12).sum() / len(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_a_separate_sgd_optimiser_over_several_steps(dtype):
    loss = CenterLoss(P, D, weight=0.01, center_lr=0.5).to(dtype)
    centers = torch.nn.Parameter(loss.centers.clone())
    optimiser = torch.optim.SGD([centers], lr=0.5)
    for step in range(6):
        x, labels = batch(step, dtype=dtype)
        ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()

        value = loss(ours, labels)
        value.backward()

        optimiser.zero_grad()
        expected = explicit_loss(theirs, labels, centers)
        expected.backward()
        optimiser.step()

        torch.testing.assert_close(value, 0.01 * expected)
        torch.testing.assert_close(ours.grad, 0.01 * theirs.grad)  # centers before the step
        torch.testing.assert_close(loss.centers, centers.data)


@pytest.mark.parametrize("size", [0.0, 1e-8, 1e7])
def test_beyond_the_clamp_neither_features_nor_centers_move(size):
    loss = CenterLoss(P, D)
    loss.centers.zero_()
    x = torch.full((3, D), size, requires_grad=True)
    value = loss(x, torch.tensor([0, 1, 1]))
    value.backward()
    assert value.item() == pytest.approx(0.0005 * (1e12 if size > 1 else 1e-12))
    assert (x.grad == 0).all()
    assert (loss.centers == 0).all()


def test_only_the_centers_of_the_batch_move_and_towards_their_features():
    loss = CenterLoss(P, D, center_lr=0.25)
    before = loss.centers.clone()
    x, labels = batch(0, n=4)[0], torch.tensor([1, 1, 3, 3])
    loss(x, labels)
    assert torch.equal(loss.centers[[0, 2, 4]], before[[0, 2, 4]])
    mean = x.view(2, 2, D).mean(1)
    old, new = before[[1, 3]], loss.centers[[1, 3]]
    torch.testing.assert_close(new, old + 0.25 * (mean - old))  # lr * 2/N * 2 images = 0.25


@pytest.mark.parametrize("how", ["eval", "no_grad", "zero_rate"])
def test_centers_stay(how):
    loss = CenterLoss(P, D, center_lr=0.0 if how == "zero_rate" else 0.5)
    loss.train(how != "eval")
    before = loss.centers.clone()
    with torch.set_grad_enabled(how != "no_grad"):
        loss(*batch(0))
    assert torch.equal(loss.centers, before)


def test_gradcheck():
    loss = CenterLoss(P, D, weight=1.0).double().eval()
    x, labels = batch(0, dtype=torch.float64)
    torch.autograd.gradcheck(lambda x: loss(x, labels), (x.requires_grad_(),))


def test_order_of_the_batch_does_not_matter():
    first = CenterLoss(P, D)
    second = copy.deepcopy(first)
    x, labels = batch(0)
    torch.testing.assert_close(first(x, labels), second(x.flip(0), labels.flip(0).int()))
    torch.testing.assert_close(first.centers, second.centers)


def test_bf16_autocast_computes_in_float32():
    loss = CenterLoss(P, D)
    reference = copy.deepcopy(loss)
    x, labels = batch(0, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(x, labels)
    assert value.dtype == loss.centers.dtype == torch.float32
    torch.testing.assert_close(value, reference(x.float(), labels))
    torch.testing.assert_close(loss.centers, reference.centers)


def test_batch_of_one_and_of_none():
    loss = CenterLoss(P, D, weight=1.0)
    before = loss.centers.clone()
    x = torch.zeros(0, D, requires_grad=True)
    value = loss(x, torch.zeros(0, dtype=torch.int64))
    value.backward()
    assert value.item() == 0
    assert torch.equal(loss.centers, before)
    value = loss(torch.zeros(1, D), torch.tensor([2]))
    torch.testing.assert_close(value, before[2].square().sum())


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_non_finite_features_surface_and_do_not_spoil_the_centers(bad):
    loss = CenterLoss(P, D)
    x, labels = batch(0)
    x[0, 0] = bad
    assert not loss(x, labels).isfinite()
    assert loss.centers.isfinite().all()


def test_state_dict_holds_the_centers():
    trained = CenterLoss(P, D)
    trained(*batch(0))
    restored = CenterLoss()
    restored.configure(num_classes=P, feature_dim=D)
    restored.load_state_dict(trained.state_dict())
    assert torch.equal(restored.centers, trained.centers)
    assert not list(trained.parameters())


def test_builds_from_a_config_and_takes_its_sizes_from_the_model():
    loss = MODELS.build({"type": "reid.CenterLoss", "feature_dim": D})
    assert (loss.input, loss.name, loss.weight) == ("feature", "center_loss", 0.0005)
    assert loss.centers is None
    with pytest.raises(RuntimeError, match=r"call configure\(num_classes=..., feature_dim=...\)"):
        loss(*batch(0))
    loss.configure(num_classes=P, feature_dim=D)
    centers = loss.centers
    loss.configure(num_classes=P, feature_dim=D)
    assert loss.centers is centers
    assert centers.shape == (P, D)
    assert "center_lr=0.5, num_classes=5, feature_dim=4" in repr(loss)


def test_configure_refuses_another_size():
    with pytest.raises(ValueError, match="num_classes=5 was given, but the model has 6"):
        CenterLoss(num_classes=P).configure(num_classes=6, feature_dim=D)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "expected num_classes >= 1, got 0"),
        ({"feature_dim": -2}, "expected feature_dim >= 1, got -2"),
        ({"center_lr": -0.5}, "expected a finite center_lr >= 0, got -0.5"),
        ({"center_lr": math.inf}, "expected a finite center_lr"),
        ({"input": "logits"}, "expected input to be one of feature, embedding, got 'logits'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        CenterLoss(**arguments)


def test_bad_batches():
    loss = CenterLoss(P, D)
    with pytest.raises(ValueError, match="expected features of dimension 4, got 3"):
        loss(torch.ones(2, 3), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"expected labels in 0\.\.4, got 5"):
        loss(torch.ones(2, D), torch.tensor([0, 5]))


STEPS, SPLITS = 3, (5, 0)  # of the 8 images of a batch rank 0 gets 5 or none, rank 1 the rest


def train_one_rank(rank, folder):
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/rendezvous", 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    torch.manual_seed(0)
    loss = CenterLoss(P, D)
    for step in range(STEPS):
        for split in SPLITS:
            x, labels = batch(step)
            part = slice(0, split) if rank == 0 else slice(split, None)
            loss(x[part].requires_grad_(), labels[part]).backward()
    torch.save(loss.centers, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="needs the gloo backend"
)
def test_two_processes_move_the_centers_as_one_with_the_whole_batch(tmp_path):
    mp.spawn(train_one_rank, args=(str(tmp_path),), nprocs=2)
    torch.manual_seed(0)
    single = CenterLoss(P, D)
    for step in range(STEPS):
        for _ in SPLITS:
            single(*batch(step))
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert torch.equal(first, second)
    torch.testing.assert_close(first, single.centers)
