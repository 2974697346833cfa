"""Creating, opening, adding, removing, compacting: what is refused, and what stays the same."""

import gc
import json
import math
import shutil
import threading
import zlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from reid.gallery import Gallery, embedded, merging
from reid.gallery import segment as segment_module

from .gallery_oracle import DIM, make_rows, make_thumbnails


def test_attributes_and_repr(path):
    gallery = Gallery.create(
        path, np.int64(DIM), "Flat", "euclidean", dtype="float16", model="r50@ab12"
    )
    assert (gallery.dim, gallery.index, gallery.metric) == (DIM, "Flat", "euclidean")
    assert (gallery.model, gallery.path, len(gallery)) == ("r50@ab12", path, 0)
    assert "0 rows, dim=12, index='Flat', metric='euclidean', dtype='float16'" in repr(gallery)
    assert "model='r50@ab12'" in repr(gallery)
    assert repr(Gallery.open(str(path))) == repr(gallery)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 0}, "dim must be an int of at least 1"),
        ({"dim": 2.5}, "dim must be"),
        ({"dim": True}, "dim must be"),
        ({"dtype": "float64"}, "dtype 'float64' is not supported; .*'float32', 'float16'"),
        ({"index": "HSNW32"}, "HSNW32"),
        ({"metric": "l1"}, "metric 'l1' is not supported; .*'cosine', 'euclidean'"),
        ({"model": 3}, "model must be a text"),
    ],
)
def test_create_refuses(path, arguments, message):
    with pytest.raises(ValueError, match=message):
        Gallery.create(path, **{"dim": DIM, **arguments})
    assert not path.exists()


def test_create_makes_parents_and_takes_an_empty_folder(tmp_path):
    Gallery.create(tmp_path / "a" / "b", DIM)
    (tmp_path / "c").mkdir()
    Gallery.create(tmp_path / "c", DIM)


def test_create_touches_nobody_elses_files(filled):
    with pytest.raises(FileExistsError, match=r"a gallery at .* already.*Gallery\.open"):
        Gallery.create(filled.path, DIM)
    assert len(Gallery.open(filled.path)) == 60
    with pytest.raises(FileExistsError, match="holds other files"):
        Gallery.create(filled.path.parent, DIM)
    with pytest.raises(FileExistsError, match="holds other files"):
        Gallery.create(Path(__file__), DIM)


def test_open_refuses(tmp_path, path):
    with pytest.raises(FileNotFoundError, match=r"No gallery at .*Gallery\.create"):
        Gallery.open(path)
    with pytest.raises(FileNotFoundError, match="No gallery at"):
        Gallery.open(Path(__file__))
    Gallery.create(path, DIM, model="a")
    with pytest.raises(ValueError, match=r"holds dimension 12, not 13.*create another"):
        Gallery.open(path, dim=13)
    with pytest.raises(ValueError, match="model 'a'; these are of model 'b'"):
        Gallery.open(path, model="b")
    Gallery.open(path, dim=DIM, model="a")


