"""Loops: epochs that resume in their middle, and evaluation of several named domains in one run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.dist import broadcast
from mmengine.evaluator import Evaluator
from mmengine.runner import BaseLoop, EpochBasedTrainLoop

from .precision import autocast
from .registry import LOOPS


@LOOPS.register_module()
class EpochLoop(EpochBasedTrainLoop):
    """mmengine's epoch loop, which also resumes from a checkpoint made within an epoch.

    A sampler with an attribute ``start`` is asked to begin at that sample; for another one the
    batches that were already seen are loaded and dropped.
    """

    def run_epoch(self) -> None:
        runner = self.runner
        runner.call_hook("before_train_epoch")
        runner.model.train()
        seen = self._iter - self._epoch * len(self.dataloader)
        if not 0 <= seen <= len(self.dataloader):
            raise ValueError(
                f"cannot resume: the checkpoint is at epoch {self._epoch}, iteration {self._iter}, "
                f"which does not fit epochs of {len(self.dataloader)} iterations; use the batch "
                "size, sampler and number of processes of the run that wrote it"
            )
        sampler = self.dataloader.sampler
        skips = hasattr(sampler, "start")
        if skips:
            sampler.start = seen * self.dataloader.batch_size
        for index, batch in enumerate(self.dataloader, seen if skips else 0):
            if index >= seen:
                self.run_iter(index, batch)
        runner.call_hook("after_train_epoch")
        self._epoch += 1


@LOOPS.register_module()
class DomainLoop(BaseLoop):
    """Evaluate one model on several named domains.

    Args:
        runner: the Runner.
        dataloader: dict of domain name -> dataloader config.
        evaluator: config of the metric(s), used for every domain.

    ``run`` returns ``{"<domain>/<metric>": value}``; ``details`` keeps, by domain, whatever the
    metrics offer under their attribute ``details`` (protocol, counts, per-query arrays).
    """

    def __init__(self, runner: Any, dataloader: Mapping[str, Any], evaluator: Any) -> None:
        if not dataloader or not all(isinstance(v, Mapping) for v in dataloader.values()):
            raise ValueError(
                "DomainLoop: give a dict of dataloaders by domain name, e.g. "
                "test_dataloader=dict(market1501=dict(batch_size=..., dataset=...))"
            )
        self._runner = runner
        self.domains = {
            name: runner.build_dataloader(dict(cfg), seed=runner.seed)
            for name, cfg in dataloader.items()
        }
        self.evaluators: dict[str, Evaluator] = {
            name: runner.build_evaluator(evaluator) for name in self.domains
        }
        for name, loader in self.domains.items():
            self.evaluators[name].dataset_meta = getattr(loader.dataset, "metainfo", None)
        self.dataloader = next(iter(self.domains.values()))  # what the logger measures
        self.metrics: dict[str, float] = {}  # of the last run
        self.details: dict[str, Any] = {}

    @property
    def evaluator(self) -> Evaluator:
        return next(iter(self.evaluators.values()))

    def run(self) -> dict[str, float]:
        runner = self.runner
        # mmengine runs the same class for validation and for testing; hooks tell them apart
        stage = "test" if runner._test_loop is self else "val"
        runner.call_hook(f"before_{stage}")
        runner.call_hook(f"before_{stage}_epoch")
        # Each process has batch statistics of its own; those of the first are saved, so they count.
        for buffer in runner.model.buffers():
            broadcast(buffer)
        runner.model.eval()
        metrics: dict[str, float] = {}
        for name, loader in self.domains.items():
            self.dataloader, evaluator = loader, self.evaluators[name]
            for index, batch in enumerate(loader):
                self._run_iter(index, batch, stage, evaluator)
            values = evaluator.evaluate(len(loader.dataset))
            metrics.update({f"{name}/{key}": value for key, value in values.items()})
            self.details[name] = [m.details for m in evaluator.metrics if hasattr(m, "details")]
        self.metrics = metrics
        runner.call_hook(f"after_{stage}_epoch", metrics=metrics)
        runner.call_hook(f"after_{stage}")
        return metrics

    @torch.no_grad()
    def _run_iter(self, index: int, batch: Any, stage: str, evaluator: Evaluator) -> None:
        runner = self.runner
        runner.call_hook(f"before_{stage}_iter", batch_idx=index, data_batch=batch)
        device_type = next(runner.model.parameters()).device.type
        with autocast(runner.precision.eval_dtype, device_type):
            outputs = runner.model.test_step(batch)
        evaluator.process(data_samples=outputs, data_batch=batch)
        runner.call_hook(f"after_{stage}_iter", batch_idx=index, data_batch=batch, outputs=outputs)


def by_domain(metrics: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """What a DomainLoop returns, ``{"city/mAP": v}`` -> ``{"city": {"mAP": v}}``."""
    nested: dict[str, dict[str, float]] = {}
    for key, value in metrics.items():
        domain, _, name = key.rpartition("/")
        nested.setdefault(domain, {})[name] = float(value)
    return nested
