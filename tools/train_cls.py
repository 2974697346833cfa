#!/usr/bin/env python
"""Train a classifier.

    python tools/train_cls.py configs/cls/cifar_resnet20_short_cifar10.py --data data/cifar-10
    python tools/train_cls.py CONFIG --cfg-options model.backbone.norm=bin     # another norm
    python tools/train_cls.py CONFIG --own my/photos --epochs 60    # folders: <class>/*.jpg
    python tools/train_cls.py CONFIG --resume                   # go on where a run was stopped
    torchrun --nproc_per_node=2 tools/train_cls.py CONFIG       # several processes, GPU or CPU

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
        metavar="[NAME=]PATH",
        help="where the config's data lie: all of them, or 'train' and the domains by name",
    )
    parser.add_argument(
        "--own",
        metavar="[NAME=][LAYOUT:]PATH",
        help="train and test on this instead of the config's data; the classes are counted",
    )
    parser.add_argument("--epochs", type=int, help="train so long; the schedule keeps its shape")
    add_training_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()

    import shlex
    from pathlib import Path

    from mmengine.dist import is_main_process
    from rich.console import Console

    from cls.data_options import parse_targets, set_roots
    from cls.evaluation.report import summary_table
    from cls.training_data import check_classes, check_sizes, check_training, train_on
    from engine.cli import build_runner, load_config, scale_schedule
    from engine.loops import by_domain

    config = load_config(args.config, args.cfg_options)
    if args.data and args.own:
        raise ValueError(
            "give --data (where the config's data lie) or --own (other data), not both"
        )
    set_roots(config, args.data)
    if args.own:
        ((name, dataset),) = parse_targets([args.own], "--own").items()
        train_on(config, name, dataset)
    if args.epochs is not None:
        scale_schedule(config, args.epochs)
    if args.weights:
        config.model.weights = args.weights
    try:
        if not args.own:  # whose classes were counted
            check_classes(config)
    except FileNotFoundError as error:
        hint = "" if args.data else "; say where yours lie with --data PATH"
        raise FileNotFoundError(f"{error}{hint}") from error
    runner = build_runner(config, work_dir=args.work_dir, seed=args.seed, resume=args.resume)
    check_training(runner)
    if args.own:
        check_sizes(runner)
    runner.train()
    if not is_main_process():
        return

    folder = Path(runner.work_dir)
    checkpoint = folder / f"epoch_{runner.epoch}.pth"
    metrics = getattr(runner.val_loop, "metrics", None)
    if metrics:
        title = f"{args.config}, after {runner.epoch} epochs, seed {runner.seed}"
        table = summary_table(by_domain(metrics), runner.val_loop.details, title)
        Console(highlight=False).print(table, soft_wrap=True)
    elif args.resume:
        print(f"{folder} was trained for {runner.epoch} epochs already; --epochs N goes on to N")
    model = shlex.join([str(folder / Path(args.config).name), str(checkpoint)])
    print(f"\nnext: python tools/test_cls.py {model}")
    print(f"      python tools/test_cls.py {model} --appearance --curves")


if __name__ == "__main__":
    run_tool(main)