@pytest.mark.parametrize(
    ("features", "records", "message"),
    [
        (np.ones((2, DIM)), [{}], "one record per feature; got 2 features and 1 records"),
        (np.ones((1, 3)), [{}], "dimension 3, this gallery holds dimension 12"),
        (np.ones((3, DIM)) * [[1], [math.inf], [1]], [{}] * 3, r"not finite .* 1 row \(1\)"),
        (np.eye(3, DIM) * [[1], [1], [0]], [{}] * 3, r"all zeros in 1 row \(2\)"),
        (np.zeros((30, DIM)), [{}] * 30, r"30 rows \(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, \.\.\.\)"),
        (np.ones((1, DIM), np.uint8), [{}], "floating point.*uint8"),
        (np.ones((1, DIM)), {"pid": 1}, "list of dicts"),
        (np.ones((1, DIM)), ["a"], "record 0 must be a dict; got str"),
        (np.ones((1, DIM)), [{1: 2}], "record 0: field names must be str; got 1"),
        (np.ones((1, DIM)), [{"a": {"b": [{2: 3}]}}], "record 0, field 'a': field names"),
        (np.ones((2, DIM)), [{}, {"image": Path("a")}], r"record 1, field 'image'.*str\(path\)"),
        (np.ones((1, DIM)), [{"a": {1, 2}}], "field 'a': not a JSON value"),
        (np.ones((1, DIM)), [{"a": math.nan}], "field 'a': not a JSON value"),
        (np.ones((1, DIM)), [{"pid": 1.5}], "field 'pid': expected int or str .*got 1.5"),
        (np.ones((1, DIM)), [{"camera": True}], "field 'camera': expected int or str"),
        (np.ones((1, DIM)), [{"image": 3}], "field 'image': expected str"),
        (np.ones((1, DIM)), [{"time": [1]}], "field 'time': expected int or float or str"),
    ],
)
def test_add_refuses_and_writes_nothing(gallery, features, records, message):
    before = sorted(gallery.path.rglob("*"))
    with pytest.raises(ValueError, match=message):
        gallery.add(features, records)
    assert sorted(gallery.path.rglob("*")) == before
    assert len(gallery) == 0


def test_add_refuses_circular_records(gallery):
    circle: list = []
    circle.append(circle)
    with pytest.raises(ValueError, match="not a JSON value"):
        gallery.add(np.ones((1, DIM)), [{"a": circle}])


def test_add_refuses_another_model(path):
    gallery = Gallery.create(path, DIM, model="a")
    gallery.add(*make_rows(2), model="a")
    with pytest.raises(ValueError, match="another gallery"):
        gallery.add(*make_rows(2), model="b")
    assert len(gallery) == 2


def test_zero_vectors_are_fine_under_euclidean(path):
    gallery = Gallery.create(path, DIM, metric="euclidean")
    gallery.add(np.zeros((1, DIM)), [{}])
    assert gallery.search(np.zeros((1, DIM)), 1)[0][0].distance == 0


def test_records_read_back_as_they_were(gallery):
    record = {
        "image": "中庭/a\nb \udcff.jpg",
        "pid": np.int64(7),
        "camera": "north",
        "time": np.float32(0.5),
        "tags": ("a", {"b": None}),
        "nothing": None,
        "flag": np.True_,
        "big": 2**70,
    }
    expected = {
        **record,
        "pid": 7,
        "time": 0.5,
        "tags": ["a", {"b": None}],
        "flag": True,
    }
    del expected["nothing"]
    [row] = gallery.add(np.ones((1, DIM)), [record])
    for view in (gallery, Gallery.open(gallery.path)):
        assert view.records[row] == expected
        assert type(view.records[row]["pid"]) is int
        assert view.search(np.ones((1, DIM)), 1)[0][0].record == expected


def test_records_view(filled):
    filled.remove([1, 59])
    records = filled.records
    assert len(records) == len(filled) == 58
    assert list(records) == [row for row in range(60) if row not in (1, 59)]
    assert records[0] == make_rows(20, 0)[1][0]
    assert records[58] == make_rows(20, 2)[1][18]
    for absent in (1, 59, 60, -1):
        assert absent not in records
    with pytest.raises(KeyError):
        records[1]
    with pytest.raises(TypeError):
        records[0] = {}


def test_empty_batches_write_nothing(gallery):
    before = (gallery.path / "manifest.json").read_bytes()
    assert gallery.add(np.empty((0, DIM), np.float32), []) == []
    assert gallery.remove([]) == 0
    gallery.compact()
    assert (gallery.path / "manifest.json").read_bytes() == before


