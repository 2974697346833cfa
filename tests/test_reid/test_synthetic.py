"""The drawn cities: layout, determinism, style, and a signal of identity across cameras."""

import dataclasses
import json
import re
import shutil

import cv2
import numpy as np
import pytest

from imaging.files import read_image
from reid.synthetic import CITIES, CitySummary, contact_sheet, make_city
from reid.synthetic.city import Studio
from reid.synthetic.dataset import VERSION

NAME = re.compile(r"([-\d]+)_c(\d)")
EXACT = re.compile(r"(-1|\d{4})_c[1-9]s1_\d{6}_00\.jpg")
FOLDERS = ("bounding_box_train", "query", "bounding_box_test")
SMALL = {"identities": 6, "cameras": 3, "images_per_camera": 3}


@pytest.fixture(scope="module")
def noon(tmp_path_factory) -> CitySummary:
    return make_city(tmp_path_factory.mktemp("cities") / "noon", "noon", **SMALL)


@pytest.fixture(scope="module")
def dusk(tmp_path_factory) -> CitySummary:
    return make_city(tmp_path_factory.mktemp("cities") / "dusk", "dusk", **SMALL)


def tree(root) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def labels(folder) -> list[tuple[int, int]]:
    return [tuple(map(int, NAME.match(p.name).groups())) for p in sorted(folder.glob("*.jpg"))]


def images(root) -> np.ndarray:
    """All images of persons, N x H x W x 3."""
    paths = [p for name in FOLDERS for p in sorted((root / name).glob("0*.jpg"))]
    return np.stack([read_image(p) for p in paths])


# ------------------------------------------------------------------------------ layout and counts


def test_only_market1501_names(noon):
    names = [p.name for name in FOLDERS for p in (noon.root / name).iterdir()]
    assert len(names) == noon.train + noon.query + noon.gallery
    assert all(EXACT.fullmatch(name) for name in names)
    assert sorted(p.name for p in noon.root.iterdir()) == sorted([*FOLDERS, "city.json"])
    assert "0001_c1s1_000151_00.jpg" in names


def test_counts_and_split(noon):
    train, query, gallery = (labels(noon.root / name) for name in FOLDERS)
    assert (len(train), len(query), len(gallery)) == (noon.train, noon.query, noon.gallery)
    assert sorted(train) == [(p, c) for p in (1, 2, 3) for c in (1, 2, 3) for _ in range(3)]
    assert sorted(query) == [(p, c) for p in (4, 5, 6) for c in (1, 2, 3)]  # one per camera
    persons = [label for label in gallery if label[0] > 0]
    assert sorted(persons) == [(p, c) for p in (4, 5, 6) for c in (1, 2, 3) for _ in range(2)]
    assert sum(pid == 0 for pid, _ in gallery) == noon.distractors == 6
    assert sum(pid == -1 for pid, _ in gallery) == noon.junk == 3
    assert (noon.train_identities, noon.test_identities, noon.cameras) == (3, 3, 3)
    assert {c for pid, c in gallery if pid < 1} == {1, 2, 3}


@pytest.mark.parametrize("fraction, expected", [(0.01, 1), (0.99, 5), (0.34, 2)])
def test_both_sides_of_the_split_keep_an_identity(tmp_path, fraction, expected):
    summary = make_city(
        tmp_path / "c", **{**SMALL, "images_per_camera": 2}, train_fraction=fraction, size=(32, 16)
    )
    assert summary.train_identities == expected
    assert summary.test_identities == 6 - expected


def test_manifest(noon):
    manifest = json.loads((noon.root / "city.json").read_text())
    assert manifest["parameters"] == {
        "city": "noon",
        "identities": 6,
        "cameras": 3,
        "images_per_camera": 3,
        "train_fraction": 0.5,
        "size": [128, 64],
        "seed": 0,
    }
    assert manifest["counts"]["gallery"] == noon.gallery
    assert manifest["maker"]["version"] == VERSION


def test_size_and_type_of_images(noon, tmp_path):
    assert images(noon.root).shape[1:] == (128, 64, 3)
    wide = make_city(tmp_path / "wide", identities=2, cameras=2, images_per_camera=2, size=(96, 80))
    assert images(wide.root).shape[1:] == (96, 80, 3)


