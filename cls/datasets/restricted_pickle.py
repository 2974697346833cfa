"""Read a pickle of plain values and arrays as data, without running anything.

Python's own unpickler calls whatever a file names. This reader knows the instructions that build
containers, text and numbers, and a table of the few names that numpy's arrays need; these are
played by the small classes below and not by numpy, which would believe a hostile file. Every other
name ends the reading, whether or not the file would have called it. Memory stays in proportion to
the bytes that are really there, whatever sizes they claim.

The format: https://docs.python.org/3/library/pickletools.html; protocols 0 to 5, also of Python 2.
"""

from __future__ import annotations

import io
import math
import os
import pickletools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["UnreadablePickleError", "decode_pickle", "read_pickle"]


class UnreadablePickleError(ValueError):
    """A file that is missing, truncated, no pickle, or a pickle of more than plain data."""


def read_pickle(path: str | os.PathLike[str]) -> Any:
    """The content of a pickle file: dicts, lists, tuples, text, bytes, numbers and numpy arrays.

    Raises:
        UnreadablePickleError: with the path and the reason.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise UnreadablePickleError(f"the file {os.fspath(path)!r} does not exist") from None
    except OSError as error:
        raise UnreadablePickleError(
            f"cannot read {os.fspath(path)!r}: {error.strerror or error}"
        ) from error
    try:
        return decode_pickle(data)
    except ValueError as error:
        raise UnreadablePickleError(f"cannot read {os.fspath(path)!r}: {error}") from None


def decode_pickle(data: bytes) -> Any:
    """The content of pickled bytes; text of Python 2 becomes ``str`` by Latin-1.

    Raises:
        ValueError: with the reason.
    """
    if not data:
        raise ValueError("the file is empty; download or unpack it again")
    if kind := _other_format(data):
        raise ValueError(kind)
    machine = _Machine(len(data))
    try:
        for name, argument in _instructions(data):
            if name == "STOP":
                return _plain(machine.result())
            machine.step(name, argument)
    except _RefusedError:
        raise
    except (ValueError, IndexError, TypeError, KeyError, OverflowError) as error:
        started = data[:1] == b"\x80" or machine.stack
        what = "it is truncated or damaged" if started else "it is no pickle"
        reason = str(error)[:120]  # which may quote the file
        raise ValueError(f"{what} ({reason}); download or unpack it again") from None
    raise ValueError("it is truncated: the pickle has no end; download or unpack it again")


def _instructions(data: bytes) -> Iterator[tuple[str, Any]]:
    """(name, argument) one after the other, with the standard library's readers of arguments.

    They read from bytes that are there, so that a length that is claimed allocates nothing.
    """
    file = io.BytesIO(data)
    while code := file.read(1):
        if code not in _OPCODES:
            raise ValueError(f"no instruction has the code {code!r}")
        name, reader = _OPCODES[code]
        yield name, reader(file) if reader else None


def _read_string(file: io.BytesIO) -> str:
    """Text of Python 2 in protocol 0: quoted, with its escapes, and of any bytes."""
    line = file.readline()
    quoted = line.strip()
    if not line.endswith(b"\n") or len(quoted) < 2 or quoted[:1] not in (b"'", b'"'):
        raise ValueError("a text has no quotes")
    if quoted[:1] != quoted[-1:]:
        raise ValueError("a text has one quote")
    return re.sub(rb"\\(x[0-9a-f]{2}|.)", _unescaped, quoted[1:-1]).decode("latin-1")


def _read_global(file: io.BytesIO) -> tuple[str, str]:
    """A module and a name in it, a line each."""
    lines = file.readline(), file.readline()
    if not lines[1].endswith(b"\n"):
        raise ValueError("a name has no end")
    module, attribute = (line[:-1].decode("utf-8") for line in lines)
    return module, attribute


def _unescaped(escape: re.Match[bytes]) -> bytes:
    text = escape[1]
    return bytes([int(text[1:], 16)]) if len(text) == 3 else _ESCAPES[text]


def _read_line(file: io.BytesIO) -> str:
    line = file.readline()
    if not line.endswith(b"\n"):
        raise ValueError("a line has no end")
    return line.strip().decode("ascii")


def _read_int(file: io.BytesIO) -> int:
    text = _read_line(file)
    return text == "01" if text in ("00", "01") else int(text.removesuffix("L"))


_ESCAPES = {b"\\": b"\\", b"'": b"'", b'"': b'"', b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_OPCODES: dict[bytes, tuple[str, Callable[[io.BytesIO], Any] | None]] = {
    opcode.code.encode("latin-1"): (opcode.name, opcode.arg.reader if opcode.arg else None)
    for opcode in pickletools.opcodes
} | {
    # lines of text, in which the library's readers undo escapes and know ASCII alone
    b"S": ("STRING", _read_string),
    b"c": ("GLOBAL", _read_global),
    b"I": ("INT", _read_int),
    b"L": ("LONG", _read_int),
    b"F": ("FLOAT", lambda file: float(_read_line(file))),
    b"p": ("PUT", _read_int),
    b"g": ("GET", _read_int),
    b"i": ("INST", None),  # refused, as is the next
    b"P": ("PERSID", None),
}


class _RefusedError(ValueError):
    """The pickle holds what is not read on purpose."""


def _other_format(data: bytes) -> str:
    """What the bytes are when they are something else that people have in its place."""
    if data.startswith(b"\x1f\x8b"):
        return "it is a gzip archive; unpack it (tar xzf) and give the folder that comes out"
    if data.startswith(b"PK\x03\x04"):
        return "it is a zip archive; unpack it and give the folder that comes out"
    if data[257:262] == b"ustar":
        return "it is a tar archive; unpack it (tar xf) and give the folder that comes out"
    if data[:64].lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page, perhaps of a failed download; download it again"
    if data.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the file; run `git lfs pull`"
    return ""


# ------------------------------------------------------------------------- what arrays need

_DTYPES = frozenset(
    ("b1", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8")
)  # fixed-size numbers; "O8", a Python object, is what must not come in


class _DType:
    """``numpy.dtype(name, align, copy)`` and the byte order that is set on it."""

    def __init__(self, name: Any, *_: Any) -> None:
        if not isinstance(name, str) or name.lstrip("<>|=") not in _DTYPES:
            raise _RefusedError(
                f"it holds an array of the type {_shown(name)}; only plain numbers are read, and "
                "never Python objects"
            )
        self.dtype = np.dtype(name)

    def set_state(self, state: Any) -> None:
        order = state[1]
        if order not in ("<", ">", "|", "="):
            raise ValueError(f"the byte order of an array is {_shown(order)}")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """``numpy.ndarray``, filled by what ``__setstate__`` would get."""

    def __init__(self, *_: Any) -> None:
        self.array: np.ndarray | None = None

    def set_state(self, state: Any) -> None:
        _, shape, kind, fortran, content = state
        self.fill(content, kind, shape, "F" if fortran else "C")

    def fill(self, content: Any, kind: Any, shape: Any, order: Any) -> None:
        if not isinstance(kind, _DType):
            raise ValueError(f"an array has {_shown(kind)} for its type")
        if isinstance(content, str):
            content = content.encode("latin-1")
        if not isinstance(content, bytes | bytearray):
            raise ValueError(f"an array has {_shown(content)} for its content")
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        if not all(isinstance(n, int) and n >= 0 for n in shape) or len(shape) > 32:
            raise ValueError(f"an array has the shape {_shown(shape)}")
        needed = math.prod(shape) * kind.dtype.itemsize
        if needed != len(content):
            raise ValueError(
                f"an array of the shape {_shown(shape)} and type {kind.dtype} needs "
                f"{_shown(needed)} bytes, but {len(content)} are there"
            )
        if order not in ("C", "F"):
            raise ValueError(f"an array has the order {_shown(order)}")
        self.array = np.frombuffer(content, kind.dtype).reshape(shape, order=order)


class _ArrayType:
    """The name ``numpy.ndarray``, which stands among the arguments and is never called."""

    def __init__(self, *_: Any) -> None:
        raise ValueError("an array is made in a way that numpy does not use")


def _reconstruct(*_: Any) -> _Array:
    """``numpy.core.multiarray._reconstruct(ndarray, (0,), 'b')``; the state follows."""
    return _Array()


def _frombuffer(content: Any, kind: Any, shape: Any, order: Any, *_: Any) -> _Array:
    """``numpy.core.numeric._frombuffer(bytes, dtype, shape, order)`` of protocol 5."""
    made = _Array()
    made.fill(content, kind, shape, order)
    return made


def _scalar(kind: Any, content: Any) -> _Array:
    """``numpy.core.multiarray.scalar(dtype, bytes)``: an array without dimensions."""
    made = _Array()
    made.fill(content, kind, (), "C")
    return made


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """``_codecs.encode(text, 'latin1')``: how Python 3 writes bytes in protocols 0 to 2."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _RefusedError(f"it encodes {_shown(text)} as {_shown(encoding)}; expected latin1")
    return text.encode("latin-1")


