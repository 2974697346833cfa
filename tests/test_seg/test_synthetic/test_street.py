"""What is drawn: classes, geometry, and how little the styles share."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from seg.synthetic import STYLES, draw_street
from seg.synthetic.appearance import MATERIALS, develop
from seg.synthetic.camera import GROUND_SURFACE, Camera, facing
from seg.synthetic.canvas import Canvas, Frame
from seg.synthetic.labels import CAR, EVALUATED, FENCE, NAMES, PALETTE, ROAD, SKY, train_ids
from seg.synthetic.street import paint_street
from seg.synthetic.textures import tiles

SIZE = (256, 128)


@pytest.fixture(scope="module")
def canvases():
    return [paint_street(0, number, SIZE) for number in range(1, 46)]


@pytest.fixture(scope="module")
def labels(canvases):
    return np.stack([canvas.label_map() for canvas in canvases])


def test_the_label_table():
    assert len(NAMES) == len(PALETTE) == 34
    assert [NAMES[i] for i in EVALUATED] == [
        *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light"),
        *("traffic sign", "vegetation", "terrain", "sky", "person", "rider", "car", "truck"),
        *("bus", "train", "motorcycle", "bicycle"),
    ]
    assert PALETTE[ROAD] == (128, 64, 128) and PALETTE[CAR] == (0, 0, 142)
    table = train_ids()
    assert table[7] == 0 and table[33] == 18 and (table == 255).sum() == 256 - 19


def test_only_known_ids_and_all_19_classes(labels):
    assert labels.dtype == np.uint8 and labels.shape == (45, 128, 256)
    drawn = {*EVALUATED, 1, 4, 5, 6, 9, 10}  # hood, static, dynamic, ground, parking, rail track
    assert set(np.unique(labels).tolist()) <= drawn
    for label in EVALUATED:  # every class in a tenth of the images, with more than a few pixels
        share = np.mean([(image == label).sum() > 12 for image in labels])
        assert share >= 0.1, (NAMES[label], share)


def test_frequencies_are_like_those_of_cityscapes(labels):
    share = np.bincount(labels.ravel(), minlength=256) / labels.size
    order = np.argsort(-share)
    assert {NAMES[k] for k in order[:5]} == {"road", "building", "vegetation", "sky", "car"}
    assert order[0] == ROAD and 0.2 < share[ROAD] < 0.45
    rare = [NAMES.index(n) for n in ("rider", "motorcycle", "bicycle", "traffic light", "fence")]
    assert (share[rare] < 0.02).all()


def test_the_street_is_below_and_the_sky_above(canvases, labels):
    for canvas, image in zip(canvases, labels, strict=True):
        rows = np.arange(image.shape[0])[:, None].repeat(image.shape[1], axis=1)
        assert rows[image == ROAD].min() >= canvas.camera.horizon - 1
        assert not (image == SKY).any() or rows[image == SKY].max() < canvas.camera.horizon + 1


@pytest.mark.parametrize("style", STYLES)
def test_the_same_street_is_drawn_the_same(style):
    first = draw_street(style, 7, seed=5, size=SIZE)
    again = draw_street(style, 7, seed=5, size=SIZE)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert first[0].shape == (128, 256, 3) and first[0].dtype == np.uint8
    for other in (draw_street(style, 8, seed=5, size=SIZE), draw_street(style, 7, size=SIZE)):
        assert (other[1] != first[1]).mean() > 0.05


def test_threads_change_nothing():
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        one = [draw_street(style, 3, size=SIZE)[0] for style in STYLES]
    finally:
        cv2.setNumThreads(threads)
    for style, image in zip(STYLES, one, strict=True):
        np.testing.assert_array_equal(draw_street(style, 3, size=SIZE)[0], image)


def test_styles_share_the_labels_and_nothing_of_the_looks(canvases):
    moments = {style: [] for style in STYLES}
    for number, canvas in enumerate(canvases[:8], 1):
        for style in STYLES:
            image, labels = draw_street(style, number, size=SIZE)
            np.testing.assert_array_equal(labels, canvas.label_map())
            values = image.astype(float) / 255
            spread = values.max(axis=2) - values.min(axis=2)
            grey = values.mean(axis=2)
            moments[style].append(
                (spread.mean(), grey.std(), (values[..., 0] - values[..., 2]).mean())
            )
    game, real = (np.array(moments[style]).mean(axis=0) for style in STYLES)
    assert game[0] > 2 * real[0]  # saturation
    assert game[1] > 1.3 * real[1]  # contrast
    assert game[2] > real[2] + 0.02  # red over blue


def test_colour_alone_does_not_tell_a_car(canvases):
    """Cars of one style come in many hues."""
    hues = []
    for number, canvas in enumerate(canvases[:12], 1):
        image, where = develop(canvas, "game", 0, number), canvas.label_map() == CAR
        if where.sum() > 50:
            hues.append(image[where].astype(float).mean(axis=0))
    assert np.std(hues, axis=0).min() > 15


@pytest.mark.parametrize("size", [(64, 32), (200, 150), (300, 100), (640, 321)])
def test_any_size(size):
    for style in STYLES:
        image, labels = draw_street(style, 4, size=size)
        assert image.shape == (size[1], size[0], 3) and labels.shape == (size[1], size[0])
        assert image.std() > 5 and len(np.unique(labels)) > 5


def test_another_size_shows_the_same_street():
    small, large = draw_street("game", 2, size=(128, 64))[1], draw_street("game", 2, size=SIZE)[1]
    assert (large[1::2, 1::2] == small).mean() > 0.88


def test_every_material_has_colours_and_a_texture(canvases):
    used = set()
    for canvas in canvases:
        used |= set(canvas.parts().material.tolist())
    assert used <= set(MATERIALS)
    assert set(MATERIALS) - used <= {"lamp_amber", "lamp_green", "lamp_red", "helmet"}
    for style in STYLES:
        stack = tiles(style)
        assert stack.dtype == np.int8 and stack.shape[1:] == (256, 256)


# --------------------------------------------------------------------------------------- geometry


@pytest.fixture
def camera():
    return Camera(256, 128, focal=250.0, centre=128.0, horizon=55.0, yaw=0.1, elevation=1.4)


def test_projection_agrees_with_a_naive_one(camera):
    points = np.random.default_rng(0).uniform((-5, 0, 5), (5, 8, 60), (50, 3))
    pixels = camera.to_pixels(camera.to_view(points))
    for (x, y, z), (column, row) in zip(points.tolist(), pixels.tolist(), strict=True):
        turn = np.array([[np.cos(0.1), -np.sin(0.1)], [np.sin(0.1), np.cos(0.1)]])
        right, ahead = turn @ (x, z)
        assert column == pytest.approx(128 + 250 * right / ahead)
        assert row == pytest.approx(55 - 250 * (y - 1.4) / ahead)


def test_depth_of_planes(camera):
    """The depth of a pixel on a plane is that of the point that was projected there."""
    rng = np.random.default_rng(1)
    for surface, points in (
        (GROUND_SURFACE, rng.uniform((-5, 0, 4), (5, 0, 50), (20, 3))),
        (facing(12.0), rng.uniform((-5, 0, 12), (5, 5, 12), (20, 3))),
        (
            Frame((3.0, 0.0, 2.0), (0.0, 0.0, 1.0)).surface,
            rng.uniform((3, 0, 5), (3, 5, 40), (20, 3)),
        ),
    ):
        view = camera.to_view(points)
        a, b, c = camera.inverse_depth(surface)
        rays = view / view[:, 2:]
        np.testing.assert_allclose(1 / (a * rays[:, 0] + b * rays[:, 1] + c), view[:, 2], rtol=1e-9)


def test_polygons_are_cut_before_the_camera(camera):
    assert camera.polygon(np.array([(0, 0, -3), (1, 0, -3), (1, 0, -1.0)])) is None
    pixels = camera.polygon(np.array([(-2, 0, -5), (2, 0, -5), (2, 0, 30), (-2, 0, 30.0)]))
    assert pixels is not None and np.isfinite(pixels).all() and pixels[:, 1].max() > 128


def test_relabel_keeps_the_looks(camera):
    canvas = Canvas(camera, (0.0, 1.0, 0.0))
    road = canvas.part(ROAD, "asphalt", (0.2, 0.3))
    canvas.fill(road, [(-50, 0, 1), (50, 0, 1), (50, 0, 90), (-50, 0, 90)])
    before, looks = canvas.label_map(), canvas.parts().material[canvas.ids]
    canvas.relabel(FENCE, Frame((-1.0, 0.0, 9.0))([(0, 0), (2, 0), (2, 1), (0, 1)]))
    after = canvas.label_map()
    changed = after != before
    assert changed.any() and not changed.all() and (after[changed] == FENCE).all()
    np.testing.assert_array_equal(canvas.parts().material[canvas.ids], looks)


def test_nearer_things_cover_farther_ones(camera):
    canvas = Canvas(camera, (0.0, 1.0, 0.0))
    wide = [(-2, 0, 2, 3)]
    canvas.rectangles(canvas.part(CAR, "paint", (0, 0)), Frame((0.0, 0.0, 20.0)), wide)
    far = (canvas.label_map() == CAR).sum()
    canvas.rectangles(canvas.part(FENCE, "wood", (0, 0)), Frame((0.0, 0.0, 10.0)), wide)
    near = (canvas.label_map() == FENCE).sum()
    assert near == pytest.approx(4 * far, rel=0.1)  # half the distance, four times the area