def test_progress_counts_every_image(tmp_path):
    calls = []
    summary = make_city(
        tmp_path / "c",
        identities=2,
        cameras=2,
        images_per_camera=2,
        size=(32, 16),
        progress=lambda done, total: calls.append((done, total)),
    )
    total = summary.train + summary.query + summary.gallery
    assert calls == [(k, total) for k in range(1, total + 1)]


# ------------------------------------------------------------------------------------ determinism


def test_two_runs_write_the_same_bytes(noon, tmp_path):
    again = make_city(tmp_path / "again", "noon", **SMALL)
    assert tree(again.root) == tree(noon.root)
    assert again.digest == noon.digest


def test_another_seed_and_another_city_share_no_image(noon, dusk, tmp_path):
    other = make_city(tmp_path / "other", "noon", **SMALL, seed=1)
    mine = {data for path, data in tree(noon.root).items() if path.endswith("jpg")}
    for root in (other.root, dusk.root):
        assert mine.isdisjoint(tree(root).values())


def test_a_picture_depends_on_its_own_key_only(noon, tmp_path):
    """More identities, cameras and images leave the pictures that were there as they were."""
    more = make_city(tmp_path / "more", identities=8, cameras=4, images_per_camera=4)
    small, large = tree(noon.root), tree(more.root)
    common = [p for p in small if p in large and p.startswith("bounding_box_train/")]
    assert len(common) == noon.train
    assert all(small[p] == large[p] for p in common)


def test_identities_differ_between_cities_and_seeds():
    people = [
        Studio.open(city, seed, (32, 16), 2).person(pid)
        for city in CITIES
        for seed in (0, 1)
        for pid in range(1, 40)
    ]
    assert len(set(people)) == len(people)


# ------------------------------------------------------------------------- what the pictures show


def test_styles_differ(noon, dusk):
    """Dusk is darker, flatter and bluer, beyond what separates the cameras of one city."""
    day, night = images(noon.root) / 255.0, images(dusk.root) / 255.0
    assert day.mean() > 1.15 * night.mean()
    assert day.std(axis=(1, 2)).mean() > 1.4 * night.std(axis=(1, 2)).mean()
    warmth = [x[..., 0].mean() - x[..., 2].mean() for x in (day, night)]
    assert warmth[0] > 0.03 and warmth[1] < -0.01


def test_dusk_is_blurred(noon, dusk):
    """Fine detail relative to contrast, on smoothed images so that noise does not count."""

    def sharpness(root):
        grey = [cv2.cvtColor(x, cv2.COLOR_RGB2GRAY).astype(np.float32) for x in images(root)]
        soft = [cv2.GaussianBlur(x, (0, 0), 0.8) for x in grey]
        return np.mean([cv2.Laplacian(x, cv2.CV_32F).std() / x.std() for x in soft])

    assert sharpness(noon.root) > 1.1 * sharpness(dusk.root)


@pytest.mark.parametrize("city", sorted(CITIES))
def test_same_person_is_closer_across_cameras(city):
    """On average, and in a descriptor without camera colours; not so clearly that it is trivial."""
    studio = Studio.open(city, 0, (128, 64), 3)
    features, pids, cameras = [], [], []
    for pid in range(1, 31):
        for camera in range(3):
            image = studio.shoot(studio.person(pid), camera, pid, 0)[:, 16:48].astype(np.float32)
            thumbnail = cv2.resize(image, (4, 16), interpolation=cv2.INTER_AREA)
            features.append(thumbnail.ravel())
            pids.append(pid)
            cameras.append(camera)
    x, pids, cameras = np.array(features), np.array(pids), np.array(cameras)
    for camera in range(3):  # remove what all images of a camera share
        mine = cameras == camera
        x[mine] = (x[mine] - x[mine].mean(0)) / x[mine].std()
    distances = np.linalg.norm(x[:, None] - x[None], axis=-1)
    across = cameras[:, None] != cameras[None]
    same = pids[:, None] == pids[None]
    assert distances[across & same].mean() < 0.93 * distances[across & ~same].mean()
    nearest = pids[np.where(across, distances, np.inf).argmin(1)]
    assert 2 / 30 < (nearest == pids).mean() < 0.9


