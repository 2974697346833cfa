from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from reid.features import (
    FORMATS,
    FeatureFolder,
    column_types,
    iterate_features,
    read_features,
)

RECORDS = [
    {"image": f"/p/{i}.png", "pid": i // 2, "time": i + 0.5, **({"note": "x"} if i == 4 else {})}
    for i in range(10)
]


def manifest(file_format: str, **changes) -> dict:
    return {
        "model": "m",
        "list": "l",
        "entries": 10,
        "dim": 3,
        "precision": "float32",
        "dtype": "float32",
        "format": file_format,
        "shard_size": 4,
        "columns": column_types(RECORDS),
        **changes,
    }


@pytest.fixture(params=FORMATS)
def file_format(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def features() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)


def fill(folder: FeatureFolder, features: np.ndarray, failed: tuple[int, ...] = ()) -> None:
    for number in folder.missing:
        shard = folder.shards[number]
        kept = [p for p in shard if p not in failed]
        lost = [{"position": p, "name": f"/p/{p}.png", "reason": "gone, for good"} for p in failed]
        folder.write(
            number,
            features[kept],
            [RECORDS[p] for p in kept],
            [entry for entry in lost if entry["position"] in shard],
        )


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("failed", [(), (1, 9), (4, 5, 6, 7)])
def test_what_is_written_is_read(tmp_path, file_format, features, dtype, failed) -> None:
    folder = FeatureFolder.start(tmp_path / "f", manifest(file_format, dtype=dtype))
    fill(folder, features, failed)
    assert folder.finish() == len(failed)
    kept = [p for p in range(10) if p not in failed]
    found, records = read_features(tmp_path / "f")
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, features[kept].astype(dtype))
    assert records == [RECORDS[p] for p in kept]
    parts = list(iterate_features(tmp_path / "f"))
    assert len(parts) == 3 and sum(len(part) for part, _ in parts) == len(kept)
    with (tmp_path / "f" / "failed.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["position"]) for row in rows] == list(failed)
    assert all(row["reason"] == "gone, for good" for row in rows)


def test_one_file_is_mapped_and_not_read(tmp_path, features) -> None:
    folder = FeatureFolder.start(tmp_path, manifest("safetensors", shard_size=None))
    fill(folder, features)
    found, _ = read_features(tmp_path)
    assert isinstance(found, np.memmap)
    np.testing.assert_array_equal(found, features)
    from safetensors.numpy import load_file  # the header is read by hand: theirs must agree

    np.testing.assert_array_equal(load_file(folder.file(0))["features"], features)


def test_a_half_made_folder_is_gone_on_with(tmp_path, file_format, features) -> None:
    folder = FeatureFolder.start(tmp_path, manifest(file_format))
    folder.write(1, features[4:8], RECORDS[4:8])
    with pytest.raises(ValueError, match="1 of 3 shards are there"):
        read_features(tmp_path)
    with pytest.raises(ValueError, match="1 of 3 shards are there"):
        folder.finish()
    again = FeatureFolder.start(tmp_path, manifest(file_format, shard_size=None))
    assert again.missing == [0, 2] and again.shards == [range(4), range(4, 8), range(8, 10)]
    (tmp_path / ".shard-00000.safetensors.77.partial").write_bytes(b"of a killed process")
    fill(again, features)
    assert again.finish() == 0 and not list(tmp_path.glob(".*"))
    np.testing.assert_array_equal(read_features(tmp_path)[0], features)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("model", "n", r"another model \(m; now n\)"),
        ("list", "k", r"another list of images \(10 entries, l; now 10 entries, k\)"),
        ("dim", 4, "another dimension"),
        ("precision", "bfloat16", "computed in another type"),
        ("dtype", "float16", "features of another type"),
        ("shard_size", 5, "shards of another size"),
    ],
)
def test_what_does_not_belong_is_refused(tmp_path, key, value, reason) -> None:
    FeatureFolder.start(tmp_path, manifest("safetensors"))
    before = (tmp_path / "manifest.json").read_bytes()
    with pytest.raises(ValueError, match=reason):
        FeatureFolder.start(tmp_path, manifest("safetensors", **{key: value}))
    assert (tmp_path / "manifest.json").read_bytes() == before


