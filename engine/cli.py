"""The shared way from a command line to a Runner: configs, options, seeds, errors in one line.

Nothing heavy is imported before the arguments are parsed, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from mmengine import Config

    from .runner import Runner

KNOWN_KEYS = (
    *("model", "data_preprocessor", "train_dataloader", "val_dataloader", "test_dataloader"),
    *("train_cfg", "val_cfg", "test_cfg", "val_evaluator", "test_evaluator", "test_pipeline"),
    *("optim_wrapper", "param_scheduler", "auto_scale_lr", "precision", "randomness"),
    *("default_hooks", "custom_hooks", "env_cfg", "launcher", "model_wrapper_cfg", "sync_bn"),
    *("load_from", "resume", "work_dir", "experiment_name", "default_scope", "protocol"),
    *("log_processor", "log_level", "visualizer", "find_unused_parameters", "data_root"),
    "source_domain",
)


def tool_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser that shows a script's docstring as it is written, and takes whole option names."""
    return argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_config_arguments(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """CONFIG (which may be left out if ``optional``), --work-dir, --seed and --cfg-options."""
    parser.add_argument(
        "config",
        nargs="?" if optional else None,
        metavar="CONFIG",
        help="a config file, e.g. configs/reid/...py",
    )
    parser.add_argument("--work-dir", metavar="DIR", help="where logs, checkpoints and results go")
    parser.add_argument("--seed", type=int, help="overrides the config's seed")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="override any config entry, e.g. train_cfg.max_epochs=5 model.pooling=gem",
    )


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    """--weights and --resume."""
    parser.add_argument("--weights", metavar="FILE", help="pretrained weights of the backbone")
    parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        default=False,
        metavar="CHECKPOINT",
        help="go on from the newest checkpoint in the work directory, or from this one",
    )


def load_config(path: str | Path, options: Sequence[str] = ()) -> Config:
    """Read a config and apply ``key=value`` options.

    Raises:
        FileNotFoundError: no such file; ValueError: it does not parse, an option has no '=', or a
            top-level key looks like a misspelt known one.
    """
    from mmengine import Config

    path = Path(path)
    if not path.is_file():
        near = sorted(str(p) for p in Path("configs").glob("*/*.py"))
        close = difflib.get_close_matches(str(path), near, n=3, cutoff=0.5) or near
        raise FileNotFoundError(
            f"no config at {path}" + (f"; did you mean one of {close}?" if close else "")
        )
    try:
        config = Config.fromfile(str(path))
    except Exception as error:  # whatever a Python file can raise
        raise ValueError(f"the config {path} does not load: {error}") from error
    parsed = parse_options(options)
    for key in parsed:
        _check_option(key)
    config.merge_from_dict(parsed)
    check_keys(config)
    return config


def parse_options(options: Sequence[str]) -> dict[str, Any]:
    """``["a.b=1", "c=(2,3)"]`` -> ``{"a.b": 1, "c": (2, 3)}``; values are literals or text."""
    import ast

    parsed: dict[str, Any] = {}
    for option in options:
        key, separator, text = option.partition("=")
        if not separator or not key:
            raise ValueError(f"--cfg-options: expected KEY=VALUE, got {option!r}")
        try:
            parsed[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            parsed[key] = {"true": True, "false": False, "none": None}.get(text.lower(), text)
    return parsed


# What a config file says in a variable and has used by the time that options are applied.
_USE_INSTEAD = {
    "data_root": "--data",
    "train_pipeline": "train_dataloader.dataset.transforms=...",
    "test_pipeline": "test_dataloader.<domain>.dataset.transforms=...",
    "resume": "--resume",
    "load_from": "the CHECKPOINT argument, --resume or --weights",
    "seed": "--seed",
    "max_epochs": "--epochs or train_cfg.max_epochs=...",
    "max_iters": "--iterations or train_cfg.max_iters=...",
}


def _check_option(key: str) -> None:
    first = key.partition(".")[0]
    if first in _USE_INSTEAD:
        raise ValueError(f"--cfg-options: {first!r} has no effect there; use {_USE_INSTEAD[first]}")
    if first not in KNOWN_KEYS:
        close = difflib.get_close_matches(first, KNOWN_KEYS, n=1, cutoff=0.6)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(KNOWN_KEYS)}"
        raise ValueError(f"--cfg-options: unknown key {first!r}; {hint}")


