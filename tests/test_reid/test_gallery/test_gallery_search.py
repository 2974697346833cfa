"""Every search equals brute force in numpy; bad questions are refused with a remedy."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch

from reid.gallery import Gallery, Hit

from .gallery_oracle import DIM, assert_hits, brute_force, make_rows


@pytest.fixture(scope="module", params=["cosine", "euclidean"])
def world(request, tmp_path_factory):
    """A gallery of several segments with removed rows, and its rows by id; not to be changed."""
    path = tmp_path_factory.mktemp("world") / "gallery"
    gallery = Gallery.create(path, DIM, metric=request.param)
    features, records = {}, {}
    for seed, count in enumerate((40, 1, 60)):
        vectors, batch = make_rows(count, seed)
        for row, vector, record in zip(gallery.add(vectors, batch), vectors, batch, strict=True):
            features[row], records[row] = vector, record
    removed = [0, 7, 8, 9, 40, 100]
    gallery.remove(removed)
    for row in removed:
        del features[row], records[row]
    return gallery, features, records


QUERIES = make_rows(25, seed=99)[0]
CAMERAS = [None, 0, 1, 2, 3] * 5

WHERES = {
    "none": (None, lambda r: True),
    "value": ({"camera": 2}, lambda r: r.get("camera") == 2),
    "list": ({"pid": [1, 2, 5]}, lambda r: r["pid"] in (1, 2, 5)),
    "set": ({"pid": {1, 77}}, lambda r: r["pid"] == 1),
    "range": ({"pid": range(4)}, lambda r: r["pid"] < 4),
    "array": ({"pid": np.array([1, 2])}, lambda r: r["pid"] in (1, 2)),
    "missing": ({"camera": None}, lambda r: r.get("camera") is None),
    "two fields": (
        {"camera": [0, 1], "pid": [0, 1, 2, 3]},
        lambda r: r.get("camera") in (0, 1) and r["pid"] < 4,
    ),
    "json value": ({"clothes": {"upper": "red"}}, lambda r: "clothes" in r),
    "no such value": ({"pid": "1"}, lambda r: False),
    "no camera": (
        {"camera": {"$ne": None}, "pid": {"$gte": 3}},
        lambda r: "camera" in r and r["pid"] > 2,
    ),
    "bounds": ({"time": {"$gte": 10, "$lt": 29.5}}, lambda r: 10 <= r["time"] < 29.5),
    "text": ({"image": {"$gt": "1", "$lte": "2/3.jpg"}}, lambda r: "1" < r["image"] <= "2/3.jpg"),
    "function": (lambda r: 10 <= r["time"] < 30, lambda r: 10 <= r["time"] < 30),
}


@pytest.mark.parametrize("where", WHERES, ids=lambda name: name.replace(" ", "-"))
@pytest.mark.parametrize("exclude", [False, True], ids=["all-cameras", "other-cameras"])
@pytest.mark.parametrize("k", [1, 10, 1000])
def test_search_equals_brute_force(world, k, exclude, where):
    gallery, features, records = world
    condition, predicate = WHERES[where]
    found = gallery.search(
        QUERIES, k, exclude_cameras=CAMERAS if exclude else None, where=condition
    )
    assert len(found) == len(QUERIES)
    for query, camera, hits in zip(QUERIES, CAMERAS, found, strict=True):

        def keep(row, record, camera=camera):
            hidden = exclude and camera is not None and record.get("camera") == camera
            return predicate(record) and not hidden

        assert_hits(hits, brute_force(features, records, query, k, gallery.metric, keep))
        assert all(hit.record == records[hit.id] for hit in hits)


def test_reopened_and_compacted_galleries_answer_the_same(world, path):
    shutil.copytree(world[0].path, path)
    gallery = Gallery.open(path)
    before = gallery.search(QUERIES, 20, exclude_cameras=CAMERAS)
    assert Gallery.open(gallery.path).search(QUERIES, 20, exclude_cameras=CAMERAS) == before
    gallery.compact()
    assert gallery.search(QUERIES, 20, exclude_cameras=CAMERAS) == before
    assert Gallery.open(gallery.path).search(QUERIES, 20, exclude_cameras=CAMERAS) == before


def test_rows_added_after_a_search_are_found(path, metric):
    gallery = Gallery.create(path, DIM, metric=metric)
    features, records = make_rows(30)
    gallery.add(features[:10], records[:10])
    gallery.search(QUERIES, 3, where={"camera": 1}, exclude_cameras=CAMERAS)
    gallery.add(features[10:], records[10:])
    rows = dict(enumerate(features))
    for query, hits in zip(QUERIES, gallery.search(QUERIES, 5, where={"camera": 1}), strict=True):
        expected = brute_force(
            rows, records, query, 5, metric, lambda row, record: record.get("camera") == 1
        )
        assert_hits(hits, expected)


def test_a_query_scores_the_same_alone_and_in_a_batch(world):
    gallery, _, _ = world
    batch = gallery.search(QUERIES, 10)
    assert batch == [gallery.search(query[None], 10)[0] for query in QUERIES]


def test_close_neighbours_far_from_the_origin_keep_their_distance(path):
    """FAISS's batched L2 in float32 cancels here; distances must not."""
    gallery = Gallery.create(path, 2, metric="euclidean")
    gallery.add(np.array([[1000, 1000], [1000, 1000.25]]), [{}, {}])
    hits = gallery.search(np.tile([[1000.0, 1000.0]], (64, 1)), 2)
    assert [(hit.id, hit.distance, hit.score) for hit in hits[-1]] == [(0, 0, 0), (1, 0.25, -0.25)]


