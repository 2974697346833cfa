"""Reading checkpoints: what honest trainers wrote is read, nothing is ever executed."""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import os
import pathlib
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
import torch

from backbones.checkpoint import CheckpointError, read_checkpoint


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(0)
    return {
        "a.weight": torch.randn(40, 30, generator=generator),
        "a.count": torch.tensor(3),
        "b.weight": torch.randn(7, generator=generator).half(),
    }


class Runs:
    """A pickle that calls ``function(*arguments)`` when an ordinary unpickler reads it."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def assert_same(found, expected):
    assert list(found) == list(expected)
    for key, value in expected.items():
        assert found[key].dtype == value.dtype
        assert torch.equal(found[key], value)


@pytest.mark.parametrize("new_format", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", ["w.pth", "w.pth.tar", "w", "w.safetensors"])
def test_torch_formats_are_told_by_content_not_by_name(tmp_path, tensors, new_format, name):
    torch.save(tensors, tmp_path / name, _use_new_zipfile_serialization=new_format)
    assert_same(read_checkpoint(tmp_path / name), tensors)
    assert_same(read_checkpoint(str(tmp_path / name)), tensors)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_safetensors(tmp_path, tensors, name):
    from safetensors.torch import save_file

    save_file(tensors, tmp_path / name)
    found = read_checkpoint(tmp_path / name)
    assert_same({key: found[key] for key in tensors}, tensors)
    assert set(found) == set(tensors)


@pytest.mark.parametrize("new_format", [True, False], ids=["zip", "legacy"])
def test_harmless_types_of_honest_checkpoints(tmp_path, tensors, new_format):
    from mmengine.logging import HistoryBuffer

    torch.save(
        {
            "state_dict": collections.OrderedDict(tensors),
            "best": np.float64(3.5),
            "epoch": np.int64(4),
            "done": np.bool_(True),
            "label": np.str_("xy"),
            "table": np.arange(6).reshape(2, 3).T,
            "big_endian": np.arange(3, dtype=">f4"),
            "names": np.array(["ab", "cde"]),
            "history": HistoryBuffer([1.0, 2.0], [1, 1]),
            "args": argparse.Namespace(lr=0.1, out=pathlib.Path("/runs/a"), scale=np.float32(2)),
            "counts": collections.defaultdict(int, a=1),
            "recent": collections.deque([1, 2], maxlen=3),
            "pair": (np.ones(2), 1),
        },
        tmp_path / "w.pth",
        _use_new_zipfile_serialization=new_format,
    )
    found = read_checkpoint(tmp_path / "w.pth")
    assert_same(found["state_dict"], tensors)
    assert (found["best"], found["epoch"], found["done"], found["label"]) == (3.5, 4, True, "xy")
    assert type(found["best"]) is np.float64
    assert type(found["table"]) is np.ndarray
    np.testing.assert_array_equal(found["table"], np.arange(6).reshape(2, 3).T)
    np.testing.assert_array_equal(found["big_endian"], [0, 1, 2])
    assert found["names"].tolist() == ["ab", "cde"]
    assert found["history"]["log_history"].tolist() == [1.0, 2.0]
    assert found["args"].lr == 0.1
    assert str(found["args"].out).replace("\\", "/") == "/runs/a"
    assert found["args"].scale == 2
    assert found["counts"] == {"a": 1}
    assert found["recent"] == [1, 2]
    assert type(found["pair"][0]) is np.ndarray

    # Nothing of ours is left in the data: it can be saved and read by others.
    torch.save(found["args"].lr, tmp_path / "again.pth")
    torch.save({k: v for k, v in found.items() if k != "args"}, tmp_path / "again.pth")
    assert b"backbones" not in (tmp_path / "again.pth").read_bytes()


def test_real_mmengine_runner_checkpoint_parts(tmp_path, tensors):
    from mmengine.logging import MessageHub

    hub = MessageHub.get_instance("test_real_mmengine_runner_checkpoint_parts")
    hub.update_scalar("train/loss", 0.5)
    hub.update_info("iter", 7)
    torch.save({"state_dict": tensors, "message_hub": hub.state_dict()}, tmp_path / "iter_7.pth")
    found = read_checkpoint(tmp_path / "iter_7.pth")
    assert_same(found["state_dict"], tensors)
    assert found["message_hub"]["log_scalars"]["train/loss"]["log_history"].tolist() == [0.5]


def test_numpy_number_of_python_2(tmp_path):
    # Python 2 wrote the eight bytes of a float as a "string"; they are not UTF-8.
    raw = np.float64(-76.125).tobytes()
    program = (
        b"\x80\x02}U\x04bestcnumpy.core.multiarray\nscalar\n"
        b"cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        + b"U"
        + bytes([len(raw)])
        + raw
        + b"\x86Rs."
    )
    torch.save({}, tmp_path / "new.pth")
    with (
        zipfile.ZipFile(tmp_path / "new.pth") as source,
        zipfile.ZipFile(tmp_path / "old.pth", "w") as target,
    ):
        for member in source.namelist():
            data = program if member.endswith("data.pkl") else source.read(member)
            target.writestr(member, data)
    assert read_checkpoint(tmp_path / "old.pth") == {"best": -76.125}


# -------------------------------------------------------------------------------- never run code


@pytest.mark.parametrize("new_format", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    ("function", "arguments", "named"),
    [
        (os.system, ("echo",), "system"),
        (eval, ("1 + 1",), "eval"),
        (getattr, (argparse.Namespace, "__init__"), "getattr"),
        (__import__, ("os",), "__import__"),
        (io.open, ("made.txt", "w"), "open"),
    ],
)
def test_code_is_refused_and_named(tmp_path, new_format, function, arguments, named):
    payload = {"state_dict": {"w": torch.ones(2)}, "extra": Runs(function, *arguments)}
    torch.save(payload, tmp_path / "w.pth", _use_new_zipfile_serialization=new_format)
    with pytest.raises(CheckpointError, match=rf"asks for '\S*{named}'.*Nothing was executed") as e:
        read_checkpoint(tmp_path / "w.pth")
    assert "safetensors" in str(e.value)


@pytest.mark.parametrize("new_format", [True, False], ids=["zip", "legacy"])
def test_a_payload_does_not_run_even_when_the_process_allows_everything(
    tmp_path, monkeypatch, new_format
):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    trace = tmp_path / "trace"
    payload = {"w": torch.ones(2), "x": Runs(pathlib.Path.touch, trace)}
    torch.save(payload, tmp_path / "w.pth", _use_new_zipfile_serialization=new_format)
    with pytest.raises(CheckpointError):
        read_checkpoint(tmp_path / "w.pth")
    assert not trace.exists()
    torch.load(tmp_path / "w.pth", weights_only=False)
    assert trace.exists()  # the payload is a real one


def test_getattr_stays_refused_when_other_code_allows_it(tmp_path):
    torch.save(
        {"x": Runs(getattr, argparse.Namespace, "__init__")},
        tmp_path / "w.pth",
    )
    with torch.serialization.safe_globals([getattr]):
        with pytest.raises(CheckpointError, match="getattr"):
            read_checkpoint(tmp_path / "w.pth")
        assert getattr in torch.serialization.get_safe_globals()  # theirs is back


def test_the_process_wide_allow_list_is_left_as_it_was(tmp_path, tensors):
    torch.save({"w": tensors, "n": np.float64(1)}, tmp_path / "w.pth")
    before = set(torch.serialization.get_safe_globals())
    read_checkpoint(tmp_path / "w.pth")
    assert set(torch.serialization.get_safe_globals()) == before
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "w.pth", weights_only=True)


@pytest.mark.parametrize(
    "array",
    [
        np.array([None, {}], dtype=object),
        np.zeros(2, dtype=[("a", "f4"), ("b", "i4")]),
        np.array(["2020-01-01"], dtype="datetime64[D]"),
    ],
    ids=["object", "structured", "datetime"],
)
def test_numpy_arrays_of_anything_but_numbers_and_text_are_refused(tmp_path, array):
    torch.save({"x": array}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="dtype"):
        read_checkpoint(tmp_path / "w.pth")


def test_a_pickled_model_names_its_class(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"torch\.nn\.modules\.linear\.Linear.*whole pickled"):
        read_checkpoint(tmp_path / "w.pth")


# ------------------------------------------------------------------------------- unusable files


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        read_checkpoint(tmp_path / "none.pth")


def test_folder(tmp_path):
    with pytest.raises(CheckpointError, match="is a folder"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_empty_file(tmp_path, suffix):
    path = tmp_path / f"w.{suffix}"
    path.touch()
    with pytest.raises(CheckpointError, match="is empty"):
        read_checkpoint(path)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_every_cut_is_recognised(tmp_path, tensors, kind):
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    if kind == "safetensors":
        from safetensors.torch import save_file

        save_file(tensors, path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    for size in {4, 12, 30, 100, 200, 300, 500, len(whole) // 2, len(whole) - 9, len(whole) - 1}:
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=rf"is cut off: {size:,} .*fetch the file again"):
            read_checkpoint(path)


def test_cut_safetensors_says_how_much_is_missing(tmp_path, tensors):
    from safetensors.torch import save_file

    path = tmp_path / "w.safetensors"
    save_file(tensors, path)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=f"{size - 10:,} of {size:,} bytes"):
        read_checkpoint(path)


def test_damaged_safetensors_header(tmp_path):
    (tmp_path / "w.safetensors").write_bytes((16).to_bytes(8, "little") + b"{not json at all")
    with pytest.raises(CheckpointError, match="not a valid safetensors"):
        read_checkpoint(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html>404</html>", "web page"),
        (b"\n<html><body>log in</body>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\x1f\x8b\x08\x00 and so on, for long", "gzip"),
        (pickle.dumps({"w": 1}), "plain pickle"),
        (b"\x01\x02\x03 random bytes that mean nothing", "does not look like one"),
    ],
)
def test_files_that_are_something_else(tmp_path, content, message):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path / "w.pth")


def test_tar_format_of_old_torch_is_explained(tmp_path):
    (tmp_path / "storages").write_bytes(b"\0" * 64)
    with tarfile.open(tmp_path / "w.pth", "w") as archive:
        archive.add(tmp_path / "storages", "storages")
    with pytest.raises(CheckpointError, match=r"tar format.*safetensors"):
        read_checkpoint(tmp_path / "w.pth")


def test_other_zip_archives(tmp_path):
    np.savez(tmp_path / "w.npz", a=np.ones(2))
    with pytest.raises(CheckpointError, match=r"zip archive but not a checkpoint.*a\.npy"):
        read_checkpoint(tmp_path / "w.npz")
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        archive.writestr("w/data.pkl", b"")
        archive.writestr("w/constants.pkl", b"")
    with pytest.raises(CheckpointError, match="TorchScript"):
        read_checkpoint(tmp_path / "w.pt")


def test_not_a_dict(tmp_path):
    torch.save(torch.ones(2), tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="holds a Tensor; expected a dict"):
        read_checkpoint(tmp_path / "w.pth")


def test_damaged_inside_is_a_clear_error(tmp_path, tensors):
    path = tmp_path / "w.pth"
    torch.save(tensors, path)
    data = path.read_bytes()
    start = data.index(b"\x80\x02")  # the pickle inside the archive
    path.write_bytes(data[: start + 2] + b"\xfe" * 20 + data[start + 22 :])
    with pytest.raises(CheckpointError, match=r"cannot be read as plain data.*damaged"):
        read_checkpoint(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_random_damage_is_never_another_error(tmp_path, tensors, kind):
    path = tmp_path / "w"
    if kind == "safetensors":
        from safetensors.torch import save_file

        save_file(tensors, path)
    else:
        checkpoint = {"state_dict": tensors, "best": np.float64(1), "n": np.arange(4)}
        torch.save(checkpoint, path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        data = bytearray(whole)
        # Most bytes are numbers; the structure stands at both ends.
        places = [*generator.integers(0, 700, 2), *generator.integers(-700, 0, 2)]
        for place in places:
            data[place] = generator.integers(256)
        path.write_bytes(data)
        with contextlib.suppress(CheckpointError):
            read_checkpoint(path)
            continue
        refused += 1
    assert refused > 50
