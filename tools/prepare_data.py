"""Check data before training on it, or draw synthetic data.

    python tools/prepare_data.py reid data/market1501
    python tools/prepare_data.py reid data/my_people --camera-pattern '^(\\d+)_'
    python tools/prepare_data.py reid data/images.csv
    python tools/prepare_data.py reid 'vehicleid[size=large]:data/vehicleid'
    python tools/prepare_data.py reid data/cars --identity-pattern '^(.+)_cam' --write-csv cars.csv
    python tools/prepare_data.py synthetic data/noon --city noon --identities 60
    python tools/prepare_data.py seg data/gta5 --drop robustnet
    python tools/prepare_data.py streets data/game --style game --images 200
    python tools/prepare_data.py cls data/cifar-10-batches-py
    python tools/prepare_data.py cls data/office_home

`reid`, `seg` and `cls` recognise the layout, read every file, and say what is wrong and what to do
about it; the exit code is 1 when there are errors. `seg` also counts the classes, for samplers to
come.
`synthetic` draws a city of pedestrians, `streets` labelled street scenes; both check the result.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from cls.datasets import ClassificationDataset
    from cls.datasets import VerificationReport as ClassReport
    from reid.datasets import Splits, ValidationReport
    from seg.datasets import SegmentationDataset
    from seg.datasets.verification import VerificationReport

Progress = Callable[[int, int], None]

_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}
_EXAMPLES = {"error": 10, "warning": 5, "note": 2}  # how many cases are listed


def main(argv: Sequence[str] | None = None) -> None:
    args = _parser().parse_args(argv)
    from engine.cli import run_tool  # torch is loaded from here on, not for --help

    run_tool(lambda: args.run(args))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="prepare_data.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    _add_reid(commands)
    _add_synthetic(commands)
    _add_seg(commands)
    _add_streets(commands)
    _add_cls(commands)
    return parser


def _add_reid(commands: Any) -> None:
    reid = commands.add_parser(
        "reid",
        help="check a re-identification dataset",
        description="Recognise a dataset's layout, check lists and images, print what to do.",
    )
    reid.add_argument(
        "root",
        metavar="ROOT",
        help="the dataset's folder, or a CSV file; also LAYOUT:ROOT or LAYOUT[OPTION=VALUE]:ROOT",
    )
    reid.add_argument(
        "--layout",
        choices=(
            *("auto", "market1501", "folder", "csv", "flat", "dukemtmc", "cuhk03", "msmt17"),
            *("veri776", "vehicleid", "veriwild", "viper", "prid2011", "grid", "ilids_vid"),
        ),
        default="auto",
        help="how the data is laid out (default: recognise it)",
    )
    reid.add_argument(
        "--options",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="further arguments of the dataset, e.g. size=large, train=train+val, boxes=detected",
    )
    reid.add_argument(
        "--camera-pattern",
        metavar="REGEX",
        help="own data: a regular expression whose one group is the camera in the file name, "
        r"e.g. '^(\d+)_' for 01_3.jpg",
    )
    reid.add_argument(
        "--identity-pattern",
        metavar="REGEX",
        help="images without identity folders: likewise, the identity in the file name, "
        "e.g. '^(.+)_cam' for car_0001_cam1.jpg",
    )
    reid.add_argument(
        "--no-cameras",
        action="store_true",
        help="ignore camera labels: matches from the query's own camera count too",
    )
    reid.add_argument(
        "--train-fraction",
        type=float,
        metavar="F",
        help="automatic split: part of the identities to train on (default 0.5; 0: only test)",
    )
    reid.add_argument(
        "--seed", type=int, metavar="N", help="of splits and draws made here: another choice "
        "(default 0)",
    )  # fmt: skip
    reid.add_argument(
        "--write-csv", metavar="FILE", help="write the lists as path,pid,camera,split"
    )
    reid.add_argument("--json", metavar="FILE", help="also write the report as JSON")
    reid.add_argument(
        "--skip-images", action="store_true", help="check the lists only, open no image"
    )
    reid.add_argument("--all", action="store_true", help="list all cases, not the first few")
    reid.set_defaults(run=check_reid)


def _add_synthetic(commands: Any) -> None:
    synthetic = commands.add_parser(
        "synthetic",
        help="draw a synthetic city in Market-1501 layout",
        description="Draw pedestrians of a synthetic city, in Market-1501 layout, and check them.",
    )
    synthetic.add_argument("root", metavar="ROOT", help="the folder to write")
    synthetic.add_argument(
        "--city", default="noon", help="the style: noon or dusk (default noon); a domain gap"
    )
    synthetic.add_argument("--identities", type=int, default=100, metavar="N", help="default 100")
    synthetic.add_argument("--cameras", type=int, default=4, metavar="N", help="default 4")
    synthetic.add_argument(
        "--images-per-camera", type=int, default=5, metavar="N", help="of an identity; default 5"
    )
    synthetic.add_argument("--seed", type=int, default=0, metavar="N", help="default 0")
    synthetic.add_argument(
        "--sheet",
        nargs="?",
        const="",
        metavar="FILE",
        help="also write a contact sheet, identities in rows and cameras in columns "
        "(default ROOT/contact_sheet.png)",
    )
    synthetic.set_defaults(run=make_synthetic)


def _add_seg(commands: Any) -> None:
    seg = commands.add_parser(
        "seg",
        help="check a segmentation dataset",
        description="Recognise a dataset's layout, read all images and labels, print what is "
        "wrong, count the classes (kept for the samplers) and print config lines.",
    )
    seg.add_argument("root", metavar="ROOT", help="the dataset's folder")
    seg.add_argument(
        "--layout",
        default="auto",
        metavar="NAME",
        help="gta5, synthia, cityscapes, foggy_cityscapes, bdd100k, mapillary, acdc, idd, "
        "idd_lite, camvid, or folder: own data (default: recognise it)",
    )
    seg.add_argument(
        "--split", nargs="+", metavar="NAME", help="train, val, ... (default: all that are there)"
    )
    seg.add_argument("--space", metavar="NAME", help="classes, e.g. cityscapes19, street7")
    seg.add_argument(
        "--drop",
        nargs="+",
        default=[],
        metavar="NAME",
        help="images to leave out; `robustnet`: the GTA5 images that RobustNet leaves out",
    )
    seg.add_argument(
        "--options",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="further arguments of the dataset, e.g. labels=labelTrainIds; for own data: "
        "source=trainids images=photos labels=masks",
    )
    seg.add_argument(
        "--write-splits", metavar="DIR", help="write DIR/<split>.txt, one image name a line"
    )
    seg.add_argument("--json", metavar="FILE", help="also write the report as JSON")
    seg.add_argument("--workers", type=int, metavar="N", help="threads that read files")
    seg.add_argument("--all", action="store_true", help="list all cases, not the first few")
    seg.set_defaults(run=check_seg)


def _add_streets(commands: Any) -> None:
    streets = commands.add_parser(
        "streets",
        help="draw labelled street scenes in GTA5 or Cityscapes layout",
        description="Draw street scenes with the 19 classes of Cityscapes, and check them. The "
        "same seed gives the same streets in both styles: a domain gap without downloads.",
    )
    streets.add_argument("root", metavar="ROOT", help="the folder to write")
    streets.add_argument(
        "--style",
        choices=("game", "real"),
        required=True,
        help="game: sunny and saturated, GTA5 layout; real: grey and hazy, Cityscapes layout",
    )
    streets.add_argument(
        "--layout", choices=("gta5", "cityscapes"), help="other than the style's own"
    )
    streets.add_argument(
        "--split", nargs="+", default=["train"], metavar="NAME", help="train (default), val, test"
    )
    streets.add_argument(
        "--images", type=int, nargs="+", default=[200], metavar="N",
        help="in each split; one number for all, or one a split (default 200)",
    )  # fmt: skip
    streets.add_argument(
        "--size", default="512x256", metavar="WxH", help="width x height, default 512x256"
    )
    streets.add_argument("--seed", type=int, default=0, metavar="N", help="default 0")
    streets.add_argument(
        "--train-ids", action="store_true", help="Cityscapes layout: also labelTrainIds files"
    )
    streets.add_argument("--workers", type=int, metavar="N", help="processes that draw")
    streets.add_argument(
        "--sheet",
        nargs="?",
        const="",
        metavar="FILE",
        help="also write a picture of some images and labels (default ROOT/contact_sheet.png)",
    )
    streets.set_defaults(run=draw_streets)


def _add_cls(commands: Any) -> None:
    cls = commands.add_parser(
        "cls",
        help="check a classification dataset",
        description="Recognise a dataset's layout, read all images, print classes, what is wrong, "
        "and config lines.",
    )
    cls.add_argument("root", metavar="ROOT", help="the dataset's folder, or a list file")
    cls.add_argument(
        "--layout",
        choices=(
            "auto", "cifar10", "cifar100", "imagenet", "tiny_imagenet", "domains", "folder", "list",
        ),
        default="auto",
        help="how the data is laid out (default: recognise it)",
    )  # fmt: skip
    cls.add_argument(
        "--split", nargs="+", metavar="NAME", help="train, val, ... (default: all that are there)"
    )
    cls.add_argument(
        "--options",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="further arguments of the dataset, e.g. coarse=True; for a list file: "
        "source=data/images num_classes=1000",
    )
    cls.add_argument("--json", metavar="FILE", help="also write the report as JSON")
    cls.add_argument("--workers", type=int, metavar="N", help="threads that read files")
    cls.add_argument("--all", action="store_true", help="list all cases and all classes")
    cls.set_defaults(run=check_cls)


def check_reid(args: argparse.Namespace) -> int:
    """`reid`: parse, validate, print; 1 when there are errors."""
    from engine.atomic import write_json
    from reid.data_options import parse_splits
    from reid.datasets import validate, write_csv_list

    _check_folder_of("--json", args.json)
    _check_folder_of("--write-csv", args.write_csv)
    dataset = _reid_dataset(args)
    kind, root = dataset["type"], dataset["root"]
    options = {key: value for key, value in dataset.items() if key not in ("type", "root")}
    splits = parse_splits(dataset)
    console = _console()
    with _progress("reading images", hidden=args.skip_images) as progress:
        report = validate(splits, read_images=not args.skip_images, progress=progress)
    _print_report(console, report, root, kind, every_case=args.all)
    _print_camera_hint(console, kind, splits, args)
    if args.json:
        content = {"type": kind, "root": root, "options": options}
        write_json(args.json, {**content, **report.as_dict()})
        _line(console, f"report: {args.json}")
    if args.write_csv:
        _line(console, f"list: {write_csv_list(splits, args.write_csv)}")
        if splits.trials:
            _line(console, f"it holds the first of {len(splits.trials)} draws", "yellow")
    if report.ok:
        _print_config(console, report, kind, root, options)
    return 0 if report.ok else 1


def make_synthetic(args: argparse.Namespace) -> int:
    """`synthetic`: draw a city, then check it like any other data."""
    from dataclasses import replace

    from reid.datasets import LAYOUTS, parse_market1501, validate
    from reid.synthetic import contact_sheet, make_city

    console = _console()
    sheet = _sheet_path(args)
    with _progress("drawing", hidden=False) as progress:
        city = make_city(
            args.root,
            args.city,
            identities=args.identities,
            cameras=args.cameras,
            images_per_camera=args.images_per_camera,
            seed=args.seed,
            progress=progress,
        )
    if city.reused:
        _line(console, f"{args.root} holds this city already; nothing was drawn")
    # drawn, so that how many images the published data has is beside the point
    report = validate(replace(parse_market1501(args.root), official=None))
    _print_report(console, report, str(args.root), LAYOUTS["market1501"])
    if sheet:
        # identities in rows and cameras in columns
        _write_picture(contact_sheet(args.root, images_per_camera=2), sheet)
        _line(console, f"contact sheet: {sheet}")
    _print_config(console, report, LAYOUTS["market1501"], args.root, {})
    return 0 if report.ok else 1


def check_seg(args: argparse.Namespace) -> int:
    """`seg`: find the splits, read everything, print; 1 when there are errors."""
    with _needs_seg_extra():
        from seg.datasets import LAYOUTS, recognise_layout
        from seg.datasets.splits import write_splits

    from engine.atomic import write_json

    _check_folder_of("--json", args.json)
    kinds = {**LAYOUTS, "folder": "seg.ImageLabelFolder"}
    layout = recognise_layout(args.root) if args.layout == "auto" else args.layout
    if layout not in kinds:
        raise ValueError(f"--layout: expected one of auto, {', '.join(kinds)}; got {layout!r}")
    options = _seg_options(args)
    with _silent_log():  # of pairs that are left out; the report lists them
        datasets, absent = _seg_datasets(kinds[layout], args, options)
    console = _console()
    report = _verify(console, datasets, kinds[layout], args.workers, absent, args.all)
    if args.write_splits:
        for path in write_splits(datasets, args.write_splits):
            _line(console, f"split: {path}")
    if args.json:
        content = {"type": kinds[layout], "root": str(args.root), "options": options}
        write_json(args.json, {**content, **report.as_dict()})
        _line(console, f"report: {args.json}")
    if report.ok:
        _print_seg_config(console, datasets, kinds[layout], args.root, options)
    return 0 if report.ok else 1


def draw_streets(args: argparse.Namespace) -> int:
    """`streets`: draw the splits, then check them like any other data."""
    with _needs_seg_extra():
        from seg.datasets import LAYOUTS
        from seg.registry import DATASETS
        from seg.synthetic import contact_sheet, make_streets

    sheet = _sheet_path(args)
    size = tuple(int(n) if n.isdecimal() else 0 for n in args.size.lower().split("x"))
    if len(size) != 2 or 0 in size:
        raise ValueError(f"--size: expected WxH in pixels, e.g. 512x256, got {args.size!r}")
    splits = list(dict.fromkeys(args.split))
    images = args.images * len(splits) if len(args.images) == 1 else args.images
    if len(images) != len(splits):
        raise ValueError(f"--images: expected 1 or {len(splits)} numbers, got {len(images)}")
    console = _console()
    for split, number in zip(splits, images, strict=True):
        with _progress(f"drawing {split}", hidden=False) as progress:
            made = make_streets(
                args.root,
                args.style,
                layout=args.layout,
                split=split,
                images=number,
                size=size,
                seed=args.seed,
                train_ids=args.train_ids,
                workers=args.workers,
                progress=progress,
            )
        if made.reused:
            _line(console, f"{args.root} holds the streets of {split} already; nothing was drawn")
    kind = LAYOUTS[made.layout]
    datasets = [DATASETS.build({"type": kind, "root": args.root, "split": s}) for s in splits]
    report = _verify(console, datasets, kind, None, {}, every_case=False)
    if sheet:
        _write_picture(contact_sheet(args.root), sheet)
        _line(console, f"contact sheet: {sheet}")
    _print_seg_config(console, datasets, kind, args.root, {})
    return 0 if report.ok else 1


def check_cls(args: argparse.Namespace) -> int:
    """`cls`: find the splits or domains, read all images, print; 1 when there are errors."""
    from cls.datasets import LAYOUTS, recognise_layout, verify
    from engine.atomic import write_json

    _check_folder_of("--json", args.json)
    layout = recognise_layout(args.root) if args.layout == "auto" else args.layout
    options = _dataset_options(args, taken={"root", "split", "transforms"})
    datasets = _cls_datasets(layout, args, options)
    console = _console()
    with _progress("reading images", hidden=False) as progress:
        report = verify(datasets, workers=args.workers, progress=progress)
    _print_classes(console, report, str(args.root), LAYOUTS[layout], every_case=args.all)
    if args.json:
        content = {"type": LAYOUTS[layout], "root": str(args.root), "options": options}
        write_json(args.json, {**content, **report.as_dict()})
        _line(console, f"report: {args.json}")
    if report.ok:
        _print_cls_config(console, datasets, LAYOUTS[layout], args.root, options)
    return 0 if report.ok else 1


def _verify(
    console: "Console",
    datasets: "Sequence[SegmentationDataset]",
    kind: str,
    workers: int | None,
    absent: Mapping[str, str],
    every_case: bool,
) -> "VerificationReport":
    """Read all files, print the report, keep the counts of classes for samplers."""
    from seg.datasets.statistics import save_statistics
    from seg.datasets.verification import verify

    with _progress("reading", hidden=False) as progress:
        report = verify(datasets, workers=workers, progress=progress)
    _print_verification(console, report, datasets[0].root, kind, absent, every_case)
    kept = [
        save_statistics(dataset, split.statistics)
        for dataset, split in zip(datasets, report.splits, strict=True)
        if split.complete
    ]
    if folders := sorted({str(path.parent) for path in kept if path}):
        _line(console, f"counts of classes kept for samplers in {', '.join(folders)}")
    return report


# ------------------------------------------------------------------------------- parsing


@contextmanager
def _needs_seg_extra() -> Iterator[None]:
    """Say how to install what the segmentation room needs beyond the others."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] in ("seg", "engine"):
            raise
        raise ImportError(
            f"segmentation needs {(error.name or '').partition('.')[0]}, which is not installed: "
            "pip install -c constraints.txt -e '.[seg]'"
        ) from error


