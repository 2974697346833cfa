#!/usr/bin/env python
"""Choose the score from which two images count as the same identity, and store it.

    python tools/calibrate_threshold.py CONFIG CHECKPOINT --data data/market1501 --far 0.01
    python tools/calibrate_threshold.py CONFIG CHECKPOINT --data folder:photos \\
        --camera-pattern '^(\\d+)_' --picture roc.png

Of pairs of two different identities, the share --far may be taken for the same one. The threshold
is chosen on half of the identities and measured on the other half, so that the errors reported are
those to expect of people never seen; --no-hold-out uses all of them for both. It is written to
CHECKPOINT.threshold.json, where FeatureExtractor, compare and the tools find it. It holds for this
model, and for cameras like those of the data.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from engine.cli import run_tool, tool_parser

if TYPE_CHECKING:
    from reid.evaluation import VerificationResult
    from reid.threshold import Calibration

RATES = (0.1, 0.01, 0.001, 0.0001)


def parse_arguments() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument("config", metavar="CONFIG")
    parser.add_argument("checkpoint", metavar="CHECKPOINT")
    parser.add_argument("--data", required=True, metavar="[NAME=][LAYOUT:]PATH")
    parser.add_argument("--camera-pattern", help="folders: regex on file names, one group = camera")
    parser.add_argument(
        "--far", type=float, default=0.01, help="false-accept rate, 0..1 (default 0.01)"
    )
    parser.add_argument(
        "--no-hold-out",
        action="store_true",
        help="choose and measure on the same identities: more pairs, errors that flatter",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the halves (default 0)")
    parser.add_argument("--out", type=Path, help="instead of CHECKPOINT.threshold.json")
    parser.add_argument("--picture", metavar="PNG", help="default: beside the threshold")
    parser.add_argument("--device", help="cpu, cuda, ...; by default CUDA where there is one")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--workers", type=int, help="processes that read images")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()

    import numpy as np
    from tqdm import tqdm

    from reid.data_options import parse_data
    from reid.image_loading import batch_ranges, default_workers
    from reid.image_sources import dataset_items
    from reid.inference import FeatureExtractor
    from reid.registry import DATASETS
    from reid.threshold import calibrate, threshold_path
    from reid.verification_figure import calibration_figure

    if not 0 < args.far < 1:
        raise ValueError(f"--far: expected a share of pairs between 0 and 1, got {args.far:g}")
    name, config = parse_data(args.data, args.camera_pattern, only_test=True)
    dataset = DATASETS.build({**config, "split": "test"})
    extractor = FeatureExtractor(
        args.config, args.checkpoint, args.device, batch_size=args.batch_size, threshold=False
    )
    items = dataset_items(dataset)
    workers = default_workers(extractor.device.type) if args.workers is None else args.workers
    features = np.empty((len(items), extractor.dim), np.float32)
    batches = extractor.load(items, batch_ranges(0, len(items), args.batch_size), workers)
    with tqdm(total=len(items), unit="image", desc="embedding") as bar:
        for batch, embeddings in extractor.embed(batches, lambda p: items[p].name):
            for position, reason in batch.failed:
                raise ValueError(f"cannot read {items[position].name}: {reason}")
            features[batch.positions] = embeddings
            bar.update(len(batch.positions))

    queries, meta = dataset.num_query, dataset.metainfo
    cameras = dataset.camids if (dataset.camids >= 0).any() else None
    calibration = calibrate(
        features[:queries],
        features[queries:],
        dataset.pids[:queries],
        dataset.pids[queries:],
        None if cameras is None else cameras[:queries],
        None if cameras is None else cameras[queries:],
        far=args.far,
        hold_out=not args.no_hold_out,
        seed=args.seed,
        model=extractor.fingerprint,
        protocol={
            "data": name,
            "fingerprint": meta["fingerprint"],
            "split": "queries against gallery",
            "data_protocol": meta["protocol"],
        },
    )
    show(calibration, queries, len(items) - queries)
    path = calibration.threshold.write(args.out or threshold_path(args.checkpoint))
    picture = calibration_figure(
        calibration,
        args.picture or path.with_suffix(".png"),
        title=f"{Path(args.checkpoint).name} on {name}",
    )
    print(f"threshold: {path}\npicture: {picture}")
    print(f"next: python tools/compare.py {args.config} {args.checkpoint} A.jpg B.jpg")


def show(calibration: Calibration, queries: int, gallery: int) -> None:
    """Print the table of rates and the protocol."""
    from rich.console import Console

    from engine.tables import text_table, titled

    threshold, protocol = calibration.threshold, calibration.threshold.protocol
    sides = {"measured on": calibration.measured_on}
    if calibration.held_out:
        sides = {"chosen on": calibration.chosen_on, **sides}
    lines = []
    for side, result in sides.items():
        count = protocol["identities" if side == "measured on" else "chosen_on_identities"]
        lines.append(
            [
                f"{side} {count}",
                f"{result.num_genuine:,}",
                f"{result.num_impostor:,}",
                f"{100 * result.auc:.2f}",
                f"{100 * result.eer:.2f}",
                *(tar(result, far) for far in RATES),
            ]
        )
    rates = [f"TAR at {100 * far:g}%" for far in RATES]
    table = text_table(
        ["identities", "genuine pairs", "impostor pairs", "AUC", "EER", *rates], lines
    )
    below = "TAR at 1%: true accepts at a false-accept rate of 1%; blank: too few pairs"
    console = Console()
    title = f"verification on {protocol['data']} (percent)"
    console.print(titled(title, table, [below]), soft_wrap=True)

    lines = []
    for side, result in sides.items():
        errors = result.rates_at(threshold.value)
        cells = []
        for rate, (low, high) in (
            (errors.far, threshold.far_interval),
            (errors.frr, threshold.frr_interval),
        ):
            interval = f"{100 * low:.2f} to {100 * high:.2f}" if side == "measured on" else ""
            cells += [f"{100 * rate:.2f}", interval]
        lines.append([side, *cells])
    table = text_table(
        ["identities", "false accepts", "interval", "false rejects", "interval"], lines
    )
    title = (
        f"threshold {threshold.value:.4f}, chosen for a false-accept rate of "
        f"{100 * (threshold.target_far or 0):g}% (percent)"
    )
    below = f"intervals: {protocol['intervals']}"
    console.print(titled(title, table, [below]), soft_wrap=True)
    half = "; the halves share no identity" if calibration.held_out else ""
    print(
        f"protocol: {protocol['data']}, {protocol['data_protocol']}, fingerprint "
        f"{protocol['fingerprint'][:12]}; {queries:,} queries, {gallery:,} gallery images; pairs: "
        f"{protocol['pairs']}{half}"
    )
    expected = (threshold.target_far or 0) * calibration.chosen_on.num_impostor
    if expected < 10:
        print(
            f"warning: {threshold.target_far:g} of {calibration.chosen_on.num_impostor:,} impostor "
            f"pairs are {expected:.1f} pairs, so the threshold rests on very few; use more data or "
            "a larger --far"
        )


def tar(result: VerificationResult, far: float) -> str:
    """True accepts at this rate, in percent; blank where the pairs are too few to show it."""
    return f"{100 * result.tar_at(far):.2f}" if far * result.num_impostor >= 1 else ""


if __name__ == "__main__":
    run_tool(main)
