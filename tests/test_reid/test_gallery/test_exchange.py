"""Galleries as files, and copied from one place to another."""

import hashlib
import json

import numpy as np
import pytest

from reid.gallery import DamagedGalleryError, Gallery
from reid.gallery.exchange import FORMATS, copy_gallery, export_gallery, import_gallery

from .gallery_oracle import DIM, make_rows

JPEG = b"\xff\xd8\xff a picture"


@pytest.fixture(params=["float32", "float16"])
def source(request, tmp_path):
    """30 rows with holes in the ids, thumbnails, and records that are hard to keep."""
    gallery = Gallery.create(tmp_path / "source", DIM, dtype=request.param, model="m", index="Flat")
    features, records = make_rows(33)
    records[5] = {"big": 10**30, "mixed": 1, "record": "a field of this name", "half": "\ud800"}
    records[6] = {"mixed": "one", "flag": True, "number": 0.5, "deep": [{"a": 1}]}
    records[7] = {"number": 3}
    pictures = [JPEG if row % 4 == 0 else None for row in range(33)]
    gallery.add(features, records, thumbnails=pictures)
    gallery.remove([0, 9, 20])
    return gallery


def content(gallery):
    rows = [
        (row_id, record, picture)
        for ids, _, records, pictures in gallery.blocks(7)
        for row_id, record, picture in zip(ids.tolist(), records, pictures, strict=True)
    ]
    about = (gallery.dim, gallery.metric, gallery.model, gallery.dtype, gallery.index)
    return about, rows, gallery.vectors([row_id for row_id, *_ in rows]).tobytes()


@pytest.mark.parametrize("format", FORMATS)
def test_there_and_back(source, tmp_path, format, monkeypatch):
    monkeypatch.setattr("reid.gallery.exchange._BLOCK", 8)
    path = export_gallery(source, tmp_path / "file", format)
    assert content(import_gallery(path, tmp_path / "back")) == content(source)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["back", "file", "source"]
    with pytest.raises(FileExistsError):
        export_gallery(source, path, format)
    with pytest.raises(FileExistsError):
        import_gallery(path, tmp_path / "back")


@pytest.mark.parametrize("format", FORMATS)
def test_no_rows(tmp_path, format):
    empty = Gallery.create(tmp_path / "empty", 3, metric="euclidean")
    back = import_gallery(export_gallery(empty, tmp_path / "file", format), tmp_path / "back")
    assert content(back) == content(empty)


def test_parquet_is_read_by_others(source, tmp_path):
    from pyarrow import parquet

    table = parquet.read_table(export_gallery(source, tmp_path / "rows.parquet"))
    assert table.num_rows == 30
    columns = table.to_pydict()
    records = dict(source.records)
    assert columns["id"] == list(records)
    assert columns["pid"] == [record.get("pid") for record in records.values()]
    assert columns["time"] == [record.get("time") for record in records.values()]
    assert [json.loads(text) for text in columns["record"]] == list(records.values())
    mixed = dict(zip(columns["id"], columns["mixed"], strict=True))
    number = dict(zip(columns["id"], columns["number"], strict=True))
    assert (mixed[5], mixed[6], mixed[7]) == ("1", "one", None)
    flag = dict(zip(columns["id"], columns["flag"], strict=True))
    assert (number[6], number[7], flag[5], flag[6]) == (0.5, 3.0, None, True)
    np.testing.assert_array_equal(
        np.array(columns["vector"], np.float32), source.vectors(columns["id"])
    )


def test_safetensors_is_read_by_others(source, tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    folder = export_gallery(source, tmp_path / "rows", "safetensors")
    tensors = safetensors.load_file(folder / "vectors.safetensors")
    assert tensors["vectors"].dtype == source.dtype
    assert tensors["ids"].tolist() == list(source.records)
    np.testing.assert_array_equal(
        tensors["vectors"].astype(np.float32), source.vectors(tensors["ids"])
    )


@pytest.mark.parametrize("format", FORMATS)
def test_a_changed_byte_is_found(source, tmp_path, format):
    path = export_gallery(source, tmp_path / "file", format)
    files = [path] if path.is_file() else [path / "vectors.safetensors", path / "records.jsonl"]
    for file in files:
        whole = file.read_bytes()
        for place in np.linspace(4, len(whole) - 5, 12).astype(int).tolist():
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
            try:
                back = import_gallery(path, tmp_path / f"{file.name}{place}")
            except ValueError:
                assert not (tmp_path / f"{file.name}{place}").exists()
            else:  # a byte that means nothing: a convenience column, or the file's own notes
                assert format == "parquet" and content(back) == content(source)
        file.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ValueError, match=r"damaged|no gallery"):
            import_gallery(path, tmp_path / "cut")
        file.write_bytes(whole)


