"""The ranked-list picture: frames, captions and placeholders, and what is refused."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from reid.gallery import Hit
from reid.visualization import (
    _IGNORED,
    _OTHER,
    _PLACEHOLDER,
    _SAME,
    _UNKNOWN,
    _Layout,
    ranked_list_figure,
    ranked_list_picture,
)


def hit(row, pid, *, score=0.5, image="hit.png", camera=1):
    return Hit(row, score, 1 - score, {"image": image, "pid": pid, "camera": camera})


def rgb(colour):
    return np.round(np.multiply(matplotlib.colors.to_rgb(colour), 255)).astype(np.uint8)


def count(picture, colour):
    return int((picture == rgb(colour)).all(axis=-1).sum())


@pytest.fixture
def root(tmp_path) -> Path:
    """Two noise images of 128 x 256 pixels, the size of a cell."""
    for number, name in enumerate(("query.png", "hit.png")):
        noise = np.random.default_rng(number).integers(0, 200, (256, 128, 3), dtype=np.uint8)
        assert cv2.imwrite(str(tmp_path / name), noise)
    return tmp_path


@pytest.fixture
def draw(root):
    def draw(queries, results, **options) -> np.ndarray:
        path = ranked_list_figure(
            queries, results, root / "out.png", **{"image_root": root, **options}
        )
        return cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)

    return draw


QUERY = {"image": "query.png", "pid": 7, "camera": "north"}
LAYOUT = _Layout(rows=1, columns=3, cell_width=128, cell_height=256, title=False)


def frame_pixel(picture, column, row=0, layout=LAYOUT):
    left, top = layout.cell(row, column)
    return picture[top + 100, left - 2]


def test_frames_tell_right_from_wrong_from_unknown(draw):
    picture = draw([QUERY], [[hit(0, 7), hit(1, 8), hit(2, None)]])
    assert picture.shape == (LAYOUT.size[1], LAYOUT.size[0], 3)
    for column, verdict in enumerate((_SAME, _OTHER, _UNKNOWN), start=1):
        np.testing.assert_array_equal(frame_pixel(picture, column), rgb(verdict.colour))


def test_all_is_unknown_for_a_query_without_an_identity(draw):
    picture = draw([{"image": "query.png"}], [[hit(0, 7), hit(1, 0), hit(2, None)]])
    for column in (1, 2, 3):
        np.testing.assert_array_equal(frame_pixel(picture, column), rgb(_UNKNOWN.colour))
    assert not count(picture, _SAME.colour) + count(picture, _OTHER.colour)


def test_hits_below_the_threshold_are_pale(draw):
    hits = [hit(0, 7, score=0.7), hit(1, 7, score=0.6), hit(2, 7, score=0.59)]
    plain, picture = draw([QUERY], [hits]), draw([QUERY], [hits], threshold=0.6)
    for column in (0, 1, 2, 3):
        left, top = LAYOUT.cell(0, column)
        cell = slice(top, top + 256), slice(left, left + 128)
        before, after = plain[cell], picture[cell]
        expected = 255 - (255 - before) // 4 if column == 3 else before
        np.testing.assert_array_equal(after, expected)
        np.testing.assert_array_equal(frame_pixel(picture, column), frame_pixel(plain, column))
    legend = slice(LAYOUT.margin, LAYOUT.top)
    assert (plain[legend] != picture[legend]).any()  # says what pale means


def test_identities_compare_by_value(draw):
    picture = draw([{**QUERY, "pid": 0}], [[hit(0, 0), hit(1, "0"), hit(2, "a")]])
    np.testing.assert_array_equal(frame_pixel(picture, 1), rgb(_SAME.colour))
    np.testing.assert_array_equal(frame_pixel(picture, 2), rgb(_OTHER.colour))


def test_images_of_a_cells_size_are_drawn_pixel_by_pixel(draw, root):
    picture = draw([QUERY], [[hit(0, 7), hit(1, 7), hit(2, 7)]])
    for column, name in enumerate(("query.png", "hit.png", "hit.png", "hit.png")):
        left, top = LAYOUT.cell(0, column)
        image = cv2.imread(str(root / name), cv2.IMREAD_COLOR_RGB)
        np.testing.assert_array_equal(picture[top : top + 256, left : left + 128], image)


def test_an_image_of_another_shape_is_fitted_in_whole(draw, root):
    wide = np.full((30, 60, 3), (10, 20, 30), dtype=np.uint8)  # BGR
    cv2.imwrite(str(root / "wide.png"), wide)
    picture = draw([QUERY], [[hit(0, 7), hit(1, 7), hit(2, 7, image="wide.png")]])
    left, top = LAYOUT.cell(0, 3)
    cell = picture[top : top + 256, left : left + 128]
    colour = (cell == (30, 20, 10)).all(axis=-1)
    assert colour.sum() == 64 * 128
    assert colour[96:160].all()
    assert (cell[~colour] == 255).all()


@pytest.mark.parametrize("image", [None, "", "gone.png", "text.png", "a" * 300 + ".png", "nul\0"])
def test_an_unreadable_image_becomes_a_placeholder(draw, root, image):
    (root / "text.png").write_text("no image")
    picture = draw([QUERY], [[hit(0, 7), hit(1, 8), hit(2, 8, image=image)]])
    left, top = LAYOUT.cell(0, 3)
    cell = picture[top : top + 256, left : left + 128]
    assert 0.9 * 256 * 128 < count(cell, _PLACEHOLDER) < 256 * 128  # the rest is its label
    np.testing.assert_array_equal(frame_pixel(picture, 3), rgb(_OTHER.colour))


def test_rows_may_be_shorter_or_empty(draw):
    queries = [QUERY, {**QUERY, "image": "gone.png"}, {}]
    picture = draw(queries, [[], [hit(0, 7)], [hit(0, 7)] * 9], top_k=3, title="Title")
    layout = _Layout(rows=3, columns=3, cell_width=128, cell_height=256, title=True)
    assert picture.shape == (layout.size[1], layout.size[0], 3)
    assert (frame_pixel(picture, 1, 0, layout) == 255).all()
    np.testing.assert_array_equal(frame_pixel(picture, 1, 1, layout), rgb(_SAME.colour))
    np.testing.assert_array_equal(frame_pixel(picture, 3, 2, layout), rgb(_UNKNOWN.colour))


@pytest.fixture
def words(monkeypatch):
    """All texts of the pictures drawn, as they were fitted in."""
    words = []
    render = FigureCanvasAgg.print_figure

    def print_figure(canvas, *arguments, **options):
        words.extend(text.get_text() for text in canvas.figure.texts)
        return render(canvas, *arguments, **options)

    monkeypatch.setattr(FigureCanvasAgg, "print_figure", print_figure)
    return words


def test_captions(draw, words):
    hits = [hit(0, 7, score=0.8764), hit(1, "x", score=-20.56, camera="hall")]
    draw([QUERY, {**QUERY, "pid": "x"}, {}], [hits, [], []], title="A title")
    assert words[0] == "A title"
    assert {"id 7", "north", "1 ✓", "0.876", "camera 1", "2 ✗", "-20.56", "hall"} <= set(words)
    assert {"x", "no hits", "query", "no image"} <= set(words)
    assert {"same identity ✓", "other identity ✗"} <= set(words)
    assert "identity unknown ?" not in words


def test_only_long_names_are_cut_even_below_small_images(draw, words):
    hits = [hit(row, 8, score=-20.56, image=None, camera=f"long {row}" * 9) for row in range(10)]
    draw([{}], [hits], image_height=16)
    assert {f"{rank} ?" for rank in range(1, 11)} <= set(words)
    assert words.count("-20.56") == 10
    assert sum(word.startswith("long") and word.endswith("…") for word in words) == 10


def test_no_readable_image_at_all(draw):
    picture = draw([{}], [[hit(0, 1, image=None)]], image_height=64)
    assert picture.ndim == 3


def test_image_root_defaults_to_the_working_directory(root, monkeypatch):
    monkeypatch.chdir(root)
    relative = ranked_list_figure([QUERY], [[hit(0, 7)]], "here.png")
    absolute = ranked_list_figure(
        [{**QUERY, "image": str(root / "query.png")}],
        [[hit(0, 7, image=str(root / "hit.png"))]],
        root / "there.png",
    )
    assert relative == Path("here.png")
    assert relative.read_bytes() == absolute.read_bytes()


def test_names_are_drawn_literally_whatever_they_hold(draw):
    names = ["$x^2$", "$broken", "two\nlines", "\udcff", "long " * 50, ""]
    hits = [hit(row, name, camera=name, score=-1234.5) for row, name in enumerate(names)]
    draw([{**QUERY, "pid": name, "camera": name} for name in names], [hits] * 6, title="$\\frac$")


def test_the_callers_matplotlib_settings_neither_matter_nor_change(draw, root):
    with matplotlib.rc_context({"text.usetex": True, "savefig.dpi": 300, "savefig.bbox": "tight"}):
        picture = draw([QUERY], [[hit(0, 7)] * 3])
        assert matplotlib.rcParams["text.usetex"]
    assert picture.shape == (LAYOUT.size[1], LAYOUT.size[0], 3)


def test_the_same_input_gives_the_same_bytes(draw, root):
    draw([QUERY], [[hit(0, 7)]])
    first = (root / "out.png").read_bytes()
    draw([QUERY], [[hit(0, 7)]])
    assert (root / "out.png").read_bytes() == first


def test_a_failed_write_keeps_the_old_picture(draw, root, monkeypatch):
    (root / "out.png").write_bytes(b"old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        draw([QUERY], [[hit(0, 7)]])
    assert (root / "out.png").read_bytes() == b"old"
    assert sorted(file.name for file in root.iterdir()) == ["hit.png", "out.png", "query.png"]


@pytest.mark.parametrize(
    ("queries", "results", "options", "message"),
    [
        ([], [], {}, "at least one query"),
        ([QUERY], [[], []], {}, "1 queries and 2 lists"),
        ([QUERY], [[]], {"path": "a.jpg"}, r"name the file \*.png, not 'a.jpg'"),
        ([QUERY], [[]], {"top_k": 0}, "top_k must be at least 1"),
        ([QUERY], [[]], {"image_height": 3}, "image_height at least 16"),
        ([{}] * 300, [[]] * 300, {}, "pixels; at most 65535 fit. Draw fewer queries"),
    ],
)
def test_what_cannot_be_drawn_is_refused(root, queries, results, options, message):
    with pytest.raises(ValueError, match=message):
        ranked_list_figure(queries, results, **{"path": root / "x.png", **options})
    assert not (root / "x.png").exists()


def test_drawing_leaves_pyplot_alone_and_importing_leaves_matplotlib_alone(root):
    code = (
        "import sys\n"
        "from reid.visualization import ranked_list_figure\n"
        "assert 'matplotlib' not in sys.modules\n"
        "ranked_list_figure([{}], [[]], sys.argv[1])\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    repository = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code, str(root / "o.png")], cwd=repository, check=True)


def test_what_the_protocol_ignores_has_a_frame_of_its_own(draw):
    ignored = hit(0, 7)
    ignored.record.update(ignored=True, rank=None)
    second = hit(1, 7)
    second.record["rank"] = 1
    third = hit(2, 7)
    picture = draw([{**QUERY, "caption": "12%"}], [[ignored, second, third]])
    np.testing.assert_array_equal(frame_pixel(picture, 1), rgb(_IGNORED.colour))
    np.testing.assert_array_equal(frame_pixel(picture, 2), rgb(_SAME.colour))


@pytest.mark.parametrize("file_type", ["png", "jpg"])
def test_the_picture_as_bytes(root, file_type):
    data = ranked_list_picture([QUERY], [[hit(0, 7)]], image_root=root, file_type=file_type)
    magic = {"png": b"\x89PNG", "jpg": b"\xff\xd8"}[file_type]
    assert data.startswith(magic)
    drawn = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    path = ranked_list_figure([QUERY], [[hit(0, 7)]], root / "x.png", image_root=root)
    difference = np.abs(drawn.astype(int) - cv2.imread(str(path)))
    assert drawn.shape == cv2.imread(str(path)).shape
    assert difference.mean() < (1 if file_type == "png" else 12)
