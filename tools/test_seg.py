#!/usr/bin/env python
"""Evaluate segmentation models on one or several named domains, with the same weights.

    python tools/test_seg.py CONFIG CHECKPOINT                         # the config's own domains
    python tools/test_seg.py CONFIG seed0/iter_40000.pth seed1/iter_40000.pth --boundary --html
    python tools/test_seg.py CONFIG CHECKPOINT --domains cityscapes --data cityscapes=/data/city
    python tools/test_seg.py CONFIG CHECKPOINT --target night=acdc:/data/acdc bdd100k:/data/bdd100k
    python tools/test_seg.py CONFIG CHECKPOINT --corruptions fog gaussian_noise
    python tools/test_seg.py --results a/results.json b/results.json --html   # no model: tables

Prints the mIoU by domain, its mean over targets, the gap to the source and the IoU by class; runs
of one config with different seeds are also averaged. Writes results.json (every number with its
protocol, data and rules), confusion matrices as PNG and manifest_test.json.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from engine.cli import add_config_arguments, run_tool, tool_parser

if TYPE_CHECKING:
    from pathlib import Path

    from mmengine import Config

    from engine.runner import Runner
    from seg.evaluation.metric import Picture
    from seg.evaluation.results import ModelResult


def parse_arguments() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    add_config_arguments(parser, optional=True)
    parser.add_argument("checkpoints", nargs="*", metavar="CHECKPOINT", help="weights to test")
    parser.add_argument(
        "--data",
        nargs="+",
        default=[],
        metavar="NAME=PATH",
        help="where the data of the config's domain NAME lies",
    )
    parser.add_argument(
        "--domains", nargs="+", default=[], metavar="NAME", help="only these of the config's"
    )
    parser.add_argument(
        "--target",
        nargs="+",
        default=[],
        metavar="[NAME=][LAYOUT:]PATH",
        help="test on these instead of the config's domains",
    )
    parser.add_argument("--boundary", action="store_true", help="also the boundary IoU")
    parser.add_argument(
        "--pictures",
        type=int,
        default=0,
        metavar="N",
        help="write image, truth, prediction and errors of N images a domain and of the N worst",
    )
    parser.add_argument("--html", action="store_true", help="write report.html (pictures: 6)")
    parser.add_argument(
        "--results",
        nargs="+",
        default=[],
        metavar="FILE",
        help="results.json of earlier tests, as further rows and for means over seeds",
    )
    parser.add_argument(
        "--corruptions",
        nargs="*",
        metavar="NAME",
        help="also test under common corruptions (all, or the named ones)",
    )
    parser.add_argument(
        "--severities", nargs="+", type=int, default=[1, 2, 3, 4, 5], metavar="1..5"
    )
    args = parser.parse_args()
    if args.config is not None and not args.checkpoints:
        parser.error("give a CHECKPOINT after the config, or only --results FILE ...")
    if args.config is None and not args.results:
        parser.error("give CONFIG and CHECKPOINT, or --results FILE ...")
    if args.pictures < 0:
        parser.error(f"--pictures: expected 0 or more, got {args.pictures}")
    return args


def main() -> None:
    args = parse_arguments()

    from pathlib import Path

    from mmengine.dist import is_main_process

    from seg.evaluation.results import read_results

    earlier = [result for path in args.results for result in read_results(path)]
    if args.html and not args.pictures:
        args.pictures = 6
    tested: list[ModelResult] = []
    pictures: dict[tuple[str, str], list[Picture]] = {}
    facts: dict[str, Any] = {}
    work_dir = Path(args.work_dir or "work_dirs/test_seg")
    robustness = None
    if args.config is not None:
        config = prepare(args)
        first = Path(args.checkpoints[0])
        if args.work_dir is None:
            work_dir = first.parent / f"test_{first.stem}"
        runner, tested, pictures = test(config, args, work_dir)
        facts = {"test_seed": runner.seed}
        if args.corruptions is not None:
            robustness = test_corruptions(runner, config, args)
    if not is_main_process():
        return
    report(args, work_dir, earlier + tested, pictures, facts)
    if robustness is not None:
        from rich.console import Console

        text = "; ".join(dict.fromkeys(r.protocol["text"] for r in tested))
        Console(highlight=False).print(robustness.table(f"protocol: {text}"), soft_wrap=True)
        for path in robustness.write(work_dir, protocol=text, **facts):
            print(f"written: {path}")


def prepare(args: argparse.Namespace) -> Config:
    """The config of a test: domains, metric, nothing that only training needs."""
    from copy import deepcopy

    from engine.cli import load_config

    config = load_config(args.config, args.cfg_options)
    if args.data:
        from seg.data_options import set_roots

        set_roots(config, args.data)
    if args.domains:
        from engine.cli import choose_domains

        choose_domains(config, args.domains)
    if args.target:
        from seg.data_options import parse_targets, use_targets

        use_targets(config, parse_targets(args.target))
    metric = deepcopy(config.get("test_evaluator"))
    if not isinstance(metric, dict) or metric.get("type") != "seg.SegmentationMetric":
        metric = {"type": "seg.SegmentationMetric"}
    metric["pictures"] = args.pictures
    if args.boundary:
        metric["boundary"] = True
    config.test_evaluator = metric
    if args.corruptions is not None:
        for loader in config.test_dataloader.values():
            loader["persistent_workers"] = False  # their copies of the data would not be corrupted
    return config


def test(
    config: Config, args: argparse.Namespace, work_dir: Path
) -> tuple[Runner, list[ModelResult], dict[tuple[str, str], list[Picture]]]:
    """Test every checkpoint in turn with one runner."""
    from copy import deepcopy
    from pathlib import Path

    from engine.checkpoints import row_names
    from engine.cli import build_runner, without_training
    from engine.loops import by_domain
    from engine.provenance import fingerprint, provenance
    from seg.evaluation.provenance import selection_warning
    from seg.evaluation.results import DomainResult, ModelResult
    from seg.protocols import get_protocol, stamp

    for path in args.checkpoints:  # before minutes are spent on the first
        if not Path(path).is_file():
            raise FileNotFoundError(f"no checkpoint at {path}")
    if config.get("protocol") not in (None, "none"):
        get_protocol(config.protocol)
    whole = deepcopy(config)  # with the training's settings, which the protocol is about
    without_training(config)
    runner = build_runner(config, work_dir=str(work_dir), seed=args.seed)
    source = whole.get("source_domain")
    names = row_names(args.checkpoints)
    tested: list[ModelResult] = []
    pictures: dict[tuple[str, str], list[Picture]] = {}
    for path, name in zip(args.checkpoints, names, strict=True):
        found = provenance(path, runner.load_checkpoint(path))
        metrics = by_domain(runner.test())
        details = {domain: kept[0] for domain, kept in runner.test_loop.details.items() if kept}
        warning = selection_warning(found, name, source)
        if any(not kept for kept in details.values()):
            continue  # not the main process, which alone has the details
        domains = {}
        for domain, kept in details.items():
            how = describe_inference(whole, domain)
            domains[domain] = DomainResult.from_details(metrics[domain], kept, how)
            pictures[name, domain] = kept["pictures"]
        tested.append(
            ModelResult(
                name=name,
                domains=domains,
                checkpoint=str(path),
                config=str(args.config),
                weights=fingerprint(path),
                seed=found.seed,
                iteration=found.iteration,
                protocol=stamp(whole, found),
                source=source,
                warnings=[warning] if warning else [],
            )
        )
    return runner, tested, pictures


def describe_inference(config: Config, domain: str) -> str:
    """One line on how predictions on a domain were made."""
    test_cfg = config.model.get("test_cfg") or {}
    text = "whole images"
    if test_cfg.get("mode") == "slide":
        text = f"windows {test_cfg.get('crop_size')} at stride {test_cfg.get('stride')}"
    steps = config.test_dataloader[domain].dataset.get("pipeline") or []
    shapes = [s for s in steps if str(s.get("type")).endswith(("Resize", "ResizeAndCropSquare"))]
    sizes = [
        "x".join(map(str, scale)) if isinstance(scale, list | tuple) else str(scale)
        for scale in (s.get("scale") or s.get("size") or s.get("scale_factor") for s in shapes)
    ]
    return f"{text}, {'resized to ' + ', '.join(sizes) if sizes else 'native size'}"


def test_corruptions(runner: Runner, config: Config, args: argparse.Namespace) -> Any:
    """The same checkpoints under common corruptions; the clean images are tested again."""
    from mmengine.dataset import Compose

    from engine.checkpoints import row_names
    from engine.loops import by_domain
    from seg.corruptions import insert_steps, robustness_report

    pipelines = {
        name: list(loader.dataset.pipeline) for name, loader in config.test_dataloader.items()
    }
    loaded: list[str] = []

    def evaluate(path: str, steps: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
        if loaded[-1:] != [path]:
            runner.load_checkpoint(path)
            loaded.append(path)
        for name, loader in runner.test_loop.domains.items():
            loader.dataset.pipeline = Compose(insert_steps(pipelines[name], steps))
        return by_domain(runner.test())

    models = {
        name: (lambda steps, path=path: evaluate(path, steps))
        for path, name in zip(args.checkpoints, row_names(args.checkpoints), strict=True)
    }
    return robustness_report(
        models, corruptions=args.corruptions or None, severities=args.severities
    )


def report(
    args: argparse.Namespace,
    work_dir: Path,
    results: list[ModelResult],
    pictures: dict[tuple[str, str], list[Picture]],
    facts: dict[str, Any],
) -> None:
    """Print tables and write files."""
    import shlex
    import sys

    from rich.console import Console

    from engine.atomic import write_file
    from engine.wording import as_file_name, distinct
    from seg.evaluation.page import side_by_side, write_page
    from seg.evaluation.report import (
        class_table,
        confusion_picture,
        domain_names,
        metric_table,
        result_table,
    )
    from seg.evaluation.results import write_results
    from seg.evaluation.seeds import aggregate, by_recipe

    for result, name in zip(results, distinct([r.name for r in results]), strict=True):
        result.name = name
    averages = [aggregate(group) for group in by_recipe(results)]
    rows = [*results, *averages]
    title = str(args.config or "results")
    if "test_seed" in facts:
        title += f", seed {facts['test_seed']}"
    console = Console(highlight=False)
    console.print(result_table(rows, title), soft_wrap=True)
    console.print(metric_table(rows), soft_wrap=True)
    for domain in domain_names(rows):
        console.print(class_table(rows, domain), soft_wrap=True)

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
        for name, domain in result.domains.items():
            stem = as_file_name(f"{result.name}_{name}")
            if domain.confusion:
                path = work_dir / f"confusion_{stem}.png"
                written.append(
                    write_file(path, confusion_picture(domain, f"{result.name} on {name}"))
                )
            palette = domain.data.get("palette")  # without one nothing can be drawn
            kept = pictures.get((result.name, name), []) if palette else []
            for number, picture in enumerate(kept):
                data = side_by_side(picture, palette, domain.classes)
                written.append(
                    write_file(
                        work_dir / "pictures" / stem / f"{picture.why}_{number:03d}.jpg", data
                    )
                )
    if args.html:
        command = f"python {shlex.join(sys.argv)}"
        written.append(write_page(work_dir / "report.html", rows, title, pictures, command))
    if args.config is not None:
        written.append(work_dir / "manifest_test.json")
    shown = [str(path) for path in written if path.suffix not in (".jpg", ".png")]
    for suffix, what in ((".png", "confusion_*.png"), (".jpg", "pictures/*/*.jpg")):
        if number := sum(path.suffix == suffix for path in written):
            shown.append(f"{work_dir / what} ({number})")
    print(f"\nwritten: {', '.join(shown)}")


if __name__ == "__main__":
    run_tool(main)