def test_rows_that_no_gallery_wrote(tmp_path):
    """Files are made by hand, with right checksums and wrong content."""
    unit = np.eye(3, dtype=np.float32)
    good = {"vectors": unit, "ids": np.arange(3)}
    lines = [{"id": row, "record": {"pid": row}} for row in range(3)]
    changes = {
        "vector": ({**good, "vectors": unit * np.nan}, lines),
        "is none": ({**good, "vectors": unit * 2}, lines),
        "do not ascend": ({**good, "ids": np.array([2, 1, 0])}, lines[::-1]),
        "JSON value": (good, [{**line, "record": {"x": float("nan")}} for line in lines]),
        "must be a dict": (good, [{**line, "record": 7} for line in lines]),
        "no picture": (good, [{**line, "thumbnail": "TVqQAA=="} for line in lines]),
        "records.jsonl": (good, lines[:2]),
        "more records": (good, [*lines, {"id": 3, "record": {}}]),
    }
    for number, (words, (tensors, records)) in enumerate({"": (good, lines), **changes}.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        about = {"format": 1, "dim": 3, "metric": "cosine", "index": "Flat", "dtype": "float32"}
        data = _safetensors(tensors)
        text = "".join(f"{json.dumps(record)}\n" for record in records).encode()
        (folder / "vectors.safetensors").write_bytes(data)
        (folder / "records.jsonl").write_bytes(text)
        sums = {
            "vectors.safetensors": hashlib.sha256(data).hexdigest(),
            "records.jsonl": hashlib.sha256(text).hexdigest(),
        }
        about |= {"model": None, "rows": 3, "sha256": sums}
        (folder / "manifest.json").write_text(json.dumps(about))
        if not words:
            assert len(import_gallery(folder, tmp_path / "good")) == 3
            continue
        with pytest.raises(DamagedGalleryError, match=words):
            import_gallery(folder, tmp_path / f"bad{number}")
        assert not (tmp_path / f"bad{number}").exists()


def _safetensors(tensors) -> bytes:
    """A safetensors file with the vectors first."""
    vectors, ids = tensors["vectors"].tobytes(), tensors["ids"].astype("<i8").tobytes()
    end = len(vectors)
    header = json.dumps(
        {
            "vectors": {"dtype": "F32", "shape": [3, 3], "data_offsets": [0, end]},
            "ids": {"dtype": "I64", "shape": [3], "data_offsets": [end, end + len(ids)]},
        }
    ).encode()
    return len(header).to_bytes(8, "little") + header + vectors + ids


def test_other_files_are_no_galleries(tmp_path):
    (tmp_path / "text").write_text("hello")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileNotFoundError):
        import_gallery(tmp_path / "nothing", tmp_path / "back")
    for name in ("text", "folder"):
        with pytest.raises(ValueError, match="no gallery that was exported"):
            import_gallery(tmp_path / name, tmp_path / "back")
    gallery = Gallery.create(tmp_path / "gallery", 3)
    with pytest.raises(ValueError, match="format must be"):
        export_gallery(gallery, tmp_path / "file", "pickle")


def test_a_copy_that_was_broken_off_goes_on(source, tmp_path, monkeypatch):
    monkeypatch.setattr("reid.gallery.exchange._BLOCK", 8)
    target = Gallery.create(tmp_path / "target", DIM, dtype=source.dtype, model="m")

    def stop(done, total):
        if done > 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_gallery(source, target, stop)
    assert 10 < len(target) < 30
    seen = []
    before = len(target)
    rest = copy_gallery(source, target, lambda *numbers: seen.append(numbers))
    assert rest == 30 - before and seen[-1] == (rest, rest)
    assert content(target) == content(source)
    assert copy_gallery(source, target) == 0


def test_copies_into_other_galleries_are_refused(source, tmp_path):
    for name, options in (("dim", {"dim": 3}), ("metric", {"metric": "euclidean"}), ("model", {})):
        target = Gallery.create(tmp_path / name, **{"dim": DIM, **options})
        with pytest.raises(ValueError, match=f"another {name}"):
            copy_gallery(source, target)
    other = Gallery.create(tmp_path / "other", DIM, model="m")
    other.add(*make_rows(3, 5))
    with pytest.raises(ValueError, match=r"not a beginning|float16"):
        copy_gallery(source, other)
    assert len(other) == 3


def test_to_milvus_and_back(source, tmp_path):
    pytest.importorskip("pymilvus")
    pytest.importorskip("milvus_lite")
    address = f"milvus-lite:{tmp_path}/rows.db/copy"
    with Gallery.create(address, DIM, model="m") as milvus:
        assert copy_gallery(source, milvus) == 30
        assert content(milvus)[1:] == content(source)[1:]
        queries = make_rows(5, 8)[0]
        assert list(milvus.search(queries, 9)) == list(source.search(queries, 9))
        back = Gallery.create(tmp_path / "back", DIM, model="m", dtype="float32")
        copy_gallery(milvus, back)
        assert content(back)[1:] == content(source)[1:]
