"""Random rows, and the brute-force search that galleries are compared with."""

import numpy as np

DIM = 12


def make_rows(count: int, seed: int = 0, dim: int = DIM):
    """(count, dim) float32 features and their records; every seventh record lacks a camera."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((count, dim)).astype(np.float32)
    records = []
    for row in range(count):
        record = {
            "image": f"{seed}/{row}.jpg",
            "pid": int(rng.integers(0, 9)),
            "camera": int(rng.integers(0, 4)) if row % 7 else None,
            "time": float(row),
            "clothes": {"upper": "red"} if row % 3 else None,
        }
        records.append({name: value for name, value in record.items() if value is not None})
    return features, records


def make_thumbnails(count: int, seed: int = 0):
    """Bytes that begin as a JPEG file does; every fifth row has none."""
    rng = np.random.default_rng(seed)
    return [
        b"\xff\xd8\xff" + rng.bytes(int(rng.integers(1, 400))) if row % 5 else None
        for row in range(count)
    ]


def brute_force(features, records, query, k, metric, keep=lambda row, record: True):
    """Ids and scores by a plain loop in float64; features and records are dicts by id."""
    query = query.astype(np.float64)
    scored = []
    for row, feature in features.items():
        if not keep(row, records[row]):
            continue
        feature = feature.astype(np.float64)
        if metric == "cosine":
            score = feature @ query / (np.linalg.norm(feature) * np.linalg.norm(query))
        else:
            score = -np.linalg.norm(feature - query)
        scored.append((-score, row))
    return [(row, -negative) for negative, row in sorted(scored)[:k]]


def assert_hits(hits, expected):
    assert [hit.id for hit in hits] == [row for row, _ in expected]
    np.testing.assert_allclose(
        [hit.score for hit in hits], [score for _, score in expected], atol=2e-6
    )