def test_ids_are_stable_and_never_reused(gallery):
    assert gallery.add(*make_rows(5)) == [0, 1, 2, 3, 4]
    assert gallery.remove(np.array([4, 3, 3, 0])) == 3
    gallery.compact()
    assert list(gallery.records) == [1, 2]
    gallery = Gallery.open(gallery.path)
    assert gallery.add(*make_rows(2, seed=1)) == [5, 6]
    gallery.remove([1, 6])
    gallery.compact()
    gallery = Gallery.open(gallery.path)
    assert list(gallery.records) == [2, 5]
    assert gallery.records[2] == make_rows(5)[1][2]
    assert gallery.search(make_rows(5)[0][2:3], 1)[0][0].id == 2
    gallery.remove([2, 5])
    gallery.compact()
    assert len(gallery) == 0
    assert not list((gallery.path / "segments").iterdir())
    assert gallery.add(*make_rows(1, seed=2)) == [7]


def test_compact_leaves_one_segment_and_the_same_bytes(filled):
    vectors = [np.load(file) for file in sorted((filled.path / "segments").glob("*.npy"))]
    filled.remove([3])
    filled.compact()
    files = list((filled.path / "segments").glob("*.npy"))
    assert len(files) == 1
    np.testing.assert_array_equal(np.load(files[0]), np.delete(np.concatenate(vectors), 3, axis=0))
    filled.verify()


def test_compact_copies_block_by_block(filled, monkeypatch):
    monkeypatch.setattr(segment_module, "_BLOCK_ROWS", 3)
    filled.remove(range(0, 60, 7))
    expected = filled.search(make_rows(5, 9)[0], 60)
    filled.compact()
    assert Gallery.open(filled.path).search(make_rows(5, 9)[0], 60) == expected


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1, 60], r"1 of 2 ids are not in the gallery.*: 60\. Nothing was removed"),
        ([-1], "not in the gallery"),
        ([2**70], f": {2**70}. Nothing was removed"),
        ([5], "removed before"),
        ([1.0], "ids must be ints"),
        ([True], "ids must be ints"),
        (["1"], "ids must be ints"),
    ],
)
def test_remove_refuses_and_removes_nothing(filled, ids, message):
    filled.remove([5])
    with pytest.raises(ValueError, match=message):
        filled.remove(ids)
    assert len(filled) == 59


def test_segments_are_what_the_documentation_says(path):
    """Anyone can read a gallery with numpy and pyarrow alone."""
    gallery = Gallery.create(path, DIM)
    for seed in range(3):
        pictures = make_thumbnails(20, seed) if seed == 1 else None
        gallery.add(*make_rows(20, seed), thumbnails=pictures)
    manifest = json.loads((path / "manifest.json").read_text())
    assert (manifest["format"], manifest["version"], manifest["next_id"]) == ("reid-gallery", 2, 60)
    segment = manifest["segments"][1]
    vectors = np.load(path / "segments" / segment["vectors"]["name"], allow_pickle=False)
    assert vectors.dtype == np.float32
    features, records = make_rows(20, 1)
    np.testing.assert_allclose(
        vectors, features / np.linalg.norm(features, axis=1, keepdims=True), rtol=1e-6
    )
    table = pq.read_table(path / "segments" / segment["records"]["name"]).to_pydict()
    assert table["id"] == list(range(20, 40))
    assert table["crc32"] == [zlib.crc32(vector.tobytes()) for vector in vectors]
    for field in ("image", "pid", "camera", "time"):
        assert table[f"record.{field}"] == [record.get(field) for record in records]
    assert [json.loads(text or "null") for text in table["record.clothes"]] == [
        record.get("clothes") for record in records
    ]
    data = (path / "segments" / segment["thumbnails"]["name"]).read_bytes()
    places = zip(table["thumbnail_start"], table["thumbnail_bytes"], strict=True)
    found = [data[start : start + size] or None for start, size in places]
    assert found == make_thumbnails(20, 1)


