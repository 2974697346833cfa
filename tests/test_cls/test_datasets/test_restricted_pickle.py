from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import tarfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cls.datasets.restricted_pickle import UnreadablePickleError, decode_pickle, read_pickle

PROTOCOLS = range(6)


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_values_and_arrays_are_read_as_pickle_reads_them(protocol: int) -> None:
    content = {
        "text": "aé中",
        "bytes": bytes(range(256)),
        "empty": b"",
        "numbers": [0, 1, -1, 255, 256, 65536, 2**40, -(2**70), 1.5, True, False, None],
        "nested": [[], (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), {"a": {"b": 1}}],
        "same": ["a", "a", "b"] * 200,
        "data": np.arange(24, dtype=np.uint8).reshape(4, 6),
        "columns": np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
        "swapped": np.arange(4, dtype=">i4"),
        "scalar": np.int64(7),
        "list of scalars": [np.int32(3), np.float32(0.5)],
    }
    read = decode_pickle(pickle.dumps(content, protocol=protocol))
    expected = pickle.loads(pickle.dumps(content, protocol=protocol))
    assert read.keys() == expected.keys()
    for key, value in expected.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(read[key], value)
            assert read[key].dtype.newbyteorder("=") == value.dtype.newbyteorder("=")
        else:
            assert read[key] == value, key


def test_files_of_python_2_are_read() -> None:
    """The first bytes of a batch as published: protocol 2, byte strings, numpy.core."""
    pixels = bytes(range(12))
    data = (
        b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x03a\xe9bq\x03U\x06labelsq\x04]q\x05(K\x06K\x09e"
        b"U\x04dataq\x06cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85"
        b"U\x01b\x87Rq\x09(K\x01K\x02K\x06\x86cnumpy\ndtype\nq\x0aU\x02u1K\x00K\x01\x87Rq\x0b"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x0c" + pixels + b"tbu."
    )
    read = decode_pickle(data)
    assert read["batch_label"] == "aéb" and read["labels"] == [6, 9]
    np.testing.assert_array_equal(read["data"], np.frombuffer(pixels, np.uint8).reshape(2, 6))


def test_text_of_python_2_in_protocol_0_is_read() -> None:
    data = rb"""(dp0
S'data'
p1
S'a\x00\xff\\ \n\'"'
p2
sS"it's"
p3
(lp4
I5
aI01
aL7L
aF0.5
as."""
    assert decode_pickle(data) == {"data": "a\x00\xff\\ \n'\"", "it's": [5, True, 7, 0.5]}
    for wrong in (b"S'a\n.", b"Sa\n.", rb"S'\q'" + b"\n.", b"S'a'"):
        with pytest.raises(ValueError, match=r"truncated|no pickle"):
            decode_pickle(wrong)


def test_keys_that_were_bytes_become_text() -> None:
    assert decode_pickle(pickle.dumps({b"labels": [1]})) == {"labels": [1]}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_code_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    touched = tmp_path / "touched"
    names = {
        "posix.system": Call(os.system, f"touch {touched}"),
        "builtins.eval|__builtin__.eval": Call(eval, f"open({str(touched)!r}, 'w')"),
        "io.open": Call(open, str(touched), "w"),
        "pathlib.": Path(touched),
        "collections.OrderedDict": OrderedDict(a=1),
        "getattr": Call(getattr, "", "join"),
    }
    for name, value in names.items():
        for content in (value, {"data": value}, [[{"a": (value,)}]], Call(bytes, value)):
            with pytest.raises(ValueError, match=r"refused: it names [\w.]+, which") as caught:
                decode_pickle(pickle.dumps(content, protocol=protocol))
            assert any(part in str(caught.value) for part in name.split("|")), caught.value
    assert not touched.exists()
    pickle.loads(pickle.dumps(names["io.open"], protocol=protocol))  # it would have been
    assert touched.exists()


def test_a_name_is_refused_even_when_it_is_not_called() -> None:
    with pytest.raises(ValueError, match=r"names os\.system"):
        decode_pickle(b"cos\nsystem\n0}.")
    for name in ("numpy.core.multiarray.fromfile", "numpy.load", "numpy.dtype.__reduce__"):
        module, _, attribute = name.rpartition(".")
        with pytest.raises(ValueError, match="refused"):
            decode_pickle(f"c{module}\n{attribute}\n.".encode())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pickle.dumps(np.array([object()])), "type 'O8'; only plain numbers"),
        (pickle.dumps(np.array([{}, []], object)), "type 'O8'; only plain numbers"),
        (pickle.dumps(np.array(["a"])), "type 'U1'"),
        (pickle.dumps(np.zeros(2, [("a", "i4")])), "type 'V4'"),
        (b"\x80\x02cnumpy\nndarray\nK\x05\x85R.", "damaged"),
        (b"\x80\x02c__builtin__\nbytes\nJ\xff\xff\xff\x7f\x85R.", "calls bytes"),
        (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x04\x00\x00\x00zlib\x86R.", "encodes 'a'"),
        (b"\x80\x02]K\x00\x85R.", "calls a value of the type list"),
        (b"\x80\x02}}b.", "stands where something else"),
        (b"\x80\x02cnumpy\ndtype\n}\x86b.", "damaged"),
        (b"\x80\x02cnumpy\ndtype\n)b.", "sets a state on the name DType"),
        (b"\x80\x02U\x01aQ.", "instruction BINPERSID"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "instruction NEWOBJ"),
        (b"\x80\x02\x82\x01.", "instruction EXT1"),
        (b"\x80\x02((i__main__\nX\n.", "instruction INST"),
        (b"\x80\x05\x97.", "instruction NEXT_BUFFER"),
    ],
)
def test_what_plain_data_does_not_need_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_pickle(data)


