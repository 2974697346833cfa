"""Above a plain search: thresholds, groups, re-ranking, expansion, tracklets, updates."""

import numpy as np
import pytest

from reid.evaluation import expand_queries, rerank
from reid.gallery import Gallery

DIM = 8


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """80 rows of 12 identities, five of them without one; features near their identity's centre."""
    rng = np.random.default_rng(3)
    pids = rng.integers(0, 12, 80)
    features = rng.standard_normal((12, DIM))[pids] + 0.4 * rng.standard_normal((80, DIM))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    features = features.astype(np.float32)
    records = [{"pid": int(pid), "camera": row % 3} for row, pid in enumerate(pids)]
    for row in range(0, 80, 17):
        del records[row]["pid"]
    gallery = Gallery.create(tmp_path_factory.mktemp("world") / "gallery", DIM)
    for start in range(0, 80, 30):
        gallery.add(features[start : start + 30], records[start : start + 30])
    return gallery, features, records


@pytest.fixture(scope="module")
def queries():
    features = np.random.default_rng(4).standard_normal((6, DIM))
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)


def ranking(features, query):
    scores = features.astype(np.float64) @ query.astype(np.float64)
    order = np.lexsort((np.arange(len(scores)), -scores))
    return order, scores[order]


def ids(result) -> list[list[int]]:
    return [[hit.id for hit in hits] for hits in result]


@pytest.mark.parametrize("min_score", [-1.0, 0.2, 0.5, 0.99])
def test_below_the_threshold_nobody_is_known(world, queries, min_score):
    gallery, features, _ = world
    for query, hits in zip(queries, gallery.search(queries, 5, min_score=min_score), strict=True):
        order, scores = ranking(features, query)
        assert [hit.id for hit in hits] == order[scores >= min_score][:5].tolist()


@pytest.mark.parametrize("limit", [None, 1, 7, 1000])
@pytest.mark.parametrize("min_score", [-2, 0.1, 0.6, 2.0])
def test_a_range_holds_all_that_reach_it(world, queries, min_score, limit):
    gallery, features, records = world
    where = {"camera": [0, 1]}
    found = gallery.search_range(queries, min_score, limit=limit, where=where)
    for query, hits in zip(queries, found, strict=True):
        order, scores = ranking(features, query)
        near = [
            row
            for row, score in zip(order.tolist(), scores, strict=True)
            if score >= min_score and records[row]["camera"] < 2
        ]
        assert [hit.id for hit in hits] == near[:limit]
    assert found.exact and found.notes == []


@pytest.mark.parametrize("k", [1, 3, 12, 50])
@pytest.mark.parametrize("min_score", [None, 0.3])
def test_a_group_counts_once_by_its_best_row(world, queries, k, min_score):
    gallery, features, records = world
    found = gallery.search(
        queries, k, group_by="pid", min_score=min_score, where={"camera": [0, 2]}
    )
    for query, hits in zip(queries, found, strict=True):
        order, scores = ranking(features, query)
        seen, expected = set(), []
        for row, score in zip(order.tolist(), scores, strict=True):
            pid = records[row].get("pid")
            if records[row]["camera"] == 1 or (min_score is not None and score < min_score):
                continue
            if pid is None or pid not in seen:
                seen.add(pid)
                expected.append(row)
        assert [hit.id for hit in hits] == expected[:k]


def test_groups_of_a_field_that_nobody_has(world, queries):
    gallery, *_ = world
    with pytest.raises(ValueError, match=r"group_by names the field 'gate'.*'camera'"):
        gallery.search(queries, 5, group_by="gate")
    assert list(gallery.search(queries, 5, group_by="gate", min_score=1.5)) == [[]] * len(queries)


@pytest.mark.parametrize("k", [1, 10, 25])
@pytest.mark.parametrize("depth", [1, 2, 10, 30, 80, 500])
def test_reranking_orders_the_best_rows_anew(world, queries, depth, k):
    """The others follow as they were, so that more hits only go on where fewer ended."""
    gallery, features, _ = world
    for query, hits in zip(queries, gallery.search(queries, k, rerank=depth), strict=True):
        order, scores = ranking(features, query)
        head = order[:depth]
        k1 = min(20, len(head) - 1)
        distances = np.zeros(1)
        if k1:
            anew = rerank(query[None], features[head], k1=k1, k2=min(6, k1))
            distances = anew.toarray()[0]
        expected = np.lexsort((np.arange(len(head)), distances))
        rows = np.concatenate([head[expected], order[depth:]])[:k]
        assert [hit.id for hit in hits] == rows.tolist()
        by_row = dict(zip(order.tolist(), scores, strict=True))
        np.testing.assert_allclose([h.score for h in hits], [by_row[r] for r in rows], atol=1e-6)
        reranked = [hit.reranked for hit in hits[:depth] if k1]
        np.testing.assert_allclose(reranked, distances[expected][:k] if k1 else [], atol=1e-6)
        assert all(hit.reranked is None for hit in hits[depth:])


