#!/usr/bin/env python
"""Search a gallery with images: who is this, where else was he seen?

    python tools/query_gallery.py GALLERY person.jpg --picture ranked.png
    python tools/query_gallery.py GALLERY a.jpg b.jpg -k 20 --exclude-own-camera
    python tools/query_gallery.py GALLERY person.jpg --threshold     # or is it nobody we know?
    python tools/query_gallery.py GALLERY person.jpg --where 'camera=1,2' 'time>=43200' 'pid!=-1'
    python tools/query_gallery.py GALLERY folder/ --tracklet         # all images are one person
    python tools/query_gallery.py GALLERY --id 17                    # like row 17; needs no model

IMAGE is an image, a folder with all below it, or a list (.txt: a path a line; .csv: a column path,
and pid, camera). The model is the one that filled the gallery. Identity and camera of a query are
those of the same image in the gallery, or in a name such as 0002_c1s1_000451_03.jpg (Market1501);
for any other image --pid and --camera say them.

With --threshold a hit counts from the score on that tools/calibrate_threshold.py stored for the
model, or from the number or file given; the others are shown dim, in the picture pale, and a query
without any hit is nobody that the gallery knows.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.cli import run_tool, tool_parser

if TYPE_CHECKING:
    import numpy as np

    from reid.gallery import Gallery, Hit, SearchResult
    from reid.gallery_report import Folder
    from reid.threshold import Threshold


def parse_arguments() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument("gallery", metavar="GALLERY", help="a folder or address")
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="images, folders or lists")
    parser.add_argument(
        "--id", type=int, nargs="+", default=[], metavar="N", help="rows to search with instead"
    )
    parser.add_argument("-k", "--k", type=int, help="hits per query (default 10)")
    parser.add_argument("--pid", help="identity of the queries, if known, as the table shows it")
    parser.add_argument(
        "--camera", help="camera of the queries, if known, as the table shows cameras"
    )

    rows = parser.add_argument_group("which rows are searched")
    rows.add_argument(
        "--where",
        nargs="+",
        action="extend",
        default=[],
        metavar="CONDITION",
        help="'camera=1,2' 'time>=43200' 'pid!=-1' 'gate=null', or JSON; all are to hold",
    )
    rows.add_argument("--cameras", metavar="A,B", help="short for --where camera=A,B")
    rows.add_argument(
        "--time", nargs=2, metavar=("FROM", "TO"), help="both included; - leaves an end open"
    )
    rows.add_argument(
        "--exclude-own-camera", action="store_true", help="hide hits from the query's camera"
    )

    way = parser.add_argument_group("how")
    way.add_argument(
        "--threshold",
        nargs="?",
        const=True,
        metavar="NUMBER|FILE",
        help="from which score on a hit is the same identity; alone: the one stored for the model",
    )
    way.add_argument(
        "--range",
        type=float,
        metavar="SCORE",
        help="all rows of at least this score, or the k best",
    )
    way.add_argument(
        "--group",
        nargs="?",
        const="pid",
        metavar="FIELD",
        help="only the best hit of each identity (or of each value of another field)",
    )
    way.add_argument("--rerank", type=int, metavar="N", help="order the N best rows anew")
    way.add_argument("--expand", type=int, metavar="N", help="search again with the N best rows")
    way.add_argument(
        "--expand-alpha", type=float, metavar="A", help="weigh these by their score to the power A"
    )
    way.add_argument(
        "--tracklet",
        action="store_true",
        help="the images are one person; of several folders or lists, each is one",
    )
    way.add_argument(
        "--pool", choices=["mean", "best"], default="mean", help="of a tracklet (default mean)"
    )
    way.add_argument("--exact", action="store_true", help="without the approximate index")

    shown = parser.add_argument_group("what comes out")
    form = shown.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON document, with the protocol")
    form.add_argument("--csv", action="store_true", help="a line a hit")
    shown.add_argument("--picture", metavar="PNG", help="write the ranked list as a picture")

    model = parser.add_argument_group("the model")
    model.add_argument("--config", help="where the gallery's own config has moved to")
    model.add_argument("--checkpoint", help="where the gallery's own weights have moved to")
    model.add_argument(
        "--model-file", metavar="JSON", help="what build_gallery.py --model-file wrote"
    )
    model.add_argument("--device", help="cpu, cuda, ...; by default CUDA where there is one")
    args = parser.parse_args()
    if bool(args.images) == bool(args.id):
        parser.error("give images to search with, or --id and the numbers of rows")
    if args.range is not None:
        for option in ("group", "rerank", "expand", "tracklet"):
            if getattr(args, option):
                parser.error(f"--range gives all rows near a query; it does not go with --{option}")
    if args.expand_alpha is not None and not args.expand:
        parser.error("--expand-alpha goes with --expand")
    return args


class Query(NamedTuple):
    """What is searched with: one image, or the images of one person, as the picture shows it."""

    record: dict[str, Any]
    features: np.ndarray
    """(n, D): n is 1 but for a tracklet."""
    ids: list[int]
    """Rows of the gallery that it is, and that it is not to find."""
    images: int = 1


def main() -> None:
    args = parse_arguments()

    from reid.gallery import Gallery

    try:
        gallery = Gallery.open(args.gallery)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"no gallery at {args.gallery}; make one: python tools/build_gallery.py {args.gallery} "
            "CONFIG CHECKPOINT --images FOLDER"
        ) from error
    if args.picture:
        Path(args.picture).parent.mkdir(parents=True, exist_ok=True)
    columns = Columns(gallery)
    where = row_filter(args, columns)
    queries, threshold, model = make_queries(args, gallery, columns)
    cameras = own_cameras(queries) if args.exclude_own_camera else None
    result = search(args, gallery, queries, where, cameras, threshold, model)

    if args.json:
        print_json(args, gallery, queries, result, where, cameras, threshold)
    elif args.csv:
        print_csv(queries, result, threshold)
    else:
        print_tables(gallery, queries, result, threshold)
    if args.picture:
        picture = draw(args, gallery, queries, result, threshold)
        print(f"picture: {picture}", file=sys.stderr if args.json or args.csv else sys.stdout)


# -- queries --------------------------------------------------------------------------------------


class Columns:
    """Single fields of all rows, each read once and only if something asks for it.

    Image, identity and camera, which most searches need, are read together.
    """

    def __init__(self, gallery: Gallery) -> None:
        self._gallery = gallery
        self._read: dict[str, list[Any]] = {}

    def __call__(self, name: str) -> list[Any]:
        if name not in self._read:
            together = ("image", "pid", "camera")
            self._read |= self._gallery.columns(*(together if name in together else (name,)))
        return self._read[name]

    def as_held(self, name: str, text: str) -> Any:
        """A value as the gallery writes it: it may know a camera 1, or a '01'."""
        return next((v for v in self(name) if v is not None and str(v) == text), text)


def row_filter(args: argparse.Namespace, columns: Columns) -> dict[str, Any]:
    from reid.gallery.where_text import parse_where

    conditions = list(args.where)
    if args.cameras:
        conditions.append(f"camera={args.cameras}")
    for operator, bound in zip((">=", "<="), args.time or (), strict=False):
        if bound != "-":
            conditions.append(f"time{operator}{bound}")
    where = parse_where(conditions, columns)
    if args.cameras:  # a slip here would leave nothing to search, or the wrong half
        known = {value for value in columns("camera") if value is not None}
        asked = parse_where([f"camera={args.cameras}"], columns)["camera"]
        for camera in asked if isinstance(asked, list) else [asked]:
            if camera not in known:
                names = ", ".join(map(str, sorted(known, key=str))) or "none at all"
                raise ValueError(f"--cameras: the gallery knows no camera {camera}; it has {names}")
    return where


def make_queries(
    args: argparse.Namespace, gallery: Gallery, columns: Columns
) -> tuple[list[Query], Threshold | None, str | None]:
    """Queries with features, the threshold, and the fingerprint of the model that made them."""
    from reid.gallery_model import (
        GalleryModel,
        find_gallery_model,
        gallery_extractor,
        gallery_threshold,
    )
    from reid.threshold import parse_threshold

    wanted: Any = args.threshold if args.threshold is True else parse_threshold(args.threshold)
    files = {"config": args.config, "weights": args.checkpoint, "model_file": args.model_file}
    model: GalleryModel | None = None
    if args.images or args.threshold is True:
        model = find_gallery_model(gallery, **files)
    threshold = None if wanted is None else gallery_threshold(gallery, wanted, model)
    if args.id:
        try:
            vectors = gallery.vectors(args.id)
        except KeyError as error:
            raise ValueError(f"--id: the gallery has no row {error.args[0]}") from error
        records = [{"image": "", **record} for record in gallery.records_of(args.id)]
        parts = (
            [range(len(args.id))]
            if args.tracklet
            else [range(i, i + 1) for i in range(len(args.id))]
        )
        return [tracklet(records, vectors, part, args.id) for part in parts], threshold, None
    assert model is not None
    paths, described, parts = list_queries(args.images, args.tracklet)
    describe(described, columns, args.pid, args.camera)
    extractor = gallery_extractor(gallery, model, args.device)
    features = extractor(paths)
    queries = [tracklet(described, features, part) for part in parts]
    return queries, threshold, extractor.fingerprint


def list_queries(
    arguments: Sequence[str], tracklets: bool
) -> tuple[list[str], list[dict[str, Any]], list[range]]:
    """Paths, what lists say of them, and which of them are one query."""
    from reid.image_sources import Item, list_items

    items: list[Item] = []
    parts: list[range] = []
    single = []
    for argument in arguments:
        path = Path(argument)
        if path.is_dir() or path.suffix.lower() in (".txt", ".csv"):
            found = list_items([argument])
            parts.append(range(len(items), len(items) + len(found)))
        elif not path.is_file():
            raise FileNotFoundError(f"no image, list or folder at {argument}")
        else:
            found = [Item(argument, {"image": str(path.resolve())})]
            single.append(len(items))
        items += found
    records = [dict(item.record) for item in items]
    if not tracklets:
        parts = [range(i, i + 1) for i in range(len(items))]
    elif single:
        if parts:
            raise ValueError(
                "--tracklet: give the images of one person, or folders (or lists) of one person "
                "each, not both"
            )
        parts = [range(len(items))]
    return [item.path for item in items], records, parts


def describe(
    queries: Sequence[dict[str, Any]], columns: Columns, pid: str | None, camera: str | None
) -> None:
    """Complete the records: by what was said, else what list, gallery or the file's name tells."""
    said = {
        name: columns.as_held(name, text)
        for name, text in (("pid", pid), ("camera", camera))
        if text is not None
    }
    images = {query["image"] for query in queries}
    rows = {image: row for row, image in enumerate(columns("image")) if image in images}
    for query in queries:
        known: dict[str, Any] = {}
        if match := re.match(r"(-?\d+)_c(\d+)", Path(query["image"]).name):  # Market1501
            known |= {"pid": int(match[1]), "camera": int(match[2])}
        if (row := rows.get(query["image"])) is not None:
            held = {name: columns(name)[row] for name in ("pid", "camera")}
            known |= {name: value for name, value in held.items() if value is not None}
        listed = {
            name: columns.as_held(name, str(query[name]))
            for name in ("pid", "camera")
            if query.get(name) is not None
        }
        query |= {**known, **listed, **said}