def test_equal_scores_come_in_id_order(path, metric):
    gallery = Gallery.create(path, DIM, metric=metric)
    gallery.add(np.tile(QUERIES[:1], (50, 1)), [{}] * 50)
    for hits in gallery.search(np.tile(QUERIES[:1], (30, 1)), 50):
        assert [hit.id for hit in hits] == list(range(50))


def test_scores_and_distances(path):
    cosine = Gallery.create(path / "cosine", 2)
    cosine.add([[3.0, 0.0], [0.0, 0.1], [-1e30, 0.0], [1e-30, 1e-30]], [{}] * 4)
    hits = cosine.search([[5.0, 0.0]], 4)[0]
    assert [hit.id for hit in hits] == [0, 3, 1, 2]
    assert [hit.score for hit in hits] == pytest.approx([1, 0.5**0.5, 0, -1], abs=1e-7)
    assert [hit.distance for hit in hits] == pytest.approx([0, 1 - 0.5**0.5, 1, 2], abs=1e-7)
    euclidean = Gallery.create(path / "euclidean", 2, metric="euclidean")
    euclidean.add([[3.0, 4.0], [0.0, 0.0]], [{}] * 2)
    hits = euclidean.search([[0.0, 0.0]], 2)[0]
    assert [(hit.id, hit.score, hit.distance) for hit in hits] == [(1, 0, 0), (0, -5, 5)]


def test_cosine_scores_stay_within_one(path):
    gallery = Gallery.create(path, DIM)
    features, records = make_rows(200)
    gallery.add(features, records)
    for row, hits in enumerate(gallery.search(features, 1)):
        assert hits[0].id == row
        assert hits[0].score <= 1
        assert hits[0].distance >= 0


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floating_types_and_layouts(path, dtype):
    features, records = make_rows(10)
    features = np.asfortranarray(features.astype(dtype))
    gallery = Gallery.create(path, DIM)
    gallery.add(features, records)
    assert [hits[0].id for hits in gallery.search(features, 1)] == list(range(10))


def test_torch_tensors(path):
    features, records = make_rows(10)
    gallery = Gallery.create(path, DIM)
    gallery.add(torch.tensor(features, requires_grad=True), records)
    hits = gallery.search(torch.tensor(features).bfloat16(), 1)
    assert [hit[0].id for hit in hits] == list(range(10))
    with pytest.raises(ValueError, match="floating point"):
        gallery.search(torch.ones(1, DIM, dtype=torch.int64), 1)


def test_caller_arrays_are_left_alone(path, metric):
    features, records = make_rows(10)
    before = features.copy()
    gallery = Gallery.create(path, DIM, metric=metric)
    gallery.add(features, records)
    gallery.search(features, 2)
    np.testing.assert_array_equal(features, before)


