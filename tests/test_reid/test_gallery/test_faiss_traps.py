"""What FAISS does in silence, and what a gallery does instead.

Each test shows the trap in raw FAISS, where that is cheap and harmless, and then our answer to it:
when FAISS mends one, its half of the test fails and says so.
"""

import faiss
import numpy as np
import pytest

from reid.gallery.approximate import ApproximateIndex
from reid.gallery.factories import check_factory
from reid.gallery.features import check_features
from reid.gallery.scan import scan

from .clustered import DIM, QUERIES, ROWS, VECTORS, segments, share_of


def raw(factory: str, measure: int = faiss.METRIC_INNER_PRODUCT):
    index = faiss.index_factory(DIM, factory, measure)
    index.train(VECTORS)
    index.add(VECTORS)
    return index


def bitmap(keep: np.ndarray):
    return faiss.IDSelectorBitmap(np.packbits(keep, bitorder="little"))


def recall_of(found: np.ndarray, wanted: np.ndarray) -> float:
    pairs = zip(found, wanted, strict=True)
    return float(np.mean([len(set(one) & set(other)) / len(other) for one, other in pairs]))


# -- filters ------------------------------------------------------------------------------------


def leaks(rows: np.ndarray, keep: np.ndarray) -> int:
    return int(np.count_nonzero(~keep[rows[rows >= 0]]))


def test_a_selector_in_the_nested_parameters_of_a_pca_leaks():
    keep = share_of(0.3)
    index = raw("PCA16,Flat")
    nested = faiss.SearchParametersPreTransform(sel=bitmap(keep))
    assert leaks(index.search(QUERIES, 10, params=nested)[1], keep) > 0
    top = faiss.SearchParameters(sel=bitmap(keep))
    assert leaks(index.search(QUERIES, 10, params=top)[1], keep) == 0
    for factory in ("PCA16,IVF8,Flat", "PCA16,HNSW16,Flat"):
        ours = ApproximateIndex.build(segments(), factory, "cosine", recall=0.9)
        rows, _, _ = ours.search(segments(), QUERIES, 10, "cosine", keep)
        assert leaks(rows, keep) == 0
        assert (rows >= 0).all()


def test_a_selector_in_the_parameters_of_a_refinement_leaks_or_fails():
    keep = share_of(0.3)
    index = raw("SQ8,RFlat")
    try:
        _, rows = index.search(
            QUERIES, 10, params=faiss.IndexRefineSearchParameters(sel=bitmap(keep))
        )
    except RuntimeError:
        rows = np.flatnonzero(~keep)[None, :10]
    assert leaks(rows, keep) > 0
    with pytest.raises(ValueError, match=r"leak through the filter.*leave it out"):
        check_factory("IVF8,SQ8,RFlat", DIM, "cosine")


def test_a_graph_under_a_selective_filter_loses_rows_and_pads_with_minus_one():
    keep = share_of(0.01)
    parameters = faiss.SearchParametersHNSW(sel=bitmap(keep), efSearch=16)
    _, theirs = raw("HNSW8,Flat").search(QUERIES, 10, params=parameters)
    wanted, _ = scan(segments(), QUERIES, 10, "cosine", keep)
    assert recall_of(theirs, wanted) < 0.9
    assert (theirs < 0).any()
    ours = ApproximateIndex.build(segments(), "HNSW8,Flat", "cosine")
    rows, _, exact = ours.search(segments(), QUERIES, 10, "cosine", keep)
    assert exact
    np.testing.assert_array_equal(rows, wanted)


@pytest.mark.parametrize("factory", ["NSG8", "LSH", "PQ8x4"])
def test_indexes_that_refuse_selectors_are_refused(factory):
    keep = share_of(0.5)
    measure = faiss.METRIC_L2
    with pytest.raises(RuntimeError):
        raw(factory, measure).search(QUERIES, 3, params=faiss.SearchParameters(sel=bitmap(keep)))
    with pytest.raises(ValueError, match="refuses filters"):
        check_factory(factory, DIM, "euclidean")


# -- removing -----------------------------------------------------------------------------------


