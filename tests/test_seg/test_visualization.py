from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from seg.visualization import (
    colourise,
    comparison,
    encode_labels,
    encode_picture,
    error_map,
    legend,
    overlay,
    sheet,
)

PALETTE = ((128, 64, 128), (0, 0, 142), (70, 130, 180))
CLASSES = ("road", "car", "sky")


@pytest.fixture
def labels() -> np.ndarray:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (20, 30)).astype(np.uint8)
    labels[:3] = 255
    labels[3, :5] = 254
    return labels


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (20, 30, 3)).astype(np.uint8)


def test_colourise(labels) -> None:
    picture = colourise(labels, PALETTE)
    assert picture.shape == (20, 30, 3) and picture.dtype == np.uint8
    for y in range(20):
        for x in range(30):
            index = labels[y, x]
            assert tuple(picture[y, x]) == (PALETTE[index] if index < 3 else (0, 0, 0))


def test_overlay(image, labels) -> None:
    picture = overlay(image, labels, PALETTE, 0.3).astype(float)
    expected = 0.7 * image + 0.3 * colourise(labels, PALETTE)
    expected[labels > 2] = image[labels > 2]
    assert np.abs(picture - expected).max() <= 0.51
    np.testing.assert_array_equal(overlay(image, labels, PALETTE, 0), image)
    full = overlay(image, labels, PALETTE, 1)
    np.testing.assert_array_equal(full[labels < 3], colourise(labels, PALETTE)[labels < 3])


def test_error_map(image, labels) -> None:
    prediction = labels.copy()
    prediction[labels > 2] = 0  # a network never says "ignored"
    prediction[10, 10] = (labels[10, 10] + 1) % 3
    for picture in (error_map(prediction, labels), error_map(prediction, labels, image)):
        red = (picture == picture[10, 10]).all(-1)
        assert red.sum() == 1 and picture[10, 10, 0] > 200
        grey = (picture == picture[0, 0]).all(-1)
        assert grey[labels > 2].all()
    dimmed = error_map(labels, labels, image)[labels < 3]
    assert (dimmed.max(-1) == dimmed.min(-1)).all()  # without colours
    assert dimmed.max() < 0.4 * 255 and dimmed.std() > 5  # but the image shows


def test_comparison_shows_the_classes_present(image, labels) -> None:
    prediction = np.zeros_like(labels)
    without_sky = np.where(labels == 2, 0, labels).astype(np.uint8)
    picture = comparison(
        image, without_sky, prediction, PALETTE, CLASSES, title="a" * 500, panel_width=200
    )
    assert picture.dtype == np.uint8 and picture.shape[1] > 4 * 200
    colours = {tuple(c) for c in picture.reshape(-1, 3)}
    assert {PALETTE[0], PALETTE[1]} <= colours and PALETTE[2] not in colours
    assert (picture[:5] == 255).all() and (picture[:, :5] == 255).all()


@pytest.mark.parametrize("columns", [1, 2, 4, 9])
def test_comparison_columns(image, labels, columns) -> None:
    prediction = np.zeros_like(labels)
    picture = comparison(
        image, labels, prediction, PALETTE, CLASSES, panel_width=100, columns=columns
    )
    panels = min(columns, 4)
    assert picture.shape[1] == 100 * panels + 6 * (panels - 1) + 24


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (7, 1000)])
def test_any_size(size) -> None:
    image, labels = np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8)
    for truth in (labels, np.full(size, 255, np.uint8), None):
        comparison(image, truth, labels, PALETTE, CLASSES, panel_width=64)


def test_legend_breaks_lines() -> None:
    names = [f"class number {i}" for i in range(12)]
    palette = [(20 * i, 10, 10) for i in range(12)]
    wide, narrow = legend(palette, names, width=3000), legend(palette, names, width=300)
    assert wide.shape[1] == 3000 and narrow.shape[1] == 300
    assert narrow.shape[0] > 4 * wide.shape[0]
    for colour in palette:
        assert (narrow == colour).all(-1).any()
    some = legend(palette, names, [3, 255], extras=[("wrong", (255, 0, 0))])
    assert (some == palette[3]).all(-1).any() and not (some == palette[4]).all(-1).any()
    assert (some == (255, 0, 0)).all(-1).any() and (some == 0).all(-1).any()


def test_sheet(image) -> None:
    page = sheet([image, image[:5, :9], image[:, :4]], columns=2)
    assert page.shape == (20 + 20 + 18, 30 + 30 + 18, 3)
    np.testing.assert_array_equal(page[:20, :30], image)
    np.testing.assert_array_equal(page[38:, :4], image[:, :4])
    with pytest.raises(ValueError, match="at least one"):
        sheet([])


def test_label_png_holds_indices_and_colours(labels) -> None:
    picture = Image.open(io.BytesIO(encode_labels(labels, PALETTE)))
    assert picture.mode == "P"
    np.testing.assert_array_equal(np.asarray(picture), labels)
    np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), colourise(labels, PALETTE))


def test_picture_png(image) -> None:
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encode_picture(image)))), image)


def test_pictures_are_deterministic(image, labels) -> None:
    arguments = (image, labels, np.zeros_like(labels), PALETTE, CLASSES)
    np.testing.assert_array_equal(comparison(*arguments), comparison(*arguments))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda i, t: colourise(t.astype(int), PALETTE), "uint8 array, got int64"),
        (lambda i, t: colourise(t[None], PALETTE), r"\(H, W\)"),
        (lambda i, t: colourise(t, [(1, 2)]), "palette"),
        (lambda i, t: colourise(t, [(1, 2, 256)]), "0..255"),
        (lambda i, t: overlay(i[:5], t, PALETTE), "differ in size"),
        (lambda i, t: overlay(i[..., :1], t, PALETTE), "RGB array"),
        (lambda i, t: overlay(i, t, PALETTE, 1.5), "alpha"),
        (lambda i, t: error_map(t, t[:5]), "differ in size"),
        (lambda i, t: comparison(i, t, t, PALETTE, CLASSES[:2]), "2 classes but 3 colours"),
        (lambda i, t: comparison(i, t, t, PALETTE, CLASSES, columns=-1), "columns"),
    ],
)
def test_errors(image, labels, call, message) -> None:
    with pytest.raises(ValueError, match=message):
        call(image, labels)