def test_reranking_goes_with_thresholds_and_groups(world, queries):
    gallery, *_ = world
    known = gallery.search(queries, 80, rerank=80, min_score=0.3)
    assert all(hit.score >= 0.3 for hits in known for hit in hits)
    for depth in (5, 40, 80):
        for hits in gallery.search(queries, 10, rerank=depth, group_by="pid"):
            pids = [hit.record["pid"] for hit in hits if "pid" in hit.record]
            assert len(hits) == 10 and len(pids) == len(set(pids))
    nobody = gallery.search(queries, 5, rerank=40, min_score=1.0)
    assert list(nobody) == [[]] * len(queries)


@pytest.mark.parametrize("alpha", [0.0, 3.0])
@pytest.mark.parametrize("count", [1, 5])
def test_expansion_is_that_of_the_evaluation(world, queries, count, alpha):
    gallery, features, _ = world
    expanded = expand_queries(queries, features, k=count, alpha=alpha)
    found = gallery.search(queries, 10, expand=count, expand_alpha=alpha)
    expected = gallery.search(expanded, 10)
    assert ids(found) == ids(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose([h.score for h in one], [h.score for h in other], atol=1e-6)


def test_expansion_takes_in_only_what_reaches_the_threshold(world, queries):
    gallery, *_ = world
    high = gallery.search(queries, 5, expand=3, min_score=0.999)
    assert list(high) == [[]] * len(queries)


def test_a_tracklet_is_its_mean_or_its_best_image(world, queries):
    gallery, features, _ = world
    parts = [queries[:1], queries[1:4], queries[4:]]
    cameras = [0, None, 2]
    mean = gallery.search_tracklets(parts, 6, exclude_cameras=cameras)
    means = np.array([part.mean(0) for part in parts])
    assert ids(mean) == ids(gallery.search(means, 6, exclude_cameras=cameras))
    best = gallery.search_tracklets(parts, 6, pool="best")
    for part, hits in zip(parts, best, strict=True):
        scores = (features.astype(np.float64) @ part.astype(np.float64).T).max(1)
        order = np.lexsort((np.arange(len(scores)), -scores))[:6]
        assert [hit.id for hit in hits] == order.tolist()
        np.testing.assert_allclose([hit.score for hit in hits], scores[order], atol=1e-6)
    hidden = gallery.search_tracklets(
        parts, 80, pool="best", exclude_cameras=cameras, exclude_ids=[[3], [], [4]]
    )
    for camera, row, hits in zip(cameras, (3, None, 4), hidden, strict=True):
        assert all(hit.record["camera"] != camera and hit.id != row for hit in hits)
    assert hidden.allowed.tolist() == [len(hits) for hits in hidden]


def test_best_image_and_groups_go_together(world, queries):
    gallery, features, records = world
    [hits] = gallery.search_tracklets([queries], 4, pool="best", group_by="pid")
    scores = (features.astype(np.float64) @ queries.astype(np.float64).T).max(1)
    seen, expected = set(), []
    for row in np.lexsort((np.arange(len(scores)), -scores)).tolist():
        pid = records[row].get("pid")
        if pid is None or pid not in seen:
            seen.add(pid)
            expected.append(row)
    assert [hit.id for hit in hits] == expected[:4]


def test_a_row_finds_what_is_like_it(world):
    gallery, features, _ = world
    [hits] = gallery.search(gallery.vectors([9]), 5, exclude_ids=[[9]])
    order, _ = ranking(np.delete(features, 9, axis=0), features[9])
    assert [hit.id for hit in hits] == [row + (row >= 9) for row in order[:5].tolist()]


def test_fewer_hits_than_asked_for_are_said(world, queries):
    gallery, *_ = world
    assert gallery.search(queries, 80).notes == []
    found = gallery.search(queries, 30, where={"camera": 1}, exclude_cameras=[1, *[None] * 5])
    assert found.allowed.tolist() == [0, *[27] * 5]
    assert "6 of 6 queries asked for 30 hits" in found.notes[0] and "least: 0" in found.notes[0]


def test_updates_change_fields_and_keep_the_rest(world, tmp_path, queries):
    _, features, records = world
    gallery = Gallery.create(tmp_path / "g", DIM)
    gallery.add(features, records)
    before = ids(gallery.search(queries, 80))
    assert gallery.update({3: {"pid": 99, "gate": "north"}, 5: {"camera": None}}) == 2
    assert gallery.records[3] == {"pid": 99, "gate": "north", "camera": 0}
    assert gallery.records[5] == {"pid": records[5]["pid"]}
    assert gallery.records[4] == records[4]
    assert [hit.id for hit in gallery.search(queries[:1], 9, where={"gate": "north"})[0]] == [3]
    reopened = Gallery.open(tmp_path / "g")
    assert dict(reopened.records) == dict(gallery.records)
    assert ids(reopened.search(queries, 80)) == before
    assert gallery.update({}) == 0
    for changes, message in (
        ({3: {"pid": 1}, 80: {"pid": 1}}, r"1 of 2 ids .*: 80\. Nothing was changed"),
        ({3: {"pid": 1.5}}, "field 'pid': expected int or str"),
        ({3: {"x": {1, 2}}}, "not a JSON value"),
        ({"3": {}}, "ids must be ints"),
        ({3: 5}, "dict"),
    ):
        with pytest.raises(ValueError, match=message):
            gallery.update(changes)
    assert gallery.records[3]["pid"] == 99


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_score": "high"}, "min_score must be a number"),
        ({"min_score": float("nan")}, "min_score must be a number"),
        ({"rerank": 0}, "rerank must be an int of at least 1"),
        ({"expand": 0}, "expand must be an int of at least 1"),
        ({"expand": 2, "expand_alpha": -1}, "expand_alpha must be at least 0"),
        ({"exclude_ids": [[1]]}, "list of ids per query"),
        ({"where": {"colour": "red"}}, r"'colour', which no record of this gallery has.*'camera'"),
    ],
)
def test_bad_options(world, queries, options, message):
    with pytest.raises(ValueError, match=message):
        world[0].search(queries, 3, **options)


