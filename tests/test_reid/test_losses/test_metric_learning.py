"""Losses and miners of pytorch-metric-learning: all of them build and keep this room's contract."""

import builtins
import inspect

import pytest
import torch

pml = pytest.importorskip("pytorch_metric_learning")
from pytorch_metric_learning import losses as pml_losses  # noqa: E402
from pytorch_metric_learning import miners as pml_miners  # noqa: E402

from reid.losses import MetricLearningLoss  # noqa: E402
from reid.losses.metric_learning import _UNSUITABLE  # noqa: E402
from reid.registry import MODELS  # noqa: E402

P, D = 4, 6


def concrete(module):
    return sorted(
        name
        for name, value in vars(module).items()
        if inspect.isclass(value)
        and not name.startswith(("Base", "Generic"))
        and not name.endswith("Mixin")
        and name not in _UNSUITABLE
    )


LOSSES, MINERS = concrete(pml_losses), concrete(pml_miners)
ARGUMENTS = {  # what has no default, beside the sizes
    "RankedListLoss": {"margin": 0.4, "Tn": 1},
    "HistogramLoss": {"n_bins": 10},
    "CrossBatchMemory": {"loss": {"type": "ContrastiveLoss"}, "memory_size": 32},
    "MultipleLosses": {"losses": [{"type": "ContrastiveLoss"}, {"type": "ArcFaceLoss"}]},
}


def batch(labels=(0, 0, 1, 1, 2, 3), seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(len(labels), D, generator=generator)
    return x, torch.tensor(labels, dtype=torch.int64)


def built(name, **kwargs):
    loss = MetricLearningLoss({"type": name, **ARGUMENTS.get(name, {})}, **kwargs)
    loss.configure(num_classes=P, feature_dim=D)
    return loss


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_trains_and_survives_poor_batches(name):
    loss = built(name)
    x, labels = batch([0, 0, 1, 1, 3, 3])  # equal counts: SmoothAPLoss refuses others
    x.requires_grad_()
    value = loss(x, labels)
    value.backward()
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert x.grad.abs().sum() > 0
    for poor in ([0, 0, 0], [0, 1, 2], [3], []):
        loss.zero_grad()
        x = batch(poor)[0].requires_grad_()
        value = loss(x, torch.tensor(poor, dtype=torch.int64))
        value.backward()
        assert value.isfinite()
        assert x.grad.isfinite().all()
        if not poor:
            assert value == 0
            assert all((p.grad == 0).all() for p in loss.parameters())


@pytest.mark.parametrize("name", MINERS)
def test_every_miner_chooses_for_a_loss(name):
    loss = MetricLearningLoss({"type": "TripletMarginLoss"}, {"type": name})
    for labels in ([0, 0, 1, 1, 2, 3], [0, 0, 0], [0, 1, 2], []):
        x = batch(labels)[0].requires_grad_()
        value = loss(x, torch.tensor(labels, dtype=torch.int64))
        value.backward()
        assert value.isfinite()
    assert not loss.statistics  # the last batch was empty
    loss(*batch())
    assert loss.statistics["metric_mined"] > 0
    assert loss.statistics["metric_mined"].is_floating_point()  # the logs average it


def test_equals_the_package_called_by_hand():
    x, labels = batch()
    config = {"type": "MultiSimilarityLoss", "alpha": 3, "beta": 20}
    loss = MetricLearningLoss(config, {"type": "MultiSimilarityMiner", "epsilon": 0.2}, weight=0.5)
    by_hand = pml_losses.MultiSimilarityLoss(alpha=3, beta=20)
    pairs = pml_miners.MultiSimilarityMiner(epsilon=0.2)(x, labels)
    torch.testing.assert_close(loss(x, labels), 0.5 * by_hand(x, labels, pairs))
    assert loss.statistics["metric_mined"] == len(pairs[0]) + len(pairs[2])


def test_distance_and_reducer_are_built_too():
    loss = MetricLearningLoss(
        {
            "type": "ContrastiveLoss",
            "pos_margin": 1,
            "neg_margin": 0,
            "distance": {"type": "CosineSimilarity"},
            "reducer": {"type": "MeanReducer"},
        }
    )
    assert type(loss.loss.distance).__name__ == "CosineSimilarity"
    x, labels = batch()
    by_hand = pml_losses.ContrastiveLoss(
        pos_margin=1,
        neg_margin=0,
        distance=pml.distances.CosineSimilarity(),
        reducer=pml.reducers.MeanReducer(),
    )
    torch.testing.assert_close(loss(x, labels), by_hand(x, labels))


@pytest.mark.parametrize("name", ["ProxyAnchorLoss", "SubCenterArcFaceLoss", "CosFaceLoss"])
def test_class_weights_take_their_sizes_from_the_model(name):
    loss = MODELS.build({"type": "reid.MetricLearningLoss", "loss": {"type": name}})
    assert loss.loss is None
    with pytest.raises(RuntimeError, match=r"call configure\(num_classes=..., feature_dim=...\)"):
        loss(*batch())
    loss.configure(num_classes=P, feature_dim=D)
    (weights,) = loss.parameters()
    assert D in weights.shape
    with pytest.raises(ValueError, match=r"expected labels in 0\.\.3, got 9"):
        loss(batch()[0], torch.tensor([0, 1, 2, 3, 0, 9]))


def test_given_sizes_must_be_those_of_the_model():
    loss = MetricLearningLoss({"type": "ArcFaceLoss", "num_classes": P, "embedding_size": D})
    assert loss.loss is not None
    loss.configure(num_classes=P, feature_dim=D)
    with pytest.raises(ValueError, match=f"num_classes=7 was given to ArcFaceLoss.* has {P}"):
        MetricLearningLoss({"type": "ArcFaceLoss", "num_classes": 7}).configure(
            num_classes=P, feature_dim=D
        )


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_non_finite_features_surface(bad):
    x, labels = batch()
    x[5, 0] = bad
    assert not MetricLearningLoss({"type": "TripletMarginLoss"})(x, labels).isfinite()


def test_bf16_autocast_computes_in_float32():
    loss = MetricLearningLoss({"type": "MultiSimilarityLoss"})
    x, labels = batch()
    x = x.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(x, labels)
    torch.testing.assert_close(value, loss(x.float(), labels))


@pytest.mark.parametrize(
    ("loss", "miner", "message"),
    [
        ({"type": "MultiSimilarity"}, None, "losses has no 'MultiSimilarity'; .*SimilarityLoss"),
        ({"type": "TripletMarginLoss"}, {"type": "Hard"}, "miners has no 'Hard'; nearest are"),
        ({"type": "BaseMetricLossFunction"}, None, "has no 'BaseMetricLossFunction'"),
        ({"type": "VICRegLoss"}, None, "VICRegLoss compares two views of every image"),
        ({"type": "MultiSimilarityLoss", "alfa": 1}, None, "cannot be built: .*alfa.*alpha=2"),
        ({"alpha": 2}, None, r"expected loss to be a dict with a type, .* got \{'alpha': 2\}"),
        (
            {"type": "ContrastiveLoss", "distance": {"type": "Cosine"}},
            None,
            "distances has no 'Cosine'; nearest are CosineSimilarity",
        ),
    ],
)
def test_bad_configs(loss, miner, message):
    with pytest.raises(ValueError, match=f"MetricLearningLoss: .*{message}"):
        MetricLearningLoss(loss, miner)


def test_a_missing_package_gives_the_pip_line(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("pytorch_metric_learning"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'reidseg\[metric-learning\]'"):
        MetricLearningLoss({"type": "MultiSimilarityLoss"})
