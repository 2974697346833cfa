#!/usr/bin/env python
"""Label images, folders of images and videos with a trained model.

    python tools/segment.py CONFIG CHECKPOINT street.jpg --out out
    python tools/segment.py CONFIG CHECKPOINT photos/ drive.mp4 --out out --dtype bfloat16

Writes OUT/labels/NAME.png, a palette PNG whose index is the class (--ids cityscapes: the original
label ids), and OUT/overlays/NAME.jpg; of a video, OUT/overlays/NAME.mp4. Folders are searched with
what lies below them, and their structure is kept. What OUT holds already, of files that
have not changed since, is not made again, so a run that was stopped goes on where it was;
--overwrite makes everything anew.

A file that cannot be read does not stop the run: it is named at the end, and the exit code is 1.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.cli import run_tool, tool_parser

if TYPE_CHECKING:
    import numpy as np

    from seg.inference import Segmenter

IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
VIDEOS = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"}


def parse_arguments() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument("config", metavar="CONFIG")
    parser.add_argument("checkpoint", metavar="CHECKPOINT")
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="INPUT", help="image, folder, video"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--ids",
        choices=["classes", "cityscapes"],
        default="classes",
        help="what the labels count: the model's classes (default), or Cityscapes' label ids",
    )
    parser.add_argument("--alpha", type=float, default=0.5, help="colours' share of an overlay")
    parser.add_argument("--no-overlay", action="store_true", help="labels only")
    parser.add_argument(
        "--label-every",
        type=int,
        default=0,
        metavar="N",
        help="of a video: also the label PNG of every Nth frame (default: none)",
    )
    parser.add_argument("--overwrite", action="store_true", help="make everything anew")
    parser.add_argument("--device", help="cpu, cuda, ...; by default CUDA where there is one")
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16", "float16"], default="float32", help="autocast"
    )
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="override the config"
    )
    return parser.parse_args()


class Job(NamedTuple):
    """An input and the name, without suffix, of what is made of it."""

    source: Path
    name: Path

    @property
    def is_video(self) -> bool:
        return self.source.suffix.lower() in VIDEOS


class Settings(NamedTuple):
    segmenter: Segmenter
    out: Path
    table: np.ndarray  # (256,) uint8: class -> what is written
    palette: np.ndarray  # (256, 3) uint8: colours of what is written
    alpha: float
    overlays: bool
    label_every: int

    def label_path(self, name: Path) -> Path:
        return self.out / "labels" / name.with_name(f"{name.name}.png")

    def overlay_path(self, job: Job) -> Path:
        suffix = "mp4" if job.is_video else "jpg"
        return self.out / "overlays" / job.name.with_name(f"{job.name.name}.{suffix}")

    def frames_path(self, job: Job) -> Path:
        """Says that all label PNGs of a video are there."""
        return self.out / "labels" / job.name / "frames.json"

    def products(self, job: Job) -> list[Path]:
        if job.is_video:
            frames = [self.frames_path(job)] if self.label_every else []
            return frames + ([self.overlay_path(job)] if self.overlays else [])
        return [self.label_path(job.name)] + ([self.overlay_path(job)] if self.overlays else [])


class Sources:
    """Of what file each name in OUT was made: a line of JSON a name, the last one counts."""

    def __init__(self, out: Path) -> None:
        import json

        self.path = out / "sources.jsonl"
        self.known: dict[str, list[object]] = {}
        for line in self.path.read_text().splitlines() if self.path.exists() else ():
            try:
                name, *source = json.loads(line)
            except ValueError:  # cut off by a crash: that one is made again
                continue
            self.known[name] = source

    def is_current(self, job: Job) -> bool:
        """Whether what OUT holds was made of this file as it is now.

        Raises:
            ValueError: it was made of another file.
        """
        known = self.known.get(str(job.name))
        if known is None:
            return False
        if known[0] != (wanted := _signature(job.source))[0] and Path(str(known[0])).exists():
            raise ValueError(
                f"{self.path.parent} holds labels of {known[0]} under the name {job.name}, which "
                f"{job.source} would get, too; choose another --out, or --overwrite"
            )
        return known == wanted

    def note(self, job: Job) -> None:
        import json

        with self.path.open("a") as file:
            file.write(json.dumps([str(job.name), *_signature(job.source)]) + "\n")


def _signature(path: Path) -> list[object]:
    found = path.stat()
    return [str(path.resolve()), found.st_size, found.st_mtime_ns]


def main() -> int:
    args = parse_arguments()
    if not 0 <= args.alpha <= 1:
        raise ValueError(f"--alpha: expected 0 to 1, got {args.alpha}")
    if args.label_every < 0:
        raise ValueError(f"--label-every: expected 0 or more, got {args.label_every}")
    jobs = find_jobs(args.inputs, args.out)
    videos = [job for job in jobs if job.is_video]
    if args.no_overlay and videos and not args.label_every:
        raise ValueError("--no-overlay: nothing would be made of a video; add --label-every N")

    import cv2

    from engine.cli import load_config
    from seg.inference import Segmenter

    config = load_config(args.config, args.cfg_options)
    segmenter = Segmenter(config, args.checkpoint, args.device, dtype=args.dtype)
    table, palette = numbering(args.ids, segmenter)
    settings = Settings(
        *(segmenter, args.out, table, palette, args.alpha, not args.no_overlay, args.label_every)
    )
    note_run(args, segmenter)

    todo, sources = jobs, Sources(args.out)
    if not args.overwrite:
        todo = [
            job
            for job in jobs
            if not (sources.is_current(job) and all(p.exists() for p in settings.products(job)))
        ]
    failed: list[str] = []
    with progress_bars() as bars:
        images = bars("inputs", len(todo))
        for job in todo:
            try:
                if job.is_video:
                    label_video(job, settings, bars)
                else:
                    label_image(job, settings)
                sources.note(job)
            except (ValueError, OSError, cv2.error) as error:
                failed.append(f"{job.source}: {error}")
            images(1)

    skipped = len(jobs) - len(todo)
    print(f"{len(todo) - len(failed)} of {len(jobs)} inputs labelled, in {args.out}", end="")
    print(f"; {skipped} were there already (--overwrite makes them anew)" if skipped else "")
    if failed:
        print(f"{len(failed)} failed:")
        for line in failed:
            print(f"  {line}")
    return 1 if failed else 0


def find_jobs(inputs: Sequence[Path], out: Path) -> list[Job]:
    """Files in the order given, folders' in alphabetical order; every name is used once."""
    found: list[Job] = []
    for given in inputs:
        if given.is_dir():
            below = [
                path
                for path in sorted(given.rglob("*"))
                if path.suffix.lower() in IMAGES | VIDEOS
                and not any(part.startswith(".") for part in path.relative_to(given).parts)
                and out.resolve() not in path.resolve().parents
                and path.is_file()
            ]
            if not below:
                raise ValueError(f"no image or video in {given} or below")
            found += [Job(path, path.relative_to(given).with_suffix("")) for path in below]
        elif given.exists():
            found.append(Job(given, Path(given.stem)))
        else:
            raise FileNotFoundError(f"no image, folder or video at {given}")
    found = list(dict.fromkeys(found))
    # a.png and a.jpg, or the same names in two folders: told apart by suffix, then by a number
    counts = Counter(job.name for job in found)
    taken: set[Path] = set()
    jobs = []
    for job in found:
        name = job.name
        if counts[name] > 1:
            name = name.with_name(f"{name.name}_{job.source.suffix[1:].lower()}")
        unique, number = name, 2
        while unique in taken:
            unique, number = name.with_name(f"{name.name}_{number}"), number + 1
        taken.add(unique)
        jobs.append(Job(job.source, unique))
    return jobs