@contextmanager
def _silent_log() -> Iterator[None]:
    import logging

    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _check_folder_of(option: str, file: str | None) -> None:
    """Refuse, before everything is read, a file that could not be written."""
    if file and not Path(file).absolute().parent.is_dir():
        raise FileNotFoundError(f"{option}: there is no folder {Path(file).absolute().parent}")


def _dataset_options(args: argparse.Namespace, taken: set[str]) -> dict[str, Any]:
    """``--options`` of the dataset, without those that are given otherwise."""
    from engine.cli import parse_options

    if wrong := [text for text in args.options if not text.partition("=")[1]]:
        raise ValueError(f"--options: expected KEY=VALUE, got {wrong[0]!r}")
    options: dict[str, Any] = parse_options(args.options)
    if given := taken & options.keys():
        raise ValueError(f"--options: {sorted(given)[0]!r} cannot be given there")
    return options


def _seg_options(args: argparse.Namespace) -> dict[str, Any]:
    """The dataset's own arguments that were given."""
    options = _dataset_options(args, {"root", "split", "space", "drop", "missing", "pipeline"})
    if args.space:
        options["space"] = args.space
    if args.drop:
        options["drop"] = args.drop[0] if args.drop == ["robustnet"] else args.drop
    return options


def _seg_datasets(
    kind: str, args: argparse.Namespace, options: Mapping[str, Any]
) -> "tuple[list[SegmentationDataset], dict[str, str]]":
    """The splits that were asked for, or that are there, and why others are not."""
    from seg.registry import DATASETS

    def build(split: str, **more: Any) -> "SegmentationDataset":
        # pairs without a partner are a finding of the report, not the end of it
        config = {"type": kind, "root": args.root, "split": split, "missing": "drop"}
        return DATASETS.build({**config, **options, **more})  # type: ignore[no-any-return]

    def has_files(split: str) -> bool:
        try:
            return any(build(split, lazy_init=True).find())
        except (FileNotFoundError, ValueError):
            return False

    if args.split:
        return [build(split) for split in dict.fromkeys(args.split)], {}
    splits = () if kind == "seg.ImageLabelFolder" else DATASETS.get(kind).SPLITS
    datasets, absent = [], {}
    for split in splits:
        try:
            datasets.append(build(split))
        except (FileNotFoundError, ValueError) as error:
            if has_files(split):  # it is there, and broken
                raise
            absent[split] = str(error)
    return (datasets, absent) if datasets else ([build("all")], absent)


