#!/usr/bin/env python
"""Embed images and put them into a gallery, to be searched with query_gallery.py.

    python tools/build_gallery.py GALLERY CONFIG CHECKPOINT --data data/market1501
    python tools/build_gallery.py GALLERY CONFIG CHECKPOINT --images my/photos more.txt list.csv
    python tools/build_gallery.py GALLERY --features DIR      # of tools/extract_features.py

GALLERY is a folder, or milvus://HOST:PORT/COLLECTION. --images takes images, folders, lists (.txt:
a path a line) and tables (.csv: a column path, and any others, which the records keep: pid, camera,
time, ...). An image that the gallery holds already is not added again, so a build that was stopped,
killed too, goes on with the same command and ends as if it had not been. A gallery of another
model or dimension is refused.

Images that cannot be read are left out, counted, and listed in a CSV file; --strict stops at the
first. With --index search becomes approximate, and faster; how much it finds is measured and shown.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.cli import run_tool, tool_parser

if TYPE_CHECKING:
    import numpy as np

    from reid.gallery import Gallery
    from reid.image_sources import Item
    from reid.inference import FeatureExtractor

COMMIT_ROWS = 4096


def parse_arguments() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument("gallery", metavar="GALLERY", help="a folder or address; made if absent")
    parser.add_argument("config", metavar="CONFIG", nargs="?")
    parser.add_argument("checkpoint", metavar="CHECKPOINT", nargs="?")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", metavar="[LAYOUT:]PATH", help="market1501, folder or csv, ...")
    source.add_argument("--images", nargs="+", metavar="PATH", help="files, folders or lists")
    source.add_argument("--features", metavar="DIR", help="features made before; needs no model")
    parser.add_argument(
        "--split",
        choices=["gallery", "query", "train", "test"],
        help="of --data; by default a data set's gallery, and all images of data without splits",
    )
    parser.add_argument("--camera-pattern", help="folders: regex on file names, one group = camera")
    new = parser.add_argument_group("of a new gallery")
    new.add_argument("--metric", choices=["cosine", "euclidean"], help="default cosine")
    new.add_argument("--float16", action="store_true", help="half the room on disk and in memory")
    new.add_argument(
        "--index",
        metavar="FACTORY",
        help="approximate search, e.g. HNSW32,Flat or IVF1024,Flat; measured after adding",
    )
    new.add_argument(
        "--tune", type=float, metavar="RECALL", help="that the index is to reach (default 0.99)"
    )
    rows = parser.add_argument_group("of the rows")
    rows.add_argument("--no-thumbnails", action="store_true", help="keep no small pictures")
    rows.add_argument(
        "--skip-duplicates",
        action="store_true",
        help="leave out files of the same bytes as one in the gallery (records keep their sha256)",
    )
    parser.add_argument("--model-file", metavar="JSON", help="where to write which model it was; "
                        "by default extractor.json in the gallery's folder")  # fmt: skip
    parser.add_argument(
        "--failed",
        metavar="CSV",
        help="where to list unreadable images; by default failed.csv in the gallery's folder",
    )
    parser.add_argument("--strict", action="store_true", help="stop at an unreadable image")
    parser.add_argument("--device", help="cpu, cuda, ...; by default CUDA where there is one")
    parser.add_argument("--batch-size", type=int, default=64, help="images per step")
    parser.add_argument("--workers", type=int, help="processes that read; default as many as help")
    parser.add_argument(
        "--commit-seconds",
        type=float,
        default=10.0,
        metavar="S",
        help="how often rows are made durable: what a kill can lose (default 10)",
    )
    args = parser.parse_args()
    if bool(args.features) == bool(args.checkpoint):
        parser.error(
            "give CONFIG and CHECKPOINT with --data or --images, and neither with --features"
        )
    if args.tune is not None and not args.index:
        parser.error("--tune goes with --index")
    if args.features and args.skip_duplicates:
        parser.error("--skip-duplicates needs the images: it goes with --data or --images")
    if args.batch_size < 1 or (args.workers or 0) < 0:
        parser.error("--batch-size is 1 or more, --workers 0 or more")
    return args


def main() -> int:
    args = parse_arguments()

    from reid.gallery_model import GalleryModel, gallery_model_file

    if args.features:
        from reid.features import FeatureFolder

        made = FeatureFolder.open(args.features).manifest
        dim, model, total = made["dim"], made["model"], made["entries"]
        used = GalleryModel(made.get("config"), made.get("weights"))
    else:
        from reid.inference import FeatureExtractor

        items = list_sources(args)
        extractor = FeatureExtractor(
            args.config,
            args.checkpoint,
            args.device,
            batch_size=args.batch_size,
            threshold=False,
        )
        dim, model, total = extractor.dim, extractor.fingerprint, len(items)
        used = GalleryModel.of(args.config, args.checkpoint)
    gallery = open_gallery(args, dim, model)
    adding = Adding(gallery, model, args.commit_seconds)
    known = Known(gallery, keep_sums=args.skip_duplicates)
    count = Counts(total)
    try:
        if args.features:
            add_features(args.features, adding, known, count)
        else:
            add_images(args, items, extractor, adding, known, count)
        adding.commit()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            adding.commit()
        if len(gallery):
            print(
                f"\n{len(gallery):,} rows are in {args.gallery}; the same command goes on there",
                file=sys.stderr,
            )
        raise
    report(count, args, gallery)
    if count.failed and len(count.failed) == total:
        raise ValueError(f"not one of {total:,} images can be read: nothing was added")
    file = args.model_file or gallery_model_file(gallery.location)
    if file is not None:  # what query_gallery.py needs to embed a query the same way
        used.write(file)
    elif used.weights is not None:
        print(
            "note: a gallery on a server has no folder to say which model filled it; queries need "
            f"--config {used.config} --checkpoint {used.weights}, or build with --model-file"
        )
    if args.index:
        build_index(gallery, args.index, args.tune)
    where = f" --model-file {args.model_file}" if args.model_file else ""
    print(f"next: python tools/query_gallery.py {args.gallery} IMAGE --picture ranked.png{where}")
    return 0


# -- what is there, and what comes in ------------------------------------------------------------


def open_gallery(args: argparse.Namespace, dim: int, model: str) -> Gallery:
    """The gallery, made if it is not there; refused at once where it does not fit."""
    from reid.gallery import Gallery
    from reid.gallery.address import is_address
    from reid.gallery.factories import check_factory

    dtype = "float16" if args.float16 else "float32"
    try:
        gallery = Gallery.open(args.gallery, dim=dim, model=model)
    except FileNotFoundError:
        return Gallery.create(
            args.gallery,
            dim,
            args.index or "Flat",
            args.metric or "cosine",
            dtype=dtype,
            model=model,
        )
    for option, asked, has in (
        ("--metric", args.metric, gallery.metric),
        ("--float16", dtype if args.float16 else None, gallery.dtype),
    ):
        if asked not in (None, has):
            raise ValueError(
                f"{option}: the gallery {args.gallery} is there already, with {has}; build another "
                "one, or leave the option out"
            )
    if args.index and not is_address(args.gallery):  # not only after hours of embedding
        check_factory(args.index, dim, gallery.metric)
    return gallery


def identity(record: Mapping[str, Any]) -> object:
    """Whether two records are of the same image, or the same box of a video; None: nobody knows."""
    box = tuple(record.get(name) for name in ("frame", "x", "y", "w", "h"))
    image = record.get("image")
    return image if box == (None,) * 5 else (image, *box)


class Known:
    """What is in the gallery, or on its way there: images by name, and files by their bytes."""

    def __init__(self, gallery: Gallery, *, keep_sums: bool) -> None:
        there = gallery.fields()
        names = ["image", *(n for n in ("frame", "x", "y", "w", "h", "sha256") if n in there)]
        columns = gallery.columns(*names)
        self.sums = set(columns.pop("sha256", [])) - {None}
        self.keeps_sums = keep_sums or bool(self.sums)
        if set(columns) == {"image"}:
            images = set(columns["image"])
        else:
            rows = zip(*columns.values(), strict=True)
            images = {identity(dict(zip(columns, row, strict=True))) for row in rows}
        self.images: set[object] = images - {None}

    def new(self, record: Mapping[str, Any]) -> bool:
        """Whether an image is a new one; it is known from then on."""
        name = identity(record)
        if name is None:
            return True
        fresh = name not in self.images
        self.images.add(name)
        return fresh


class Counts:
    """What became of the images or entries of a source."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.held = 0
        self.duplicates = 0
        self.without = 0
        self.failed: list[tuple[str, str]] = []