def claimed(shape: bytes, content: bytes = b"abc") -> bytes:
    """An array of any shape with three bytes of content; ``shape`` is pickled."""
    return (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01" + shape + b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U"
        + bytes([len(content)])
        + content
        + b"tb."
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (claimed(b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86"), "needs 4611686014132420609 bytes"),
        (claimed(b"\x8b\x00\x02\x00\x00" + b"\x7f" * 512 + b"\x85"), "beyond 64 bits"),
        (claimed(b"J\xff\xff\xff\xff\x85"), "the shape"),
        (claimed(b"(" + b"K\x01" * 40 + b"t"), "the shape"),
        (claimed(b"U\x01a\x85"), "the shape"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 50) + b"abc", "truncated"),
        (b"\x80\x04\x8e" + struct.pack("<Q", (1 << 64) - 1) + b"abc", "truncated"),
        (b"\x80\x02\x8b\xff\xff\xff\x7f\x01", "truncated"),
        (b"\x80\x02" + b"]" + b"\x85" * 100_000 + b"}\x94" + b"s.", "truncated or damaged"),
        (b"\x80\x02}]" + b"\x85" * 100_000 + b"K\x01s.", "is the key of a dict"),
        (b"\x80\x02]" + b"\x85" * 100_000 + b")R.", "calls a value of the type tuple"),
        # a text that is stored once and encoded ten thousand times
        (
            b"\x80\x02c_codecs\nencode\nq\x00X\x00\x00\x01\x00"
            + b"a" * 65536
            + b"U\x06latin1\x86q\x01"
            + b"h\x00h\x01R" * 10_000
            + b".",
            "more bytes of its text",
        ),
        (b"\x80\x02}r\xff\xff\xff\x7f.", None),  # a huge place in the memo
    ],
)
def test_claims_of_size_cost_nothing(data: bytes, message: str | None) -> None:
    if message is None:
        assert decode_pickle(data) == {}
        return
    with pytest.raises(ValueError, match=message):
        decode_pickle(data)


def test_a_list_that_is_named_often_is_one_list() -> None:
    inner = [np.int64(1)] * 100
    read = decode_pickle(pickle.dumps(dict.fromkeys(range(100), inner)))
    assert all(value is read[0] for value in read.values()) and read[5] == [1] * 100


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_truncation_is_an_error(protocol: int) -> None:
    data = pickle.dumps({"labels": [1, 2], "data": np.zeros((2, 3), np.uint8)}, protocol=protocol)
    for length in range(len(data)):
        with pytest.raises(ValueError, match=r"truncated|empty|no pickle"):
            decode_pickle(data[:length])


def test_damage_ends_in_an_error_or_in_plain_data() -> None:
    good = pickle.dumps({"labels": [1, 2], "data": np.zeros((2, 3), np.uint8)}, protocol=2)
    rng = np.random.default_rng(0)
    for _ in range(2000):
        data = bytearray(good)
        for place in rng.integers(0, len(good), 3):
            data[place] = rng.integers(0, 256)
        try:
            decode_pickle(bytes(data))
        except ValueError as error:
            assert len(str(error)) < 500
    with pytest.raises(ValueError, match="damaged") as caught:
        decode_pickle(b"\x80\x02F" + bytes(10_000) + b"\n.")
    assert len(str(caught.value)) < 500


def archive(kind: str) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode=kind) as tar:
        tar.addfile(tarfile.TarInfo("cifar-10-batches-py/data_batch_1"))
    return target.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b"hello", "it is no pickle"),
        (bytes(100), "it is no pickle"),
        (gzip.compress(b"x", mtime=0), r"gzip archive; unpack it \(tar xzf\)"),
        (archive("w:gz"), "gzip archive"),
        (archive("w:"), r"tar archive; unpack it \(tar xf\)"),
        (b"PK\x03\x04aaaa", "zip archive; unpack it"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ],
)
def test_other_files_are_named(tmp_path: Path, data: bytes, message: str) -> None:
    file = tmp_path / "data_batch_1"
    file.write_bytes(data)
    with pytest.raises(UnreadablePickleError, match=message) as caught:
        read_pickle(file)
    assert str(file) in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadablePickleError, match=r"'.*nothing' does not exist"):
        read_pickle(tmp_path / "nothing")
    with pytest.raises(UnreadablePickleError, match="directory"):
        read_pickle(tmp_path)
