"""Read checkpoint files without ever running code that they carry; and what to write into one.

A ``.pth`` file is a pickle, and an ordinary unpickler runs whatever the pickle asks for. Here files
go through torch's weights-only unpickler, which builds tensors and plain containers and refuses the
rest; ``.safetensors`` files hold no code at all. There is no fallback to the ordinary unpickler.

Honest checkpoints of other trainers also hold a few types that torch does not know: numpy scalars
(``best_prec1``), an ``argparse.Namespace``, mmengine's log history. Each is built as an inert
stand-in of this file. In particular ``getattr``, which mmengine's history refers to, is *not*
allowed as such: with it a pickle reaches ``function.__globals__``, a dict it may write to, and from
there any code. The stand-in returns only the name of a history statistic.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import pathlib
import pickle
import re
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["CheckpointError", "checkpoint_bytes", "find_state_dict", "read_checkpoint"]


class CheckpointError(ValueError):
    """A checkpoint file that cannot be used; the message says why and what to do next."""


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint onto the CPU. The content decides the format, not the file's suffix.

    Args:
        path: what ``torch.save`` wrote (any torch version; ``.pth``, ``.pt``, ``.pth.tar``, ...)
            or a ``.safetensors`` file.

    Returns:
        The dict in the file: a state dict, or whatever the trainer put around it.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is empty, cut off, not a checkpoint, or holds more than data.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"no checkpoint at {path}: check the path, or download the file.")
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; expected a checkpoint file inside it.")
    if path.stat().st_size == 0:
        raise CheckpointError(
            f"{path} is empty (0 bytes): the download or copy never started. Fetch it again."
        )
    kind = _sniff(path)
    if kind == "safetensors":
        return _read_safetensors(path)
    if kind == "zip":
        _check_zip(path)
    else:
        _check_legacy(path)
    return _read_torch(path)


# ------------------------------------------------------------------------------------- writing


def checkpoint_bytes(state: Mapping[str, Tensor], suffix: str, *, container: str = "") -> bytes:
    """The content of a weights file, to be written by whoever knows how to do that safely.

    Tensors that share memory (ILM's encoder has three names) stay one in a ``.pth``; a
    ``.safetensors`` file, which knows no sharing, gets a copy under every name.

    Args:
        state: tensors by key, on any device.
        suffix: ``.pth`` (or ``.pt``, ``.tar``) or ``.safetensors``.
        container: key to put the state dict under, for code that expects one; safetensors files
            are always flat.

    Raises:
        ValueError: another suffix.
    """
    if suffix == ".safetensors":
        from safetensors.torch import save

        # clone: one piece of memory each, laid out in order
        contents = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
        return save(contents, metadata={"format": "pt"})
    if suffix not in (".pth", ".pt", ".tar"):
        raise ValueError(f"weights are written to .pth or .safetensors files, not {suffix!r}")
    content: Any = {key: _without_surroundings(value.detach()) for key, value in state.items()}
    buffer = io.BytesIO()
    torch.save({container: content} if container else content, buffer)
    return buffer.getvalue()


def _without_surroundings(value: Tensor) -> Tensor:
    """A slice of a larger tensor would be saved with all of it."""
    return value.clone() if value.untyped_storage().nbytes() > value.nbytes else value


# ------------------------------------------------------------------ the state dict in a checkpoint

# 'ict' is the end of 'state_dict': early IBN-Net files cut "module." off this key too. Of a
# self-distillation (DINO, CION) the teacher is what its authors use.
_CONTAINERS = (
    *("state_dict", "model_state_dict", "model", "net", "network", "ict", "params"),
    "teacher",
)


def find_state_dict(
    checkpoint: Mapping[str, Any], source: str
) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """The state dict inside what a trainer saved.

    Args:
        checkpoint: a state dict, or dicts around it, as :func:`read_checkpoint` returns.
        source: what to call it in an error.

    Returns:
        The keys passed through to reach it, and its tensors (numpy arrays become tensors).

    Raises:
        CheckpointError: there is no state dict in it, or several.
    """
    path: list[str] = []
    while True:
        inner = {
            str(key): value
            for key, value in checkpoint.items()
            if isinstance(value, Mapping) and _holds_tensors(value)
        }
        tensors = {str(k): t for k, v in checkpoint.items() if (t := _as_tensor(v)) is not None}
        known = next((key for key in _CONTAINERS if key in inner), None)
        if known is None and not tensors and len(inner) == 1:
            known = next(iter(inner))
        if known is None:
            break
        path.append(known)
        checkpoint = inner[known]
    if tensors:
        return tuple(path), tensors
    if inner:
        raise CheckpointError(
            f"{source} holds several groups of tensors ({', '.join(map(repr, inner))}); choose "
            "one: load_weights(model, read_checkpoint(path)[key])."
        )
    shown = ", ".join(repr(key) for key in list(checkpoint)[:8]) or "none"
    raise CheckpointError(
        f"{source} holds no tensors where a state dict was expected; its keys: {shown}. "
        "Save model.state_dict()."
    )


def _holds_tensors(value: Mapping[Any, Any], depth: int = 3) -> bool:
    return any(
        _as_tensor(item) is not None
        or (depth > 0 and isinstance(item, Mapping) and _holds_tensors(item, depth - 1))
        for item in value.values()
    )


def _as_tensor(value: Any) -> Tensor | None:
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        native = value.astype(value.dtype.newbyteorder("="), copy=True)
        return torch.from_numpy(native.view(np.ndarray))
    return None


# ------------------------------------------------------------------------------ what is this file?

# The first pickle of a file written by torch < 1.6: the number 0x1950A86A20F9469CFC6C.
_LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_LARGEST_SAFETENSORS_HEADER = 100_000_000  # the format's own limit, in bytes


def _sniff(path: Path) -> str:
    """'zip' or 'legacy' (both torch) or 'safetensors'; anything else is refused with its name."""
    with path.open("rb") as file:
        head = file.read(512)
    text = head.lstrip().lower()
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if head.startswith(_LEGACY_MAGIC):
        return "legacy"
    header_size = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and header_size < _LARGEST_SAFETENSORS_HEADER:
        return "safetensors"
    if path.suffix == ".safetensors" and len(head) < 9:
        return "safetensors"
    if _LEGACY_MAGIC.startswith(head):
        raise _cut_off(path)

    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        found = "is a web page: the server answered the download with an error or log-in page"
    elif text.startswith(b"version https://git-lfs"):
        found = "is a Git LFS pointer, not the file itself: run `git lfs pull`"
    elif head[257:262] == b"ustar" or _is_old_tar(path):
        found = (
            "is in the tar format of torch < 0.1.10, which cannot be read without running its "
            f"code. {_convert_hint()}"
        )
    elif head.startswith(b"\x1f\x8b"):
        found = "is gzip-compressed: unpack it first"
    elif head[:1] == b"\x80":
        found = (
            "is a plain pickle that torch.save did not write, and plain pickles can run code. "
            f"{_convert_hint('pickle.load')}"
        )
    else:
        found = f"does not look like one: it starts with {head[:12]!r}"
    raise CheckpointError(
        f"{path} ({path.stat().st_size:,} bytes) is not a checkpoint that can be read: expected a "
        f"file written by torch.save, or a .safetensors file. It {found.rstrip('.')}."
    )


def _is_old_tar(path: Path) -> bool:
    import tarfile

    try:
        return tarfile.is_tarfile(path)
    except OSError:
        return False


def _check_zip(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    except (zipfile.BadZipFile, EOFError):
        # The table of contents of a zip stands at its end, so a cut file has none.
        raise _cut_off(path) from None
    except Exception as error:  # zipfile fails in many ways on damaged bytes
        raise CheckpointError(
            f"{path} is damaged: its table of contents cannot be read ({error}). Fetch it again."
        ) from error
    if any(name.endswith("/constants.pkl") for name in members):
        raise CheckpointError(
            f"{path} is a TorchScript program, not a checkpoint. Save its weights with "
            "torch.save(torch.jit.load(path).state_dict(), 'weights.pth') and load those."
        )
    if not any(name.endswith("/data.pkl") or name == "data.pkl" for name in members):
        shown = ", ".join(members[:3])
        raise CheckpointError(
            f"{path} is a zip archive but not a checkpoint (it holds: {shown}). "
            "Unpack it, or pass the file that torch.save wrote."
        )


def _check_legacy(path: Path) -> None:
    """Walk over the five pickles before the raw numbers, executing nothing: do they all end?"""
    import pickletools

    with path.open("rb") as file:
        try:
            for _ in range(5):  # magic number, protocol, system, the object, keys of storages
                for _ in pickletools.genops(file):
                    pass
        except Exception:  # whatever else is wrong with it is told by the reader
            if not file.read(1):
                raise _cut_off(path) from None


def _cut_off(path: Path, expected: int | None = None) -> CheckpointError:
    of = f" of {expected:,}" if expected else ""
    return CheckpointError(
        f"{path} is cut off: {path.stat().st_size:,}{of} bytes are there and the end is missing. "
        "The download or copy was interrupted; fetch the file again."
    )


def _convert_hint(read: str = "torch.load(path, weights_only=False)") -> str:
    return (
        "If you trust its author, convert it once on a machine that holds nothing of value: read "
        f"it with {read}, write its state dict with "
        "safetensors.torch.save_file(state_dict, 'weights.safetensors'), and use that file."
    )


# ---------------------------------------------------------------------------------- safetensors


def _read_safetensors(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    with path.open("rb") as file:
        header_size = int.from_bytes(file.read(8), "little")
    if size < 9 or 8 + header_size > size:
        raise _cut_off(path)
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise ImportError(
            f"reading {path} needs the safetensors package: pip install safetensors"
        ) from None
    try:
        return dict(load_file(path, device="cpu"))
    except Exception as error:
        if isinstance(error, (OSError, MemoryError)):
            raise
        expected = _safetensors_size(path, header_size)
        if expected is not None and size < expected:
            raise _cut_off(path, expected) from None
        raise CheckpointError(
            f"{path} is not a valid safetensors file: {error}. Fetch it again."
        ) from error


def _safetensors_size(path: Path, header_size: int) -> int | None:
    """Bytes that the header promises, or None when the header itself is damaged."""
    import json

    try:
        with path.open("rb") as file:
            file.seek(8)
            header = json.loads(file.read(header_size))
        ends = [v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"]
        return 8 + header_size + int(max(ends, default=0))
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


# --------------------------------------------------------------------------- torch's own formats


def _read_torch(path: Path) -> dict[str, Any]:
    try:
        checkpoint = _without_stand_ins(_load_weights_only(path))
    except (OSError, MemoryError):
        raise
    except Exception as error:  # a damaged pickle may fail in any way at all
        raise _explain(path, error) from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(
            f"{path} holds a {type(checkpoint).__name__}; expected a dict of tensors. "
            "Save model.state_dict() instead."
        )
    return checkpoint


def _load_weights_only(path: Path) -> Any:
    # An open file: given a path, torch would again go by its suffix.
    with path.open("rb") as file, _only_harmless_globals():
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except UnicodeDecodeError:
            # Python 2 pickled the bytes of numpy numbers as text.
            file.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return torch.load(file, map_location="cpu", weights_only=True, encoding="latin1")


_REFUSED = re.compile(r"GLOBAL (\S+) (?:was not an allowed global|whose module)")


def _explain(path: Path, error: Exception) -> CheckpointError:
    text = str(error)
    refused = _REFUSED.search(text)
    if refused:
        return CheckpointError(
            f"{path} is refused: besides data its pickle asks for {refused[1]!r}, which could run "
            "code. Nothing was executed. A file that holds a whole pickled model or trainer does "
            f"this too. {_convert_hint()}"
        )
    if isinstance(error, EOFError) or "unexpected EOF" in text:
        return _cut_off(path)
    reason = text.split("WeightsUnpickler error:")[-1].strip().split("\n")[0]
    reason = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
    return CheckpointError(
        f"{path} ({path.stat().st_size:,} bytes) cannot be read as plain data ({reason}). Nothing "
        "was executed. It is damaged (fetch it again), holds unusual objects, or was saved with "
        "another pickle_protocol than torch's own (save it again without that option). "
        f"{_convert_hint()}"
    )


# ------------------------------------------------------- inert stand-ins for well-known other types


class _PlainDtype:
    """For ``numpy.dtype``: numbers and strings only, so no array can hold raw object pointers."""

    def __init__(self, name: str, align: object = False, copy: object = False) -> None:
        value = np.dtype(name) if isinstance(name, str) else None
        if value is None or value.kind not in "biufcSU":
            raise pickle.UnpicklingError(f"numpy dtype {name!r} is not a plain number or string")
        self.value = value

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        byte_order, structure, item_size = state[1], state[2:5], state[5]
        if structure != (None, None, None):
            raise pickle.UnpicklingError("a structured numpy dtype is not plain data")
        if self.value.kind in "SU" and item_size > 0:
            characters = item_size // (4 if self.value.kind == "U" else 1)
            self.value = np.dtype(f"{self.value.kind}{characters}")
        self.value = self.value.newbyteorder(byte_order)


class _PlainArray(np.ndarray[Any, Any]):
    """For ``numpy.ndarray``: filled only through a :class:`_PlainDtype`."""

    def __new__(cls, *_: object) -> _PlainArray:
        return super().__new__(cls, (0,), np.uint8)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, data = state
        if not isinstance(dtype, _PlainDtype):
            raise pickle.UnpicklingError(f"expected a numpy dtype, got {type(dtype).__name__}")
        super().__setstate__((1, shape, dtype.value, is_fortran, _as_bytes(data)))


class _History:
    """For mmengine's ``HistoryBuffer``: the two arrays, none of its class-wide method table."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.log_history = state.get("_log_history")
        self.count_history = state.get("_count_history")


def _as_bytes(data: bytes | str) -> bytes:
    return data.encode("latin1") if isinstance(data, str) else bytes(data)


def _array(subtype: object = None, shape: object = None, typecode: object = None) -> _PlainArray:
    return _PlainArray()


def _scalar(dtype: _PlainDtype, data: bytes | str) -> Any:
    return np.frombuffer(_as_bytes(data), dtype.value, count=1)[0]


def _statistic_name(owner: object, name: str) -> str:
    if owner is not _History:
        raise pickle.UnpicklingError("GLOBAL builtins.getattr was not an allowed global")
    return str(name)


def _dict(factory: object = None) -> dict[Any, Any]:
    return {}


def _list(items: Iterable[Any] = (), maxlen: object = None) -> list[Any]:
    return list(items)


def _without_stand_ins(value: Any, seen: set[int] | None = None) -> Any:
    """The same data with ordinary arrays and dicts, so that it can be saved and used anywhere."""
    seen = set() if seen is None else seen
    if isinstance(value, _PlainArray):
        return value.view(np.ndarray)
    if isinstance(value, _PlainDtype):
        return value.value
    if isinstance(value, _History):
        value = vars(value)
    if type(value) is tuple:
        return tuple(_without_stand_ins(item, seen) for item in value)
    if id(value) not in seen:
        seen.add(id(value))
        if isinstance(value, list):
            value[:] = [_without_stand_ins(item, seen) for item in value]
        elif isinstance(value, (dict, argparse.Namespace)):
            fields = value if isinstance(value, dict) else vars(value)
            for key in fields:
                fields[key] = _without_stand_ins(fields[key], seen)
    return value


def _scalar_modules(name: str) -> tuple[str, str]:
    return f"numpy.core.multiarray.{name}", f"numpy._core.multiarray.{name}"  # numpy 1 and 2


_HARMLESS: dict[str, Callable[..., Any]] = {
    "argparse.Namespace": argparse.Namespace,
    "builtins.bool": bool,
    "builtins.dict": dict,
    "builtins.float": float,
    "builtins.getattr": _statistic_name,
    "builtins.int": int,
    "builtins.list": list,
    "builtins.str": str,
    "builtins.tuple": tuple,
    "collections.defaultdict": _dict,
    "collections.deque": _list,
    "mmengine.logging.history_buffer.HistoryBuffer": _History,
    "numpy.dtype": _PlainDtype,
    "numpy.ndarray": _PlainArray,
    **dict.fromkeys(_scalar_modules("_reconstruct"), _array),
    **dict.fromkeys(_scalar_modules("scalar"), _scalar),
    **{
        f"{module}.{name}": (
            pathlib.PureWindowsPath if "Windows" in name else pathlib.PurePosixPath
        )
        for module in ("pathlib", "pathlib._local")
        for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
    },
}

# torch keeps one allow-list per process, so only one thread may change it at a time.
_ALLOW_LIST_LOCK = threading.RLock()


@contextlib.contextmanager
def _only_harmless_globals() -> Iterator[None]:
    """Allow the stand-ins, and take away what other code allowed under the same names."""
    ours: list[Any] = [(function, name) for name, function in _HARMLESS.items()]
    with _ALLOW_LIST_LOCK:
        before = torch.serialization.get_safe_globals()
        displaced: list[Any] = [entry for entry in before if _global_name(entry) in _HARMLESS]
        _replace_allow_list(remove=displaced, add=ours)
        try:
            yield
        finally:
            _replace_allow_list(remove=ours, add=displaced)


def _global_name(entry: Any) -> str:
    return entry[1] if isinstance(entry, tuple) else f"{entry.__module__}.{entry.__qualname__}"


def _replace_allow_list(remove: list[Any], add: list[Any]) -> None:
    now: list[Any] = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals([entry for entry in now if entry not in remove] + add)
