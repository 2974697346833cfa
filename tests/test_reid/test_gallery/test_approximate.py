"""Approximate indexes: nothing leaks, recall is measured, and what was not measured is scanned."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from reid.gallery.approximate import ApproximateIndex, check_factory
from reid.gallery.scan import scan
from reid.gallery.signature import UntrustedIndexError

from .clustered import DIM, QUERIES, ROWS, VECTORS, segments, share_of

FAST = (
    *("HNSW16,Flat", "HNSW16,SQfp16", "HNSW16,SQ8", "PCA20,HNSW16,Flat"),
    *("IVF16,Flat", "IVF16,SQfp16", "IVF16,SQ8", "IVF16,PQ12x4fs"),
    *("IVF16_HNSW8,Flat", "PCA20,IVF16,Flat"),
)
LONG_TO_TRAIN = ("IVF16,PQ12x4", "OPQ4_20,IVF16,Flat", "OPQ12_24,IVF16,PQ12x4fs")
FACTORIES = (*FAST, *(pytest.param(one, marks=pytest.mark.slow) for one in LONG_TO_TRAIN))
METRICS = ("cosine", "euclidean")


@pytest.fixture(scope="module")
def built():
    """One index a factory and metric, built at its first use."""
    made: dict[tuple[str, str], ApproximateIndex] = {}

    def build(factory: str, metric: str) -> ApproximateIndex:
        if (factory, metric) not in made:
            made[factory, metric] = ApproximateIndex.build(segments(), factory, metric, recall=0.95)
        return made[factory, metric]

    return build


@pytest.fixture(autouse=True)
def own_key(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def recall_of(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(
        np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, wanted, strict=True)])
    )


# -- every index that is allowed ----------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("factory", FACTORIES)
def test_no_row_gets_through_a_filter_and_none_is_missing(built, factory, metric):
    index = built(factory, metric)
    for share in (0.97, 0.6, 0.3, 0.05, 0.001):
        keep = share_of(share)
        for k in (1, 10, 60):
            rows, _, _ = index.search(segments(), QUERIES, k, metric, keep)
            wanted = scan(segments(), QUERIES, k, metric, keep)
            assert keep[rows].all()
            assert rows.shape == wanted[0].shape
            assert all(len(set(row)) == len(row) for row in rows)
            assert recall_of(rows, wanted[0]) > 0.9


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("factory", FACTORIES)
def test_recall_is_what_the_report_says_and_scores_are_exact(built, factory, metric):
    index = built(factory, metric)
    report = index.report
    assert report.reached
    assert index.recall >= 0.95
    assert report.rows == index.rows == ROWS
    rows, scores, exact = index.search(segments(), QUERIES, 10, metric)
    wanted = scan(segments(), QUERIES, 10, metric)
    assert not exact
    assert recall_of(rows, wanted[0]) > 0.9
    both = np.where(rows == wanted[0], scores, wanted[1])
    np.testing.assert_array_equal(both, wanted[1])
    assert (np.diff(scores, axis=1) <= 0).all()
    assert report.table[-1].setting.keys() == index.setting.keys()


@pytest.mark.parametrize("factory", FACTORIES)
def test_removed_rows_are_never_found(factory):
    live = share_of(0.7)
    index = ApproximateIndex.build(segments(), factory, "cosine", live=live, recall=0.9)
    assert index.recall >= 0.9
    rows, _, _ = index.search(segments(), QUERIES, 20, "cosine", live)
    assert live[rows].all()
    later = live & share_of(0.9, seed=5)  # removed after it was built
    rows, _, _ = index.search(segments(), QUERIES, 20, "cosine", later)
    assert later[rows].all()


def test_all_of_these_are_accepted():
    for factory in (*FAST, *LONG_TO_TRAIN):
        check_factory(factory, DIM, "cosine")


# -- where the scan answers ---------------------------------------------------------------------


def test_selective_filters_are_answered_exactly(built):
    """Graphs collapse under them: ask the same of FAISS in test_faiss_traps.py."""
    for factory in ("HNSW16,Flat", "IVF16,Flat"):
        for share in (0.1, 0.01):
            keep = share_of(share)
            rows, scores, exact = built(factory, "cosine").search(
                segments(), QUERIES, 10, "cosine", keep
            )
            assert exact
            wanted = scan(segments(), QUERIES, 10, "cosine", keep)
            np.testing.assert_array_equal(rows, wanted[0])
            np.testing.assert_array_equal(scores, wanted[1])


def test_more_hits_than_were_measured_are_answered_exactly(built):
    index = built("IVF16,Flat", "cosine")
    for k in (101, ROWS, 5 * ROWS):
        rows, _, exact = index.search(segments(), QUERIES[:3], k, "cosine")
        assert exact
        assert rows.shape == (3, min(k, ROWS))
    assert index.recall_at(10) == index.recall
    assert index.recall_at(101) == 1.0


def test_rows_added_since_are_scanned_and_merged(built):
    index = built("IVF16,Flat", "cosine")
    more = [*segments(), QUERIES[:5], QUERIES[5:6]]
    rows, scores, _ = index.search(more, QUERIES, 3, "cosine")
    np.testing.assert_array_equal(rows[:6, 0], ROWS + np.arange(6))
    assert (rows[6:] < ROWS).any()
    keep = np.ones(ROWS + 6, bool)
    keep[ROWS] = False
    rows, scores, _ = index.search(more, QUERIES, 3, "cosine", keep)
    assert ROWS not in rows
    assert (rows[1:6, 0] == ROWS + np.arange(1, 6)).all()
    assert (np.diff(scores, axis=1) <= 0).all()
    nothing_old = np.zeros(ROWS + 6, bool)
    nothing_old[ROWS:] = True
    rows, _, exact = index.search(more, QUERIES, 10, "cosine", nothing_old)
    assert exact
    assert rows.shape == (len(QUERIES), 6)


def test_queries_to_which_the_index_gives_too_few_are_scanned(built, monkeypatch):
    """A single list of 16 cannot hold 60 rows of each query that the filter keeps."""
    index = built("IVF16,Flat", "cosine")
    narrow = ApproximateIndex(index._index, index._factory, "cosine", index.report)
    monkeypatch.setattr(type(index), "setting", {"nprobe": 1, "oversampling": 1})
    keep = share_of(0.25)
    rows, _, _ = narrow.search(segments(), QUERIES, 60, "cosine", keep)
    assert (rows >= 0).all()
    assert keep[rows].all()
    assert all(len(set(row)) == 60 for row in rows)


def test_empty_batches(built):
    rows, scores, exact = built("HNSW16,Flat", "cosine").search(
        segments(), np.empty((0, DIM), np.float32), 10, "cosine"
    )
    assert rows.shape == scores.shape == (0, 10)
    assert exact


# -- searching ----------------------------------------------------------------------------------


def test_threads_search_at_the_same_time_with_their_own_settings(built):
    """Different filters and efforts at once, none of which may show in another's answer."""
    for factory in ("HNSW16,Flat", "IVF16,Flat"):
        index = built(factory, "cosine")
        tasks = [(share_of(0.5 + number % 4 / 10, number), 1 + number % 9) for number in range(40)]

        def ask(task, index=index):
            return index.search(segments(), QUERIES, task[1], "cosine", task[0])

        wanted = [ask(task) for task in tasks]
        with ThreadPoolExecutor(8) as pool:
            for found, before in zip(pool.map(ask, tasks), wanted, strict=True):
                np.testing.assert_array_equal(found[0], before[0])
                np.testing.assert_array_equal(found[1], before[1])