def numbering(ids: str, segmenter: Segmenter) -> tuple[np.ndarray, np.ndarray]:
    """class -> what is written, and the colours of what is written."""
    import numpy as np

    table = np.arange(256, dtype=np.uint8)
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(segmenter.palette)] = segmenter.palette
    if ids == "classes":
        return table, palette

    from seg.label_spaces import SPACES, label_table

    space = SPACES["cityscapes19"]
    if segmenter.classes != space.classes:
        raise ValueError(
            "--ids cityscapes: needs a model of the 19 Cityscapes classes; this one's are "
            f"{', '.join(segmenter.classes)}"
        )
    colours = np.zeros_like(palette)
    classes = label_table("cityscapes", space.name)
    for i in range(len(space.classes)):
        (table[i],) = np.flatnonzero(classes == i)
        colours[table[i]] = palette[i]
    return table, colours


def note_run(args: argparse.Namespace, segmenter: Segmenter) -> None:
    """What made the labels; another model's must not be mixed with them in silence."""
    import hashlib
    import json

    from engine.atomic import write_json

    with Path(args.checkpoint).open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    content = {
        "config": str(args.config),
        "cfg_options": list(args.cfg_options),
        "checkpoint": str(args.checkpoint),
        "sha256": digest.hexdigest(),
        "ids": args.ids,
        "dtype": args.dtype,
        "classes": list(segmenter.classes),
        "palette": [list(colour) for colour in segmenter.palette],
    }
    path = args.out / "segment.json"
    if path.exists() and not args.overwrite:
        try:
            before = json.loads(path.read_text())
        except ValueError:
            before = {}
        for key in ("sha256", "cfg_options", "ids", "dtype"):
            if before.get(key) != content[key]:
                what = {"sha256": "another checkpoint", "ids": "other --ids"}.get(
                    key, f"other {key}"
                )
                raise ValueError(
                    f"{args.out} holds labels made with {what} ({path} says which); choose another "
                    "--out, or --overwrite to make everything anew"
                )
    write_json(path, content)