def _cls_datasets(
    layout: str, args: argparse.Namespace, options: Mapping[str, Any]
) -> "list[ClassificationDataset]":
    """The splits that were asked for, or that are there."""
    import inspect

    from cls.datasets import LAYOUTS, splits_of
    from cls.registry import DATASETS

    allowed = inspect.signature(DATASETS.get(LAYOUTS[layout]).__init__).parameters
    if unknown := sorted(options.keys() - allowed.keys()):
        names = [name for name in allowed if name not in ("self", "root", "split", "transforms")]
        raise ValueError(
            f"--options: {LAYOUTS[layout]} takes no {unknown[0]!r}; it takes "
            f"{', '.join(names) or 'none'}"
        )
    # classes that differ are a finding of the report, not the end of it
    more = {"allow_missing_classes": True} if "allow_missing_classes" in allowed else {}

    def build(split: str, **further: Any) -> "ClassificationDataset":
        config = {"type": LAYOUTS[layout], "root": args.root, "split": split}
        return DATASETS.build({**config, **more, **options, **further})  # type: ignore[no-any-return]

    splits = dict.fromkeys(args.split or splits_of(args.root, layout))
    datasets = [build(split) for split in splits]
    if layout == "list" and not {"classes", "num_classes"} & options.keys():
        number = max(len(dataset.classes) for dataset in datasets)  # of the lists together
        datasets = [build(split, num_classes=number) for split in splits]
    return datasets


