"""Re-ranking equals its description, computed densely, and depends on nothing else."""

import numpy as np
import pytest
import torch

from reid.evaluation import evaluate_distances, rerank
from reid.evaluation import neighbours as neighbours_module
from reid.evaluation.reranking import VARIANTS, final_rows
from reid.evaluation.reranking_cpu import cpu_kernels

from .reranking_oracle import HALF, dense_rerank

every_variant = pytest.mark.parametrize("variant", VARIANTS)


@pytest.fixture(params=["compiled", "torch"])
def kernels(request, monkeypatch):
    """With the compiled kernels and without them."""
    if request.param == "torch":
        monkeypatch.setenv("REID_KERNELS", "torch")
    elif cpu_kernels() is None:
        pytest.skip("no C++ compiler is installed")


def features(kind, queries=25, gallery=90, dim=24, seed=0):
    rng = np.random.default_rng(seed)
    count = queries + gallery
    if kind == "normal":
        x = rng.standard_normal((count, dim))
    elif kind == "clustered":
        centers = rng.standard_normal((12, dim))
        x = centers[rng.integers(0, 12, count)] + 0.5 * rng.standard_normal((count, dim))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    elif kind == "integers":  # many equal distances, and equal vectors
        x = rng.integers(-1, 2, (count, 4))
    elif kind == "duplicates":  # each of a few vectors more often than there are neighbours
        x = rng.standard_normal((3, dim))[rng.integers(0, 3, count)]
    elif kind == "offset":  # what is common is far larger than what differs
        x = 50 + 0.1 * rng.standard_normal((count, dim))
    elif kind == "outlier":
        x = rng.standard_normal((count, dim))
        x[3] *= 100
        x[4] = 0
    elif kind == "one-hot":  # all distances are equal
        x = np.eye(count)
    x = x.astype(np.float32)
    return x[:queries], x[queries:]


KINDS = ["normal", "clustered", "integers", "duplicates", "offset", "outlier", "one-hot"]


@every_variant
@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_dense_formulation(kind, variant, kernels):
    query, gallery = features(kind)
    expected = dense_rerank(query, gallery, k1=7, k2=3, variant=variant)
    result = rerank(query, gallery, k1=7, k2=3, variant=variant).toarray()
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-5)


@every_variant
@pytest.mark.parametrize("k1", [1, 2, 3, 4, 5, 19, 20, 22, 23])
def test_every_k1(k1, variant):
    query, gallery = features("clustered")
    expected = dense_rerank(query, gallery, k1=k1, k2=4, variant=variant)
    result = rerank(query, gallery, k1=k1, k2=4, variant=variant).toarray()
    np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"k2": 1},
        {"k2": 30, "k1": 5},  # more than k1 + 1 neighbours to average over
        {"lambda_value": 0.0},
        {"lambda_value": 1.0},
        {"lambda_value": 1.0, "variant": "torchreid"},
        {"lambda_value": 0.5, "k1": 30, "k2": 10},
    ],
    ids=str,
)
def test_options(options, kernels):
    query, gallery = features("clustered")
    expected = dense_rerank(query, gallery, **options)
    np.testing.assert_allclose(rerank(query, gallery, **options).toarray(), expected, atol=1e-5)


def test_variants_differ_where_they_should():
    """Halves differ for every fourth k1 only; torchreid squares again."""
    query, gallery = features("clustered")
    halves = {name: [HALF[name](k1) for k1 in range(1, 40)] for name in VARIANTS}
    differing = [
        k1 for k1 in range(1, 40) if halves["zhong"][k1 - 1] != halves["torchreid"][k1 - 1]
    ]
    assert differing == list(range(3, 40, 4))

    def result(variant, k1):
        return rerank(query, gallery, k1=k1, variant=variant).toarray()

    assert (result("zhong", 20) == result("strong-baseline", 20)).all()
    assert np.abs(result("zhong", 20) - result("torchreid", 20)).max() > 1e-2
    odd = differing[1]
    assert np.abs(result("zhong", odd) - result("strong-baseline", odd)).max() > 1e-3


