"""mmengine's Runner, made safe: checkpoints are whole, never unpickled, never half-loaded."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.logging import HistoryBuffer
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.runner import Runner as _Runner
from torch import nn
from torch.utils.data import DataLoader

from backbones.norm import sync_norms
from backbones.weights import load_weights, read_checkpoint

from .atomic import replace_file
from .checkpoints import latest_checkpoint, without_training_only
from .precision import Precision
from .registry import RUNNERS

# What mmengine says at every start and no user can act on, e.g. warnings to its own code
_NOISE = (
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    "Distributed training is not used",
    "Hooks will be executed",
    "Exp name:",
)


@RUNNERS.register_module()
class Runner(_Runner):
    """The Runner of all three trainers.

    Differences from mmengine's:

    - a checkpoint is written beside its place, synced, then renamed: a crash or a full disk leaves
      the earlier one intact;
    - checkpoints are read with ``weights_only=True`` and loaded strictly (mmengine falls back to
      unpickling, and loads what happens to fit);
    - automatic resume takes the newest checkpoint of the work directory;
    - a signal sent to the whole process group (Ctrl-C, a scheduler) does not take the loading
      processes away from a run that wants to stop safely;
    - ``cfg.precision`` sets autocast, channels_last and compilation (see engine.precision);
    - DistributedDataParallel works on CPUs (gloo);
    - ``sync_bn='torch'`` reaches every norm that uses batch statistics, BIN and SN too.
    """

    def __init__(self, *args: Any, cfg: Any = None, **kwargs: Any) -> None:
        # before the model is built: build_model needs it
        self.precision = Precision(**(cfg.get("precision") or {}) if cfg is not None else {})
        super().__init__(*args, cfg=cfg, **kwargs)

    def build_model(self, model: nn.Module | dict[str, Any]) -> nn.Module:
        return self.precision.apply(super().build_model(model))

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader[Any] | dict[str, Any],
        seed: int | None = None,
        diff_rank_seed: bool = False,
    ) -> DataLoader[Any]:
        loader: DataLoader[Any] = _Runner.build_dataloader(dataloader, seed, diff_rank_seed)
        if not isinstance(loader.worker_init_fn, _WorkerStart):
            loader.worker_init_fn = _WorkerStart(loader.worker_init_fn)
        return loader

    def wrap_model(self, model_wrapper_cfg: dict[str, Any] | None, model: nn.Module) -> nn.Module:
        if self.distributed and self.cfg.get("sync_bn") == "torch":
            model = sync_norms(model)
        if not self.distributed or torch.cuda.is_available() or model_wrapper_cfg is not None:
            wrapped: nn.Module = super().wrap_model(model_wrapper_cfg, model)
            return wrapped
        # device_ids must be absent on a CPU, where mmengine always passes them
        return MMDistributedDataParallel(  # type: ignore[no-any-return]
            module=model.to(get_device()),
            broadcast_buffers=False,
            find_unused_parameters=self.cfg.get("find_unused_parameters", False),
        )

    def build_logger(self, *args: Any, **kwargs: Any) -> Any:
        logger = super().build_logger(*args, **kwargs)
        logger.addFilter(lambda record: not record.getMessage().startswith(_NOISE))
        return logger

    def _log_env(self, env_cfg: dict[str, Any]) -> None:
        """Nothing: the manifest and the dumped config say it, and the terminal stays readable."""

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        """Write ``out_dir/filename`` atomically. Arguments as mmengine's.

        Raises:
            OSError: the file could not be written; what was there before is intact.
        """
        if not is_main_process():
            return
        target = Path(out_dir) / filename
        partial = target.with_name(f".{filename}.partial")
        try:
            super().save_checkpoint(out_dir, partial.name, *args, **kwargs)
            replace_file(partial, target)
        except OSError as error:
            partial.unlink(missing_ok=True)
            last = latest_checkpoint(out_dir)
            raise OSError(
                error.errno,
                f"could not write the checkpoint ({os.strerror(error.errno or 0)}); "
                + (f"{last} is intact: " if last else "no earlier one exists: ")
                + "free some space, then run the same command with --resume",
                str(target),
            ) from error

    def load_checkpoint(
        self, filename: str, map_location: Any = "cpu", strict: bool = True, **_: Any
    ) -> dict[str, Any]:
        """Load weights, all or nothing, without unpickling anything but tensors and plain values.

        Keys that only training needs (``model.training_only``) are left out where this model was
        built without them.
        """
        checkpoint = read_checkpoint(filename)
        checkpoint.get("meta", {}).pop("config", None)  # mmengine would execute it
        if "message_hub" in checkpoint:
            _revive_message_hub(checkpoint["message_hub"])
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        model = self.model.module if is_model_wrapper(self.model) else self.model
        load_weights(model, without_training_only(model, checkpoint), strict=strict)
        self._has_loaded = True
        self.logger.info(f"loaded {filename}")
        return checkpoint

    def load_or_resume(self) -> None:
        if self._resume and self._load_from is None:
            last = latest_checkpoint(self.work_dir)
            if last is None:
                self.logger.info(f"nothing to resume in {self.work_dir}: starting from scratch")
                return
            self._load_from: str | None = str(last)
        super().load_or_resume()


class _WorkerStart:
    """What a loading process does first: leave the trainer's process group.

    Ctrl-C, and whoever signals a group, then reach the trainer alone, who ends its workers itself.
    """

    def __init__(self, inner: Callable[[int], None] | None) -> None:
        self.inner = inner

    def __call__(self, worker_id: int) -> None:
        if hasattr(os, "setpgid"):  # not on Windows
            os.setpgid(0, 0)
        if self.inner is not None:
            self.inner(worker_id)


def _revive_message_hub(state: dict[str, Any]) -> None:
    """Make mmengine's own types again of the plain data that a safe load gives, in place."""
    scalars = state.get("log_scalars", {})
    for name, value in scalars.items():
        if isinstance(value, Mapping):
            scalars[name] = HistoryBuffer(value["log_history"], value["count_history"])
