#!/usr/bin/env python
"""Train a segmentation model on one domain; test it there and on others.

    python tools/train_seg.py configs/seg/resnet50_ibn_b_robustnet_gta5-to-cityscapes.py
    python tools/train_seg.py CONFIG --data gta5=/data/gta5 cityscapes=/data/cityscapes
    python tools/train_seg.py CONFIG --iterations 500 --cfg-options model.backbone.norm=sn
    python tools/train_seg.py CONFIG --resume                   # go on where a run was stopped
    torchrun --nproc_per_node=4 tools/train_seg.py CONFIG       # several processes, GPU or CPU

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
        metavar="NAME=PATH",
        help="where the data of the config's domain NAME lies",
    )
    parser.add_argument(
        "--iterations", type=int, metavar="N", help="train so long; the schedule keeps its shape"
    )
    parser.add_argument("--no-test", action="store_true", help="train only; test_seg.py tests")
    add_training_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()

    import shlex
    from pathlib import Path

    from mmengine.dist import is_main_process

    from engine.cli import build_runner, load_config, scale_schedule
    from seg.data_options import set_roots
    from seg.protocols import stamp

    config = load_config(args.config, args.cfg_options)
    set_roots(config, args.data)
    if args.iterations is not None:
        scale_schedule(config, args.iterations, "iters")
    if args.weights:
        config.model.backbone.init_cfg = dict(type="Pretrained", checkpoint=args.weights)
    if args.no_test:
        for key in ("val_dataloader", "val_cfg", "val_evaluator"):
            config[key] = None
    try:
        runner = build_runner(config, work_dir=args.work_dir, seed=args.seed, resume=args.resume)
        runner.logger.info(f"protocol: {stamp(config)['text']}")
        runner.train()
    except FileNotFoundError as error:
        hint = "" if args.data else " To say where your data lie: --data NAME=PATH"
        raise FileNotFoundError(f"{error}{hint}") from error
    if not is_main_process():
        return

    folder = Path(runner.work_dir)
    # the config as it was run
    model = shlex.join(
        [str(folder / Path(args.config).name), str(folder / f"iter_{runner.iter}.pth")]
    )
    print(f"\nnext: python tools/test_seg.py {model} --html")
    print(f"      python tools/segment.py {model} YOUR/IMAGES --out segmented")


if __name__ == "__main__":
    run_tool(main)
