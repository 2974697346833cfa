#!/usr/bin/env python
"""Embed images and put them into a gallery on disk, to be searched with query_gallery.py.

    python tools/build_gallery.py GALLERY CONFIG CHECKPOINT --data data/market1501
    python tools/build_gallery.py GALLERY CONFIG CHECKPOINT --images my/photos more/photo.jpg

Adding to an existing gallery appends what it does not hold yet, so a build that was stopped can be
run again; a gallery of another model or dimension is refused.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from engine.cli import run_tool, tool_parser

EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


def parse_arguments() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument("gallery", metavar="GALLERY", help="folder of the gallery; made if absent")
    parser.add_argument("config", metavar="CONFIG")
    parser.add_argument("checkpoint", metavar="CHECKPOINT")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", metavar="[LAYOUT:]PATH", help="market1501, folder or csv")
    source.add_argument("--images", nargs="+", metavar="PATH", help="files, or folders of files")
    parser.add_argument(
        "--split",
        choices=["gallery", "query", "train", "test"],
        help="of --data; by default a data set's gallery, and all images of data without splits",
    )
    parser.add_argument("--camera-pattern", help="folders: regex on file names, one group = camera")
    parser.add_argument("--device", help="cpu, cuda, ...; by default CUDA where there is one")
    parser.add_argument(
        "--batch-size", type=int, default=256, help="images per step and per commit"
    )
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()

    from tqdm import tqdm

    from engine.atomic import write_json
    from reid.gallery import Gallery
    from reid.inference import FeatureExtractor

    records = labelled(args) if args.data else unlabelled(args.images)
    extractor = FeatureExtractor(args.config, args.checkpoint, args.device)
    path, model = Path(args.gallery), extractor.fingerprint
    if (path / "manifest.json").exists():
        gallery = Gallery.open(path, dim=extractor.dim, model=model)
    else:
        gallery = Gallery.create(path, extractor.dim, model=model)
    present = {record.get("image") for record in gallery.records.values()}
    known = len(records)
    records = [record for record in records if record["image"] not in present]
    if known := known - len(records):
        print(f"{known:,} of these images are in the gallery already: not added again")
    with tqdm(total=len(records), unit="image", desc="embedding") as bar:
        for start in range(0, len(records), args.batch_size):
            batch = records[start : start + args.batch_size]
            gallery.add(extractor([r["image"] for r in batch]), batch, model=model)
            bar.update(len(batch))
    # what query_gallery.py needs to embed a query the same way
    write_json(
        path / "extractor.json",
        {
            "config": str(Path(args.config).resolve()),
            "weights": str(Path(args.checkpoint).resolve()),
        },
    )
    print(f"{path}: {len(gallery):,} rows of dimension {gallery.dim}, {gallery.metric} similarity")
    print(f"next: python tools/query_gallery.py {path} IMAGE --picture ranked.png")


def labelled(args: argparse.Namespace) -> list[dict[str, object]]:
    from reid.data_options import parse_data
    from reid.registry import DATASETS

    _, config = parse_data(args.data, args.camera_pattern, only_test=not args.split)
    default = "gallery" if config["type"] == "reid.Market1501" else "test"
    dataset = DATASETS.build({**config, "split": args.split or default})
    # the data's own names of identities and cameras, where it has names
    pids, cameras = dataset.splits.identities, dataset.splits.cameras
    return [
        {
            "image": str(Path(r.path).resolve()),
            "pid": pids.get(r.pid, r.pid),
            "camera": None if r.camid is None else cameras.get(r.camid, r.camid),
        }
        for r in dataset.records
    ]


def unlabelled(paths: list[str]) -> list[dict[str, object]]:
    files = []
    for path in map(Path, paths):
        if path.is_dir():
            files += sorted(p for p in path.rglob("*") if p.suffix.lower() in EXTENSIONS)
        elif path.is_file():
            files.append(path)
        else:
            raise FileNotFoundError(f"no image or folder at {path}")
    if not files:
        raise ValueError(f"no images ({', '.join(sorted(EXTENSIONS))}) in {', '.join(paths)}")
    return [{"image": str(file.resolve())} for file in files]


if __name__ == "__main__":
    run_tool(main)