def tracklet(
    records: Sequence[dict[str, Any]],
    features: np.ndarray,
    part: range,
    ids: Sequence[int] = (),
) -> Query:
    """One query of one or several images; what they agree on is known of it."""
    members = [records[i] for i in part]
    record = {"image": members[0]["image"]}
    for name in ("pid", "camera"):
        values = {member.get(name) for member in members}
        if len(values) == 1 and None not in values:
            record[name] = values.pop()
    return Query(
        record, features[part.start : part.stop], list(ids[part.start : part.stop]), len(part)
    )


def own_cameras(queries: Sequence[Query]) -> list[Any]:
    cameras = [query.record.get("camera") for query in queries]
    if None in cameras:
        unknown = queries[cameras.index(None)]
        several = "or its images are of several; leave these out with --where 'camera!=1,2'"
        raise ValueError(
            f"--exclude-own-camera: {unknown.record['image'] or 'the row'} does not tell its "
            f"camera; give it with --camera" + (f" ({several})" if unknown.images > 1 else "")
        )
    return cameras


def search(
    args: argparse.Namespace,
    gallery: Gallery,
    queries: Sequence[Query],
    where: dict[str, Any],
    cameras: list[Any] | None,
    threshold: Threshold | None,
    model: str | None,
) -> SearchResult:
    import numpy as np

    options: dict[str, Any] = {
        "exclude_cameras": cameras,
        "where": where or None,
        "exclude_ids": [query.ids for query in queries] if args.id else None,
        "model": model,
    }
    if args.range is not None:
        features = np.concatenate([query.features for query in queries])
        return gallery.search_range(features, args.range, limit=args.k, **options)
    options |= {"group_by": args.group, "exact": args.exact}
    if args.rerank is not None:
        options["rerank"] = args.rerank
    if args.expand is not None:
        options |= {"expand": args.expand, "expand_alpha": args.expand_alpha or 0.0}
        if threshold is not None:  # nobody else is to be taken in
            options["min_score"] = threshold.value
    k = 10 if args.k is None else args.k
    if args.tracklet:
        parts = [query.features for query in queries]
        return gallery.search_tracklets(parts, k, pool=args.pool, **options)
    return gallery.search(np.concatenate([query.features for query in queries]), k, **options)


