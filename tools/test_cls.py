#!/usr/bin/env python
"""Evaluate classifiers on one or several named data sets, and under other colours.

    python tools/test_cls.py CONFIG CHECKPOINT                       # the config's own data
    python tools/test_cls.py CONFIG seed0/epoch_30.pth seed1/epoch_30.pth --per-class --curves
    python tools/test_cls.py CONFIG official:resnet50_ibn_a --data imagenet=/data/imagenet
    python tools/test_cls.py CONFIG CHECKPOINT --appearance --style my/paintings --paper
    python tools/test_cls.py CONFIG CHECKPOINT --target crops=folder:data/crops --pictures 24
    python tools/test_cls.py --results a/results.json b/results.json   # no model: tables

A CHECKPOINT is one of our own, or a file of a backbone's weights (IBN-Net's, torchvision's ...), or
official:NAME for a published one, which is downloaded. Prints top-1 and top-5 by data set; runs of
one recipe with different seeds are also averaged. Writes results.json (every number with its data
and rules), confusion matrices as PNG and manifest_test.json.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from engine.cli import add_config_arguments, run_tool, tool_parser

if TYPE_CHECKING:
    from pathlib import Path

    from mmengine import Config

    from cls.evaluation.appearance import Shift
    from cls.evaluation.curves import Curves
    from cls.evaluation.results import DomainResult, ModelResult
    from engine.provenance import Provenance
    from engine.runner import Runner

OFFICIAL = "official:"


def parse_arguments() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    add_config_arguments(parser, optional=True)
    parser.add_argument("checkpoints", nargs="*", metavar="CHECKPOINT", help="weights to test")
    parser.add_argument(
        "--data",
        nargs="+",
        default=[],
        metavar="[NAME=]PATH",
        help="where the config's data lie: all of them, or the domain NAME",
    )
    parser.add_argument(
        "--domains", nargs="+", default=[], metavar="NAME", help="only these of the config's"
    )
    parser.add_argument(
        "--target",
        nargs="+",
        default=[],
        metavar="[NAME=][LAYOUT[@PART]:]PATH",
        help="test on these instead of the config's data",
    )
    parser.add_argument(
        "--appearance",
        nargs="*",
        metavar="NAME",
        help="also under shifts of appearance: all, or some of RGB+50, R+50, 'std x1.5', painting",
    )
    parser.add_argument(
        "--style", metavar="FOLDER", help="with --appearance: pictures whose look is to be taken"
    )
    parser.add_argument(
        "--clip", action="store_true", help="with --appearance: keep shifted pixels in 0..255"
    )
    parser.add_argument(
        "--paper", action="store_true", help="with --appearance: the IBN-Net paper's rows too"
    )
    parser.add_argument("--per-class", action="store_true", help="tables by class, confusions")
    parser.add_argument(
        "--pictures",
        type=int,
        default=0,
        metavar="N",
        help="a picture of the N most confident mistakes on each data set",
    )
    parser.add_argument(
        "--curves", action="store_true", help="a picture of the training curves of the runs"
    )
    parser.add_argument("--html", action="store_true", help="write report.html (pictures: 24)")
    parser.add_argument(
        "--results",
        nargs="+",
        default=[],
        metavar="FILE",
        help="results.json of earlier tests, as further rows and for means over seeds",
    )
    args = parser.parse_args()
    if args.config is not None and not args.checkpoints:
        parser.error("give a CHECKPOINT after the config, or only --results FILE ...")
    if args.config is None and not args.results:
        parser.error("give CONFIG and CHECKPOINT, or --results FILE ...")
    if args.pictures < 0:
        parser.error(f"--pictures: expected 0 or more, got {args.pictures}")
    if args.appearance is None and (args.style or args.clip):
        args.appearance = []
    if args.html and not args.pictures:
        args.pictures = 24
    return args


def main() -> None:
    args = parse_arguments()

    from pathlib import Path

    from mmengine.dist import is_main_process

    from cls.evaluation.results import read_results

    earlier = [result for path in args.results for result in read_results(path)]
    tested: list[ModelResult] = []
    pictures: dict[tuple[str, str], bytes] = {}
    curves: list[Curves] = []
    facts: dict[str, Any] = {}
    work_dir = Path(args.work_dir or "work_dirs/test_cls")
    if args.config is not None:
        files = [find_checkpoint(text) for text in args.checkpoints]
        if args.work_dir is None:
            work_dir = test_folder(args.checkpoints[0])
        if args.curves:  # before minutes are spent on tests
            curves = find_curves(args.checkpoints)
        config = prepare(args)
        runner, tested, pictures = test(config, args, files, work_dir)
        facts = {"test_seed": runner.seed}
    if is_main_process():
        report(args, work_dir, tested + earlier, pictures, curves, facts)


def find_checkpoint(text: str) -> Path:
    """The file of a CHECKPOINT argument."""
    from pathlib import Path

    if text.startswith(OFFICIAL):
        from backbones import official_weights

        return official_weights(text.removeprefix(OFFICIAL))
    if not Path(text).is_file():
        hint = f"; the published one: {OFFICIAL}NAME" if "/" not in text else ""
        raise FileNotFoundError(f"no checkpoint at {text}{hint}")
    return Path(text)


def test_folder(checkpoint: str) -> Path:
    """Where results go: beside a run's checkpoint, in a folder of its own."""
    from pathlib import Path

    if checkpoint.startswith(OFFICIAL):
        return Path("work_dirs") / f"test_{checkpoint.removeprefix(OFFICIAL)}"
    return Path(checkpoint).parent / f"test_{Path(checkpoint).stem}"