def test_empty_gallery_and_no_queries(gallery):
    assert gallery.search(QUERIES, 5) == [[]] * len(QUERIES)
    assert gallery.search(QUERIES, 5, exclude_cameras=CAMERAS, where={"pid": 1}) == [[]] * 25
    assert gallery.search(np.empty((0, DIM), np.float32), 5) == []
    gallery.add(*make_rows(3))
    gallery.remove([0, 1, 2])
    assert gallery.search(QUERIES[:2], 5) == [[], []]


def test_hits_are_frozen_and_their_records_are_copies(filled):
    hit = filled.search(QUERIES[:1], 1)[0][0]
    assert dataclasses.is_dataclass(Hit)
    with pytest.raises(dataclasses.FrozenInstanceError):
        hit.score = 2.0
    hit.record["pid"] = "changed"
    assert filled.search(QUERIES[:1], 1)[0][0].record["pid"] != "changed"


def test_text_cameras_and_numpy_scalars(path):
    gallery = Gallery.create(path, DIM)
    features, _ = make_rows(4)
    gallery.add(features, [{"camera": name} for name in ("door", "door", "hall", "hall")])
    cameras = np.array(["door", "hall"])
    hits = gallery.search(features[:2], 4, exclude_cameras=cameras)
    assert [sorted(hit.id for hit in row) for row in hits] == [[2, 3], [0, 1]]
    assert len(gallery.search(features[:1], 4, where={"camera": np.str_("door")})[0]) == 2


def test_true_one_and_text_one_are_different_values(path):
    gallery = Gallery.create(path, DIM)
    gallery.add(make_rows(3)[0], [{"flag": True}, {"flag": 1}, {"flag": "1"}])
    for row, value in enumerate((True, 1, "1")):
        hits = gallery.search(QUERIES[:1], 3, where={"flag": value})[0]
        assert [hit.id for hit in hits] == [row]
    assert [hit.id for hit in gallery.search(QUERIES[:1], 3, where={"flag": 1.0})[0]] == [1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"features": np.ones((2, 5))},
            r"query features have dimension 5.*holds dimension 12.*mak",
        ),
        ({"features": np.ones(DIM)}, r"shape \(N, 12\); got \(12,\).*vector\[None\]"),
        ({"features": np.ones((2, DIM), int)}, "floating point.*int64"),
        ({"features": np.full((2, DIM), "a")}, "floating point"),
        ({"features": [[1.0], [1.0, 2.0]]}, r"one \(N, D\) array"),
        ({"features": np.full((2, DIM), np.nan)}, r"not finite.*2 rows \(0, 1\)"),
        ({"features": np.full((1, DIM), 1e300)}, "too large for float32"),
        ({"features": np.zeros((2, DIM))}, r"all zeros in 2 rows \(0, 1\)"),
        ({"k": 0}, "k must be an int of at least 1.*got 0"),
        ({"k": 2.0}, "k must be an int"),
        ({"k": True}, "k must be an int"),
        ({"exclude_cameras": [1]}, "one camera .*per query; got 1 for 2 queries"),
        ({"exclude_cameras": "c1"}, "list with one camera"),
        ({"exclude_cameras": 3}, "list with one camera"),
        ({"exclude_cameras": [[1], None]}, r"int or str\) or None per query; got \[1\]"),
        ({"exclude_cameras": ["1", None]}, r"holds '1' \(str\).*knows this camera as 1 \(int\)"),
        ({"where": "pid"}, "where must be a dict .*or a function record -> bool"),
        ({"where": {"colour": "red"}}, r"names the field 'colour', which no record .*'clothes'"),
        ({"where": {1: 2}}, "field names"),
        ({"where": {"pid": object()}}, r"where\['pid'\] must be a JSON value"),
        ({"where": lambda record: record["none"]}, "KeyError.*'none'.*record.get"),
        ({"model": "b"}, "of model 'a'; these are of model 'b'.*extract the features anew"),
    ],
)
def test_bad_questions_are_refused(path, arguments, message):
    gallery = Gallery.create(path, DIM, model="a")
    gallery.add(*make_rows(20))
    with pytest.raises(ValueError, match=message):
        gallery.search(**{"features": QUERIES[:2], "k": 3, **arguments})


def test_unknown_model_is_compared_with_nothing(gallery):
    gallery.add(*make_rows(3), model="a")
    assert len(gallery.search(QUERIES[:1], 3, model="b")[0]) == 3