class Adding:
    """Rows that are collected and, every few seconds, made durable together."""

    def __init__(self, gallery: Gallery, model: str, seconds: float) -> None:
        self.gallery, self.model, self.seconds = gallery, model, seconds
        self._features: list[np.ndarray] = []
        self._records: list[dict[str, Any]] = []
        self._thumbnails: list[bytes | None] = []
        self._last = time.monotonic()

    def put(
        self,
        features: np.ndarray,
        records: list[dict[str, Any]],
        thumbnails: list[bytes | None],
    ) -> None:
        self._features.append(features)
        self._records += records
        self._thumbnails += thumbnails
        if len(self._records) >= COMMIT_ROWS or time.monotonic() - self._last >= self.seconds:
            self.commit()

    def commit(self) -> None:
        import numpy as np

        if self._records:
            pictures = self._thumbnails if any(self._thumbnails) else None
            rows = np.concatenate(self._features), self._records
            self._features, self._records, self._thumbnails = [], [], []
            self.gallery.add(*rows, thumbnails=pictures, model=self.model)
        self._last = time.monotonic()


def add_images(
    args: argparse.Namespace,
    items: list[Item],
    extractor: FeatureExtractor,
    adding: Adding,
    known: Known,
    count: Counts,
) -> None:
    from imaging.files import UnreadableImageError
    from reid.gallery_images import load_gallery_images
    from reid.image_loading import batch_ranges, default_workers

    fresh = [known.new(item.record) for item in items]
    count.held = len(items) - sum(fresh)
    # Batches of the whole list, less what is there: a build that was stopped and goes on computes
    # in the same batches, and gets the same bits, as one that was not.
    ranges = batch_ranges(0, len(items), args.batch_size)
    batches = [part for r in ranges if (part := [i for i in r if fresh[i]])]
    workers = default_workers(extractor.device.type) if args.workers is None else args.workers
    loaded = load_gallery_images(
        items,
        batches,
        extractor.transforms,
        thumbnails=not args.no_thumbnails,
        workers=workers if sum(fresh) > 512 or args.workers else 0,
        pin_memory=extractor.device.type == "cuda",
    )
    with progress("adding", sum(fresh)) as show:
        for batch, features in extractor.embed(loaded, lambda i: items[i].name):  # type: ignore[arg-type]
            for position, reason in batch.failed:
                if args.strict:
                    raise UnreadableImageError.of(items[position].name, reason)
                count.failed.append((items[position].name, reason))
            chosen, records = [], []
            for row, (position, digest) in enumerate(zip(batch.positions, batch.sums, strict=True)):  # type: ignore[attr-defined]
                double = digest in known.sums
                known.sums.add(digest)
                count.duplicates += double
                if double and args.skip_duplicates:
                    continue
                kept = {"sha256": digest} if known.keeps_sums else {}
                records.append({**items[position].record, **kept})
                chosen.append(row)
            pictures = [batch.thumbnails[row] for row in chosen]  # type: ignore[attr-defined]
            adding.put(features[chosen], records, pictures)
            show(len(batch.positions) + len(batch.failed))


