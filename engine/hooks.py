"""Hooks that trainers want: stop safely, stop on NaN, repeatable randomness, manifest, gates."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from mmengine.dist import barrier, get_rank, is_distributed, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from backbones import clamp_gates

from .atomic import write_json
from .checkpoints import latest_checkpoint
from .manifest import collect_manifest
from .registry import HOOKS

_STOPPED = "stopped_iter_*.pth"


class NonFiniteLossError(RuntimeError):
    """A loss became NaN or infinite."""


class StoppedBySignal(SystemExit):
    """The run was asked to stop, wrote a checkpoint, and ends with 128 + the signal's number."""


@HOOKS.register_module()
class StopSafelyHook(Hook):
    """On SIGINT or SIGTERM: finish the iteration, write a checkpoint, exit with 128 + signal.

    With several processes all stop after the same iteration, once the checkpoint is written; with
    accumulated gradients, after the next step of the optimiser. A second signal ends the run at
    once, unless it comes within ``grace`` seconds: schedulers and launchers send the same twice.
    """

    priority = "LOWEST"

    def __init__(self, grace: float = 2.0) -> None:
        self.grace = grace
        self._received = 0
        self._received_at = 0.0
        self._previous: dict[int, Any] = {}

    def before_train(self, runner: Any) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._note)

    def after_train(self, runner: Any) -> None:
        self._restore()
        newest = latest_checkpoint(runner.work_dir)
        if is_main_process() and newest is not None and not newest.match(_STOPPED):
            for superseded in Path(runner.work_dir).glob(_STOPPED):
                superseded.unlink()

    def after_train_iter(self, runner: Any, batch_idx: int, *_: Any, **__: Any) -> None:
        received = _largest_over_processes(self._received)
        if not received or not runner.optim_wrapper.should_update():
            return
        name = _STOPPED.replace("*", str(runner.iter + 1))
        runner.save_checkpoint(runner.work_dir, name, by_epoch=False)
        barrier()  # a process that leaves early makes the launcher kill the one that writes
        self._restore()
        runner.logger.warning(
            f"{signal.Signals(received).name}: stopped after iteration {runner.iter + 1}; wrote "
            f"{Path(runner.work_dir) / name}. Run the same command with --resume to go on."
        )
        raise StoppedBySignal(128 + received)

    def _note(self, number: int, frame: Any) -> None:
        if self._received and time.monotonic() - self._received_at > self.grace:
            self._restore()
            signal.raise_signal(number)
        elif not self._received:
            self._received, self._received_at = number, time.monotonic()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Stop when a loss is NaN or infinite, and save what the batch was.

    The losses and the batch's image paths go to ``nonfinite_loss_iter_<n>.json`` in the work
    directory. Weights that are not finite are never written, so the last checkpoint is good.
    """

    priority = "VERY_HIGH"

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        scalars = {k: v.detach().float() for k, v in (outputs or {}).items() if _is_scalar(v)}
        if not scalars:
            return
        # one transfer for all of them: each would make the host wait for the accelerator
        values = torch.stack([v.reshape(()) for v in scalars.values()]).tolist()
        losses = dict(zip(scalars, values, strict=True))
        bad = [name for name, value in losses.items() if not np.isfinite(value)]
        if not bad:
            return
        report = Path(runner.work_dir) / f"nonfinite_loss_iter_{runner.iter + 1}.json"
        paths = _image_paths(data_batch)
        if is_distributed():
            report = report.with_name(f"{report.stem}_rank_{get_rank()}.json")
        write_json(report, {"iteration": runner.iter + 1, "losses": losses, "paths": paths})
        raise NonFiniteLossError(
            f"{', '.join(bad)} not finite at iteration {runner.iter + 1}; the batch's images are "
            f"listed in {report}. Look at them, lower the learning rate or use "
            "precision.dtype='float32', then go on from the last checkpoint with --resume"
        )

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """A finite loss can have a gradient that is not; the step then spoils the weights."""
        for name, value in checkpoint["state_dict"].items():
            if value.is_floating_point() and not value.isfinite().all():
                raise NonFiniteLossError(
                    f"{name} is not finite after iteration {runner.iter}: nothing was written. "
                    "Lower the learning rate or use precision.dtype='float32', then go on from "
                    "the last checkpoint with --resume"
                )


@HOOKS.register_module()
class IterationSeedHook(Hook):
    """Make a run's randomness a function of (seed, process, iteration).

    A resumed run then draws what the uninterrupted one would have drawn, with no generator state
    to store, and whatever a hook or an evaluation in between has drawn.
    """

    priority = "VERY_HIGH"

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        words = np.random.SeedSequence([runner.seed, get_rank(), runner.iter]).generate_state(2)
        torch.manual_seed(int(words[0]))
        np.random.seed(int(words[1]))


@HOOKS.register_module()
class GateClampHook(Hook):
    """Bring the gates of BIN back into [0, 1] after each step, as its authors do.

    Paper: Nam and Kim, NeurIPS 2018, https://arxiv.org/abs/1805.07925. The authors also train
    gates at ten times the rate and without decay, which the optimiser's config says::

        paramwise_cfg=dict(custom_keys={"gate": dict(lr_mult=10, decay_mult=0)})

    (``decay_mult`` needs an optimiser with a ``weight_decay``, be it 0.) A model without BIN is
    left as it is.
    """

    # before averages of the weights are taken (NORMAL) and checkpoints written (VERY_LOW)
    priority = "HIGH"

    def after_train_iter(self, runner: Any, *_: Any, **__: Any) -> None:
        model = runner.model
        clamp_gates(model.module if is_model_wrapper(model) else model)


@HOOKS.register_module()
class ManifestHook(Hook):
    """Write ``manifest_{train,test}.json``: config, seed, revision, versions, protocol, data."""

    def before_train(self, runner: Any) -> None:
        domains = getattr(runner.val_loop, "domains", {})
        self._write(runner, "train", {"train": runner.train_dataloader, **domains})

    def after_test(self, runner: Any) -> None:  # not before: a test that fails has no results
        self._write(runner, "test", getattr(runner.test_loop, "domains", {}))

    def _write(self, runner: Any, stage: str, loaders: Mapping[str, Any]) -> None:
        if not is_main_process():
            return
        meta = {name: dict(getattr(v.dataset, "metainfo", {})) for name, v in loaders.items()}
        for of_data in meta.values():
            of_data.pop("trials", None)  # arrays of positions, which the data's protocol repeats
        evaluator = runner.cfg.get("test_evaluator" if stage == "test" else "val_evaluator")
        manifest = collect_manifest(
            config=runner.cfg.pretty_text,
            seed=runner.seed,
            protocol=runner.cfg.get("protocol") or evaluator,
            data=meta,
        )
        write_json(Path(runner.work_dir) / f"manifest_{stage}.json", manifest)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.numel() == 1


def _image_paths(batch: Any) -> list[str]:
    """The batch's images: under 'path', or in the data samples as mmseg has them."""
    if not isinstance(batch, Mapping):
        return []
    samples = batch.get("data_samples") or []
    return [*batch.get("path", []), *(getattr(s, "img_path", "") for s in samples)]


def _largest_over_processes(number: int) -> int:
    if not is_distributed():
        return number
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    value = torch.tensor(number, device=device)
    dist.all_reduce(value, dist.ReduceOp.MAX)
    return int(value)
