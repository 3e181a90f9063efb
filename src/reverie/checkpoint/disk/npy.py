"""The header of a `.npy` file: our own writer and a strict parser.

Why not NumPy's: `np.save` can return success on a full disk, because it writes
through a C stream whose closing error is ignored, and `np.load` accepts
trailing bytes, zero-sized items and object arrays. Only little-endian,
C-ordered arrays are written, with a pure ASCII header, so that
version 1.0 (2.0 where the header is long) says all there is to say.

The layout: magic, version (2 bytes), header length (2 or 4 bytes, little
endian), then a Python dictionary literal with the keys descr, fortran_order
and shape, padded with spaces up to a newline so that the data start at a
multiple of 64.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

from reverie.errors import CheckpointCorruptError

MAGIC = b"\x93NUMPY"
ALIGNMENT = 64
MAX_HEADER_NBYTES = 1 << 22

# A field of a structured dtype: (name, dtype string, shape). A plain dtype is its string.
Field = tuple[str, str, tuple[int, ...]]
Descr = str | tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class NpyHeader:
    """What a `.npy` header says; `nbytes` is where the data start."""

    descr: Descr
    shape: tuple[int, ...]
    nbytes: int


def encode_header(descr: Descr, count: int, shape: tuple[int, ...] = ()) -> bytes:
    """The header of an array of `count` elements of this shape; same input, same bytes."""
    if isinstance(descr, str):
        described = ascii(descr)
    else:
        # `np.load` takes (name, dtype) for a scalar field and (name, dtype, shape) otherwise.
        fields = (
            f"({name!a}, {dtype!a}, {shape!a})" if shape else f"({name!a}, {dtype!a})"
            for name, dtype, shape in descr
        )
        described = f"[{', '.join(fields)}]"
    text = f"{{'descr': {described}, 'fortran_order': False, 'shape': {(count, *shape)!r}, }}"
    short = len(MAGIC) + 2 + 2 + len(text) + 1 + ALIGNMENT < 1 << 16
    prefix = MAGIC + (b"\x01\x00" if short else b"\x02\x00")
    length_nbytes = 2 if short else 4
    padding = -(len(prefix) + length_nbytes + len(text) + 1) % ALIGNMENT
    body = text.encode("ascii") + b" " * padding + b"\n"
    return prefix + struct.pack("<H" if short else "<I", len(body)) + body


def read_header(read: Callable[[int], bytes | bytearray], where: str, limit: int) -> NpyHeader:
    """Reads and parses a header.

    Args:
        read: returns exactly the next n bytes, or raises.
        where: the file, for messages.
        limit: the file's size in bytes; the header must end within it.

    Raises:
        CheckpointCorruptError: anything but what `encode_header` could have
            written for some dtype and some shape.
    """
    if limit < 12:
        raise _bad(where, f"it has {limit} bytes", "a header of at least 12")
    start = bytes(read(8))
    if start[:6] != MAGIC:
        raise _bad(where, f"it starts with {start[:6]!r}", f"{MAGIC!r}")
    if start[6:] not in (b"\x01\x00", b"\x02\x00"):
        raise _bad(where, f"header version {start[6]}.{start[7]}", "1.0 or 2.0")
    length_nbytes = 2 if start[6] == 1 else 4
    length = int.from_bytes(read(length_nbytes), "little")
    nbytes = 8 + length_nbytes + length
    if nbytes > min(limit, MAX_HEADER_NBYTES) or nbytes % ALIGNMENT:
        wanted = f"at most {min(limit, MAX_HEADER_NBYTES)} and a multiple of {ALIGNMENT}"
        raise _bad(where, f"a header of {nbytes} bytes", wanted)
    text = bytes(read(length))
    if not text.isascii() or not text.endswith(b"\n"):
        raise _bad(where, f"a header ending in {text[-8:]!r}", "ASCII text ending in a newline")
    descr, shape, used = _Parser(text.decode("ascii"), where).header()
    padding = text[used:-1]
    if padding.strip(b" ") or len(padding) >= ALIGNMENT:
        raise _bad(where, f"{padding[:40]!r} after the dictionary", "fewer than 64 spaces")
    return NpyHeader(descr, shape, nbytes)


def _bad(where: str, found: str, wanted: str) -> CheckpointCorruptError:
    return CheckpointCorruptError(
        f"{where!r} is no .npy file of a checkpoint: {found[:200]}, expected {wanted}."
    )


_TOKEN = re.compile(
    r"""(?P<str>'[^'\\\n]*(?:\\.[^'\\\n]*)*'|"[^"\\\n]*(?:\\.[^"\\\n]*)*")"""
    r"""|(?P<int>0|[1-9][0-9]{0,18})|(?P<word>True|False)|(?P<mark>[{}\[\](),:])"""
)
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|(.))", re.DOTALL)
_PLAIN = {"\\": "\\", "'": "'", '"': '"', "n": "\n", "r": "\r", "t": "\t"}


class _Parser:
    """Recursive descent over the one dictionary; no depth, so nothing to exhaust."""

    def __init__(self, text: str, where: str) -> None:
        self._text = text
        self._where = where
        self._at = 0

    def header(self) -> tuple[Descr, tuple[int, ...], int]:
        for mark in ("{", "'descr'", ":"):
            self._take(mark)
        descr: Descr = self._fields() if self._peek() == "[" else self._string()
        for mark in (",", "'fortran_order'", ":", "False", ",", "'shape'", ":"):
            self._take(mark)
        shape = self._shape()
        for mark in (",", "}"):
            self._take(mark)
        return descr, shape, self._at

    def _fields(self) -> tuple[Field, ...]:
        fields: list[Field] = []
        self._take("[")
        while self._peek() != "]":
            if fields:
                self._take(",")
            self._take("(")
            name = self._string()
            self._take(",")
            dtype = self._string()
            shape: tuple[int, ...] = ()
            if self._peek() == ",":
                self._take(",")
                shape = self._shape()
            self._take(")")
            fields.append((name, dtype, shape))
        self._take("]")
        return tuple(fields)

    def _shape(self) -> tuple[int, ...]:
        sizes: list[int] = []
        self._take("(")
        while self._peek() != ")":
            if len(sizes) > 1:
                self._take(",")
            kind, text = self._next()
            if kind != "int" or len(sizes) == 64:
                raise self._error(text, "at most 64 sizes")
            sizes.append(int(text))
            if len(sizes) == 1:
                self._take(",")
        self._take(")")
        return tuple(sizes)

    def _string(self) -> str:
        kind, text = self._next()
        if kind != "str":
            raise self._error(text, "a string")
        return _ESCAPE.sub(self._unescape, text[1:-1])

    def _unescape(self, match: re.Match[str]) -> str:
        digits = match[1] or match[2] or match[3]
        if digits is not None:
            code = int(digits, 16)
            if code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF:
                return chr(code)
        elif match[4] in _PLAIN:
            return _PLAIN[match[4]]
        raise self._error(match[0], "an escape that Python writes")

    def _take(self, wanted: str) -> None:
        _, text = self._next()
        if text != wanted:
            raise self._error(text, wanted)

    def _peek(self) -> str:
        at = self._at
        _, text = self._next()
        self._at = at
        return text

    def _next(self) -> tuple[str, str]:
        while self._text[self._at : self._at + 1] == " ":
            self._at += 1
        match = _TOKEN.match(self._text, self._at)
        if match is None:
            raise self._error(self._text[self._at : self._at + 20], "a token of the header")
        self._at = match.end()
        return str(match.lastgroup), match[0]

    def _error(self, found: str, wanted: str) -> CheckpointCorruptError:
        return _bad(self._where, f"{found!r} before header byte {self._at}", repr(wanted))