def checkpoint_names(checkpoints: list[str]) -> list[str]:
    """Names of rows: those of published weights as they are, of files as their folder and name."""
    from engine.checkpoints import row_names

    own = iter(row_names([text for text in checkpoints if not text.startswith(OFFICIAL)]))
    return [
        f"{text.removeprefix(OFFICIAL)} (official)" if text.startswith(OFFICIAL) else next(own)
        for text in checkpoints
    ]


def find_curves(checkpoints: list[str]) -> list[Curves]:
    """The curves of the runs that the checkpoints are of, each once."""
    from pathlib import Path

    from cls.evaluation.curves import read_curves

    own = [text for text in checkpoints if not text.startswith(OFFICIAL)]
    if not own:
        raise ValueError("--curves: published weights have no training curves here")
    return [read_curves(folder) for folder in dict.fromkeys(Path(text).parent for text in own)]


def prepare(args: argparse.Namespace) -> Config:
    """The config of a test: data and metric."""
    from copy import deepcopy

    from engine.cli import load_config

    config = load_config(args.config, args.cfg_options)
    if args.data:
        from cls.data_options import set_roots

        set_roots(config, args.data)
    if args.domains:
        from engine.cli import choose_domains

        choose_domains(config, args.domains)
    if args.target:
        from cls.data_options import parse_targets, use_targets

        use_targets(config, parse_targets(args.target))
    metric = deepcopy(config.get("test_evaluator"))
    if not isinstance(metric, dict) or metric.get("type") != "cls.ClassificationMetric":
        metric = {"type": "cls.ClassificationMetric"}
    metric["worst"] = max(metric.get("worst", 50), args.pictures)
    config.test_evaluator = metric
    return config


