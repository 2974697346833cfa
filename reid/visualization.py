"""Pictures of re-ID results: the ranked list, one row per query, green right and red wrong."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from engine.atomic import write_bytes
from imaging.files import read_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from reid.gallery import Hit

__all__ = ["ranked_list_figure", "ranked_list_picture"]

# One pixel is one point: what is laid out is what is drawn, and images are never resampled twice.
_DPI = 72
_MAX_PIXELS = 2**16 - 1  # Agg's limit on a side
# Whatever the caller's matplotlib settings are, these hold while the picture is drawn.
_SETTINGS = {"font.family": ["DejaVu Sans"], "text.usetex": False, "savefig.bbox": None}

_INK, _FAINT, _PLACEHOLDER = "#1f2328", "#6e7781", "#eef0f2"


class RankedImage(Protocol):
    """What is drawn of a hit: ``reid.gallery.Hit``, or anything else with these."""

    @property
    def score(self) -> float: ...
    @property
    def record(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class _Verdict:
    colour: str
    mark: str  # for readers who cannot tell the colours apart
    legend: str


_SAME = _Verdict("#1a9641", "✓", "same identity")
_OTHER = _Verdict("#d7301f", "✗", "other identity")
_UNKNOWN = _Verdict("#9aa2ab", "?", "identity unknown")
_IGNORED = _Verdict("#4393c3", "–", "ignored: same identity and camera, or junk")
_QUERY = _Verdict(_INK, "", "query")


@dataclass(frozen=True)
class _Layout:
    """All lengths in pixels, the origin at the top left."""

    rows: int
    columns: int
    cell_width: int
    cell_height: int
    title: bool
    border: int = 5
    gap: int = 12
    margin: int = 22
    query_gap: int = 34
    caption: int = 46
    row_gap: int = 16
    title_height: int = 38
    legend_height: int = 34

    @property
    def top(self) -> int:
        return self.margin + (self.title_height if self.title else 0) + self.legend_height

    @property
    def pitch(self) -> tuple[int, int]:
        """Distance between neighbouring cells, across and down."""
        framed_width = self.cell_width + 2 * self.border
        framed_height = self.cell_height + 2 * self.border
        return framed_width + self.gap, framed_height + self.caption + self.row_gap

    @property
    def size(self) -> tuple[int, int]:
        across, down = self.pitch
        width = 2 * self.margin + across * (self.columns + 1) - self.gap + self.query_gap
        height = self.top + down * self.rows - self.row_gap + self.margin // 2
        return max(width, 560), height  # room for the legend

    def cell(self, row: int, column: int) -> tuple[int, int]:
        """Left and top of the image in a cell; column 0 is the query."""
        across, down = self.pitch
        left = self.margin + self.border + across * column + (self.query_gap if column else 0)
        return left, self.top + self.border + down * row


def ranked_list_figure(
    queries: Sequence[Mapping[str, Any]],
    results: Sequence[Sequence[Hit]],
    path: str | os.PathLike[str],
    *,
    top_k: int = 10,
    title: str | None = None,
    threshold: float | None = None,
    image_root: str | os.PathLike[str] | None = None,
    image_height: int = 256,
) -> Path:
    """Draw one row per query: the query, then its best hits with rank, score and camera.

    A hit's frame is green where its ``pid`` is the query's, red where it is another, and grey where
    one of them is unknown. An image that cannot be read becomes a labelled placeholder.

    Args:
        queries: records with ``image`` and, where known, ``pid`` and ``camera``.
        results: per query its hits, best first, as ``Gallery.search`` returns them.
        path: the PNG to write; replaced as a whole.
        top_k: hits per row at most.
        title: a line above the picture.
        threshold: hits of a lower score are drawn pale, as none of the query's identity.
        image_root: folder that relative ``image`` paths are relative to (default: the working
            directory).
        image_height: pixels; a multiple of the images' own height (128) looks sharpest. The width
            follows from the images' usual shape; images of another shape are fitted in.

    Returns:
        ``path``.

    Raises:
        ValueError: no queries, unequal lengths, not a ``.png``, or too many rows for one picture.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"The figure is written as PNG; name the file *.png, not {path.name!r}.")
    picture = ranked_list_picture(
        queries,
        results,
        top_k=top_k,
        title=title,
        threshold=threshold,
        image_root=image_root,
        image_height=image_height,
    )
    write_bytes(path, picture)
    return path