def test_folders_that_are_none(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="extract_features"):
        read_features(tmp_path / "nowhere")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not empty"):
        FeatureFolder.start(tmp_path / "other", manifest("safetensors"))
    for text in ("{", "[]", '{"format_version": "gallery 1"}', json.dumps({"dim": 3})):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(ValueError, match="is not the manifest"):
            read_features(tmp_path)


@pytest.mark.parametrize("changes", [{"format": "npy"}, {"dtype": "float64"}, {"shard_size": 0}])
def test_forms_that_do_not_exist(tmp_path, changes) -> None:
    with pytest.raises(ValueError, match=r"expected a format|1 row or more"):
        FeatureFolder.start(tmp_path / "f", {**manifest("safetensors"), **changes})
    assert not (tmp_path / "f").exists()


def test_damaged_files(tmp_path, features) -> None:
    folder = FeatureFolder.start(tmp_path, manifest("safetensors"))
    fill(folder, features)
    whole = folder.file(1).read_bytes()
    for damaged in (whole[:-1], b"", b"\xff" * 64):
        folder.file(1).write_bytes(damaged)
        with pytest.raises(ValueError, match=r"shard-00001.*no whole file"):
            read_features(tmp_path)
    folder.file(1).write_bytes(whole)
    folder.records_file(1).write_text("")
    with pytest.raises(ValueError, match="4 rows and 0 records"):
        read_features(tmp_path)


def test_rows_must_fit_the_shard(tmp_path, features) -> None:
    folder = FeatureFolder.start(tmp_path, manifest("safetensors"))
    for wrong, records in (
        (features[:3], RECORDS[:3]),
        (features[:4], RECORDS[:3]),
        (features[:4, :2], RECORDS[:4]),
    ):
        with pytest.raises(ValueError, match="shard 0 has 4 rows of 3"):
            folder.write(0, wrong, records)
    assert folder.missing == [0, 1, 2]


def test_column_types() -> None:
    records = [{"a": None, "b": 1, "c": 1, "d": "x", "e": [1]}, {"a": 2, "b": 0.5, "c": "y"}]
    kinds = {"a": "int", "b": "float", "c": "text", "d": "text", "e": "text"}
    assert column_types(records) == kinds
    assert column_types([{"a": None}]) == {"a": "text"} and column_types([]) == {}


def test_parquet_is_for_other_programs(tmp_path, features) -> None:
    from pyarrow import parquet

    folder = FeatureFolder.start(tmp_path, manifest("parquet"))
    fill(folder, features)
    table = parquet.read_table(folder.file(0))
    assert table.column_names == ["image", "pid", "time", "note", "features"]
    np.testing.assert_array_equal(np.stack(table["features"].to_pylist()), features[:4])
    with pytest.raises(ValueError, match="called 'features'"):
        FeatureFolder.start(tmp_path / "g", manifest("parquet", columns={"features": "int"}))


def test_a_path_of_odd_bytes_survives(tmp_path: Path, features) -> None:
    """File names on Linux are bytes; Python gives those that are no UTF-8 as surrogates."""
    odd = "/p/caf\udce9.png"
    folder = FeatureFolder.start(tmp_path, manifest("safetensors", entries=2))
    lost = [{"position": 1, "name": odd, "reason": "broken"}]
    folder.write(0, features[:1], [{"image": odd}], lost)
    assert folder.finish() == 1 and read_features(tmp_path)[1] == [{"image": odd}]
    assert b"caf\xe9.png" in (tmp_path / "failed.csv").read_bytes()