def check_keys(config: Config) -> None:
    """Refuse a top-level key that is a misspelling of a known one (others are free variables)."""
    for key in config:
        if key in KNOWN_KEYS or key.startswith("_"):
            continue
        close = difflib.get_close_matches(key, KNOWN_KEYS, n=1, cutoff=0.85)
        if close:
            raise ValueError(f"config: unknown key {key!r}; did you mean {close[0]!r}?")


def build_runner(
    config: Config,
    *,
    work_dir: str | None = None,
    seed: int | None = None,
    resume: bool | str = False,
    load_from: str | None = None,
) -> Runner:
    """Config -> Runner, with the launcher taken from torchrun's environment.

    Args:
        work_dir, seed: override the config.
        resume: True: from the newest checkpoint in the work directory; a path: from that one.
        load_from: weights to start from or to test.
    """
    import torch
    from mmengine.dist import init_dist

    from .precision import choose_dtype
    from .runner import Runner

    if seed is not None:
        config.randomness = {**config.get("randomness", {}), "seed": seed}
    if config.get("randomness", {}).get("seed") is None:
        raise ValueError("config: randomness.seed must be a number, so that a run can be repeated")
    if work_dir is not None:
        config.work_dir = work_dir
    elif config.get("work_dir") is None:
        config.work_dir = str(Path("work_dirs") / Path(config.filename).stem)
    config.resume = bool(resume)
    for path in (load_from, resume):
        if isinstance(path, str):
            if not Path(path).is_file():
                raise FileNotFoundError(f"no checkpoint at {path}")
            config.load_from = path
    if "RANK" in os.environ:
        config.launcher = "pytorch"
        if not torch.distributed.is_initialized():
            if torch.cuda.is_available():
                init_dist("pytorch", **config.get("env_cfg", {}).get("dist_cfg", {}))
            else:
                torch.distributed.init_process_group("gloo")
    precision = config.get("precision") or {}
    if precision.get("dtype") == "auto":  # what was run is what the run's config says
        precision["dtype"] = choose_dtype("auto")
    if config.get("optim_wrapper") and "dtype" in precision:
        config.optim_wrapper.setdefault("type", "engine.AutocastOptimWrapper")
        if config.optim_wrapper.type == "engine.AutocastOptimWrapper":
            config.optim_wrapper.setdefault("dtype", precision["dtype"])
    return Runner.from_cfg(config)  # type: ignore[no-any-return]


def scale_schedule(
    config: Config, length: int, unit: Literal["epochs", "iters"] = "epochs"
) -> None:
    """Train ``length`` epochs or iterations.

    Milestones keep their share. What ends with the training ends with the shorter or longer one;
    a warm-up stays as long as it was where it fits, and keeps its share where it does not.
    """
    if length < 1:
        option = {"epochs": "--epochs", "iters": "--iterations"}[unit]
        raise ValueError(f"{option}: expected 1 or more, got {length}")
    whole = config.train_cfg[f"max_{unit}"]
    schedulers = config.get("param_scheduler") or []

    def share(point: float) -> int:
        return int(max(1, round(point * length / whole)))

    def moves(point: float) -> bool:
        return point == whole or point >= length

    config.train_cfg[f"max_{unit}"] = length
    config.train_cfg.val_interval = min(config.train_cfg.get("val_interval", 1), length)
    spans = [(s.get("begin", 0), s.get("end", whole)) for s in schedulers]
    # of a few epochs a part may be less than one, which schedules by iterations can have
    exact = any(moves(begin) and share(begin) >= share(end) for begin, end in spans)
    for scheduler, span in zip(schedulers, spans, strict=True):
        if "milestones" in scheduler:
            scheduler.milestones = [share(m) for m in scheduler.milestones]
        for key, point in zip(("begin", "end"), span, strict=True):
            if key in scheduler and moves(point):
                fraction = exact and scheduler.get("convert_to_iter_based")
                scheduler[key] = point * length / whole if fraction else share(point)


