"""Pictures of label maps: colours, overlays, errors, comparisons with a legend.

Pictures are (H, W, 3) uint8 RGB arrays. Label maps hold class indices; 255 is ignored and 254 is
unknown (see :mod:`seg.label_spaces`), and both are drawn as "ignored".
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from .label_spaces import IGNORE, UNKNOWN

if TYPE_CHECKING:
    from PIL import ImageFont

    from .inference import Segmenter

__all__ = [
    "colourise",
    "compare",
    "comparison",
    "encode_labels",
    "encode_picture",
    "error_map",
    "labelled_images",
    "legend",
    "overlay",
    "sheet",
]

Palette = Sequence[Sequence[int]]

_INK, _FAINT, _EDGE = (31, 35, 40), (101, 109, 118), (208, 215, 222)
_VOID = (0, 0, 0)
_WRONG, _IGNORED, _CORRECT = (222, 45, 38), (175, 175, 175), (38, 43, 48)
_GAP = 6


def colourise(labels: np.ndarray, palette: Palette) -> np.ndarray:
    """Labels (H, W) uint8 in the colours of their classes; indices without a colour are black.

    Raises:
        ValueError: labels of another shape or type, or a palette that is not RGB in 0..255.
    """
    picture: np.ndarray = _colours(palette)[_checked(labels)]
    return picture


def overlay(
    image: np.ndarray, labels: np.ndarray, palette: Palette, alpha: float = 0.5
) -> np.ndarray:
    """The image under its labels' colours; what has no class stays the plain image.

    Args:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) uint8, as large as the image.
        alpha: share of the colours, 0 (only the image) to 1.

    Raises:
        ValueError: image and labels of different sizes, alpha outside 0..1.
    """
    _check_pair(image, labels)
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha: expected 0 to 1, got {alpha}")
    blended: np.ndarray = cv2.addWeighted(image, 1 - alpha, colourise(labels, palette), alpha, 0)
    none = labels >= len(palette)
    if none.any():
        blended[none] = image[none]
    return blended


def error_map(labels: np.ndarray, truth: np.ndarray, image: np.ndarray | None = None) -> np.ndarray:
    """Where a prediction is wrong: red; grey where the truth is ignored; the rest is dimmed.

    Args:
        labels, truth: (H, W) uint8 of the same size.
        image: (H, W, 3) uint8 RGB that shows through, darkened and without its colours, where the
            prediction is right; without it that is a dark plane.
    """
    if _checked(labels).shape != _checked(truth).shape:
        raise ValueError(
            f"prediction and truth differ in size: {labels.shape} and {truth.shape} (H, W)"
        )
    if image is None:
        picture = np.full((*labels.shape, 3), _CORRECT, np.uint8)
    else:
        _check_pair(image, labels)
        dimmed = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) * 0.35).astype(np.uint8)
        picture = np.repeat(dimmed[..., None], 3, axis=2)
    ignored = _ignored(truth)
    picture[(labels != truth) & ~ignored] = _WRONG
    picture[ignored] = _IGNORED
    return picture


def comparison(
    image: np.ndarray,
    truth: np.ndarray | None,
    prediction: np.ndarray,
    palette: Palette,
    classes: Sequence[str],
    *,
    title: str | None = None,
    panel_width: int = 640,
    columns: int | None = None,
) -> np.ndarray:
    """Image, truth, prediction and errors side by side, with the legend of the classes present.

    Args:
        image: (H, W, 3) uint8 RGB. truth: (H, W) uint8, or None: then only image, prediction and
            overlay are shown. prediction: (H, W) uint8.
        title: a line above, e.g. the file's name.
        panel_width: pixels of one picture; larger images are reduced, smaller ones enlarged.
        columns: pictures in a row; default: all of them.

    Returns:
        An (H', W', 3) uint8 RGB picture.
    """
    _check_pair(image, prediction)
    if len(classes) != len(palette):
        raise ValueError(f"{len(classes)} classes but {len(palette)} colours in the palette")
    panels = [("image", image)]
    if truth is None:
        panels.append(("prediction", colourise(prediction, palette)))
        panels.append(("overlay", overlay(image, prediction, palette)))
        present = np.unique(prediction)
    else:
        errors = error_map(prediction, truth, image)
        counted = ~_ignored(truth)
        wrong = (prediction != truth)[counted]
        share = f": {100 * wrong.mean():.1f}% of the labelled pixels" if wrong.size else ""
        panels.append(("truth", colourise(truth, palette)))
        panels.append(("prediction", colourise(prediction, palette)))
        panels.append((f"errors{share}", errors))
        present = np.union1d(truth, prediction)
    font_size = min(24, max(13, panel_width // 32))
    cells = []
    for name, panel in panels:
        # classes have no colours between them
        fitted = _fitted(panel, panel_width, smooth=name in ("image", "overlay"))
        head = _text_line(name, panel_width, font_size, _FAINT)
        cells.append(np.concatenate([head, fitted]))
    picture = _grid(cells, columns or len(cells))
    extras = [] if truth is None else [("wrong", _WRONG), ("ignored in the truth", _IGNORED)]
    rows = [picture, legend(palette, classes, present, picture.shape[1], font_size, extras)]
    if title:
        rows.insert(0, _text_line(title, picture.shape[1], font_size + 3, _INK))
    return _framed(np.concatenate(rows))


def legend(
    palette: Palette,
    classes: Sequence[str],
    present: np.ndarray | Sequence[int] | None = None,
    width: int = 1280,
    font_size: int = 18,
    extras: Sequence[tuple[str, tuple[int, int, int]]] = (),
) -> np.ndarray:
    """Swatches with names, in lines of at most ``width`` pixels.

    Args:
        present: class indices to show; default: all.
        extras: further (name, RGB) entries.
    """
    from PIL import Image, ImageDraw

    shown = range(len(classes)) if present is None else sorted({int(i) for i in present})
    entries = [
        (str(classes[i]), tuple(int(v) for v in palette[i])) for i in shown if i < len(classes)
    ]
    if any(i >= len(classes) for i in shown):
        entries.append(("no class", _VOID))
    entries += [(name, tuple(colour)) for name, colour in extras]
    font = _font(font_size)
    swatch, pitch, space = font_size, round(font_size * 1.75), round(font_size * 1.4)
    places = []
    x = y = 0
    for name, colour in entries:
        length = swatch + font_size // 2 + round(font.getlength(name))
        if x and x + length > width:
            x, y = 0, y + pitch
        places.append((x, y, name, colour))
        x += length + space
    canvas = Image.new("RGB", (width, y + pitch), "white")
    pen = ImageDraw.Draw(canvas)
    for left, top, name, colour in places:
        middle = top + pitch // 2 + 2
        box = (left, middle - swatch // 2, left + swatch - 1, middle + swatch // 2 - 1)
        pen.rectangle(box, fill=colour, outline=_EDGE)
        pen.text((left + swatch + font_size // 2, middle), name, _INK, font, anchor="lm")
    return np.asarray(canvas).copy()


def sheet(pictures: Sequence[np.ndarray], columns: int = 1) -> np.ndarray:
    """Pictures on one white page, row by row; they may differ in size."""
    if not pictures:
        raise ValueError("a sheet needs at least one picture")
    width = max(p.shape[1] for p in pictures)
    padded = [_padded(p, p.shape[0], width) for p in pictures]
    return _grid(padded, columns, gap=3 * _GAP)


def encode_labels(labels: np.ndarray, palette: Palette) -> bytes:
    """A palette PNG whose indices are the labels; viewers show the colours."""
    from PIL import Image

    picture = Image.fromarray(_checked(labels), mode="P")
    picture.putpalette(_colours(palette).tobytes())
    data = io.BytesIO()
    picture.save(data, format="PNG")
    return data.getvalue()


def encode_picture(picture: np.ndarray) -> bytes:
    """An (H, W, 3) uint8 RGB array as a PNG."""
    data = cv2.imencode(".png", picture[..., ::-1])[1]
    return bytes(data.tobytes())


# ------------------------------------------------------------------------------ pictures of models


def labelled_images(
    config: Any, domain: str, limit: int
) -> list[tuple[str, Callable[[], np.ndarray] | None]]:
    """Images of a domain of the config's ``test_dataloader``, evenly spread, with their truth.

    Returns:
        (path of the image, a function that reads its labels (H, W) uint8; None without a label).

    Raises:
        ValueError: no such domain.
    """
    from mmengine.registry import DefaultScope

    from .registry import DATASETS

    loaders = config.get("test_dataloader") or {}
    if "dataset" in loaders:
        loaders = {str(config.get("source_domain", "test")): loaders}
    if domain not in loaders:
        raise ValueError(
            f"the config's test_dataloader has no domain {domain!r}; it has "
            f"{', '.join(map(repr, loaders)) or 'none'}"
        )
    with DefaultScope.overwrite_default_scope(config.get("default_scope", "mmseg")):
        dataset = DATASETS.build(dict(loaders[domain]["dataset"]))
    pairs = list(dataset.pairs)
    count = min(limit, len(pairs))
    chosen = [pairs[i * len(pairs) // count] for i in range(count)]
    return [
        (pair.image, pair.label and partial(_truth, pair.label, dataset.source, dataset.space))
        for pair in chosen
    ]


def _truth(path: str, source: str, space: str) -> np.ndarray:
    from .transforms.loading import apply_table, read_labels

    return apply_table(read_labels(path, source), source, space)


def compare(
    segmenter: Segmenter,
    items: Iterable[tuple[str, Callable[[], np.ndarray] | None]],
    *,
    panel_width: int = 640,
    columns: int | None = None,
) -> Iterator[tuple[str, np.ndarray]]:
    """(name, :func:`comparison`) of each image; ``items`` as :func:`labelled_images` gives them."""
    from .transforms.loading import read_image

    for path, truth in items:
        image = read_image(path)
        name = Path(path).stem
        yield (
            name,
            comparison(
                image,
                truth() if truth else None,
                segmenter(image),
                segmenter.palette,
                segmenter.classes,
                title=name,
                panel_width=panel_width,
                columns=columns,
            ),
        )


# ------------------------------------------------------------------------------------------ checks


def _checked(labels: np.ndarray) -> np.ndarray:
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise ValueError(f"labels are an (H, W) uint8 array, got {labels.dtype} {labels.shape}")
    return labels


def _check_pair(image: np.ndarray, labels: np.ndarray) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"an image is an (H, W, 3) uint8 RGB array, got {image.dtype} {image.shape}"
        )
    if image.shape[:2] != _checked(labels).shape:
        raise ValueError(
            f"image and labels differ in size: {image.shape[:2]} and {labels.shape} (H, W)"
        )


def _ignored(truth: np.ndarray) -> np.ndarray:
    result: np.ndarray = (truth == IGNORE) | (truth == UNKNOWN)
    return result


def _colours(palette: Palette) -> np.ndarray:
    """(256, 3) uint8."""
    colours = np.asarray(palette)
    if colours.ndim != 2 or colours.shape[1] != 3 or len(colours) > 256:
        raise ValueError(f"a palette is up to 256 (R, G, B) colours, got shape {colours.shape}")
    if colours.min() < 0 or colours.max() > 255:
        raise ValueError(f"a palette's values lie in 0..255, got {colours.min()}..{colours.max()}")
    table = np.full((256, 3), _VOID, np.uint8)
    table[: len(colours)] = colours
    return table


# ----------------------------------------------------------------------------------------- drawing


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along: the same on every machine."""
    import matplotlib
    from PIL import ImageFont

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), size)


