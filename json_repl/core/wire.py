"""Both sides: frames on the pipes between a session and its worker.

    parent --REQUEST, CALL, REPLY, PARK, SYNC--> [request pipe] --> child
    parent <--READY, OUTPUT, QUESTION, ANSWER, RESULT, FAILURE, SYNC, NEWS, UNPARKED-- [answer pipe] <-- child

A frame is a header (magic, kind, length of the payload) and the payload. What the parent sends is `marshal`, as the
child trusts its parent; what the child sends is only ever numbers and text, as user code may write into the pipe.
"""

from __future__ import annotations

import signal
import struct

from json_repl.core.errors import WireError

READY = 1  # child: {"pid": 12, "version": "3.11.7"}; it can take a request
REQUEST = 2  # parent: run this code
ANSWER = 3  # child: the code's Outcome; the last frame of a request
OUTPUT = 4  # child: pieces of output, with their place in the stream of all output
CALL = 5  # parent: look at the state, and tell what is to be seen
RESULT = 6  # child: what that is, as texts
QUESTION = 7  # child: user code asks its session something, and waits
REPLY = 8  # parent: what the session says to that
FAILURE = 9  # child: what a CALL wanted failed, and why
PARK = 10  # parent: leave a copy behind, named by this number; the copy itself reports
SYNC = 11  # parent: tell when you have got this far; child: here I am
NEWS = 12  # child: something was printed that you wait for; it stands in the page
UNPARKED = 13  # child: what a PARK wanted failed, and why

# The child's files, in this order from the number that its command line names.
CHILD_FDS = ("requests", "answers", "life", "out", "err", "page", "stacks", "reports", "log")

# Has the child write every thread's stack: a number that no program uses for itself.
DUMP_SIGNAL = int(signal.SIGRTMIN) + 7 if hasattr(signal, "SIGRTMIN") else int(signal.SIGUSR2)

_KINDS = range(READY, UNPARKED + 1)
_HEADER = struct.Struct("<HBxQ")
_MAGIC = 0x524A
_LARGEST = 1 << 34  # bytes; a longer frame is taken for garbage

_COUNT = struct.Struct("<I")
_LENGTH = struct.Struct("<q")


def frame(kind: int, payload: bytes = b"") -> bytes:
    """One frame, ready to be written."""
    return _HEADER.pack(_MAGIC, kind, len(payload)) + payload


class FrameReader:
    """Cuts the bytes of a pipe into frames.

    Raises:
        WireError: what was read is not a frame; the rest of the pipe cannot be trusted either.
    """

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Take what was read, return the frames that are now complete, e.g. ``[(OUTPUT, b"...")]``."""
        self._bytes += data
        frames = []
        while len(self._bytes) >= _HEADER.size:
            magic, kind, length = _HEADER.unpack_from(self._bytes)
            if magic != _MAGIC or kind not in _KINDS or length > _LARGEST:
                raise WireError("bytes on the worker's wire that are no frame")
            end = _HEADER.size + length
            if len(self._bytes) < end:
                break
            frames.append((kind, bytes(self._bytes[_HEADER.size : end])))
            del self._bytes[:end]
        return frames

    def hold(self, data: bytes) -> None:
        """Take more of what comes behind garbage, for `salvage`."""
        self._bytes += data

    def salvage(self, kind: int) -> list[bytes]:
        """The payloads of whole frames of one kind that stand somewhere behind garbage."""
        start, payloads = _HEADER.pack(_MAGIC, kind, 0)[:4], []
        at = self._bytes.find(start)
        while at >= 0 and at + _HEADER.size <= len(self._bytes):
            _, _, length = _HEADER.unpack_from(self._bytes, at)
            end = at + _HEADER.size + length
            if end <= len(self._bytes):
                payloads.append(bytes(self._bytes[at + _HEADER.size : end]))
            at = self._bytes.find(start, at + 1)
        return payloads


def pack_texts(texts: list[str | None]) -> bytes:
    """Strings (or None) as bytes; lone surrogates become their escapes, so that the reader gets valid UTF-8."""
    blobs = [None if text is None else text.encode("utf-8", "backslashreplace") for text in texts]
    parts = [_COUNT.pack(len(blobs))]
    for blob in blobs:
        parts.append(_LENGTH.pack(-1 if blob is None else len(blob)))
        parts.append(blob or b"")
    return b"".join(parts)


def unpack_texts(data: bytes, offset: int = 0) -> list[str | None]:
    """The inverse of `pack_texts`.

    Raises:
        WireError: the bytes were not made by `pack_texts`.
    """
    try:
        (count,) = _COUNT.unpack_from(data, offset)
        offset += _COUNT.size
        texts: list[str | None] = []
        for _ in range(count):
            (length,) = _LENGTH.unpack_from(data, offset)
            offset += _LENGTH.size
            texts.append(None if length < 0 else data[offset : offset + length].decode())
            offset += max(length, 0)
    except (struct.error, UnicodeDecodeError) as error:
        raise WireError(f"text on the worker's wire that cannot be read: {error}") from None
    return texts