def test_two_writers_and_a_reader_follow_each_other(gallery):
    other, reader = Gallery.open(gallery.path), Gallery.open(gallery.path)
    query = make_rows(1, 5)[0]
    assert gallery.add(*make_rows(3, 0)) == [0, 1, 2]
    assert other.add(*make_rows(2, 1)) == [3, 4]
    assert gallery.add(*make_rows(1, 2)) == [5]
    assert len(reader) == 0 and reader.search(query, 9) == [[]]
    assert reader.refresh() and not reader.refresh()
    assert reader.search(query, 9) == gallery.search(query, 9)
    other.remove([0])
    other.compact()
    # The reader still holds its state, though the files are gone; then it follows.
    assert len(reader.search(query, 9)[0]) == 6
    assert reader.records[0] == make_rows(3, 0)[1][0]
    assert reader.refresh()
    assert len(reader.search(query, 9)[0]) == 5


def test_a_reader_verifies_the_newest_state(filled):
    reader = Gallery.open(filled.path)
    filled.remove([0])
    filled.compact()
    assert len(reader.search(make_rows(1)[0], 100)[0]) == 60
    reader.verify()


def test_an_empty_gallery_may_lose_its_empty_folder(gallery):
    (gallery.path / "segments").rmdir()
    gallery = Gallery.open(gallery.path)
    assert gallery.search(make_rows(1)[0], 1) == [[]]
    assert gallery.add(*make_rows(1)) == [0]


def test_a_gallery_replaced_by_another_is_noticed(gallery):
    shutil.rmtree(gallery.path)
    Gallery.create(gallery.path, DIM)
    with pytest.raises(ValueError, match="replaced by another one"):
        gallery.add(*make_rows(1))


def test_threads_may_share_a_gallery(gallery):
    query = make_rows(1)[0]
    errors = []

    def write(seed):
        try:
            for _ in range(5):
                gallery.add(*make_rows(4, seed))
                gallery.search(query, 3)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(gallery) == 80
    assert list(Gallery.open(gallery.path).records) == list(range(80))


# -- merging --------------------------------------------------------------------------------------


def segments_of(gallery: Gallery) -> list[int]:
    return [segment["rows"] for segment in manifest_of(gallery)["segments"]]


def manifest_of(gallery: Gallery) -> dict:
    return json.loads((gallery.path / "manifest.json").read_text())


def test_many_small_adds_leave_few_segments_and_all_rows(path, monkeypatch):
    monkeypatch.setattr(merging, "_FAN_IN", 4)
    gallery = Gallery.create(path, DIM)
    features, records = make_rows(70)
    pictures = make_thumbnails(70)
    for row in range(70):
        gallery.add(features[row : row + 1], [records[row]], thumbnails=pictures[row : row + 1])
        if row == 40:
            gallery.remove([3, 30, 39])
    assert len(segments_of(gallery)) < 8
    assert len(list((path / "segments").glob("*.npy"))) == len(segments_of(gallery))
    left = [row for row in range(70) if row not in (3, 30, 39)]
    for view in (gallery, Gallery.open(path)):
        assert dict(view.records) == {row: records[row] for row in left}
        assert [view.thumbnail(row) for row in left] == [pictures[row] for row in left]
        hits = view.search(features, 1)
        assert [row for row in left if hits[row][0].id != row] == []
    gallery.verify()


def test_merging_keeps_row_numbers(path):
    """An index over the rows stays right: only compact changes them."""
    gallery = Gallery.create(path, DIM)
    for seed in range(15):
        gallery.add(*make_rows(1, seed))
    gallery.remove([2])
    before = gallery.store._snapshot.table.ids
    gallery.add(*make_rows(1, 15))
    assert segments_of(gallery) == [16]
    after = gallery.store._snapshot.table.ids
    np.testing.assert_array_equal(after[:15], before)
    assert manifest_of(gallery)["numbering"] == 0
    gallery.compact()
    assert manifest_of(gallery)["numbering"] == 1