def test_graphs_cannot_remove_and_mapped_lists_are_ruined_by_it():
    with pytest.raises(RuntimeError, match=r"[Nn]ot implemented"):
        raw("HNSW8,Flat").remove_ids(np.array([3]))
    mapped = faiss.IndexIDMap2(faiss.index_factory(DIM, "IVF8,Flat", faiss.METRIC_INNER_PRODUCT))
    mapped.train(VECTORS)
    mapped.add_with_ids(VECTORS, np.arange(ROWS))
    faiss.extract_index_ivf(mapped.index).nprobe = 8
    found = mapped.search(VECTORS[2000:], 1)[1][:, 0]
    assert (found == np.arange(2000, ROWS)).mean() == 1.0
    mapped.remove_ids(np.arange(0, 1000))
    found = mapped.search(VECTORS[2000:], 1)[1][:, 0]
    assert (found == np.arange(2000, ROWS)).mean() < 0.5
    with pytest.raises(ValueError, match="ruins it in silence"):
        check_factory("IDMap2,IVF8,Flat", DIM, "cosine")
    live = np.arange(ROWS) >= 1000  # a removed row is one that does not count
    for factory in ("IVF8,Flat", "HNSW8,Flat"):
        ours = ApproximateIndex.build(segments(), factory, "cosine", live=live)
        rows, _, _ = ours.search(segments(), VECTORS[2000:], 1, "cosine", live)
        assert (rows[:, 0] == np.arange(2000, ROWS)).mean() > 0.98
        assert rows.min() >= 1000


# -- arguments ----------------------------------------------------------------------------------


def test_vectors_that_are_no_numbers_are_accepted_and_lost():
    index = faiss.IndexFlatIP(DIM)
    vectors = VECTORS[:10].copy()
    vectors[4] = np.nan
    index.add(vectors)
    assert index.ntotal == 10
    assert 4 not in index.search(VECTORS[:10], 10)[1]
    assert (index.search(vectors[4:5], 3)[1] == -1).all()
    with pytest.raises(ValueError, match=r"not finite .* in 1 row \(4\)"):
        check_features(vectors, DIM, "cosine", "features")


def test_another_dimension_is_an_error_without_words():
    with pytest.raises(AssertionError) as raised:
        faiss.IndexFlatIP(DIM).search(QUERIES[:, :5], 1)
    assert not str(raised.value)
    with pytest.raises(ValueError, match=f"have dimension 5, this gallery holds dimension {DIM}"):
        check_features(QUERIES[:, :5], DIM, "cosine", "query features")
    with pytest.raises(ValueError, match=r"\(rows, 5\); got shape"):
        scan(segments(), np.ascontiguousarray(QUERIES[:, :5]), 1, "cosine")


def test_more_hits_than_rows_are_padded():
    index = faiss.IndexFlatIP(DIM)
    index.add(VECTORS[:3])
    assert (index.search(QUERIES, 5)[1][:, 3:] == -1).all()
    rows, scores = scan([VECTORS[:3]], QUERIES, 5, "cosine")
    assert rows.shape == scores.shape == (len(QUERIES), 3)
    ours = ApproximateIndex.build([VECTORS[:3]], "HNSW8", "cosine")
    rows, scores, _ = ours.search([VECTORS[:3]], QUERIES, 5, "cosine")
    assert rows.shape == scores.shape == (len(QUERIES), 3)


# -- scores -------------------------------------------------------------------------------------


def test_scores_of_a_batch_and_of_a_single_query_differ_in_the_last_bits():
    """A matrix product for one, a loop for the other; and close neighbours change places."""
    index = raw("Flat")
    batch = np.concatenate([QUERIES, VECTORS[:500]])
    batched, alone = index.search(batch, 10)[0][:40], index.search(QUERIES[:1], 10)[0]
    ours = [scan(segments(), asked, 10, "cosine")[1] for asked in (batch, QUERIES[:1])]
    np.testing.assert_array_equal(ours[0][:1], ours[1])
    np.testing.assert_allclose(batched[:1], alone, atol=1e-6)
    far = VECTORS + np.float32(100)
    rows, scores = scan([far], far + np.float32(1e-3), 1, "euclidean")
    assert (rows[:, 0] == np.arange(ROWS)).all()
    true = np.sqrt(((far + np.float32(1e-3) - far.astype(np.float64)) ** 2).sum(1))
    np.testing.assert_allclose(scores[:, 0], -true, rtol=1e-12)


def test_files_are_read_whatever_happened_to_them(tmp_path, monkeypatch):
    """A flipped bit is accepted: neither checksum nor signature."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    ours = ApproximateIndex.build(segments(), "IVF8,Flat", "cosine")
    ours.write(tmp_path)
    path = tmp_path / "index.faiss"
    content = bytearray(path.read_bytes())
    content[-1000] ^= 0x40
    path.write_bytes(content)
    assert faiss.read_index(str(path)).ntotal == ROWS
    with pytest.raises(ValueError, match="has changed since"):
        ApproximateIndex.read(tmp_path)