def test_colour_histogram_does_not_solve_it(noon):
    """The nearest histogram of another person in the query's own camera beats the right one."""

    def histogram(image):
        counts, _ = np.histogramdd(image.reshape(-1, 3), bins=8, range=[(0, 256)] * 3)
        return np.sqrt(counts.ravel() / counts.sum())

    query = sorted((noon.root / "query").glob("*.jpg"))
    gallery = sorted((noon.root / "bounding_box_test").glob("0*.jpg"))
    g_labels = np.array([tuple(map(int, NAME.match(p.name).groups())) for p in gallery])
    g = np.stack([histogram(read_image(p)) for p in gallery])
    hits = []
    for path in query:
        pid, camera = map(int, NAME.match(path.name).groups())
        allowed = ~((g_labels[:, 0] == pid) & (g_labels[:, 1] == camera))
        scores = np.where(allowed, g @ histogram(read_image(path)), -1)
        hits.append(g_labels[scores.argmax(), 0] == pid)
    assert np.mean(hits) < 0.5


def test_a_person_is_in_the_picture():
    """The middle of a picture with a person differs from the same window of the bare scene."""
    studio = Studio.open("noon", 0, (128, 64), 2)
    bare = studio.shoot(None, 0, "k").astype(float)
    person = studio.shoot(studio.person(1), 0, "k").astype(float)
    change = np.abs(person - bare).mean(-1)
    assert change[30:110, 24:40].mean() > 3 * change[:20, :8].mean() + 5


def test_frozen_styles_are_easy_to_extend(monkeypatch, tmp_path):
    monkeypatch.setitem(CITIES, "fog", dataclasses.replace(CITIES["dusk"], haze=0.3))
    summary = make_city(tmp_path / "fog", "fog", **SMALL, size=(32, 16))
    assert summary.city == "fog"
    monkeypatch.setitem(CITIES, "fog", dataclasses.replace(CITIES["dusk"], haze=0.4))
    with pytest.raises(FileExistsError, match="style 'fog' has been changed"):
        make_city(tmp_path / "fog", "fog", **SMALL, size=(32, 16))


# ---------------------------------------------------------------------- reuse, and what is refused


@pytest.fixture
def copy(noon, tmp_path):
    return shutil.copytree(noon.root, tmp_path / "copy")


def test_the_same_city_is_reused(noon, copy):
    before = {p: p.stat().st_mtime_ns for p in copy.rglob("*")}
    summary = make_city(copy, "noon", **SMALL)
    assert summary == dataclasses.replace(noon, root=copy, reused=True)
    assert not noon.reused
    assert {p: p.stat().st_mtime_ns for p in copy.rglob("*")} == before


def test_another_city_is_kept_and_the_difference_named(copy):
    before = tree(copy)
    with pytest.raises(
        FileExistsError, match=r"another city: seed is 0 there and 3 here; choose another root"
    ):
        make_city(copy, "noon", **SMALL, seed=3)
    assert tree(copy) == before


@pytest.mark.parametrize("damage", ["lost", "changed", "added"])
def test_a_damaged_city_is_refused(copy, damage):
    victim = copy / "query" / "0004_c1s1_000151_00.jpg"
    if damage == "lost":
        victim.unlink()
    elif damage == "changed":
        victim.write_bytes(victim.read_bytes()[:-10])
    else:
        shutil.copy(victim, victim.with_name("0004_c1s1_999999_00.jpg"))
    with pytest.raises(FileExistsError, match="changed, added or lost"):
        make_city(copy, "noon", **SMALL)


def test_another_version_is_refused(copy):
    text = (copy / "city.json").read_text()
    (copy / "city.json").write_text(text.replace(f'"version": {VERSION}', '"version": 0'))
    with pytest.raises(FileExistsError, match=f"drawn by version 0, this is version {VERSION}"):
        make_city(copy, "noon", **SMALL)


@pytest.mark.parametrize("manifest", [None, "", "[]", "{}", '{"maker": 3}'])
def test_something_else_is_refused(tmp_path, manifest):
    (tmp_path / "holiday.jpg").write_bytes(b"precious")
    if manifest is not None:
        (tmp_path / "city.json").write_text(manifest)
    with pytest.raises(FileExistsError, match=r"something else.*choose another root"):
        make_city(tmp_path, **SMALL)
    assert (tmp_path / "holiday.jpg").read_bytes() == b"precious"


def test_a_file_as_root_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileExistsError, match="not a folder"):
        make_city(tmp_path / "file", **SMALL)