def test_a_damaged_segment_is_not_merged(path, caplog):
    gallery = Gallery.create(path, DIM)
    for seed in range(15):
        gallery.add(*make_rows(1, seed))
    name = manifest_of(gallery)["segments"][4]["vectors"]["name"]
    data = bytearray((path / "segments" / name).read_bytes())
    data[-1] ^= 1
    (path / "segments" / name).write_bytes(data)
    assert gallery.add(*make_rows(1, 15)) == [15]
    assert segments_of(gallery) == [1] * 16
    assert f"not merged: The gallery {path} is damaged: {name}: content changed" in caplog.text


def test_large_batches_are_split(path, monkeypatch):
    monkeypatch.setattr(embedded, "SEGMENT_ROWS", 16)
    gallery = Gallery.create(path, DIM)
    features, records = make_rows(40)
    pictures = make_thumbnails(40)
    assert gallery.add(features, records, thumbnails=pictures) == list(range(40))
    assert segments_of(gallery) == [16, 16, 8]
    assert [gallery.thumbnail(row) for row in range(40)] == pictures
    gallery.remove([1, 20, 21, 22, 23, 24, 25, 26])
    expected = gallery.search(features, 9)
    gallery.compact()
    assert segments_of(gallery) == [16, 8, 8]  # halves and more stay where they are
    assert Gallery.open(path).search(features, 9) == expected
    assert list(gallery.records.values()) == list(Gallery.open(path).records.values())


def test_compacting_leaves_large_whole_segments_where_they_are(path, monkeypatch):
    monkeypatch.setattr(embedded, "SEGMENT_ROWS", 16)
    gallery = Gallery.create(path, DIM)
    for seed, count in enumerate((16, 16, 3, 10, 2, 2)):
        gallery.add(*make_rows(count, seed))
    gallery.remove([17])
    before = [segment["vectors"]["name"] for segment in manifest_of(gallery)["segments"]]
    records = dict(gallery.records)
    gallery.compact()
    after = [segment["vectors"]["name"] for segment in manifest_of(gallery)["segments"]]
    assert segments_of(gallery) == [16, 16, 2, 10, 4]
    assert (after[0], after[3]) == (before[0], before[3])
    assert len({*after, *before}) == len(before) + 3
    assert dict(Gallery.open(path).records) == records
    gallery.compact()
    assert [s["vectors"]["name"] for s in manifest_of(gallery)["segments"]] == after
    gallery.verify()


# -- updates and thumbnails -----------------------------------------------------------------------


def test_update_changes_fields_and_nothing_else(filled):
    before = dict(filled.records)
    files = {path.name for path in (filled.path / "segments").iterdir()}
    vectors = filled.vectors(range(60))
    assert filled.update({1: {"pid": "a", "camera": None}, 45: {"new": [1, None]}}) == 2
    before[1] = {n: v for n, v in before[1].items() if n != "camera"} | {"pid": "a"}
    before[45] = before[45] | {"new": [1, None]}
    for view in (filled, Gallery.open(filled.path)):
        assert dict(view.records) == before
        np.testing.assert_array_equal(view.vectors(range(60)), vectors)
        assert [hit.id for hit in view.search(vectors[:1], 60, where={"pid": "a"})[0]] == [1]
        assert view.fields() == ("camera", "clothes", "image", "new", "pid", "time")
    filled.update({45: {"new": None}})
    assert "new" not in filled.fields()
    assert len(files & {path.name for path in (filled.path / "segments").iterdir()}) == 4
    filled.verify()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({60: {}}, r"1 of 1 ids are not in the gallery.*: 60\. Nothing was changed"),
        ({1: {"pid": 5}, 5: {}}, r": 5\. Nothing was changed"),
        ({1: {"pid": 1.5}}, "change of id 1, field 'pid': expected int or str"),
        ({1: {"a": {1}}}, "change of id 1, field 'a': not a JSON value"),
        ({"1": {}}, "ids must be ints"),
        ({2**70: {}}, "not in the gallery"),
        ({1: "a"}, "change of id 1 must be a dict; got str"),
    ],
)
def test_update_refuses_and_changes_nothing(filled, changes, message):
    filled.remove([5])
    before = manifest_of(filled)
    with pytest.raises(ValueError, match=message):
        filled.update(changes)
    assert manifest_of(filled) == before
    assert filled.update({}) == 0