@pytest.mark.parametrize(("queries", "gallery"), [(1, 1), (1, 2), (2, 1), (1, 40), (40, 1), (3, 4)])
@every_variant
def test_tiny(queries, gallery, variant, kernels):
    """Lists are as long as there are items."""
    q, g = features("normal", queries, gallery)
    expected = dense_rerank(q, g, variant=variant)
    result = rerank(q, g, variant=variant)
    assert result.shape == (queries, gallery) and len(result) == queries
    np.testing.assert_allclose(result.toarray(), expected, atol=1e-5)


def test_fewer_items_than_neighbours_is_said(caplog):
    query, gallery = features("normal", 2, 5)
    rerank(query, gallery, k1=20)
    assert "k1 is 20, but an item has only 6 others" in caplog.text


def test_lengths_that_spoil_precision_are_said(caplog):
    query, gallery = features("normal")
    rerank(query, gallery)
    assert not caplog.text
    gallery[5] *= 1e4
    rerank(query, gallery)
    assert "scale the features to unit length" in caplog.text


def test_identical_features(kernels):
    """No distances, no maxima to divide by: every item is a neighbour of the first ones only."""
    query, gallery = np.ones((5, 8)), np.ones((40, 8))
    result = rerank(query, gallery, k1=6, k2=2).toarray()
    assert np.isfinite(result).all()
    np.testing.assert_allclose(result, dense_rerank(query, gallery, k1=6, k2=2), atol=1e-5)


@pytest.mark.parametrize("kind", ["clustered", "integers", "duplicates", "one-hot"])
@every_variant
def test_the_kernels_change_no_bit(kind, variant, monkeypatch):
    if cpu_kernels() is None:
        pytest.skip("no C++ compiler is installed")
    query, gallery = features(kind, 40, 300)
    compiled = rerank(query, gallery, k1=9, variant=variant).toarray()
    monkeypatch.setenv("REID_KERNELS", "torch")
    assert (rerank(query, gallery, k1=9, variant=variant).toarray() == compiled).all()


@pytest.mark.parametrize("kind", ["clustered", "integers", "duplicates"])
def test_tiles_and_threads_change_no_bit(kind, monkeypatch, kernels):
    query, gallery = features(kind, 40, 300, dim=65)
    expected = rerank(query, gallery).toarray()
    threads = torch.get_num_threads()
    try:
        for tile, count in ((7, 1), (64, 2), (1000, 3)):
            torch.set_num_threads(count)
            monkeypatch.setattr(neighbours_module, "_TILE", tile)
            monkeypatch.setitem(neighbours_module._EXACT_ELEMENTS, "cpu", 340 * tile)
            assert (rerank(query, gallery).toarray() == expected).all()
    finally:
        torch.set_num_threads(threads)


def test_rows_do_not_depend_on_the_division(kernels):
    query, gallery = features("clustered", 50, 333, dim=129)
    result = rerank(query, gallery)
    whole = result.toarray()
    for size in (1, 7, 50):
        parts = [result.rows(start, min(start + size, 50)) for start in range(0, 50, size)]
        assert (np.concatenate(parts) == whole).all()
    assert result.rows(4, 4).shape == (0, 333)
    for start, stop in ((-1, 3), (3, 2), (0, 51)):
        with pytest.raises(IndexError, match="50 queries"):
            result.rows(start, stop)


@pytest.mark.parametrize("kind", ["normal", "clustered", "offset"])
@every_variant
def test_a_permuted_gallery_permutes_the_result(kind, variant):
    query, gallery = features(kind)
    order = np.random.default_rng(1).permutation(len(gallery))
    expected = rerank(query, gallery, variant=variant).toarray()[:, order]
    result = rerank(query, gallery[order], variant=variant).toarray()
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_equal_gallery_items_tie_in_the_original_distance():
    query, gallery = features("normal", 5, 300, dim=515)
    gallery[1:] = gallery[0]
    result = rerank(query, gallery, lambda_value=1.0).toarray()
    assert (result == result[:, :1]).all()