# -- what comes out -------------------------------------------------------------------------------


def print_tables(
    gallery: Gallery,
    queries: Sequence[Query],
    result: SearchResult,
    threshold: Threshold | None,
) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from engine.wording import printable
    from reid.gallery_report import Folder
    from reid.threshold import percent

    console = Console()

    def say(line: str) -> None:
        console.print(Text(line), soft_wrap=True)

    rows = len(gallery)
    folder = Folder(hit.record.get("image") for hits in result for hit in hits)
    for query, hits, allowed in zip(queries, result, result.allowed.tolist(), strict=True):
        filtered = allowed < rows - len(query.ids)
        of = (
            f"{allowed:,} rows that the filters leave, of {rows:,}"
            if filtered
            else (f"{allowed:,} {'other ' * bool(query.ids)}rows")
        )
        if not hits:
            say(f"{query_name(query)}: no hits among {of}")
        else:
            say(f"{query_name(query)}: {len(hits):,} of {of}")
            extra = [
                n for n in ("reranked", "time") if any(value_of(h, n) is not None for h in hits)
            ]
            names = ["rank", "score", "pid", "camera", *extra, "id", "image"]
            table = Table()
            for name in names:
                how: Any = "left" if name == "image" else "right"
                table.add_column(name, justify=how, overflow="fold")
            for rank, hit in enumerate(hits, 1):
                cells = [str(rank), f"{hit.score:.3f}"]
                cells += [text_of(hit, name, folder) for name in names[2:]]
                right = "pid" in query.record and hit.record.get("pid") == query.record["pid"]
                style = "green" if right else ""
                if threshold is not None and hit.score < threshold.value:
                    style = f"dim {style}"
                table.add_row(*map(Text, map(printable, cells)), style=style)
            console.print(table)
        if threshold is not None:
            known = sum(hit.score >= threshold.value for hit in hits)
            say(
                f"{known} of {len(hits)} reach the threshold {threshold.value:.3f}"
                if known
                else f"nobody that the gallery knows: no hit reaches the threshold "
                f"{threshold.value:.3f}"
            )
    for note in result.notes:
        say(f"note: {note}")
    if threshold is not None and threshold.far is not None:
        say(
            f"the threshold takes {percent(threshold.far)} of pairs of two identities for one "
            f"({threshold.measured}); a query meets {rows:,} rows"
        )
    meaning = {"cosine": "cosine similarity", "euclidean": "minus the Euclidean distance"}
    say(f"score: {meaning[gallery.metric]}, higher is more alike")
    if folder.line:
        say(folder.line)


