#!/usr/bin/env python
"""Train a re-identification model.

    python tools/train_reid.py configs/reid/resnet18_ibn_a_small_market1501.py --data DATA
    python tools/train_reid.py CONFIG --data my/photos --camera-pattern '^(\\d+)_' --epochs 30
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
        metavar="[NAME=][LAYOUT:]PATH",
        help="train and evaluate on this (market1501, folder, csv)",
    )
    parser.add_argument(
        "--target",
        nargs="+",
        default=[],
        metavar="[NAME=][LAYOUT:]PATH",
        help="evaluate on these, too: other cities, other cameras",
    )
    parser.add_argument("--camera-pattern", help="folders: regex on file names, one group = camera")
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
        parse_data,
        parse_targets,
        use_targets,
        use_training_data,
    )
    from reid.evaluation.report import describe_domain, result_table, write_results

    config = load_config(args.config, args.cfg_options)
    targets = {}
    if args.data:
        name, dataset = parse_data(args.data, args.camera_pattern)
        use_training_data(config, dataset, name)
        targets[name] = dataset
    else:
        targets = {name: loader.dataset for name, loader in config.test_dataloader.items()}
    if args.target:
        others = parse_targets(args.target, args.camera_pattern)
        if both := targets.keys() & others.keys():
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

    folder = Path(runner.work_dir)
    checkpoint = folder / f"epoch_{runner.epoch}.pth"
    metrics = getattr(runner.val_loop, "metrics", None)
    if metrics:
        rows = {checkpoint.stem: by_domain(metrics)}
        details = runner.val_loop.details
        write_results(folder / "results.json", rows, details, seed=runner.seed, config=args.config)
        title = f"{args.config}, after {runner.epoch} epochs, seed {runner.seed}"
        Console(highlight=False).print(result_table(rows, title), soft_wrap=True)
        for name, found in details.items():
            print(f"{name}: {describe_domain(found[0])}")
    elif args.resume:
        print(f"{folder} was trained for {runner.epoch} epochs already; --epochs N goes on to N")
    # the config as it was run: its test data are the held-out half of --data
    own = folder / Path(args.config).name
    print(f"\nnext: python tools/test_reid.py {own} {checkpoint}")
    print(f"      python tools/test_reid.py {own} {checkpoint} --target OTHER/DATA")


if __name__ == "__main__":
    run_tool(main)