def test(
    config: Config, args: argparse.Namespace, files: list[Path], work_dir: Path
) -> tuple[Runner, list[ModelResult], dict[tuple[str, str], bytes]]:
    """Test every checkpoint in turn with one runner; pictures by (row's name, domain)."""
    from contextlib import nullcontext

    from cls.evaluation.appearance import choose_shifts, full_float32
    from cls.evaluation.results import ModelResult
    from engine.cli import build_runner, without_training
    from engine.provenance import fingerprint
    from engine.recipe import recipe_digest

    shifts = []
    if args.appearance is not None:
        shifts = choose_shifts(args.appearance, args.style, clip=args.clip)
    without_training(config)
    config.model.weights = None  # a start for training
    runner = build_runner(config, work_dir=str(work_dir), seed=args.seed)
    tested: list[ModelResult] = []
    pictures: dict[tuple[str, str], bytes] = {}
    for file, name in zip(files, checkpoint_names(args.checkpoints), strict=True):
        found, trained_classes = load(runner, file)
        warnings = class_warnings(runner, name, trained_classes)
        if found.chosen_by:
            warnings.append(
                f"{name} was chosen as the best by {found.chosen_by}: its number there is that of "
                "the choice, not of unseen data. Test the last checkpoint, or choose on a held-out "
                "split"
            )
        with full_float32() if shifts else nullcontext():
            domains = test_domains(runner, config, shifts)
        if not domains:
            continue  # not the main process, which alone has the details
        if args.pictures:
            pictures.update(mistakes(runner, name, domains, args.pictures))
        tested.append(
            ModelResult(
                name=name,
                domains=domains,
                checkpoint=str(file),
                config=str(args.config),
                weights=fingerprint(file),
                seed=found.seed,
                epoch=found.epoch,
                recipe=recipe_digest(found.config),
                source=config.get("source_domain"),
                warnings=warnings,
            )
        )
    return runner, tested, pictures


def load(runner: Runner, file: Path) -> tuple[Provenance, list[str] | None]:
    """Load a checkpoint of the whole model, or of its backbone alone; strictly.

    Returns:
        What it says of its training, and the classes of the training data if it says them.
    """
    from mmengine.model import is_model_wrapper

    from backbones import load_weights
    from backbones.checkpoint import find_state_dict, read_checkpoint
    from engine.provenance import provenance

    checkpoint = read_checkpoint(file)
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    _, state = find_state_dict(checkpoint, str(file))
    if not any(key.removeprefix("module.").startswith("backbone.") for key in state):
        load_weights(model.backbone, file)
        runner.logger.info(f"loaded {file} into the backbone")
        return provenance(file, {}), None
    classes = ((checkpoint.get("meta") or {}).get("dataset_meta") or {}).get("classes")
    if classes is not None and len(classes) != model.num_classes:
        raise ValueError(
            f"{file} was trained on {len(classes)} classes, the network of the config has "
            f"{model.num_classes}; use the config that was written beside the checkpoint, or "
            f"--cfg-options model.backbone.num_classes={len(classes)}"
        )
    return provenance(file, runner.load_checkpoint(str(file))), classes


def class_warnings(runner: Runner, name: str, trained: list[str] | None) -> list[str]:
    """Labels are numbers: other classes, or another order of them, make accuracies meaningless.

    Raises:
        ValueError: the same classes in another order.
    """
    from engine.wording import some

    warnings = []
    for domain, loader in runner.test_loop.domains.items():
        classes = list(getattr(loader.dataset, "classes", ()))
        if trained is None or list(trained) == classes or len(trained) != len(classes):
            continue  # another number of classes is refused by the metric
        if sorted(trained) == sorted(classes):
            raise ValueError(
                f"{domain} has the classes of {name} in another order: {some(classes)} instead of "
                f"{some(trained)}"
            )
        pairs = [f"{a!r} is {b!r}" for a, b in zip(trained, classes, strict=True) if a != b]
        warnings.append(
            f"{domain} has other classes than {name} was trained on ({some(pairs, 3)}); its "
            "accuracy means something only if these are other names of the same classes"
        )
    return warnings


def test_domains(runner: Runner, config: Config, shifts: list[Shift]) -> dict[str, DomainResult]:
    """The loaded checkpoint on all data, without and with every shift."""
    from cls.evaluation.appearance import shifted
    from cls.evaluation.results import DomainResult
    from engine.loops import by_domain
    from imaging.transforms import describe_transforms

    metrics = by_domain(runner.test())
    details = {domain: kept[0] for domain, kept in runner.test_loop.details.items()}
    domains: dict[str, DomainResult] = {}
    for domain, kept in details.items():
        if kept:
            transforms = config.test_dataloader[domain].dataset.get("transforms")
            how = f"{describe_transforms(transforms)}, {runner.precision.eval_dtype}"
            domains[domain] = DomainResult.from_details(metrics[domain], kept, how)
    for shift in shifts:
        runner.logger.info(f"appearance: {shift.name} ({shift.words})")
        with shifted(runner.model, shift):
            under = by_domain(runner.test())
        for domain, result in domains.items():
            result.shifts[shift.name] = under[domain]
            result.shift_words[shift.name] = shift.words
    return domains