def add_features(folder: str, adding: Adding, known: Known, count: Counts) -> None:
    from reid.features import iterate_features

    rows = 0
    with progress("adding", count.total) as show:
        for features, records in iterate_features(folder):
            new = [row for row, record in enumerate(records) if known.new(record)]
            if new:
                adding.put(features[new], [records[row] for row in new], [None] * len(new))
            rows += len(records)
            count.held += len(records) - len(new)
            show(len(records))
    count.without = count.total - rows


def list_sources(args: argparse.Namespace) -> list[Item]:
    from reid.image_sources import dataset_items, list_items

    if args.images:
        return list_items(args.images)
    from reid.data_options import parse_data
    from reid.registry import DATASETS

    _, config = parse_data(args.data, args.camera_pattern, only_test=not args.split)
    # data without splits of its own is one split, 'test'
    default = "test" if "train_fraction" in config else "gallery"
    return dataset_items(DATASETS.build({**config, "split": args.split or default}))


def build_index(gallery: Gallery, factory: str, recall: float | None) -> None:
    """Make the approximate index and show what it was measured to find."""
    from reid.gallery_report import stage_bars, what_to_try

    with stage_bars() as progress:
        report = gallery.build_index(
            factory, recall=0.99 if recall is None else recall, progress=progress
        )
    print(report or "search is exact")  # of 'Flat' there is nothing to report
    if report and not report.reached:
        print(what_to_try(report))


# -- what is said ---------------------------------------------------------------------------------


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], object]]:
    """A bar with rate and time left, on stderr; yields what to call with each number done."""
    from tqdm import tqdm

    with tqdm(total=total, unit="image", desc=what, smoothing=0.05) as bar:
        yield bar.update


def report(count: Counts, args: argparse.Namespace, gallery: Gallery) -> None:
    """What became of the images; the list of those that cannot be read."""
    from engine.atomic import write_csv
    from engine.wording import counted

    entries = "entries" if args.features else "images"
    if count.held:
        print(
            f"{count.held:,} of {count.total:,} {entries} are in the gallery already, or stand in "
            "the list twice: not added again"
        )
    if count.without:
        print(
            f"{count.without:,} of {count.total:,} {entries} have no features: see failed.csv there"
        )
    if count.duplicates:
        done = "left out" if args.skip_duplicates else "added all the same; see --skip-duplicates"
        print(f"{counted(count.duplicates, 'image')} with the bytes of another one: {done}")
    if count.failed:
        file = failed_file(args)
        write_csv(file, [("path", "reason"), *count.failed])
        for name, reason in count.failed[:5]:
            print(f"  {name}: {reason}")
        all_of_them = "all stand in" if len(count.failed) > 5 else "see"
        print(
            f"warning: {counted(len(count.failed), 'image')} could not be read and have no row; "
            f"{all_of_them} {file}"
        )
    print(
        f"{args.gallery}: {counted(len(gallery), 'row')} of dimension {gallery.dim}, "
        f"{gallery.dtype}, {gallery.metric}"
    )


def failed_file(args: argparse.Namespace) -> Path:
    from reid.gallery_model import gallery_model_file

    if args.failed:
        return Path(args.failed)
    beside = gallery_model_file(args.gallery)
    return beside.with_name("failed.csv") if beside else Path("failed.csv")


if __name__ == "__main__":
    run_tool(main)
