"""The contract that all losses share, over everything registered in ``reid.losses``."""

import pytest
import torch

from reid import losses
from reid.losses import ReIDLoss
from reid.losses.base import INPUTS, finite_zero

N, K = 6, 4
LOSSES = {
    name: getattr(losses, name) for name in losses.__all__ if getattr(losses, name) is not ReIDLoss
}
# What cannot be built without arguments, or without a package that is an extra.
ARGUMENTS = {"MetricLearningLoss": {"loss": {"type": "TripletMarginLoss"}}}


def build(name):
    if name == "MetricLearningLoss":
        pytest.importorskip("pytorch_metric_learning")
    module = LOSSES[name](**ARGUMENTS.get(name, {}))
    module.configure(num_classes=K, feature_dim=K)
    return module


@pytest.fixture(params=sorted(LOSSES))
def loss(request):
    return build(request.param)


def batch():
    x = torch.randn(N, K, generator=torch.Generator().manual_seed(0))
    return x, torch.tensor([0, 0, 1, 1, 2, 3])


def test_a_list_of_losses_runs_without_knowing_them():
    x, labels = batch()
    tensors = {name: x.clone().requires_grad_() for name in INPUTS}
    built = [build(name) for name in LOSSES if name not in ARGUMENTS]
    logs = {loss.name: loss(tensors[loss.input], labels) for loss in built}
    assert len(logs) == len(built)
    sum(logs.values()).backward()
    assert tensors["feature"].grad.abs().sum() > 0
    assert tensors["embedding"].grad.abs().sum() > 0
    assert tensors["logits"].grad.abs().sum() > 0


def test_returns_a_weighted_float32_scalar(loss):
    loss.eval()
    value = loss(*batch())
    assert value.shape == ()
    assert value.dtype == torch.float32
    loss.weight *= 3
    torch.testing.assert_close(loss(*batch()), 3 * value)


def test_names_reach_the_objective_and_statistics_do_not(loss):
    loss(*batch())
    assert "loss" in loss.name
    for key, value in loss.statistics.items():
        assert "loss" not in key
        assert value.shape == ()
        assert value.is_floating_point()  # the logs average it
        assert not value.requires_grad


@pytest.mark.parametrize(
    ("name", "key"),
    [("triplet_loss", "triplet_active"), ("loss", "active"), ("loss_a", "a_active")],
)
def test_log_key(name, key):
    assert losses.TripletLoss(name=name).log_key("active") == key


@pytest.mark.parametrize(
    ("x", "labels", "message"),
    [
        (torch.ones(2, 4, 1, 1), torch.tensor([0, 1]), r"expected a floating tensor of shape"),
        (torch.ones(2, 4).long(), torch.tensor([0, 1]), r"got torch.int64 of shape \(2, 4\)"),
        (torch.ones(2, 4), torch.tensor([0]), r"expected labels of shape \(2,\).*got \(1,\)"),
        (torch.ones(2, 4), torch.tensor([[0], [1]]), r"expected labels of shape \(2,\)"),
        (torch.ones(2, 4), torch.tensor([0.0, 1.0]), r"expected integer labels, got torch.float32"),
        (torch.ones(2, 4), torch.tensor([True, False]), r"expected integer labels, got torch.bool"),
        (torch.ones(2, 4), torch.ones(2, dtype=int, device="meta"), r"on cpu .* got meta"),
    ],
)
def test_bad_batches(loss, x, labels, message):
    with pytest.raises(ValueError, match=f"{type(loss).__name__}: .*{message}"):
        loss(x, labels)


@pytest.mark.parametrize("labels", [[], [2], [1, 1, 1], [0, 1, 2, 3]])
def test_poor_batches_have_a_graph_and_finite_gradients(loss, labels):
    x = torch.randn(len(labels), K, generator=torch.Generator().manual_seed(0), requires_grad=True)
    value = loss(x, torch.tensor(labels, dtype=torch.int64))
    value.backward()
    assert value.isfinite()
    assert x.grad.isfinite().all()
    if not labels:
        assert value == 0
        assert all((p.grad == 0).all() for p in loss.parameters())


@pytest.mark.parametrize("row", range(N))
def test_nan_in_any_row_surfaces(loss, row):
    x, labels = batch()
    x[row, 1] = torch.nan
    assert loss(x, labels).isnan()


def test_order_of_the_batch_does_not_matter(loss):
    loss.eval()
    x, labels = batch()
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(loss(x[order], labels[order].int()), loss(x, labels))


def test_compiles_to_one_graph(loss):
    if isinstance(loss, losses.MetricLearningLoss):
        pytest.skip("shapes of pytorch-metric-learning depend on the labels")
    # "eager" traces without generating code. A full graph proves that no value is read on the host.
    value = torch.compile(loss, backend="eager", fullgraph=True)(*batch())
    assert value.isfinite()


def test_finite_zero():
    assert finite_zero(torch.full((3, 2), 3e38)) == 0
    assert finite_zero(torch.empty(0, 2)) == 0
    for bad in (torch.nan, torch.inf, -torch.inf):
        assert finite_zero(torch.tensor([[0.0, bad]])).isnan()


def test_compute_must_be_implemented():
    with pytest.raises(NotImplementedError, match=r"ReIDLoss must implement compute\(x, labels\)"):
        ReIDLoss(name="a_loss", input="feature", weight=1.0)(*batch())