def print_json(
    args: argparse.Namespace,
    gallery: Gallery,
    queries: Sequence[Query],
    result: SearchResult,
    where: dict[str, Any],
    cameras: list[Any] | None,
    threshold: Threshold | None,
) -> None:
    import json

    document = {
        "gallery": {
            "location": str(gallery.location),
            "rows": len(gallery),
            "dim": gallery.dim,
            "metric": gallery.metric,
            "dtype": gallery.dtype,
            "index": gallery.index,
            "model": gallery.model,
        },
        "search": {
            "k": result.k if args.range is None else args.k,
            "where": where or None,
            "exclude_cameras": cameras,
            "range": args.range,
            "group_by": args.group,
            "rerank": args.rerank,
            "expand": args.expand,
            "expand_alpha": args.expand_alpha if args.expand else None,
            "pool": args.pool if args.tracklet else None,
            "threshold": None if threshold is None else threshold.value,
            "threshold_false_accept_rate": None if threshold is None else threshold.far,
        },
        "exact": result.exact,
        "recall": result.recall,
        "notes": result.notes,
        "queries": [
            {
                **query.record,
                "id": query.ids or None,
                "images": query.images,
                "rows_allowed": int(result.allowed[number]),
                "known": None
                if threshold is None
                else any(hit.score >= threshold.value for hit in hits),
                "hits": [
                    {
                        "rank": rank,
                        "id": hit.id,
                        "score": hit.score,
                        "distance": hit.distance,
                        "reranked": hit.reranked,
                        "record": hit.record,
                    }
                    for rank, hit in enumerate(hits, 1)
                ],
            }
            for number, (query, hits) in enumerate(zip(queries, result, strict=True))
        ],
    }
    print(json.dumps(document, indent=2))