def test_float16_segments():
    half = [part.astype(np.float16) for part in segments()]
    index = ApproximateIndex.build(half, "HNSW16,SQfp16", "cosine")
    rows, scores, _ = index.search(half, QUERIES, 10, "cosine")
    wanted = scan(half, QUERIES, 10, "cosine")
    assert recall_of(rows, wanted[0]) > 0.95
    np.testing.assert_array_equal(np.where(rows == wanted[0], scores, wanted[1]), wanted[1])


def test_what_does_not_fit_is_refused(built):
    index = built("IVF16,Flat", "cosine")
    with pytest.raises(ValueError, match="for the metric 'cosine', not 'euclidean'"):
        index.search(segments(), QUERIES, 1, "euclidean")
    with pytest.raises(ValueError, match=f"covers {ROWS} rows, but there are 7"):
        index.search([VECTORS[:7]], QUERIES, 1, "cosine")


# -- building -----------------------------------------------------------------------------------


def test_given_queries_and_progress():
    told = []
    index = ApproximateIndex.build(
        segments(),
        "IVF16,Flat",
        "cosine",
        recall=0.9,
        k=5,
        queries=QUERIES,
        progress=lambda *args: told.append(args),
    )
    assert not index.report.own_queries
    assert index.report.queries == len(QUERIES)
    rows, _, _ = index.search(segments(), QUERIES, 5, "cosine")
    wanted, _ = scan(segments(), QUERIES, 5, "cosine")
    assert recall_of(rows, wanted) == pytest.approx(index.recall)
    assert [what for what, *_ in told if what == "train"]
    assert ("add", ROWS, ROWS) in told
    assert told[-1][0] == "measure"