def _reid_dataset(args: argparse.Namespace) -> dict[str, Any]:
    """The dataset's config; an option that its layout has not is refused."""
    from reid.data_options import dataset_options, parse_data
    from reid.datasets import LAYOUTS

    text = args.root if args.layout == "auto" else f"{args.layout}:{args.root}"
    _, dataset = parse_data(text, identity_pattern=args.identity_pattern)
    layout = next(layout for layout, kind in LAYOUTS.items() if kind == dataset["type"])
    accepted = dataset_options(layout)
    given = {
        "camera_pattern": args.camera_pattern,
        "identity_pattern": args.identity_pattern,
        "train_fraction": args.train_fraction,
        "seed": args.seed,
    }
    options = {name: value for name, value in given.items() if value is not None}
    for name in options:
        if name not in accepted:
            raise ValueError(
                f"--{name.replace('_', '-')} does not apply to the layout {layout!r}"
                + ("" if args.layout != "auto" else " that was recognised; see --layout")
            )
    more = _dataset_options(args, taken={"root", "split", "transforms"})
    if unknown := sorted(more.keys() - set(accepted)):
        raise ValueError(
            f"--options: {dataset['type']} takes no {unknown[0]!r}; it takes {', '.join(accepted)}"
        )
    return {**dataset, **options, **more, **({"camera": None} if args.no_cameras else {})}