def test_thumbnails_come_back(path):
    gallery = Gallery.create(path, DIM)
    for seed in range(3):
        gallery.add(*make_rows(9, seed), thumbnails=make_thumbnails(9, seed) if seed else None)
    expected = [None] * 9 + make_thumbnails(9, 1) + make_thumbnails(9, 2)
    gallery.update({10: {"pid": 3}})
    assert [gallery.thumbnail(row) for row in range(27)] == expected
    gallery.remove([0, 11])
    gallery.compact()
    reopened = Gallery.open(path)
    left = [row for row in range(27) if row not in (0, 11)]
    assert [reopened.thumbnail(row) for row in left] == [expected[row] for row in left]
    assert [picture for rows in reopened.blocks(4) for picture in rows.thumbnails] == [
        expected[row] for row in left
    ]
    with pytest.raises(KeyError):
        reopened.thumbnail(11)


# -- reading ---------------------------------------------------------------------------------------


def test_vectors_columns_and_blocks(filled):
    filled.remove([3, 30])
    features = np.concatenate([make_rows(20, seed)[0] for seed in range(3)])
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose(filled.vectors([59, 0, 21, 0]), features[[59, 0, 21, 0]], rtol=1e-6)
    assert filled.vectors([]).shape == (0, DIM)
    for absent in (3, 60, -1, 2**70):
        with pytest.raises(KeyError, match=str(absent)):
            filled.vectors([0, absent])
    left = [row for row in range(60) if row not in (3, 30)]
    records = [make_rows(20, row // 20)[1][row % 20] for row in left]
    columns = filled.columns("camera", "time", "nothing")
    assert columns["camera"] == [record.get("camera") for record in records]
    assert columns["time"] == [record["time"] for record in records]
    assert columns["nothing"] == [None] * 58
    blocks = filled.blocks(7)
    first = next(blocks)
    filled.remove([4])
    filled.compact()  # the blocks go on with the state that they began with
    rows = [first, *blocks]
    assert np.concatenate([block.ids for block in rows]).tolist() == left
    assert [record for block in rows for record in block.records] == records
    np.testing.assert_allclose(np.concatenate([b.vectors for b in rows]), features[left], rtol=1e-6)


def test_ids_given_by_a_copy(gallery):
    store = gallery.store
    features, records = make_rows(6)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    assert store.add(features[:3], records[:3], ids=np.array([4, 7, 2**40])) == [4, 7, 2**40]
    assert gallery.add(features[3:4], records[3:4]) == [2**40 + 1]
    for ids in ([2**40 + 1, 2**40 + 2], [2**41, 2**41], [2**41, 2**40], [2**41], [1, 2**63]):
        with pytest.raises(ValueError, match=r"Nothing was added|one id per feature"):
            store.add(features[4:], records[4:], ids=np.array(ids))
    gallery.remove([7])
    assert list(Gallery.open(gallery.path).records) == [4, 2**40, 2**40 + 1]
    assert gallery.search(features[2:3], 1)[0][0].id == 2**40
    for absent in (5, 6, 7):
        with pytest.raises(ValueError, match="not in the gallery"):
            gallery.remove([absent])


def test_float16_halves_the_vectors_and_keeps_the_neighbours(path, tmp_path):
    single = Gallery.create(tmp_path / "single", DIM)
    half = Gallery.create(tmp_path / "half", DIM, dtype="float16")
    features, records = make_rows(200)
    single.add(features, records)
    half.add(features, records)
    assert half.stats()["bytes"]["vectors"] < 0.52 * single.stats()["bytes"]["vectors"]
    assert half.vectors([0]).dtype == np.float32
    pairs = zip(single.search(features[:20], 5), half.search(features[:20], 5), strict=True)
    for ours, theirs in pairs:
        np.testing.assert_allclose([h.score for h in ours], [h.score for h in theirs], atol=2e-3)
        assert ours[0].id == theirs[0].id
    half.compact()
    half.verify()


def test_float16_refuses_what_it_cannot_hold(path):
    gallery = Gallery.create(path, DIM, metric="euclidean", dtype="float16")
    with pytest.raises(
        ValueError, match=r"reach 70000, which is too large.*in 1 rows, the first 1"
    ):
        gallery.add(np.ones((3, DIM)) * [[1], [70000], [1]], [{}] * 3)
    assert len(gallery) == 0


def test_stats(filled):
    filled.remove([0])
    stats = filled.stats()
    assert json.loads(json.dumps(stats)) == stats
    assert (stats["rows"], stats["removed"], stats["segments"]) == (59, 1, 3)
    files = (filled.path / "segments").glob("*.npy")
    assert stats["bytes"]["vectors"] == sum(file.stat().st_size for file in files)
    cameras = filled.columns("camera")["camera"]
    assert stats["cameras"] == [
        {"value": camera, "rows": cameras.count(camera)} for camera in range(4)
    ]
    assert stats["fields"] == ["camera", "clothes", "image", "pid", "time"]


def test_a_closed_gallery_says_so(filled):
    path = filled.path
    with filled:
        records = filled.records
    for use in (len, repr, lambda g: g.search(make_rows(1)[0], 1), lambda g: g.remove([1])):
        with pytest.raises(ValueError, match=r"was closed\. Open it again"):
            use(filled)
    assert len(records) == 60  # whoever holds a view keeps it
    filled.close()
    assert len(Gallery.open(path)) == 60


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux says what is mapped")
def test_memory_of_old_states_is_given_back(filled):
    path = filled.path

    def mapped():
        lines = Path("/proc/self/maps").read_text().splitlines()
        return [line for line in lines if str(path) in line]

    filled.search(make_rows(1)[0], 3)
    blocks = filled.blocks(5)
    next(blocks)
    filled.remove([0])
    filled.compact()
    assert [line for line in mapped() if line.endswith("(deleted)")]  # the blocks go on with them
    blocks.close()
    gc.collect()
    assert [line.rpartition("/")[2] for line in mapped()] == [
        file.name for file in (path / "segments").glob("*.npy")
    ]
    filled.close()
    gc.collect()
    assert not mapped()


def test_searches_go_on_while_their_state_is_written_over(filled):
    """Threads search one state after another, and never a mixture of two."""
    query = make_rows(1, seed=5)[0]
    stop, errors = threading.Event(), []

    def read():
        reader = Gallery.open(filled.path)
        while not stop.is_set():
            try:
                reader.refresh()
                for gallery in (reader, filled):
                    ids = sorted(hit.id for hit in gallery.search(query, 10**6)[0])
                    kept = [row for row in range(ids[-1] + 1) if row >= 60 or row in ids]
                    assert ids == kept
                    assert (ids[-1] + 1) % 20 == 0
            except Exception as error:
                errors.append(error)
                return

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for seed in range(3, 9):
        filled.add(*make_rows(20, seed))
        filled.remove([seed])
        if seed % 3 == 0:
            filled.compact()
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors


def test_a_folder_that_is_gone_is_named(filled):
    query = make_rows(1)[0]
    expected = filled.search(query, 5)
    shutil.rmtree(filled.path)
    assert filled.search(query, 5) == expected  # what is mapped stays
    for change in (Gallery.refresh, lambda g: g.add(*make_rows(1)), lambda g: g.remove([1])):
        with pytest.raises(
            FileNotFoundError, match="is not there any more: its folder was deleted"
        ):
            change(filled)
    assert not filled.path.exists()
