"""What only a gallery in Milvus has: addresses, keys, limits, other clients, and failures."""

import threading

import numpy as np
import pytest

from reid.gallery import DamagedGalleryError, Gallery, GalleryLockedError
from reid.gallery.address import is_address, parse_address
from reid.gallery.milvus_filter import KEY_LENGTH, key_columns, order_key, orders_exactly
from reid.gallery.where import same_order, value_key

from .gallery_oracle import DIM, assert_hits, brute_force, make_rows

# Values at which orders and equalities go wrong.
VALUES = [None, True, False, 0, -0.0, 1, 1.0, -1, 0.5, -0.5, 2, 10, 255, 256, 5e-324, -5e-324]
VALUES += [sign * (2**53 + step) for sign in (1, -1) for step in (-1, 0, 1, 2)]
VALUES += [float(2**53), 1e22, 10**22, 10**22 + 1, 1e308, 2**1023, 10**310, 10**311, -(10**310)]
VALUES += ["", "a", "A", "aa", "b", "\0", "\xff", "\uffff", "\U0001f600", "\ud800", "\udfff", "1"]
VALUES += ["x" * 100, "x" * 101, "x" * 99 + "é", "y" + "x" * 200, ["a", 1], ["a", 1.0], {"a": None}]


# -- addresses --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown", "uri", "collection", "token"),
    [
        ("milvus://h/c", "milvus://h:19530/c", "http://h:19530", "c", ""),
        ("milvus://h:7/c_1", "milvus://h:7/c_1", "http://h:7", "c_1", ""),
        ("milvus+tls://h:7/c", "milvus+tls://h:7/c", "https://h:7", "c", ""),
        ("milvus://me:p%40ss@h:7/c", "milvus://h:7/c", "http://h:7", "c", "me:p@ss"),
        ("milvus://[::1]:7/c", "milvus://[::1]:7/c", "http://[::1]:7", "c", ""),
        ("milvus-lite:/a/b.db/c", "milvus-lite:/a/b.db/c", "/a/b.db", "c", ""),
    ],
)
def test_addresses(text, shown, uri, collection, token, monkeypatch):
    monkeypatch.delenv("MILVUS_TOKEN", raising=False)
    address = parse_address(text)
    assert is_address(text)
    assert (address.text, address.uri, address.collection) == (shown, uri, collection)
    assert address.token == token and (not token or "p@ss" not in repr(address))


@pytest.mark.parametrize(
    "text",
    [
        "milvus://",
        "milvus:///c",
        "milvus://h",
        "milvus://h/c/d",
        "milvus://h:x/c",
        "milvus://h/1c",
        "milvus://h/c?a=b",
        "milvus-lite:c",
        "milvus-lite:a.txt/c",
        "milvus-lite:a.db/",
        "milvus://me:secret@h/c-d",
        "milvus://me:secret@h:99999999/c",
    ],
)
def test_no_addresses(text):
    with pytest.raises(ValueError, match="milvus://HOST:PORT/COLLECTION") as caught:
        Gallery.open(text)
    assert "secret" not in str(caught.value)


def test_folders_are_no_addresses(tmp_path):
    assert not any(map(is_address, (str(tmp_path), tmp_path, "milvus", "lite:x.db/c")))


def test_the_token_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("MILVUS_TOKEN", "an-api-key")
    assert parse_address("milvus://h/c").token == "an-api-key"
    assert parse_address("milvus://me:you@h/c").token == "me:you"
    assert "an-api-key" not in repr(parse_address("milvus://h/c"))


# -- keys -------------------------------------------------------------------------------------


def test_keys_are_equal_and_ordered_as_values_are():
    rng = np.random.default_rng(0)
    near = [int(n) for n in rng.integers(2**55, 2**55 + 40, 12)] + [float(2**55 + 8)]
    drawn = [float(x) for x in rng.standard_normal(20) * 10.0 ** rng.integers(-9, 9, 20)]
    for one in [*VALUES, *near, *drawn]:
        for other in [*VALUES, *near, *drawn]:
            a, b = order_key(one), order_key(other)
            assert (a == b) == (value_key(one) == value_key(other)), (one, other)
            if not isinstance(other, bool) and same_order(one, other) and orders_exactly(other):
                assert (a < b) == (one < other), (one, other)


