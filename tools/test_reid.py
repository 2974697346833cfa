#!/usr/bin/env python
"""Evaluate a re-identification model on one or several data sets, with the same weights.

    python tools/test_reid.py CONFIG CHECKPOINT                       # the config's own domains
    python tools/test_reid.py CONFIG CHECKPOINT \\
        --target data/market1501 campus=data/photos --camera-pattern '^(\\d+)_'

Prints a table; writes results.json (every number with its protocol) and manifest_test.json.
"""

from __future__ import annotations

import argparse

from engine.cli import add_config_arguments, run_tool, tool_parser


def parse_arguments() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    add_config_arguments(parser)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="weights to test")
    parser.add_argument("--target", nargs="+", default=[], metavar="[NAME=][LAYOUT:]PATH")
    parser.add_argument("--camera-pattern", help="folders: regex on file names, one group = camera")
    parser.add_argument(
        "--ap", choices=["step", "trapezoid"], help="rule of the average precision, if another"
    )
    parser.add_argument(
        "--untrained", action="store_true", help="add the rows of the untrained network"
    )
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()

    from pathlib import Path

    from mmengine.dist import is_main_process
    from rich.console import Console

    from engine.cli import build_runner, load_config, without_training
    from engine.loops import by_domain
    from reid.data_options import parse_targets, trained_on, use_targets
    from reid.evaluation.report import describe_domain, result_table, write_results

    config = load_config(args.config, args.cfg_options)
    overlap = set()
    if args.target:
        targets = parse_targets(args.target, args.camera_pattern)
        overlap = trained_on(config, targets)
        use_targets(config, targets)
    if args.ap is not None:
        config.test_evaluator.ap = args.ap
    config.model.update(num_identities=None, weights=None)  # nothing that only training needs
    without_training(config)
    checkpoint = Path(args.checkpoint)
    work_dir = args.work_dir or str(checkpoint.parent / f"test_{checkpoint.stem}")
    runner = build_runner(config, work_dir=work_dir, seed=args.seed)

    rows = {}
    if args.untrained:
        rows["untrained"] = by_domain(runner.test())
    runner.load_checkpoint(args.checkpoint)
    rows[checkpoint.stem] = by_domain(runner.test())
    if not is_main_process():
        return
    details = runner.test_loop.details
    # the latest in the work directory, each one in its run's own folder
    results = Path(work_dir) / "results.json"
    for path in (Path(runner.log_dir) / results.name, results):
        write_results(path, rows, details, seed=runner.seed, config=args.config)

    title = f"{args.config}, {checkpoint}, seed {runner.seed}"
    Console(highlight=False).print(result_table(rows, title), soft_wrap=True)
    for name, found in details.items():
        print(f"{name}: {describe_domain(found[0])}")
    for name in overlap:
        print(
            f"warning: {name} is what this config trained on: its training identities are tested, "
            "too. Leave out --target to test on the held-out ones"
        )
    print(f"\nwritten: {results}, {results.with_name('manifest_test.json')}")


if __name__ == "__main__":
    run_tool(main)