def _bytes(*arguments: Any) -> bytes:
    """``bytes()``: how Python 3 writes empty bytes in protocols 0 to 2."""
    if arguments:
        raise _RefusedError("it calls bytes(...) with arguments, which plain data does not")
    return b""


_GLOBALS: dict[tuple[str, str], Callable[..., Any]] = {
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _bytes,
    ("builtins", "bytes"): _bytes,
    ("numpy", "ndarray"): _ArrayType,
    ("numpy", "dtype"): _DType,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _frombuffer for core in ("core", "_core")},
}


# ---------------------------------------------------------------------------- the machine

_MARK = object()
_TEXT = frozenset(
    ("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE")
) | {"BINUNICODE8"}
_BYTES = frozenset(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"))
_NUMBERS = frozenset(
    ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT")
)
_VALUES = _TEXT | _BYTES | _NUMBERS
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


class _Machine:
    """The stack and the memo of a pickle; :meth:`step` performs one instruction.

    ``budget`` limits the bytes that are made of text: a text that is stored once could be encoded
    again and again.
    """

    def __init__(self, budget: int) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.budget = budget

    def result(self) -> Any:
        if len(self.stack) != 1:
            raise ValueError(f"{len(self.stack)} values are left on the stack")
        return self.stack[0]

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _VALUES:
            stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self.memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self.memo[argument])
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name == "GLOBAL":
            stack.append(_admitted(*argument))
        else:
            perform = _OPERATIONS.get(name)
            if perform is None:
                raise _RefusedError(
                    f"it uses the pickle instruction {name}, which plain data does not need"
                )
            perform(self)

    def pop(self, kind: type | None = None) -> Any:
        value = self.stack.pop()
        if value is _MARK or (kind is not None and not isinstance(value, kind)):
            raise ValueError(f"{_shown(value)} stands where something else is expected")
        return value

    def pop_mark(self) -> list[Any]:
        """What was pushed since the last mark."""
        values = []
        while (value := self.stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def top(self, kind: type) -> Any:
        value = self.stack[-1]
        if type(value) is not kind:
            raise ValueError(f"{_shown(value)} stands where a {kind.__name__} is expected")
        return value

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def set_items(self, values: list[Any]) -> None:
        _fill(self.top(dict), values)

    def stack_global(self) -> None:
        attribute, module = self.pop(str), self.pop(str)
        self.push(_admitted(module, attribute))

    def reduce(self) -> None:
        arguments, function = self.pop(tuple), self.pop()
        if not callable(function):  # of what can lie on the stack, only names of the table are
            raise _RefusedError(f"it calls {_shown(function)}, which plain data does not")
        self._spend(arguments)
        self.push(function(*arguments))

    def build(self) -> None:
        state, target = self.pop(tuple), self.stack[-1]
        if type(target) not in (_DType, _Array):
            raise _RefusedError(f"it sets a state on {_shown(target)}, which plain data does not")
        self._spend(state)
        target.set_state(state)

    def _spend(self, values: tuple[Any, ...]) -> None:
        self.budget -= sum(len(value) for value in values if isinstance(value, str))
        if self.budget < 0:
            raise _RefusedError("it makes more bytes of its text than the text has")


_OPERATIONS: dict[str, Callable[[_Machine], Any]] = {
    "PROTO": lambda m: None,
    "FRAME": lambda m: None,
    "MARK": lambda m: m.push(_MARK),
    "POP": lambda m: m.stack.pop(),
    "POP_MARK": lambda m: m.pop_mark(),
    "DUP": lambda m: m.push(m.stack[-1]),
    "EMPTY_DICT": lambda m: m.push({}),
    "EMPTY_LIST": lambda m: m.push([]),
    "DICT": lambda m: m.push(_fill({}, m.pop_mark())),
    "LIST": lambda m: m.push(m.pop_mark()),
    "TUPLE": lambda m: m.push(tuple(m.pop_mark())),
    "TUPLE1": lambda m: m.push((m.pop(),)),
    "TUPLE2": lambda m: m.push((m.pop(), m.pop())[::-1]),
    "TUPLE3": lambda m: m.push((m.pop(), m.pop(), m.pop())[::-1]),
    "SETITEM": lambda m: m.set_items([m.pop(), m.pop()][::-1]),
    "SETITEMS": lambda m: m.set_items(m.pop_mark()),
    "APPEND": lambda m: _append(m, [m.pop()]),
    "APPENDS": lambda m: _append(m, m.pop_mark()),
    "STACK_GLOBAL": _Machine.stack_global,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
}


def _append(machine: _Machine, values: list[Any]) -> None:
    machine.top(list).extend(values)


def _fill(target: dict[Any, Any], values: list[Any]) -> dict[Any, Any]:
    """Keys and values in turn. Keys are simple: the hash of tuples nested deeply would crash."""
    for key, value in zip(values[::2], values[1::2], strict=True):
        if not isinstance(key, str | bytes | int | float):
            raise ValueError(f"{_shown(key)} is the key of a dict")
        target[key] = value
    return target


def _admitted(module: str, attribute: str) -> Callable[..., Any]:
    found = _GLOBALS.get((module, attribute))
    if found is None:
        raise _RefusedError(
            f"refused: it names {module}.{attribute}, which arrays and plain values do not need. "
            "Nothing was run. Do not load this file with other programs; download the data again "
            "from its source"
        )
    return found


def _plain(value: Any) -> Any:
    """The stand-ins of arrays in a top-level value and one level of containers, as numpy arrays."""
    if isinstance(value, _Array):
        if value.array is None:
            raise ValueError("an array has no content")
        return value.array if value.array.ndim else value.array.item()
    if isinstance(value, dict):
        return {_text(key): _flat(item) for key, item in value.items()}
    return _flat(value)


def _flat(value: Any) -> Any:
    """In place, for a copy of a list that is named a million times would be a million lists."""
    if isinstance(value, list):
        for place, item in enumerate(value):
            if isinstance(item, _Array):
                value[place] = _plain(item)
    return _plain(value) if isinstance(value, _Array) else value


def _text(key: Any) -> Any:
    """Keys that Python 2 wrote, and Python 3 read as bytes and wrote again."""
    return key.decode("latin-1") if isinstance(key, bytes) else key


def _shown(value: Any) -> str:
    """A value for a message, and never megabytes of it."""
    if callable(value):
        return f"the name {value.__name__.lstrip('_')}"
    if isinstance(value, str | bytes):
        return repr(value[:40])
    if isinstance(value, int):
        return str(value) if abs(value) < 1 << 64 else "a number beyond 64 bits"
    if isinstance(value, tuple) and len(value) < 8 and all(isinstance(v, int) for v in value):
        return f"({', '.join(map(_shown, value))})"
    return f"a value of the type {type(value).__name__.lstrip('_')}"
