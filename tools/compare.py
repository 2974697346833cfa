#!/usr/bin/env python
"""Do two images show the same identity? The answer, the score and how often that answer errs.

    python tools/compare.py CONFIG CHECKPOINT a.jpg b.jpg --picture answer.png

The threshold is the one that tools/calibrate_threshold.py stored beside CHECKPOINT; --threshold
takes a number or another file.
"""

from __future__ import annotations

import argparse

from engine.cli import run_tool, tool_parser


def parse_arguments() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument("config", metavar="CONFIG")
    parser.add_argument("checkpoint", metavar="CHECKPOINT")
    parser.add_argument("a", metavar="A", help="an image")
    parser.add_argument("b", metavar="B", help="another one")
    parser.add_argument("--threshold", metavar="NUMBER|FILE", help="instead of the stored one")
    parser.add_argument("--picture", metavar="PNG", help="both images with the answer")
    parser.add_argument("--device", help="cpu, cuda, ...; by default CUDA where there is one")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()

    from imaging.files import read_image
    from reid.inference import FeatureExtractor, compare
    from reid.threshold import parse_threshold
    from reid.verification_figure import comparison_figure

    extractor = FeatureExtractor(
        args.config, args.checkpoint, args.device, threshold=parse_threshold(args.threshold)
    )
    images = [read_image(path) for path in (args.a, args.b)]
    comparison = compare(extractor, *images)
    print(comparison)
    if args.picture:
        print(f"picture: {comparison_figure(*images, comparison, args.picture)}")


if __name__ == "__main__":
    run_tool(main)
