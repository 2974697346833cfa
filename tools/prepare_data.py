"""Check data before training on it, or draw synthetic data.

    python tools/prepare_data.py reid data/market1501
    python tools/prepare_data.py reid data/my_people --camera-pattern '^(\\d+)_'
    python tools/prepare_data.py reid data/images.csv
    python tools/prepare_data.py synthetic data/noon --city noon --identities 60

`reid` recognises the layout, reads every image, and says what is wrong and what to do about it;
the exit code is 1 when there are errors. `synthetic` draws a city of pedestrians and checks it.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from reid.datasets import Splits, ValidationReport

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

    reid = commands.add_parser(
        "reid",
        help="check a re-identification dataset",
        description="Recognise a dataset's layout, check lists and images, print what to do.",
    )
    reid.add_argument("root", metavar="ROOT", help="the dataset's folder, or a CSV file")
    reid.add_argument(
        "--layout",
        choices=("auto", "market1501", "folder", "csv"),
        default="auto",
        help="how the data is laid out (default: recognise it)",
    )
    reid.add_argument(
        "--camera-pattern",
        metavar="REGEX",
        help="folder layout: a regular expression whose one group is the camera in the file name, "
        r"e.g. '^(\d+)_' for 01_3.jpg",
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
        "--seed", type=int, metavar="N", help="automatic split: another choice (default 0)"
    )
    reid.add_argument(
        "--skip-images", action="store_true", help="check the lists only, open no image"
    )
    reid.add_argument("--all", action="store_true", help="list all cases, not the first few")
    reid.set_defaults(run=check_reid)

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
    return parser


def check_reid(args: argparse.Namespace) -> int:
    """`reid`: parse, validate, print; 1 when there are errors."""
    from reid.datasets import LAYOUTS, recognise_layout, validate

    layout = recognise_layout(args.root) if args.layout == "auto" else args.layout
    options = _parser_options(layout, args)
    splits = _parse(layout, args.root, options)
    console = _console()
    with _progress("reading images", hidden=args.skip_images) as progress:
        report = validate(splits, read_images=not args.skip_images, progress=progress)
    _print_report(console, report, str(args.root), LAYOUTS[layout], every_case=args.all)
    _print_camera_hint(console, layout, splits, args)
    if report.ok:
        _print_config(console, report, LAYOUTS[layout], args.root, options)
    return 0 if report.ok else 1


def make_synthetic(args: argparse.Namespace) -> int:
    """`synthetic`: draw a city, then check it like any other data."""
    from reid.datasets import LAYOUTS, parse_market1501, validate
    from reid.synthetic import make_city

    console = _console()
    sheet = None if args.sheet is None else Path(args.sheet or Path(args.root, "contact_sheet.png"))
    if sheet and sheet.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ValueError(f"--sheet: the name must end in .png or .jpg, got {str(sheet)!r}")
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
    report = validate(parse_market1501(args.root))
    _print_report(console, report, str(args.root), LAYOUTS["market1501"])
    if sheet:
        _write_sheet(args.root, sheet)
        _line(console, f"contact sheet: {sheet}")
    _print_config(console, report, LAYOUTS["market1501"], args.root, {})
    return 0 if report.ok else 1


# ------------------------------------------------------------------------------- parsing


def _parser_options(layout: str, args: argparse.Namespace) -> dict[str, Any]:
    """The dataset's own options that were given; an option that the layout has not is refused."""
    accepted = {
        "market1501": ("camera",),
        "folder": ("camera", "camera_pattern", "train_fraction", "seed"),
        "csv": ("camera", "train_fraction", "seed"),
    }[layout]
    given = {
        "camera_pattern": args.camera_pattern,
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
    return options | ({"camera": None} if args.no_cameras else {})


def _parse(layout: str, root: str, options: Mapping[str, Any]) -> "Splits":
    from reid.datasets import parse_csv_list, parse_image_folder, parse_market1501

    parsers: dict[str, Callable[..., Splits]] = {
        "market1501": parse_market1501,
        "folder": parse_image_folder,
        "csv": parse_csv_list,
    }
    return parsers[layout](root, **options)


def _write_sheet(root: str, target: Path) -> None:
    """A picture of the data: identities in rows, cameras in columns."""
    import cv2

    from engine.atomic import write_bytes
    from reid.synthetic import contact_sheet

    target.parent.mkdir(parents=True, exist_ok=True)
    image = cv2.cvtColor(contact_sheet(root, images_per_camera=2), cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(target.suffix, image)
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
    for name in ("images", "identities", "cameras"):
        table.add_column(name, justify="right", header_style="bold")
    for row in report.table:
        cameras = f"{row.cameras}" if row.cameras else "-"
        table.add_row(row.split, f"{row.images:,}", f"{row.identities:,}", cameras)
    console.print(Padding(table, (1, 0, 1, 2)))
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
    console.print()
    _line(console, _verdict(report), "bold green" if report.ok else "bold red")


def _verdict(report: "ValidationReport") -> str:
    from reid.datasets.base import counted

    errors = len(report.errors)
    warnings = sum(f.level == "warning" for f in report.findings)
    read = f"{report.images_read:,} images read, " if report.images_read else ""
    counts = f"{read}{counted(errors, 'error')}, {counted(warnings, 'warning')}"
    return f"{counts}: " + ("the data can be used" if report.ok else "repair the errors first")


def _print_camera_hint(
    console: "Console", layout: str, splits: "Splits", args: argparse.Namespace
) -> None:
    """Camera labels change the numbers more than most models do: offer what the names suggest."""
    from reid.datasets import guess_camera_pattern

    if layout != "folder" or args.camera_pattern or args.no_cameras:
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