def test_keys_hold_nothing_that_could_end_a_text():
    for name in [value for value in VALUES if isinstance(value, str)]:
        for value in VALUES:
            columns = key_columns({name: value, "camera": value})
            texts = [*columns["keys"], *columns["fields"].values(), columns["camera"]]
            assert set("".join(texts)) <= set("0123456789abcdefnsj~=")
            assert max(map(len, texts)) <= KEY_LENGTH


def test_what_has_no_key():
    with pytest.raises(ValueError, match="hexadecimal digits"):
        order_key(16**500)
    with pytest.raises(ValueError, match="at most 2000"):
        key_columns({str(number): 1 for number in range(2001)})


# -- galleries of milvus-lite -------------------------------------------------------------------


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    pytest.importorskip("pymilvus")
    pytest.importorskip("milvus_lite")
    return f"milvus-lite:{tmp_path_factory.mktemp('lite')}/rows.db"


@pytest.fixture
def gallery(file, request):
    name = "".join(c if c.isalnum() else "_" for c in request.node.name)
    with Gallery.create(f"{file}/{name}", DIM) as made:
        yield made


def test_what_milvus_has_not(file):
    for options, words in (
        ({"dtype": "float16"}, "float16 gallery fit exactly"),
        ({"index": "PQ32"}, "'HNSW32'"),
        ({"index": "HNSW1000"}, "4..64"),
    ):
        with pytest.raises(ValueError, match=words):
            Gallery.create(f"{file}/never", DIM, **options)
    with pytest.raises(FileNotFoundError, match=r"Gallery\.create"):
        Gallery.open(f"{file}/never")


def test_a_strange_collection_is_refused(gallery, file):
    gallery.store._milvus.create(
        "strange",
        [
            {"field_name": "id", "datatype": "INT64", "is_primary": True},
            {"field_name": "vector", "datatype": "FLOAT_VECTOR", "dim": 3},
        ],
        ("FLAT", {}, "IP"),
    )
    with pytest.raises(ValueError, match="not made by Gallery"):
        Gallery.open(f"{file}/strange")
    with pytest.raises(FileExistsError):
        Gallery.create(f"{file}/strange", 3)


@pytest.mark.parametrize("index", ["HNSW8", "IVF4,Flat"])
def test_an_approximate_index_says_so(file, index):
    features, records = make_rows(200)
    with Gallery.create(f"{file}/{index[:3]}", DIM, index=index) as gallery:
        ids = gallery.add(features, records)
        hits = gallery.search(features[:20], 5)
        assert not hits.exact and hits.recall is None and "approximate" in hits.notes[0]
        assert [found[0].id for found in hits] == ids[:20]  # each finds itself
        exact = gallery.search(features[:20], 5, exact=True)
        assert exact.exact and gallery.search_range(features[:2], 0.5).exact
        known = dict(enumerate(features))
        for query, found in zip(features[:20], exact, strict=True):
            assert_hits(found, brute_force(known, dict(enumerate(records)), query, 5, "cosine"))


def test_the_server_builds_its_index_itself(gallery):
    with pytest.raises(ValueError, match=r"indexed by the server.*index='HNSW32'"):
        gallery.build_index("HNSW32")


def test_more_than_milvus_gives_at_a_time(gallery, monkeypatch):
    """Limits are made small: the rows beyond them are read and compared here."""
    features, records = make_rows(120)
    features[10:60] = features[10]  # 50 equal rows: no limit below that settles the order
    gallery.add(features, records)
    monkeypatch.setattr("reid.gallery.milvus_search.LIMIT", 20)
    known = dict(enumerate(features)), dict(enumerate(records))
    for k in (3, 19, 21, 200):
        for where, keep in (({}, lambda _, r: True), ({"pid": [1, 2]}, lambda _, r: r["pid"] < 3)):
            if where:
                keep = lambda _, r: r["pid"] in (1, 2)  # noqa: E731
            queries = features[[0, 10]]
            for query, found in zip(queries, gallery.search(queries, k, where=where), strict=True):
                assert_hits(found, brute_force(*known, query, k, "cosine", keep))
    (found,) = gallery.search_range(features[10:11], 0.2)
    expected = brute_force(*known, features[10], 200, "cosine")
    assert_hits(found, [pair for pair in expected if pair[1] >= 0.2])