@pytest.mark.parametrize("factor", [1e-30, 1e-3, 7.0, 1e12])
def test_scale_makes_no_difference(factor):
    query, gallery = (x.astype(np.float64) for x in features("clustered"))
    expected = rerank(query, gallery).toarray()
    np.testing.assert_allclose(
        rerank(query * factor, gallery * factor).toarray(), expected, atol=1e-5
    )


@pytest.mark.parametrize(
    "convert",
    [
        torch.from_numpy,
        lambda x: torch.from_numpy(x).double(),
        lambda x: torch.from_numpy(x).requires_grad_(),
        lambda x: x[:, ::-1],
        np.asfortranarray,
    ],
)
def test_features_come_as_they_like(convert):
    query, gallery = features("clustered")
    expected = rerank(query, gallery).toarray()
    assert (rerank(convert(query), convert(gallery)).toarray() == expected).all()


@pytest.mark.parametrize("kind", [np.float16, torch.float16, torch.bfloat16])
def test_half_precision(kind):
    """Half-precision features are taken for the numbers they are."""
    halves = [torch.from_numpy(x).to(kind if kind != np.float16 else torch.float16) for x in
              features("clustered")]  # fmt: skip
    expected = dense_rerank(*(half.float().numpy() for half in halves))
    given = [half.numpy() for half in halves] if kind == np.float16 else halves
    np.testing.assert_allclose(rerank(*given).toarray(), expected, atol=1e-5)


def test_evaluation_takes_it_and_gains():
    """Clusters that touch: re-ranking must raise mAP, and rows give what the whole matrix gives."""
    rng = np.random.default_rng(0)
    ids = np.arange(240) % 30
    x = rng.standard_normal((30, 32))[ids] + 1.3 * rng.standard_normal((240, 32))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    query, gallery, labels = x[:60], x[60:], (ids[:60], ids[60:])
    result = rerank(query, gallery, k1=6, k2=3)
    reranked = evaluate_distances(result, *labels)
    assert reranked.mAP == evaluate_distances(result.toarray(), *labels).mAP
    assert reranked.mAP > evaluate_distances(-query @ gallery.T, *labels).mAP + 0.02


def test_it_says_its_rules():
    query, gallery = features("normal")
    result = rerank(query, gallery, k1=8, k2=2, lambda_value=0.25, variant="torchreid")
    assert result.rules == {
        "method": "k-reciprocal re-ranking",
        "variant": "torchreid",
        "k1": 8,
        "k2": 2,
        "lambda_value": 0.25,
        "camera_aware": False,
    }
    assert str(result) == ("k-reciprocal re-ranking (torchreid, k1 8, k2 2, lambda 0.25), 25 x 90")


# ---------------------------------------------------------------------------------------------
# cameras


def test_camera_aware_is_rerank_of_standardised_features():
    query, gallery = features("clustered")
    rng = np.random.default_rng(3)
    cameras = rng.integers(-1, 3, 115)
    x = np.concatenate([query, gallery]).astype(np.float64)
    for camera in np.unique(cameras):
        rows = cameras == camera
        x[rows] = (x[rows] - x[rows].mean(0)) / x[rows].std(0)
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    result = rerank(query, gallery, query_cameras=cameras[:25], gallery_cameras=cameras[25:])
    np.testing.assert_allclose(result.toarray(), dense_rerank(x[:25], x[25:]), atol=1e-5)
    assert result.rules["camera_aware"] and "by camera" in str(result)