def label_image(job: Job, settings: Settings) -> None:
    import cv2

    from seg.transforms.loading import read_image
    from seg.visualization import overlay

    image = read_image(job.source)
    labels = settings.segmenter(image)
    if settings.overlays:
        drawn = overlay(image, labels, settings.segmenter.palette, settings.alpha)
        _, data = cv2.imencode(".jpg", drawn[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
        write(settings.overlay_path(job), data.tobytes())
    write_labels(job.name, labels, settings)  # last: it says that the image is done


def label_video(
    job: Job, settings: Settings, bars: Callable[[str, int], Callable[[int], None]]
) -> None:
    """Frame by frame; the overlay video appears when it is whole."""
    import cv2

    from engine.atomic import replace_file, write_json
    from seg.visualization import overlay

    capture = cv2.VideoCapture(str(job.source))
    if not capture.isOpened():
        raise ValueError("OpenCV cannot open it as a video")
    expected = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    advance = bars(f"  {job.source.name}", expected)
    target = settings.overlay_path(job)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.stem}.partial.mp4")
    writer = None
    count = 0
    try:
        while True:
            ok, frame = capture.read()
            if not ok:
                break
            image = frame[..., ::-1].copy()
            labels = settings.segmenter(image)
            if settings.label_every and count % settings.label_every == 0:
                write_labels(job.name / f"{count:06d}", labels, settings)
            if settings.overlays:
                if writer is None:
                    rate = capture.get(cv2.CAP_PROP_FPS) or 25.0
                    size = (frame.shape[1], frame.shape[0])
                    codec = cv2.VideoWriter.fourcc(*"mp4v")
                    writer = cv2.VideoWriter(str(partial), codec, rate, size)
                    if not writer.isOpened():
                        raise ValueError("this OpenCV cannot write MPEG-4 video (codec mp4v)")
                drawn = overlay(image, labels, settings.segmenter.palette, settings.alpha)
                writer.write(drawn[..., ::-1].copy())
            count += 1
            advance(1)
        if writer is not None:
            writer.release()
            replace_file(partial, target)
        if settings.label_every and count:
            content = {"frames": count, "label_every": settings.label_every}
            write_json(settings.frames_path(job), content)
    finally:
        capture.release()
        if writer is not None:
            writer.release()
        partial.unlink(missing_ok=True)
    if not count:
        raise ValueError("the video has no frame that can be read")
    if count < expected:
        raise ValueError(
            f"only {count} of the {expected} frames that its header promises could be read; the "
            "overlay holds those"
        )


def write_labels(name: Path, labels: np.ndarray, settings: Settings) -> None:
    from seg.visualization import encode_labels

    write(settings.label_path(name), encode_labels(settings.table[labels], settings.palette))


def write(path: Path, data: bytes) -> None:
    from engine.atomic import write_bytes

    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, data)


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int], Callable[[int], Any]]]:
    """``with progress_bars() as bars``: ``advance = bars(title, total)``; on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeLeft())
    with Progress(*columns, console=Console(stderr=True)) as progress:

        def add(title: str, total: int) -> Callable[[int], Any]:
            task = progress.add_task(title.replace("[", r"\["), total=total or None)
            return lambda count: progress.advance(task, count)

        yield add


if __name__ == "__main__":
    run_tool(main)
