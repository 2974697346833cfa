#!/usr/bin/env python
"""Bring a checkpoint's weights into the names of another code base.

    python tools/convert_weights.py resnet50_sn.pth ours.safetensors             # SN's -> ours
    python tools/convert_weights.py work_dirs/best.pth timm.pth --to timm
    python tools/convert_weights.py resnet50_sn.pth ours.pth --dry-run --all     # every tensor

The layout of IN is recognised. The suffix of OUT chooses the format: .pth (in the dict that the
target's own files have around it) or .safetensors (flat). Nothing of IN is ever executed; OUT
appears whole or not at all.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from engine.cli import run_tool, tool_parser

if TYPE_CHECKING:
    from backbones.layouts import Conversion

# The keys of backbones.layouts.LAYOUTS, which would import torch: --help answers at once.
TARGETS = (
    *("ours", "torchvision", "timm", "mmseg", "mmpretrain", "ibn", "bin", "sn", "sndet"),
    *("sndet_fpn", "ilm", "fastreid", "strong_baseline", "densenet_old"),
)


def parse_arguments() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument("source", metavar="IN", help="a .pth or .safetensors file of any layout")
    parser.add_argument("target", metavar="OUT", help="the file to write, .pth or .safetensors")
    parser.add_argument("--to", choices=TARGETS, default="ours", help="default: ours")
    parser.add_argument("--dry-run", action="store_true", help="show what would be done")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    parser.add_argument("--all", action="store_true", help="one row a tensor, not a row a pattern")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()

    from pathlib import Path

    from rich.console import Console

    from backbones.checkpoint import checkpoint_bytes
    from backbones.layouts import plan_renaming
    from engine.atomic import write_bytes

    target = Path(args.target)
    if target.suffix not in (".pth", ".safetensors"):
        raise ValueError(f"OUT must end in .pth or .safetensors, got {target.name!r}")
    if target.exists() and not (args.overwrite or args.dry_run):
        raise ValueError(f"{target} exists already; choose another name, or add --overwrite")
    conversion = plan_renaming(args.source, args.to)
    console = Console(highlight=False)
    console.print(table(conversion, every=args.all), soft_wrap=True)
    for text in remarks(conversion):
        print(text)
    if args.dry_run:
        print("dry run: nothing written")
        return
    data = checkpoint_bytes(conversion.state_dict, target.suffix, container=conversion.container)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(target, data)
    print(f"written: {target} ({len(data):,} bytes)")


def table(conversion: Conversion, *, every: bool) -> object:
    """Which name became which, with numbers of layers merged to '*' unless ``every``."""
    import re
    from collections import Counter

    from rich.table import Table

    def pattern(key: str) -> str:
        key = re.sub(r"(layer|block|res)\d+\.\d+\.", r"\1*.*.", key)
        return re.sub(r"(layer|block)\d+\.", r"\1*.", key)

    rows = Counter(
        (old, new) if every else (pattern(old), pattern(new))
        for old, new in conversion.renamed.items()
    )
    shown = Table(title=f"{conversion.architecture}, to {conversion.target}", title_justify="left")
    for column in ("in the source", "in the result"):
        shown.add_column(column, overflow="fold")
    shown.add_column("tensors", justify="right")
    for (old, new), count in rows.items():
        shown.add_row(old, "(same)" if old == new else new, str(count))
    return shown


def remarks(conversion: Conversion) -> list[str]:
    """What was recognised, left out and added, a line each."""
    lines = [f"recognised: {', '.join(conversion.layout) or 'our own names'}"]
    for what, keys in (("left out", conversion.left_out), ("added", conversion.added)):
        for why in dict.fromkeys(keys.values()):
            named = [key for key, reason in keys.items() if reason == why]
            more = f", and {len(named) - 3} more" if len(named) > 3 else ""
            lines.append(f"{len(named)} {what} ({why}): {', '.join(named[:3])}{more}")
    renamed = sum(old != new for old, new in conversion.renamed.items())
    lines.append(
        f"{len(conversion.state_dict)} tensors, {renamed} of them under another name than before"
    )
    return lines


if __name__ == "__main__":
    run_tool(main)