def test_an_empty_folder_and_missing_parents_are_fine(tmp_path):
    small = {**SMALL, "size": (32, 16)}
    (tmp_path / "empty").mkdir()
    assert not make_city(tmp_path / "empty", **small).reused
    assert make_city(str(tmp_path / "a" / "b"), **small).root == tmp_path / "a" / "b"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "empty"]  # no leftovers


def test_an_interrupted_run_leaves_nothing(tmp_path):
    def interrupt(done, total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_city(tmp_path / "c", **SMALL, size=(32, 16), progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_losing_a_race_reuses_the_winner(tmp_path):
    small = {**SMALL, "size": (32, 16)}

    def overtake(done, total):
        if done == total:
            make_city(tmp_path / "c", **small)

    assert make_city(tmp_path / "c", **small, progress=overtake).reused
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"city": "midnight"}, "unknown city 'midnight'; expected one of dusk, noon"),
        ({"identities": 1}, "identities must be 2..9999"),
        ({"identities": 10000}, "identities must be 2..9999"),
        ({"identities": 2.5}, "identities must be a whole number, got 2.5"),
        ({"cameras": 1}, "cameras must be 2..9"),
        ({"cameras": 10}, "cameras must be 2..9"),
        ({"images_per_camera": 1}, "images_per_camera must be 2..9999"),
        ({"train_fraction": 0}, "train_fraction must be strictly between 0 and 1, got 0"),
        ({"train_fraction": 1.0}, "train_fraction must be strictly"),
        ({"train_fraction": float("nan")}, "train_fraction must be strictly"),
        ({"size": (16, 64)}, "height of size must be 32..4096"),
        ({"size": (128, 8)}, "width of size must be 16..4096"),
        ({"size": (128, 64, 3)}, r"size is \(height, width\)"),
        ({"seed": -1}, "seed must be >= 0"),
    ],
)
def test_bad_arguments(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_city(tmp_path / "c", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_numpy_integers_are_integers(tmp_path):
    small = {key: np.int64(value) for key, value in SMALL.items()}
    assert make_city(tmp_path / "c", **small, size=(np.int32(32), 16), seed=np.uint8(0)).train == 27


# ----------------------------------------------------------------------------------- contact sheet


def test_contact_sheet_cells(noon):
    sheet = contact_sheet(noon.root, identities=2, images_per_camera=2, gap=2)
    assert sheet.dtype == np.uint8
    assert sheet.shape == (2 * 130 + 2, 3 * (2 * 66 + 4) - 2, 3)
    first = read_image(noon.root / "query" / "0004_c1s1_000151_00.jpg")
    np.testing.assert_array_equal(sheet[2:130, 2:66], first)
    second = read_image(noon.root / "query" / "0005_c2s1_000151_00.jpg")
    np.testing.assert_array_equal(sheet[132:260, 138:202], second)


def test_contact_sheet_of_few_and_odd_images(noon, tmp_path):
    """Fewer identities than rows asked for, a missing cell, another size, a foreign file."""
    folder = tmp_path / "bounding_box_train"
    folder.mkdir()
    white = np.full((128, 64, 3), 255, np.uint8)
    cv2.imwrite(str(folder / "0007_c1s1_000001_00.jpg"), white)
    cv2.imwrite(str(folder / "0009_c2s1_000001_00.jpg"), white[:64, :32])
    cv2.imwrite(str(folder / "portrait.jpg"), white)
    sheet = contact_sheet(tmp_path, split="train", gap=0)
    assert sheet.shape == (256, 128, 3)
    assert (sheet[:128, :64] == 255).all() and (sheet[128:, 64:] == 255).all()
    assert (sheet[:128, 64:] == 224).all() and (sheet[128:, :64] == 224).all()


def test_contact_sheet_errors(noon, tmp_path):
    with pytest.raises(ValueError, match="split must be 'train' or 'test', got 'val'"):
        contact_sheet(noon.root, split="val")
    with pytest.raises(ValueError, match="at least 1"):
        contact_sheet(noon.root, identities=0)
    with pytest.raises(FileNotFoundError, match="bounding_box_train is missing"):
        contact_sheet(tmp_path, split="train")
    (tmp_path / "bounding_box_train").mkdir()
    with pytest.raises(ValueError, match="no image of a person"):
        contact_sheet(tmp_path, split="train")
