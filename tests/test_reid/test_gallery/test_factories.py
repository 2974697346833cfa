"""Which indexes are allowed, and what the others are told."""

import pytest

from reid.gallery.factories import Factory, check_factory, parse

DIM = 32


@pytest.mark.parametrize(
    ("index", "understood"),
    [
        ("HNSW32", Factory("HNSW32", 0, False, False)),
        ("HNSW32,Flat", Factory("HNSW32,Flat", 0, False, False)),
        ("HNSW32,SQfp16", Factory("HNSW32,SQfp16", 0, False, False)),
        ("HNSW32,SQ8", Factory("HNSW32,SQ8", 0, False, True)),
        ("IVF1024,Flat", Factory("IVF1024,Flat", 1024, False, False)),
        ("IVF64_HNSW32,SQfp16", Factory("IVF64_HNSW32,SQfp16", 64, True, False)),
        ("IVF64,PQ8", Factory("IVF64,PQ8", 64, False, True)),
        ("IVF64,PQ8x4fs", Factory("IVF64,PQ8x4fs", 64, False, True)),
        ("PCA16,IVF64,Flat", Factory("PCA16,IVF64,Flat", 64, False, True)),
        ("OPQ8_16,HNSW32,Flat", Factory("OPQ8_16,HNSW32,Flat", 0, False, True)),
    ],
)
def test_allowed(index, understood):
    assert parse(index) == understood
    check_factory(index, DIM, "cosine")


def test_exact_search_is_allowed_and_no_index():
    check_factory("Flat", DIM, "cosine")


@pytest.mark.parametrize(
    ("index", "why"),
    [
        ("IDMap,Flat", "known by their position"),
        ("IDMap2,IVF64,Flat", "ruins it in silence"),
        ("NSG32,Flat", "NSG refuses filters"),
        ("IVF64,RaBitQ", "RaBitQ refuses filters"),
        ("LSH", "LSH refuses filters"),
        ("IVF64,SQ8,RFlat", "leak through the filter"),
        ("IVF64,SQ8,Refine(Flat)", "leak through the filter"),
        ("L2norm,HNSW32", "unit length already"),
        ("PQ8", "PQ without IVF refuses filters. Use 'IVF1024,PQ8'"),
        ("SQfp16", "use index='Flat' with dtype='float16'"),
        ("SQ8", "use index='Flat' with dtype='float16'"),
    ],
)
def test_refused_with_a_reason(index, why):
    with pytest.raises(ValueError, match="Supported are 'Flat'") as raised:
        check_factory(index, DIM, "cosine")
    assert why in str(raised.value)


@pytest.mark.parametrize(
    "index",
    [
        *("", "flat", "IVF64", "IVF0,Flat", "HNSW1", "HNSW0,Flat", "HNSW32,PQ8", "IVF64,PQ8x40"),
        *("PCA16", "IVF64,Flat,", ",", "Flat,Flat", "IVF64(HNSW8),Flat", "PCA0,HNSW8"),
    ],
)
def test_unknown(index):
    with pytest.raises(ValueError, match="is not known here"):
        check_factory(index, DIM, "cosine")


def test_what_is_no_text():
    with pytest.raises(ValueError, match="must be a text, a FAISS factory string; got None"):
        check_factory(None, DIM, "cosine")


@pytest.mark.parametrize(
    ("index", "why"),
    [
        ("IVF64,PQ7", "parts of PQ must divide the dimension"),
        ("PCA64,IVF4,Flat", "turns dimension 32 into 64"),
        ("OPQ5_16,IVF4,Flat", "into 16 in 5 parts"),
        ("PCA16,OPQ4_20,HNSW8", "turns dimension 16 into 20"),
    ],
)
def test_what_does_not_fit_the_dimension(index, why):
    with pytest.raises(ValueError, match=why):
        check_factory(index, DIM, "euclidean")