def _text_line(text: str, width: int, size: int, colour: tuple[int, int, int]) -> np.ndarray:
    """One line on white, cut with an ellipsis where it is too long."""
    from PIL import Image, ImageDraw

    font = _font(size)
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if font.getlength(line) > width:
        while line and font.getlength(line + "…") > width:
            line = line[:-1]
        line += "…"
    canvas = Image.new("RGB", (width, round(size * 1.7)), "white")
    ImageDraw.Draw(canvas).text((0, canvas.height // 2), line, colour, font, anchor="lm")
    return np.asarray(canvas)


def _fitted(picture: np.ndarray, width: int, *, smooth: bool) -> np.ndarray:
    """The picture at a width, at least one pixel high."""
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    if smooth and width < picture.shape[1]:
        how = cv2.INTER_AREA
    else:
        how = cv2.INTER_CUBIC if smooth else cv2.INTER_NEAREST
    resized: np.ndarray = cv2.resize(picture, (width, height), interpolation=how)
    return resized


def _padded(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    page = np.full((height, width, 3), 255, np.uint8)
    page[: picture.shape[0], : picture.shape[1]] = picture
    return page


def _grid(cells: Sequence[np.ndarray], columns: int, gap: int = _GAP) -> np.ndarray:
    """Cells of one width, row by row, with white gaps."""
    if columns < 1:
        raise ValueError(f"columns: expected 1 or more, got {columns}")
    columns = min(columns, len(cells))
    width = cells[0].shape[1]
    rows = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    heights = [max(cell.shape[0] for cell in row) for row in rows]
    page: Any = np.full(
        (sum(heights) + gap * (len(rows) - 1), columns * (width + gap) - gap, 3), 255, np.uint8
    )
    top = 0
    for row, height in zip(rows, heights, strict=True):
        for i, cell in enumerate(row):
            left = i * (width + gap)
            page[top : top + cell.shape[0], left : left + width] = cell
        top += height + gap
    result: np.ndarray = page
    return result


def _framed(picture: np.ndarray, margin: int = 2 * _GAP) -> np.ndarray:
    return np.pad(picture, ((margin, margin), (margin, margin), (0, 0)), constant_values=255)