def mistakes(
    runner: Runner, name: str, domains: dict[str, DomainResult], number: int
) -> dict[tuple[str, str], bytes]:
    """A picture of the most confident mistakes on each data set, by (row's name, domain)."""
    from cls.evaluation.pictures import mistakes_picture

    pictures = {}
    for domain, result in domains.items():
        worst = result.worst[:number]
        dataset = runner.test_loop.domains[domain].dataset
        images = [dataset[image["index"]]["inputs"].permute(1, 2, 0).numpy() for image in worst]
        if images:
            title = f"{name} on {domain}: the {len(images)} most confident mistakes"
            pictures[name, domain] = mistakes_picture(images, worst, title)
    return pictures


def report(
    args: argparse.Namespace,
    work_dir: Path,
    results: list[ModelResult],
    pictures: dict[tuple[str, str], bytes],
    curves: list[Curves],
    facts: dict[str, Any],
) -> None:
    """Print tables and write files."""
    import shlex
    import sys

    from rich.console import Console

    from cls.evaluation.curves import curves_picture
    from cls.evaluation.page import write_page
    from cls.evaluation.pictures import confusion_picture
    from cls.evaluation.report import (
        appearance_table,
        certainty_table,
        class_table,
        confusion_table,
        domain_names,
        result_table,
        shift_names,
    )
    from cls.evaluation.results import write_results
    from cls.evaluation.seeds import aggregate, by_recipe
    from engine.atomic import write_file
    from engine.wording import as_file_name, distinct

    for result, name in zip(results, distinct([r.name for r in results]), strict=True):
        result.name = name
    averages = [aggregate(group) for group in by_recipe(results)]
    rows = [*results, *averages]
    title = str(args.config or "results")
    if "test_seed" in facts:
        title += f", seed {facts['test_seed']}"
    console = Console(highlight=False)
    console.print(result_table(rows, title), soft_wrap=True)
    for domain in domain_names(rows):
        if shift_names(rows, domain):
            console.print(appearance_table(rows, domain, paper=args.paper), soft_wrap=True)
    if args.per_class:
        console.print(certainty_table(rows), soft_wrap=True)
        for domain in domain_names(rows):
            console.print(class_table(rows, domain), soft_wrap=True)
        for result in results:
            for domain in result.domains:
                console.print(confusion_table(result, domain), soft_wrap=True)

    written = [
        write_results(
            work_dir / "results.json",
            results,
            averages=[average.plain() for average in averages],
            command=sys.argv,
            **facts,
        )
    ]
    for result in results:
        for name, found in result.domains.items():
            stem = as_file_name(f"{result.name}_{name}")
            data = confusion_picture(found, f"{result.name} on {name}")
            written.append(write_file(work_dir / f"confusion_{stem}.png", data))
            if picture := pictures.get((result.name, name)):
                written.append(write_file(work_dir / f"mistakes_{stem}.png", picture))
    drawn = curves_picture(curves) if curves else None
    if drawn is not None:
        written.append(write_file(work_dir / "curves.png", drawn))
    if args.html:
        note = f"python {shlex.join(sys.argv)}"
        path = work_dir / "report.html"
        written.append(
            write_page(
                path, rows, title, mistakes=pictures, curves=drawn, paper=args.paper, note=note
            )
        )
    if args.config is not None:
        written.append(work_dir / "manifest_test.json")
    shown = [str(path) for path in written if not path.match("*_*.png")]
    for pattern in ("confusion_*.png", "mistakes_*.png"):
        if number := sum(path.match(pattern) for path in written):
            shown.append(f"{work_dir / pattern} ({number})")
    print(f"\nwritten: {', '.join(shown)}")


if __name__ == "__main__":
    run_tool(main)
