#!/usr/bin/env python
"""Train a re-identification model.

    python tools/train_reid.py configs/reid/resnet18_ibn_a_small_market1501.py --data DATA
    python tools/train_reid.py CONFIG --data my/photos --camera-pattern '^(\\d+)_' --epochs 30
    python tools/train_reid.py CONFIG --data A B 'msmt17[train=all]:C'   # on all, tested on each
    python tools/train_reid.py CONFIG --resume                  # go on where a run was stopped
    torchrun --nproc_per_node=2 tools/train_reid.py CONFIG      # several processes, GPU or CPU

Stopping with Ctrl-C writes a checkpoint first.
"""

from __future__ import annotations

import argparse

from engine.cli import add_config_arguments, add_training_arguments, run_tool, tool_parser


def parse_arguments() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    add_config_arguments(parser)
    parser.add_argument(
        "--data",
        nargs="+",
        default=[],
        metavar="[NAME=][LAYOUT:]PATH",
        help="train on these together and evaluate on the test split of each; options of a data "
        "set in brackets: vehicleid[size=large]:PATH (docs/datasets.md lists layouts)",
    )
    parser.add_argument(
        "--target",
        nargs="+",
        default=[],
        metavar="[NAME=][LAYOUT:]PATH",
        help="evaluate on these, too: other cities, other cameras",
    )
    parser.add_argument("--camera-pattern", help="folders: regex on file names, one group = camera")
    parser.add_argument(
        "--identity-pattern", help="flat folders: regex on file names, one group = identity"
    )
    parser.add_argument("--epochs", type=int, help="train so long; milestones keep their share")
    add_training_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()

    from pathlib import Path

    from mmengine.dist import is_main_process
    from rich.console import Console

    from engine.cli import build_runner, load_config, scale_schedule
    from engine.loops import by_domain
    from reid.data_options import (
        count_identities,
        parse_targets,
        use_targets,
        use_training_sets,
    )
    from reid.evaluation.report import result_table
    from reid.evaluation.results import DomainResult, ModelResult, write_results

    config = load_config(args.config, args.cfg_options)
    patterns = {
        "camera_pattern": args.camera_pattern,
        "identity_pattern": args.identity_pattern,
    }
    if args.data:
        trained = parse_targets(args.data, **patterns, only_test=False)
        targets = use_training_sets(config, trained)
        if not targets and not args.target:
            raise ValueError(
                f"--data: {' and '.join(trained)} has no test split, so there is nothing to "
                "evaluate on; give other data for that: --target PATH"
            )
    else:
        trained = {name: loader.dataset for name, loader in config.test_dataloader.items()}
        targets = dict(trained)
    if args.target:
        others = parse_targets(args.target, **patterns)
        if both := trained.keys() & others.keys():
            raise ValueError(
                f"--target: {both.pop()!r} is the name of the training data's own test split, too; "
                "give the target another, e.g. --target other=PATH"
            )
        targets |= others
        use_targets(config, targets)
    if args.epochs is not None:
        scale_schedule(config, args.epochs)
    if args.weights:
        config.model.weights = args.weights
    try:
        count_identities(config)
    except FileNotFoundError as error:
        hint = "" if args.data else "; give yours with --data PATH"
        raise FileNotFoundError(f"{error}{hint}") from error
    runner = build_runner(config, work_dir=args.work_dir, seed=args.seed, resume=args.resume)
    runner.train()
    if not is_main_process():
        return

    for name in trained.keys() - targets.keys():
        print(f"{name} has no test split: trained on, and not evaluated on")
    folder = Path(runner.work_dir)
    checkpoint = folder / f"epoch_{runner.epoch}.pth"
    metrics = getattr(runner.val_loop, "metrics", None)
    if metrics:
        details = runner.val_loop.details
        result = ModelResult(
            f"{folder.name}/{checkpoint.stem}",
            {n: DomainResult.from_details(v, details[n][0]) for n, v in by_domain(metrics).items()},
            checkpoint=str(checkpoint),
            config=args.config,
            seed=runner.seed,
            epoch=runner.epoch,
        )
        write_results(folder / "results.json", [result])
        title = f"{args.config}, after {runner.epoch} epochs, seed {runner.seed}"
        Console(highlight=False).print(result_table([result], title), soft_wrap=True)
    elif args.resume:
        print(f"{folder} was trained for {runner.epoch} epochs already; --epochs N goes on to N")
    # the config as it was run: its test data are the held-out half of --data
    own = folder / Path(args.config).name
    print(f"\nnext: python tools/test_reid.py {own} {checkpoint}")
    print(f"      python tools/test_reid.py {own} {checkpoint} --target OTHER/DATA")


if __name__ == "__main__":
    run_tool(main)