def print_csv(queries: Sequence[Query], result: SearchResult, threshold: Threshold | None) -> None:
    import csv
    import json

    known = "image", "pid", "camera", "time"
    free = sorted({name for hits in result for hit in hits for name in hit.record} - {*known})
    fields = [*known, *free]
    table = csv.writer(sys.stdout, lineterminator="\n")
    heads = ["query", "rank", "id", "score", "distance", "reranked", "known"]
    table.writerow([*heads, *fields])
    for query, hits in zip(queries, result, strict=True):
        for rank, hit in enumerate(hits, 1):
            same = "" if threshold is None else int(hit.score >= threshold.value)
            values = [hit.record.get(name) for name in fields]
            cells = [json.dumps(v) if isinstance(v, list | dict | bool) else v for v in values]
            name = query.record["image"] or " ".join(map(str, query.ids))
            table.writerow(
                [name, rank, hit.id, hit.score, hit.distance, hit.reranked, same, *cells]
            )


def draw(
    args: argparse.Namespace,
    gallery: Gallery,
    queries: Sequence[Query],
    result: SearchResult,
    threshold: Threshold | None,
) -> Path:
    """The ranked lists as a picture; the gallery's own small pictures stand for images now gone."""
    import tempfile
    from dataclasses import replace

    from reid.visualization import ranked_list_figure

    with tempfile.TemporaryDirectory() as folder:

        def image(record: dict[str, Any], row_id: int) -> dict[str, Any]:
            if Path(str(record.get("image", ""))).is_file():
                return record
            thumbnail = gallery.thumbnail(row_id)
            if thumbnail is None:
                return record
            kept = Path(folder) / f"{row_id}.jpg"
            kept.write_bytes(thumbnail)
            return {**record, "image": str(kept)}

        return ranked_list_figure(
            [
                image(query.record, *query.ids[:1]) if query.ids else query.record
                for query in queries
            ],
            [[replace(hit, record=image(hit.record, hit.id)) for hit in hits] for hits in result],
            args.picture,
            top_k=max(1, *map(len, result)),
            title=f"{Path(args.gallery).name}: {len(gallery):,} rows, {gallery.metric} similarity",
            threshold=None if threshold is None else threshold.value,
        )


def query_name(query: Query) -> str:
    image = short(query.record["image"])
    if query.ids:
        rows = "row" if len(query.ids) == 1 else "rows"
        return f"{rows} {', '.join(map(str, query.ids))}" + (f" ({image})" if image else "")
    return f"{image} and {query.images - 1:,} more" if query.images > 1 else image


def value_of(hit: Hit, name: str) -> Any:
    return getattr(hit, name) if name in ("id", "reranked") else hit.record.get(name)


def text_of(hit: Hit, name: str, folder: Folder) -> str:
    value = value_of(hit, name)
    if value is None:
        return ""
    if name == "image":
        return folder.short(value)
    return f"{value:.3f}" if name == "reranked" else str(value)


def short(path: object) -> str:
    """A path below the working directory without it."""
    return str(path).removeprefix(f"{Path.cwd()}/")


if __name__ == "__main__":
    run_tool(main)