def ranked_list_picture(
    queries: Sequence[Mapping[str, Any]],
    results: Sequence[Sequence[RankedImage]],
    *,
    top_k: int = 10,
    title: str | None = None,
    threshold: float | None = None,
    image_root: str | os.PathLike[str] | None = None,
    image_height: int = 256,
    file_type: Literal["png", "jpg"] = "png",
) -> bytes:
    """The picture of ``ranked_list_figure`` as the bytes of a file; arguments as there.

    A record may also have ``ignored`` (true: the protocol leaves this hit out; its frame is blue),
    ``rank`` (to be shown instead of the hit's place), and, in a query, ``caption``, a few
    letters beside its identity.
    """
    _check_arguments(queries, results, top_k, image_height)
    root = Path(image_root) if image_root is not None else Path()
    images = [
        [_read(root, record) for record in (query, *(hit.record for hit in hits[:top_k]))]
        for query, hits in zip(queries, results, strict=True)
    ]
    layout = _Layout(
        rows=len(queries),
        columns=max(1, *(len(row) - 1 for row in images)) if images else 1,
        cell_width=_cell_width(images, image_height),
        cell_height=image_height,
        title=bool(title),
    )
    width, height = layout.size
    if max(width, height) > _MAX_PIXELS:
        raise ValueError(
            f"{len(queries)} queries x {layout.columns} hits make a picture of {width}x{height} "
            f"pixels; at most {_MAX_PIXELS} fit. Draw fewer queries at a time, or set a smaller "
            "image_height."
        )
    return _render(queries, results, images, layout, title, threshold, file_type)


def _check_arguments(
    queries: Sequence[Any], results: Sequence[Any], top_k: int, image_height: int
) -> None:
    if len(queries) == 0 or len(queries) != len(results):
        raise ValueError(
            "ranked_list_figure needs at least one query and one list of hits per query; got "
            f"{len(queries)} queries and {len(results)} lists."
        )
    if top_k < 1 or image_height < 16:
        raise ValueError(
            f"top_k must be at least 1 and image_height at least 16; got {top_k}, {image_height}."
        )


def _read(root: Path, record: Mapping[str, Any]) -> np.ndarray | str:
    """(H, W, 3) uint8 RGB, or what to write on the placeholder."""
    name = record.get("image")
    if not name:
        return "no image"
    try:
        return read_image(root / str(name))
    except ValueError:  # missing, damaged, or no file's name at all
        return Path(str(name)).name


def _cell_width(images: Sequence[Sequence[np.ndarray | str]], height: int) -> int:
    """The median shape of the images decides; 1:2, the shape of person crops, without any."""
    shapes = [image.shape for row in images for image in row if isinstance(image, np.ndarray)]
    aspect = float(np.median([shape[1] / shape[0] for shape in shapes])) if shapes else 0.5
    return max(round(height * min(max(aspect, 0.4), 1.6)), 92)  # captions need some width


def _render(
    queries: Sequence[Mapping[str, Any]],
    results: Sequence[Sequence[RankedImage]],
    images: Sequence[Sequence[np.ndarray | str]],
    layout: _Layout,
    title: str | None,
    threshold: float | None,
    file_type: Literal["png", "jpg"],
) -> bytes:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width, height = layout.size
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
        canvas = FigureCanvasAgg(figure)
        pen = _Pen(figure, width, height)
        pairs = ((q, h) for q, hits in zip(queries, results, strict=True) for h in hits)
        verdicts = {_verdict(query, hit.record) for query, hit in pairs}
        _draw_head(pen, layout, title, verdicts | {_QUERY}, threshold)
        for row, (query, hits, row_images) in enumerate(zip(queries, results, images, strict=True)):
            _draw_row(pen, layout, row, query, hits, row_images, threshold)
        figure.figimage(pen.canvas, origin="upper")  # lies below all text
        data = io.BytesIO()
        if file_type == "png":
            canvas.print_figure(data, format="png", dpi=_DPI, metadata={"Software": None})
        else:
            canvas.print_figure(data, format="jpg", dpi=_DPI, pil_kwargs={"quality": 88})
    return data.getvalue()