def test_writers_at_the_same_time_never_share_an_id(gallery):
    others = [Gallery.open(gallery.location) for _ in range(3)]
    given, errors = [], []

    def write(client):
        try:
            for _ in range(4):
                given.extend(client.add(*make_rows(2)))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(client,)) for client in (gallery, *others)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not [error for error in errors if not isinstance(error, GalleryLockedError)]
    assert len(given) == len(set(given)) == len(gallery) and len(given) >= 8
    for client in others:
        client.close()


def test_a_part_that_fails_takes_back_what_went_before(gallery, monkeypatch):
    features, records = make_rows(20)
    ids = gallery.add(features, records)
    before = dict(gallery.records)
    monkeypatch.setattr("reid.gallery.milvus.BLOCK_BYTES", 5 * (4 * DIM + 2048))
    connection = gallery.store._milvus
    upsert, calls = connection.upsert, []

    def failing(name, rows):
        calls.append(len(rows))
        if len(calls) == 4:  # the claim, two parts of rows, and then
            raise OSError("the server went away.")
        upsert(name, rows)

    for change in (
        lambda: gallery.add(features, records),
        lambda: gallery.update({row_id: {"pid": 1000} for row_id in ids}),
    ):
        calls.clear()
        with monkeypatch.context() as patch:
            patch.setattr(connection, "upsert", failing)
            with pytest.raises(OSError, match="went away"):
                change()
        assert dict(gallery.records) == before and len(gallery) == 20
    assert gallery.add(features[:1], records[:1])[0] > max(ids)
    gallery.verify()


def test_adding_waits_for_a_copy_to_be_ended(gallery, monkeypatch):
    features, records = make_rows(2)
    vectors = features / np.linalg.norm(features, axis=1, keepdims=True)
    store = gallery.store
    with monkeypatch.context() as patch:
        patch.setattr(store, "_send", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store.add(vectors, [{}, {}], None, np.array([3, 4]))
    with pytest.raises(GalleryLockedError, match="copy_gallery goes on"):
        gallery.add(features, records)
    assert store.add(vectors, [{}, {}], None, np.array([3, 4])) == [3, 4]
    assert gallery.add(features, records) == [5, 6]


def test_verify_finds_what_others_spoilt(gallery):
    gallery.add(*make_rows(3))
    store = gallery.store
    columns = ["id", "vector", "record", "thumbnail", "fields", "keys", "pid", "camera", "time"]
    (row,) = store._milvus.query(store._name, "id == 1", columns)
    for change in ({"vector": [2.0] * DIM}, {"record": "{"}, {"pid": order_key(999)}):
        store._milvus.upsert(store._name, [{**row, **change}])
        with pytest.raises(DamagedGalleryError, match="id 1"):
            gallery.verify()
    store._milvus.upsert(store._name, [row])
    gallery.verify()


def test_texts_that_are_too_long(gallery):
    features, _ = make_rows(2)
    with pytest.raises(ValueError, match=r"record 1: .*65535"):
        gallery.add(features, [{}, {"text": "x" * 70000}])
    with pytest.raises(ValueError, match="thumbnail 0"):
        gallery.add(features, [{}, {}], thumbnails=[b"\xff\xd8\xff" + b"x" * 60000, None])
    assert len(gallery) == 0


def test_nobody_answers(monkeypatch):
    pytest.importorskip("pymilvus")
    monkeypatch.setattr("reid.gallery.milvus_connection._CONNECT_SECONDS", 0.3)
    with pytest.raises(OSError, match=r"127\.0\.0\.1:9/c.*running") as caught:
        Gallery.open("milvus://me:secret@127.0.0.1:9/c")
    assert "secret" not in str(caught.value)


def test_a_closed_gallery_says_so(file):
    gallery = Gallery.create(f"{file}/closed", DIM)
    gallery.close()
    gallery.close()
    with pytest.raises(ValueError, match="was closed"):
        len(gallery)