def _sheet_path(args: argparse.Namespace) -> Path | None:
    if args.sheet is None:
        return None
    sheet = Path(args.sheet or Path(args.root, "contact_sheet.png"))
    if sheet.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ValueError(f"--sheet: the name must end in .png or .jpg, got {str(sheet)!r}")
    return sheet


def _write_picture(image: Any, target: Path) -> None:
    """Write an (H, W, 3) uint8 RGB array."""
    import cv2

    from engine.atomic import write_bytes

    target.parent.mkdir(parents=True, exist_ok=True)
    _, encoded = cv2.imencode(target.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    write_bytes(target, encoded.tobytes())


# ------------------------------------------------------------------------------- printing


def _console() -> "Console":
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 100  # rich assumes 80 columns for a file or pipe
    return console


def _line(console: "Console", text: str, style: str = "") -> None:
    """Text of the data, whose brackets are no markup and whose lines are not broken."""
    console.print(text, style=style, markup=False, soft_wrap=True)


@contextmanager
def _progress(title: str, *, hidden: bool) -> Iterator[Progress]:
    """A progress bar on stderr, so that the report can be redirected alone."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    hidden = hidden or not console.is_terminal
    with Bar(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=hidden
    ) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _print_report(
    console: "Console",
    report: "ValidationReport",
    root: str,
    kind: str,
    *,
    every_case: bool = False,
) -> None:
    """The table, the findings with some or all of their cases, the verdict."""
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console.print()
    _line(console, f"{report.name}  ({kind}, {root})", "bold")
    console.print(Text(f"protocol: {report.protocol}"))
    table = Table(show_edge=False, pad_edge=False, box=None, padding=(0, 3, 0, 0))
    table.add_column("")
    published = any(row.official is not None for row in report.table)
    more = ("published images",) if published else ()
    for name in ("images", "identities", "cameras", *more):
        table.add_column(name, justify="right", header_style="bold")
    for row in report.table:
        cameras = f"{row.cameras}" if row.cameras else "-"
        official = (f"{row.official:,}",) if row.official is not None else ()
        table.add_row(row.split, f"{row.images:,}", f"{row.identities:,}", cameras, *official)
    console.print(Padding(table, (1, 0, 1, 2)))
    _print_findings(console, report, every_case=every_case)
    console.print()
    _line(console, _verdict(report, report.images_read), "bold green" if report.ok else "bold red")


def _print_findings(
    console: "Console",
    report: "ValidationReport | VerificationReport | ClassReport",
    *,
    every_case: bool,
) -> None:
    """Errors, warnings and notes, each with some or all of its cases."""
    from rich.table import Table
    from rich.text import Text

    for finding in report.findings:
        style = _STYLES[finding.level]
        grid = Table.grid(padding=(0, 1))
        grid.add_column(width=7, style=style)
        grid.add_column(overflow="fold")
        grid.add_row(finding.level, Text(finding.message))
        console.print(grid)
        shown = finding.examples[: None if every_case else _EXAMPLES[finding.level]]
        for example in shown:
            _line(console, f"          {example}", "dim")
        if rest := len(finding.examples) - len(shown):
            _line(console, f"          and {rest:,} more (--all lists them)", "dim")


def _print_verification(
    console: "Console",
    report: "VerificationReport",
    root: str,
    kind: str,
    absent: Mapping[str, str],
    every_case: bool,
) -> None:
    """Splits, classes, findings, the verdict."""
    from rich.padding import Padding

    from seg.datasets.verification_table import class_table, split_table

    console.print()
    _line(console, f"{report.name}  ({kind}, {root})", "bold")
    for split in report.splits:
        _line(console, f"protocol: {split.protocol}")
    console.print(Padding(split_table(report), (1, 0, 1, 2)))
    console.print(Padding(class_table(report), (0, 0, 1, 2)))
    for split, reason in absent.items():
        _line(console, f"note    no split {split!r}: {reason}", "dim")
    _print_findings(console, report, every_case=every_case)
    console.print()
    images = sum(split.images for split in report.splits)
    _line(console, _verdict(report, images), "bold green" if report.ok else "bold red")


def _print_seg_config(
    console: "Console",
    datasets: "Sequence[SegmentationDataset]",
    kind: str,
    root: str,
    options: Mapping[str, Any],
) -> None:
    console.print("\nin a config:")
    for dataset in datasets:
        text = _dataset(kind, root, dataset.split, options)
        _line(console, f"    {dataset.split}_dataset = {text}")
    console.print()


def _print_classes(
    console: "Console", report: "ClassReport", root: str, kind: str, *, every_case: bool
) -> None:
    """Splits or domains, classes, findings, the verdict."""
    from rich.padding import Padding

    from cls.datasets.verification_table import class_table, part_table

    console.print()
    _line(console, f"{report.name}  ({kind}, {root})", "bold")
    for protocol in report.protocols:
        _line(console, f"protocol: {protocol}")
    console.print(Padding(part_table(report), (1, 0, 1, 2)))
    console.print(Padding(class_table(report, every_class=every_case), (0, 0, 1, 2)))
    _print_findings(console, report, every_case=every_case)
    console.print()
    images = sum(part.images for part in report.parts)
    _line(console, _verdict(report, images), "bold green" if report.ok else "bold red")


def _print_cls_config(
    console: "Console",
    datasets: "Sequence[ClassificationDataset]",
    kind: str,
    root: str,
    options: Mapping[str, Any],
) -> None:
    """The splits; of data without a split the two parts; of domains, one left out."""
    splits = [dataset.split for dataset in datasets]
    lines: dict[str, dict[str, Any]] = {split: {"split": split} for split in splits}
    if splits == ["all"] and kind != "cls.ListFile":
        lines = {split: {"split": split} for split in ("train", "val")}
    domains = getattr(datasets[0], "domain_names", ())
    if len(domains) > 1 and not {"domains", "exclude"} & options.keys():
        lines = {
            **{name: {**line, "exclude": domains[-1]} for name, line in lines.items()},
            "test": {"split": "all", "domains": domains[-1]},
        }
    more = dict(options)
    if kind == "cls.ListFile":
        more.setdefault("num_classes", len(datasets[0].classes))
    console.print("\nin a config:")
    for name, line in lines.items():
        split = line.pop("split")
        _line(console, f"    {name}_dataset = {_dataset(kind, root, split, {**more, **line})}")
    console.print()


def _verdict(
    report: "ValidationReport | VerificationReport | ClassReport", images_read: int
) -> str:
    def counted(level: str) -> str:
        number = sum(f.level == level for f in report.findings)
        return f"{number:,} {level}{'' if number == 1 else 's'}"

    read = f"{images_read:,} images read, " if images_read else ""
    counts = f"{read}{counted('error')}, {counted('warning')}"
    return f"{counts}: " + ("the data can be used" if report.ok else "repair the errors first")


def _print_camera_hint(
    console: "Console", kind: str, splits: "Splits", args: argparse.Namespace
) -> None:
    """Camera labels change the numbers more than most models do: offer what the names suggest."""
    from reid.datasets import guess_camera_pattern

    own = kind in ("reid.ImageFolder", "reid.FlatFolder")
    if not own or splits.cameras or args.no_cameras:
        return
    records = (*splits.train, *splits.query, *splits.gallery)
    if pattern := guess_camera_pattern(Path(r.path).name for r in records):
        _line(
            console,
            f"hint: the file names seem to hold camera numbers; if so, add "
            f"--camera-pattern '{pattern}'",
            "cyan",
        )


def _print_config(
    console: "Console",
    report: "ValidationReport",
    kind: str,
    root: str,
    options: Mapping[str, Any],
) -> None:
    """Lines to paste into a config, one dataset per line."""
    full = {row.split for row in report.table if row.images}
    console.print("\nin a config:")
    lines = []
    if "train" in full:
        lines.append(f"train_dataset = {_dataset(kind, root, 'train', options)}")
    if {"query", "gallery"} <= full:
        lines.append(f"test_dataset = {_dataset(kind, root, 'test', options)}")
    for line in lines:
        _line(console, f"    {line}")
    console.print()


def _dataset(kind: str, root: str, split: str, options: Mapping[str, Any]) -> str:
    given = {"type": kind, "root": str(root), "split": split, **options}
    return f"dict({', '.join(f'{name}={_literal(value)}' for name, value in given.items())})"


def _literal(value: Any) -> str:
    """A Python literal with double quotes; raw where there are backslashes."""
    if not isinstance(value, str) or '"' in value or value.endswith("\\"):
        return repr(value)
    return f'r"{value}"' if "\\" in value else f'"{value}"'


if __name__ == "__main__":
    main(sys.argv[1:])