@pytest.mark.parametrize(
    ("tracklets", "options", "message"),
    [
        (np.ones((2, DIM)), {}, r"list of \(n, dim\) arrays"),
        ([np.ones((0, DIM), np.float32)], {}, "at least one image; number 0 has none"),
        ([np.ones((1, DIM))], {"pool": "max"}, "pool 'max' is not supported"),
        ([np.ones((1, DIM))], {"pool": "best", "rerank": 3}, "rerank goes with pool='mean'"),
        ([np.ones((1, DIM))], {"pool": "best", "exclude_cameras": [1, 2]}, "one entry per trackl"),
    ],
)
def test_bad_tracklets(world, tracklets, options, message):
    with pytest.raises(ValueError, match=message):
        world[0].search_tracklets(tracklets, 3, **options)


def test_expansion_needs_cosine(tmp_path):
    gallery = Gallery.create(tmp_path / "g", 2, metric="euclidean")
    with pytest.raises(ValueError, match="cosine metric only"):
        gallery.search(np.ones((1, 2)), 1, expand=2)


def test_thumbnails_must_be_pictures(tmp_path):
    gallery = Gallery.create(tmp_path / "g", 2)
    for thumbnails, message in (
        ([b"text"], "thumbnail 0 must be the bytes of a JPEG"),
        (["a.jpg"], "thumbnail 0 must be the bytes"),
        ([], "one encoded image .*per feature; got 0 for 1"),
    ):
        with pytest.raises(ValueError, match=message):
            gallery.add(np.ones((1, 2)), [{}], thumbnails=thumbnails)
    picture = b"\xff\xd8\xff and so on"
    assert gallery.add(np.ones((2, 2)), [{}, {}], thumbnails=[picture, None]) == [0, 1]
    assert gallery.thumbnail(0) == picture and gallery.thumbnail(1) is None
    with pytest.raises(KeyError):
        gallery.thumbnail(2)
