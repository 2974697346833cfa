#!/usr/bin/env python
"""Search a gallery with images: who is this, where else was he seen?

    python tools/query_gallery.py GALLERY person.jpg --picture ranked.png
    python tools/query_gallery.py GALLERY a.jpg b.jpg --k 20 --exclude-own-camera
    python tools/query_gallery.py GALLERY person.jpg --threshold     # or is it nobody we know?

The model is the one that filled the gallery. Identity and camera of a query are those of the same
image in the gallery, or in a name such as 0002_c1s1_000451_03.jpg (Market1501); for any other
image --pid and --camera say them. With --threshold a hit counts from the score on that
tools/calibrate_threshold.py stored for the model, or from the number or file given; the others are
shown dim, in the picture pale, and a query without any hit is nobody that the gallery knows.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from engine.cli import run_tool, tool_parser


def parse_arguments() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument("gallery", metavar="GALLERY")
    parser.add_argument("images", nargs="+", metavar="IMAGE")
    parser.add_argument("-k", "--k", type=int, default=10, help="hits per query (default 10)")
    parser.add_argument("--picture", metavar="PNG", help="write the ranked list as a picture")
    parser.add_argument("--pid", help="identity of the queries, if known, as the table shows it")
    parser.add_argument(
        "--camera", help="camera of the queries, if known, as the table shows cameras"
    )
    parser.add_argument(
        "--exclude-own-camera", action="store_true", help="hide hits from the query's camera"
    )
    parser.add_argument(
        "--threshold",
        nargs="?",
        const=True,
        metavar="NUMBER|FILE",
        help="from which score on a hit is the same identity; alone: the one stored for the model",
    )
    parser.add_argument("--config", help="where the gallery's own config has moved to")
    parser.add_argument("--checkpoint", help="where the gallery's own weights have moved to")
    parser.add_argument("--device", help="cpu, cuda, ...; by default CUDA where there is one")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()

    import json

    from rich.console import Console
    from rich.table import Table

    from reid.gallery import Gallery
    from reid.inference import FeatureExtractor
    from reid.threshold import parse_threshold, percent
    from reid.visualization import ranked_list_figure

    if not Path(args.gallery, "manifest.json").is_file():
        raise FileNotFoundError(
            f"no gallery at {args.gallery}; make one: python tools/build_gallery.py {args.gallery} "
            "CONFIG CHECKPOINT --images FOLDER"
        )
    gallery = Gallery.open(args.gallery)
    if args.picture:
        Path(args.picture).parent.mkdir(parents=True, exist_ok=True)
    own = Path(args.gallery) / "extractor.json"
    stored = json.loads(own.read_text()) if own.is_file() else {}
    config, weights = args.config or stored.get("config"), args.checkpoint or stored.get("weights")
    if not config or not weights:
        raise ValueError(
            f"{args.gallery} does not say which model filled it; give --config and --checkpoint"
        )
    wanted: Any = None if args.threshold is True else parse_threshold(args.threshold)
    extractor = FeatureExtractor(
        config, weights, args.device, threshold=wanted if args.threshold else False
    )
    threshold = extractor.threshold
    if args.threshold and threshold is None:
        raise ValueError(
            f"--threshold: none is stored beside {weights}; make one: python "
            f"tools/calibrate_threshold.py {config} {weights} --data DATA, or give a number"
        )
    records = list(gallery.records.values())
    queries = [describe_query(path, records, args.pid, args.camera) for path in args.images]
    cameras = None
    if args.exclude_own_camera:
        cameras = [query.get("camera") for query in queries]
        if None in cameras:
            unknown = queries[cameras.index(None)]["image"]
            raise ValueError(
                f"--exclude-own-camera: {unknown} does not tell its camera; give it with --camera"
            )
    features = extractor(args.images)
    results = gallery.search(features, args.k, exclude_cameras=cameras, model=extractor.fingerprint)

    console = Console()
    for query, hits in zip(queries, results, strict=True):
        table = Table(
            title=f"{short(query['image'])}: {len(hits)} of {len(gallery):,} rows",
            title_justify="left",
        )
        for name in ("rank", "score", "pid", "camera", "image"):
            table.add_column(name, justify="left" if name == "image" else "right", overflow="fold")
        for rank, hit in enumerate(hits, 1):
            record = hit.record
            cells = [str(record.get(key, "")) for key in ("pid", "camera")]
            cells.append(short(record.get("image", "")))
            right = "pid" in query and record.get("pid") == query["pid"]
            style = "green" if right else ""
            if threshold is not None and hit.score < threshold.value:
                style = f"dim {style}"
            table.add_row(str(rank), f"{hit.score:.3f}", *cells, style=style)
        console.print(table)
        if threshold is not None:
            known = sum(hit.score >= threshold.value for hit in hits)
            console.print(
                f"{known} of {len(hits)} reach the threshold {threshold.value:.3f}"
                if known
                else f"nobody that the gallery knows: no hit reaches the threshold "
                f"{threshold.value:.3f}"
            )
    if threshold is not None and threshold.far is not None:
        print(
            f"the threshold takes {percent(threshold.far)} of pairs of two identities for one "
            f"({threshold.measured}); a query meets {len(gallery):,} rows"
        )
    print("score: cosine similarity, higher is more alike" if gallery.metric == "cosine" else "")
    if args.picture:
        title = f"{Path(args.gallery).name}: {len(gallery):,} images, {gallery.metric} similarity"
        picture = ranked_list_figure(
            queries,
            results,
            args.picture,
            top_k=args.k,
            title=title,
            threshold=None if threshold is None else threshold.value,
        )
        print(f"picture: {picture}")


def short(path: object) -> str:
    """A path below the working directory without it."""
    return str(path).removeprefix(f"{Path.cwd()}/")


def describe_query(
    path: str, stored: Iterable[Mapping[str, Any]], pid: str | None, camera: str | None
) -> dict[str, Any]:
    """The query's record: what was said, else what the gallery or the file's name tells.

    Identity and camera are written as the gallery has them: it may know a camera 1, or a '01'.
    """
    query: dict[str, Any] = {"image": str(Path(path).resolve())}
    if match := re.match(r"(-?\d+)_c(\d+)", Path(path).name):  # Market1501
        query |= {"pid": int(match[1]), "camera": int(match[2])}
    stored = list(stored)
    itself = next((r for r in stored if r.get("image") == query["image"]), {})
    query |= {k: itself[k] for k in ("pid", "camera") if itself.get(k) is not None}
    for key, text in (("pid", pid), ("camera", camera)):
        if text is not None:
            values = {str(record[key]): record[key] for record in stored if key in record}
            query[key] = values.get(text, text)
    return query


if __name__ == "__main__":
    run_tool(main)