def _draw_head(
    pen: _Pen,
    layout: _Layout,
    title: str | None,
    verdicts: set[_Verdict],
    threshold: float | None,
) -> None:
    left, y = layout.margin, layout.margin
    if title:
        pen.text(left, y + 20, title, size=20, weight="bold", width=pen.width - 2 * left)
        y += layout.title_height
    for verdict in (v for v in (_QUERY, _SAME, _OTHER, _IGNORED, _UNKNOWN) if v in verdicts):
        pen.frame(left + 1, y + 1, 12, 12, 3, verdict.colour)
        end = pen.text(
            left + 24, y + 12, f"{verdict.legend} {verdict.mark}", size=14, colour=_FAINT
        )
        left = round(end) + 26
    note = "below each hit: rank, score, camera"
    if threshold is not None:
        note = f"pale: score below the threshold {threshold:.3f}"
    pen.text(left, y + 12, note, size=14, colour=_FAINT)


def _draw_row(
    pen: _Pen,
    layout: _Layout,
    row: int,
    query: Mapping[str, Any],
    hits: Sequence[RankedImage],
    images: Sequence[np.ndarray | str],
    threshold: float | None,
) -> None:
    left, top = layout.cell(row, 0)
    _draw_cell(pen, layout, left, top, images[0], _QUERY.colour)
    pid = query.get("pid")
    name = "query" if pid is None else pid if isinstance(pid, str) else f"id {pid}"
    beside = str(query.get("caption", ""))
    _draw_caption(pen, layout, left, top, name, beside, query.get("camera"))
    line = left + layout.cell_width + layout.border + (layout.gap + layout.query_gap) // 2
    pen.line(line, top - layout.border, top + layout.cell_height + layout.border)
    if len(images) == 1:
        left, top = layout.cell(row, 1)
        pen.text(left, top + layout.cell_height // 2, "no hits", size=15, colour=_FAINT)
    for rank, (hit, image) in enumerate(zip(hits, images[1:], strict=False), start=1):
        verdict = _verdict(query, hit.record)
        left, top = layout.cell(row, rank)
        _draw_cell(pen, layout, left, top, image, verdict.colour)
        if threshold is not None and hit.score < threshold:
            pen.fade(left, top, layout.cell_width, layout.cell_height)
        score = f"{hit.score:.3f}" if abs(hit.score) < 10 else f"{hit.score:.4g}"
        caption = f"{hit.record.get('rank', rank)} {verdict.mark}".removeprefix("None ")
        _draw_caption(pen, layout, left, top, caption, score, hit.record.get("camera"), verdict)


def _draw_cell(
    pen: _Pen, layout: _Layout, left: int, top: int, image: np.ndarray | str, colour: str
) -> None:
    width, height, border = layout.cell_width, layout.cell_height, layout.border
    pen.frame(left - border, top - border, width + 2 * border, height + 2 * border, border, colour)
    if isinstance(image, np.ndarray):
        pen.image(left, top, _fit(image, width, height))
        return
    pen.rectangle(left, top, width, height, _PLACEHOLDER)
    middle = top + height // 2
    if image == "no image":
        pen.text(left + width / 2, middle + 5, image, size=13, colour=_FAINT, align="center")
        return
    pen.text(left + width / 2, middle - 5, "not readable", size=13, colour=_FAINT, align="center")
    style = {"size": 11, "colour": _FAINT, "align": "center"}
    pen.text(left + width / 2, middle + 13, image, width=width - 8, **style)


def _draw_caption(
    pen: _Pen,
    layout: _Layout,
    left: int,
    top: int,
    name: str,
    score: str,
    camera: object,
    verdict: _Verdict = _QUERY,
) -> None:
    bottom = top + layout.cell_height + layout.border
    right = left + layout.cell_width
    style = {"size": 14, "weight": "bold", "colour": verdict.colour}
    end = pen.text(left, bottom + 19, name, width=layout.cell_width, **style)
    if score:
        pen.text(right, bottom + 19, score, size=14, align="right", width=right - end - 4)
    if camera is not None:
        label = camera if isinstance(camera, str) else f"camera {camera}"
        pen.text(left, bottom + 38, label, size=13, colour=_FAINT, width=layout.cell_width)


def _verdict(query: Mapping[str, Any], hit: Mapping[str, Any]) -> _Verdict:
    if hit.get("ignored"):
        return _IGNORED
    if query.get("pid") is None or hit.get("pid") is None:
        return _UNKNOWN
    return _SAME if query["pid"] == hit["pid"] else _OTHER


def _fit(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """The whole image in (height, width, 3), its shape kept, centred on white."""
    import cv2

    scale = min(width / image.shape[1], height / image.shape[0])
    size = (
        min(width, max(1, round(image.shape[1] * scale))),
        min(height, max(1, round(image.shape[0] * scale))),
    )
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    resized = cv2.resize(image, size, interpolation=how)
    canvas = np.full((height, width, 3), 255, dtype=np.uint8)
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    canvas[top : top + size[1], left : left + size[0]] = resized
    return canvas


class _Pen:
    """Whole pixels from the top left: shapes go to a plain array, text to a matplotlib figure."""

    def __init__(self, figure: Figure, width: int, height: int) -> None:
        self.figure, self.width, self.height = figure, width, height
        self.canvas = np.full((height, width, 3), 255, dtype=np.uint8)

    def image(self, left: int, top: int, image: np.ndarray) -> None:
        self.canvas[top : top + image.shape[0], left : left + image.shape[1]] = image

    def fade(self, left: int, top: int, width: int, height: int) -> None:
        """Three quarters of the way to white."""
        part = self.canvas[top : top + height, left : left + width]
        part[:] = 255 - (255 - part) // 4

    def rectangle(self, left: int, top: int, width: int, height: int, colour: str) -> None:
        from matplotlib.colors import to_rgb

        rgb = np.round(np.multiply(to_rgb(colour), 255)).astype(np.uint8)
        self.canvas[top : top + height, left : left + width] = rgb

    def frame(self, left: int, top: int, width: int, height: int, border: int, colour: str) -> None:
        """A frame ``border`` wide just inside the given box, white within."""
        self.rectangle(left, top, width, height, colour)
        self.rectangle(
            left + border, top + border, width - 2 * border, height - 2 * border, "white"
        )

    def line(self, x: int, top: int, bottom: int) -> None:
        self.rectangle(x, top, 1, bottom - top, "#d0d7de")

    def text(
        self,
        x: float,
        baseline: float,
        text: object,
        *,
        size: int,
        colour: str = _INK,
        weight: str = "normal",
        align: str = "left",
        width: float | None = None,
    ) -> float:
        """Write one line, cut with an ellipsis to ``width``; returns its right end."""
        printable = "".join(letter if letter.isprintable() else " " for letter in str(text))
        line = " ".join(printable.split())
        artist = self.figure.text(
            x / self.width,
            1 - baseline / self.height,
            line,
            fontsize=size,
            color=colour,
            fontweight=weight,
            ha=align,
            va="baseline",
            parse_math=False,
        )
        extent = artist.get_window_extent()
        while width is not None and extent.width > width and len(line) > 1:
            line = line[: min(len(line) - 1, int(len(line) * width / extent.width))]
            artist.set_text(line.rstrip() + "…")
            extent = artist.get_window_extent()
        return float(extent.x1)