def choose_domains(config: Config, names: Sequence[str]) -> None:
    """Test on these of the config's domains only, in place.

    Raises:
        ValueError: no domain of that name.
    """
    domains = config.test_dataloader
    if absent := [name for name in names if name not in domains]:
        raise ValueError(
            f"--domains: the config tests on {', '.join(domains)}, not on {', '.join(absent)}; "
            "other data: --target [NAME=][LAYOUT:]PATH"
        )
    config.test_dataloader = {name: domains[name] for name in names}


def without_training(config: Config) -> None:
    """Leave out what only training needs, in place: a test reads no training data."""
    for key in (
        *("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler"),
        *("val_dataloader", "val_cfg", "val_evaluator", "visualizer"),
    ):
        config[key] = None


def run_tool(main: Callable[[], int | None]) -> None:
    """Run a tool: a user's mistake ends in one clear message and exit code 1, not in a traceback.

    Set ``REIDSEG_TRACEBACK=1`` to see where it came from.
    """
    try:
        code = main() or 0
        _leave_processes()
    except SystemExit:  # also a run that was asked to stop, in all processes alike
        _leave_processes()
        raise
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        code = 130
    except BrokenPipeError:
        code = 141
    except Exception as error:
        if os.environ.get("REIDSEG_TRACEBACK"):
            raise
        sys.stderr.write(f"error: {describe(error)}\n")
        code = 1
    sys.exit(code)


def _leave_processes() -> None:
    """Close the connections to torchrun's other processes, if there are any.

    Their threads would else still run while Python ends, which now and then aborts the process: the
    launcher then takes a run that is done for a failed one, and ends the others.
    """
    distributed = sys.modules.get("torch.distributed")  # not imported by ``--help``
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def describe(error: BaseException) -> str:
    """An exception as a sentence for the person at the terminal."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    # torch wraps what a loading process raises: the last line is what happened
    worker = re.search(r"Caught (\w+) in DataLoader worker", text)
    if worker and f"{worker[1]}: " in text:
        return text.rpartition(f"{worker[1]}: ")[2].strip()
    # mmengine's registries: say which names exist instead of how registries work
    unknown = re.search(r"^(\S+) is not in the (\S.*?) registry", text)
    if unknown:
        names = _registered(unknown[2])
        close = difflib.get_close_matches(unknown[1], names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(names)}"
        return f"config: unknown type {unknown[1]!r}; {hint}"
    argument = re.search(r"(\S+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", text)
    if argument:
        return (
            f"config: {argument[1]} takes no argument {argument[2]!r}; check its spelling ({text})"
        )
    known_kinds = (ValueError, OSError, RuntimeError, KeyError, ImportError)
    return text if text and isinstance(error, known_kinds) else f"{type(error).__name__}: {text}"


def _registered(description: str) -> list[str]:
    """Names in the registries of that kind ('mmengine::model'), with their rooms' prefixes."""
    from importlib import import_module

    name = description.rpartition("::")[2].replace(" ", "_")  # mmengine's own: 'data sampler'
    names: set[str] = set()
    for room in ("backbones", "engine", "imaging", "cls", "reid", "seg", "mmengine"):
        try:
            registries = vars(import_module(f"{room}.registry"))
        except ImportError:
            continue
        for registry in registries.values():
            kind = str(getattr(registry, "name", "")).replace(" ", "_")
            if kind == name and getattr(registry, "scope", "") == room:
                registry.import_from_location()
                prefix = "" if room == "mmengine" else f"{room}."
                names.update(prefix + key for key in registry.module_dict)
    return sorted(names)