def test_the_same_seed_gives_the_same_index():
    first, second = (
        ApproximateIndex.build(segments(), "IVF16,Flat", "cosine", seed=3) for _ in range(2)
    )
    assert first.setting == second.setting
    assert first.recall == second.recall
    for one, other in zip(
        first.search(segments(), QUERIES, 10, "cosine"),
        second.search(segments(), QUERIES, 10, "cosine"),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_a_recall_out_of_reach_is_admitted():
    """Codes of four bits for three dimensions each, and no more rows proposed than wanted."""
    from reid.gallery import tuning

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "OVERSAMPLING", (1,))
        index = ApproximateIndex.build(segments(), "IVF16,PQ4x4", "cosine", recall=1.0)
    assert not index.report.reached
    assert index.recall < 0.9
    assert index.recall == max(tried.recall for tried in index.report.table)
    assert "NOT REACHED: recall@10 of 100.00 % was asked for" in str(index.report)


def test_a_gallery_that_is_too_small_says_so():
    few = [VECTORS[:10]]
    with pytest.raises(ValueError, match=r"'IVF16,Flat' has 16 lists.*the gallery has 10"):
        ApproximateIndex.build(few, "IVF16,Flat", "cosine")
    with pytest.raises(ValueError, match="FAISS cannot train the index 'IVF4,PQ4' on 10 rows"):
        ApproximateIndex.build(few, "IVF4,PQ4", "cosine")
    for nothing in ([], [np.empty((0, DIM), np.float32)]):
        with pytest.raises(ValueError, match="the gallery has none"):
            ApproximateIndex.build(nothing, "HNSW8", "cosine")
    with pytest.raises(ValueError, match="the gallery has none"):
        ApproximateIndex.build(few, "HNSW8", "cosine", live=np.zeros(10, bool))
    with pytest.raises(ValueError, match=r"recall must be in \(0, 1\]"):
        ApproximateIndex.build(few, "HNSW8", "cosine", recall=99)
    one = ApproximateIndex.build([few[0][:1]], "HNSW8", "cosine")
    assert one.search([few[0][:1]], QUERIES[:2], 5, "cosine")[0].tolist() == [[0], [0]]


def test_a_million_equal_rows_are_no_low_recall():
    same = [np.tile(segments()[0][:1], (2000, 1))]
    index = ApproximateIndex.build(same, "HNSW8,Flat", "cosine", k=5)
    assert index.recall == 1.0


# -- keeping ------------------------------------------------------------------------------------


@pytest.mark.parametrize("factory", FACTORIES)
def test_written_and_read_it_answers_the_same(built, factory, tmp_path):
    index = built(factory, "cosine")
    index.write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "index.faiss",
        "index.json",
    ]
    again = ApproximateIndex.read(tmp_path)
    assert again.report == index.report
    keep = share_of(0.8)
    for one, other in zip(
        again.search(segments(), QUERIES, 10, "cosine", keep),
        index.search(segments(), QUERIES, 10, "cosine", keep),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    assert json.loads((tmp_path / "index.json").read_text())["description"]["faiss"]


@pytest.fixture
def written(built, tmp_path) -> Path:
    folder = tmp_path / "index"
    folder.mkdir()
    built("IVF16,Flat", "cosine").write(folder)
    return folder


def refused(folder: Path) -> bool:
    with pytest.raises(UntrustedIndexError, match=r"was not made by this user.*builds it anew"):
        ApproximateIndex.read(folder)
    return True


def test_a_changed_file_is_not_read(written):
    path = written / "index.faiss"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert refused(written)


def test_a_file_cut_short_is_not_read(written):
    path = written / "index.faiss"
    path.write_bytes(path.read_bytes()[:-100])
    assert refused(written)


def test_a_changed_description_is_not_believed(written):
    path = written / "index.json"
    content = json.loads(path.read_text())
    content["description"]["report"]["recall"] = 1.0
    path.write_text(json.dumps(content))
    assert refused(written)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"signature": 5, "description": {}}'])
def test_nonsense_for_a_description_is_not_believed(written, text):
    (written / "index.json").write_text(text)
    assert refused(written)


def test_the_index_of_another_user_is_not_read(written, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "another"))
    assert refused(written)


def test_a_copied_gallery_keeps_its_index(written, tmp_path):
    shutil.copytree(written, tmp_path / "copy")
    assert ApproximateIndex.read(tmp_path / "copy").rows == ROWS


def test_no_index_is_another_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        ApproximateIndex.read(tmp_path)