def test_camera_aware_undoes_what_a_camera_does():
    """Every camera shifts and stretches all of its images: nothing of it is left."""
    rng = np.random.default_rng(0)
    ids, cameras = np.arange(300) % 20, np.arange(300) // 20 % 3
    x = rng.standard_normal((20, 16))[ids] + 0.4 * rng.standard_normal((300, 16))
    seen = x * rng.uniform(0.5, 2, (3, 16))[cameras] + 4 * rng.standard_normal((3, 16))[cameras]
    labels = ids[:60], ids[60:], cameras[:60], cameras[60:]
    plain = rerank(seen[:60], seen[60:], k1=10, k2=3)
    aware = rerank(
        seen[:60], seen[60:], k1=10, k2=3, query_cameras=cameras[:60], gallery_cameras=cameras[60:]
    )
    assert evaluate_distances(aware, *labels).mAP > 0.9 > evaluate_distances(plain, *labels).mAP


def test_a_camera_of_one_image_is_survived():
    query, gallery = features("normal")
    cameras = np.zeros(90, np.int32)
    result = rerank(query, gallery, query_cameras=np.arange(25), gallery_cameras=cameras)
    assert np.isfinite(result.toarray()).all()


# ---------------------------------------------------------------------------------------------
# refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "best"}, "'zhong', 'torchreid', 'strong-baseline', got 'best'"),
        ({"k1": 0}, "k1 must be an integer of at least 1, got 0"),
        ({"k1": 2.5}, "k1 must be an integer"),
        ({"k2": 0}, "k2 must be an integer of at least 1, got 0"),
        ({"k2": True}, "k2 must be an integer"),
        ({"lambda_value": 1.5}, "lambda_value must be 0..1, got 1.5"),
        ({"lambda_value": float("nan")}, "lambda_value must be 0..1"),
        ({"query_cameras": np.zeros(25, int)}, "gallery_cameras is None"),
        ({"gallery_cameras": np.zeros(90, int)}, "query_cameras is None"),
        (
            {"query_cameras": np.zeros(24, int), "gallery_cameras": np.zeros(90, int)},
            r"query_cameras must have shape \(25,\), got \(24,\)",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        rerank(*features("normal"), **options)


def test_cameras_are_integers():
    with pytest.raises(TypeError, match="query_cameras must be integers"):
        rerank(*features("normal"), query_cameras=np.zeros(25), gallery_cameras=np.zeros(90, int))


@pytest.mark.parametrize("side", ["query", "gallery"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_named(side, value):
    pair = dict(zip(("query", "gallery"), features("normal"), strict=True))
    pair[side][7, 3] = value
    with pytest.raises(ValueError, match=f"{side}_features must be finite: row 7"):
        rerank(**{f"{name}_features": x for name, x in pair.items()})


@pytest.mark.parametrize(
    ("query", "gallery", "message"),
    [
        (np.ones((3, 4)), np.ones((5, 6)), "4 dimensions"),
        (np.ones(4), np.ones((5, 4)), "query_features must be a matrix"),
        (np.ones((0, 4)), np.ones((5, 4)), "query_features must not be empty"),
        (np.ones((3, 4)), np.ones((0, 4)), "gallery_features must not be empty"),
    ],
)
def test_bad_shapes_are_refused(query, gallery, message):
    with pytest.raises(ValueError, match=message):
        rerank(query, gallery)


def test_final_rows_without_original_distance():
    """lambda 0 needs no products."""
    one = (np.array([0, 2]), np.array([0, 1], np.int32), np.array([0.5, 0.5], np.float32))
    inverted = (np.array([0, 1, 1]), np.array([1], np.int32), np.array([1.0], np.float32))
    result = final_rows(None, np.zeros(1), np.zeros(3), np.ones(1), 0.0, False, one, inverted)
    np.testing.assert_allclose(result, [[1, 1 - 0.5 / 1.5, 1]], rtol=1e-6)


@pytest.mark.gpu
def test_on_a_gpu_it_is_the_same():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    query, gallery = features("clustered", 60, 700, dim=129)
    on_gpu = (torch.from_numpy(x).cuda() for x in (query, gallery))
    assert (rerank(*on_gpu).toarray() == rerank(query, gallery).toarray()).all()
