from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import BaseMetric
from torch.utils.data import DataLoader

from engine.hooks import StoppedBySignal
from engine.loops import DomainLoop, by_domain


@pytest.mark.parametrize("skips", [True, False])
@pytest.mark.parametrize("stop_after", [1, 4, 6, 9])
def test_killed_and_resumed_equals_uninterrupted(make_runner, skips, stop_after) -> None:
    """The same losses, whether the sampler can skip or the batches are loaded and dropped."""
    whole = make_runner("whole", skips=skips)
    whole.train()

    first = make_runner("parts", skips=skips)
    recorder = first.recorder
    original = recorder.after_train_iter

    def stop(*args, **kwargs) -> None:
        original(*args, **kwargs)
        if len(recorder.losses) == stop_after:
            signal.raise_signal(signal.SIGTERM)

    recorder.after_train_iter = stop
    with pytest.raises(StoppedBySignal) as caught:
        first.train()
    assert caught.value.code == 128 + signal.SIGTERM
    second = make_runner("parts", skips=skips, resume=True)
    second.train()
    assert recorder.losses + second.recorder.losses == whole.recorder.losses
    assert not list(Path(second.work_dir).glob("stopped*"))  # superseded by the last epoch's
    assert second.optim_wrapper.get_lr() == whole.optim_wrapper.get_lr()
    for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_epochs_of_another_length_cannot_be_resumed(make_runner, tmp_path) -> None:
    make_runner("run").train()
    (tmp_path / "run" / "epoch_2.pth").unlink()
    from tests.test_engine.conftest import Vectors

    runner = make_runner("run", resume=True, train_dataloader=DataLoader(Vectors(), 12))
    with pytest.raises(ValueError, match="does not fit epochs of 2 iterations"):
        runner.train()


class MeanOutput(BaseMetric):
    default_prefix = "toy"

    def process(self, data_batch, data_samples) -> None:
        self.results += [float(s.sum()) for s in data_samples]

    def compute_metrics(self, results) -> dict[str, float]:
        self.details = {"count": len(results)}
        return {"mean": sum(results) / len(results)}


def loader(length: int) -> dict:
    from tests.test_engine.conftest import Vectors

    sampler = dict(type="DefaultSampler", shuffle=False)
    collate = dict(type="default_collate")
    return dict(dataset=Vectors(length), batch_size=4, sampler=sampler, collate_fn=collate)


def evaluation(**domains: int) -> dict:
    return dict(
        test_dataloader={name: loader(length) for name, length in domains.items()},
        test_cfg=dict(type="engine.DomainLoop"),
        test_evaluator=[MeanOutput()],
    )


def test_every_domain_is_evaluated_by_itself(make_runner) -> None:
    runner = make_runner(**evaluation(city=24, other=6))
    metrics = runner.test()
    assert list(metrics) == ["city/toy/mean", "other/toy/mean"]
    assert metrics["city/toy/mean"] != metrics["other/toy/mean"]
    assert runner.test_loop.details == {"city": [{"count": 24}], "other": [{"count": 6}]}
    alone = make_runner("alone", **evaluation(other=6)).test()
    assert alone["other/toy/mean"] == metrics["other/toy/mean"]


def test_one_loader_instead_of_named_domains_is_refused(make_runner) -> None:
    runner = make_runner()
    for wrong in ({}, loader(4)):
        with pytest.raises(ValueError, match="dict of dataloaders by domain name"):
            DomainLoop(runner, wrong, [MeanOutput()])


def test_by_domain() -> None:
    assert by_domain({"a/mIoU": 1, "a/x": 0.5, "b/c/mIoU": 0}) == {
        "a": {"mIoU": 1.0, "x": 0.5},
        "b/c": {"mIoU": 0.0},
    }
