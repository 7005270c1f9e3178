"""Parent side: what one request has printed. Little of it is held in memory, all of it in a file where it is much."""

from __future__ import annotations

from codecs import getincrementaldecoder

from json_repl.core import log
from json_repl.core.imports import ours
from json_repl.core.output import STDERR, STDOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Protocol

    class Listener(Protocol):
        """A `json_repl.parent.stream.Stream`."""

        def send(self, pieces: list[tuple[int, bytes]]) -> None:
            """Output that has just come."""

        def begin_again(self, attempt: int) -> None:
            """The code runs again: what was sent before is void."""


MOST_BYTES = 1 << 20  # of each stream that an answer holds, by default
NAMES = {"stdout": STDOUT, "stderr": STDERR}
_new_decoder = getincrementaldecoder("utf-8")


class Spool:
    """A file that ends with its session: for what is too much to be held."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._size = 0

    def write(self, data: bytes) -> tuple[int, int]:
        """Add to the end; returns where it stands there, and how many bytes could be written."""
        start, written = self._size, 0
        try:
            if self._file is None:
                with ours():
                    import tempfile
                self._file = tempfile.TemporaryFile(prefix="json-repl-", buffering=0)
            while written < len(data):
                written += self._file.write(data[written:])
        except OSError as error:  # no room: the answer has its head and tail all the same
            log.warning(f"output cannot be kept in a file: {error.strerror}")
        self._size += written
        return start, written

    def read(self, start: int, size: int) -> bytes:
        """What stands there."""
        assert self._file is not None
        self._file.seek(start)
        data = self._file.read(size) or b""
        self._file.seek(self._size)
        return data


class _Text:
    """One stream: all of it, or, from `most` bytes on, its head and tail, and the whole in the spool."""

    def __init__(self, most: int, spool: Spool) -> None:
        self.total = 0
        self._most, self._spool = most, spool
        self._head, self._tail = bytearray(), bytearray()
        self._places: list[tuple[int, int, int]] = []  # offset in the stream, place in the spool, length
        self._spooled = 0

    @property
    def is_spooled(self) -> bool:
        return self.total > self._most

    @property
    def lost(self) -> int:
        return self.total - self._spooled if self.is_spooled else 0

    def add(self, data: bytes) -> None:
        was_spooled = self.is_spooled
        self.total += len(data)
        if not self.is_spooled:
            self._head += data
            return
        half = self._most // 2
        if not was_spooled:
            data = bytes(self._head) + data
            self._head[:] = data[:half]
        self._keep(data)
        self._tail += data if was_spooled else data[half:]
        if len(self._tail) > self._most:
            del self._tail[: len(self._tail) - (self._most - half)]

    def text(self) -> str:
        if not self.is_spooled:
            return self._head.decode("utf-8", "replace")
        tail = self._tail[max(0, len(self._tail) - (self._most - len(self._head))) :]
        missing = self.total - len(self._head) - len(tail)
        note = f"\n[... {missing} bytes are left out here; output/read gives them ...]\n"
        return self._head.decode("utf-8", "replace") + note + tail.decode("utf-8", "replace")

    def read(self, offset: int, limit: int) -> bytes:
        if not self.is_spooled:
            return bytes(self._head[offset : offset + limit])
        parts = []
        for start, place, length in self._places:
            first, last = max(offset, start), min(offset + limit, start + length)
            if first < last:
                parts.append(self._spool.read(place + first - start, last - first))
        return b"".join(parts)

    def release(self) -> None:
        self._head.clear()
        self._tail.clear()

    def _keep(self, data: bytes) -> None:
        place, written = self._spool.write(data)
        start = self._spooled
        if self._places and sum(self._places[-1][1:]) == place and sum(self._places[-1][::2]) == start:
            last, at, length = self._places.pop()
            self._places.append((last, at, length + written))
        elif written:
            self._places.append((start, place, written))
        self._spooled += written


class Printed:
    """Both streams of a request, each in up to `most` bytes of memory; a `listener` is told each piece as it comes."""

    def __init__(self, most: int, spool: Spool, listener: Listener | None = None) -> None:
        self.listener = listener
        self._most, self._spool = most, spool
        self._texts = self._new_texts()

    def add(self, pieces: list[tuple[int, bytes]]) -> None:
        """Take what was printed, e.g. ``[(STDOUT, b"hello\n")]``."""
        for stream, data in pieces:
            self._texts[stream].add(data)
        if self.listener is not None:
            self.listener.send(pieces)

    def begin_again(self, attempt: int) -> None:
        """The code runs again: what it has printed before is void."""
        self._texts = self._new_texts()
        if self.listener is not None:
            self.listener.begin_again(attempt)

    @property
    def is_truncated(self) -> bool:
        """Whether `text` leaves something out of a stream."""
        return any(text.is_spooled for text in self._texts.values())

    def text(self, stream: int) -> str:
        """What an answer holds of a stream."""
        return self._texts[stream].text()

    def read(self, stream: str, offset: int, limit: int) -> dict[str, object]:
        """Any part of a stream, cut between characters: the result of ``output/read``."""
        found = self._texts[NAMES[stream]]
        data = found.read(offset, limit)
        at_end = offset + len(data) >= found.total - found.lost
        decoder = _new_decoder("replace")
        text = decoder.decode(data, at_end)
        rest = len(decoder.getstate()[0])
        end = offset + len(data) - (rest if rest < len(data) else 0)
        told = {"text": text, "offset": offset, "next_offset": end, "eof": at_end}
        return {**told, "total_bytes": found.total, "lost_bytes": found.lost}

    def release(self) -> None:
        """The answer has left: of a stream that the spool has, nothing need be held."""
        for text in self._texts.values():
            if text.is_spooled:
                text.release()

    def _new_texts(self) -> dict[int, _Text]:
        return {stream: _Text(self._most, self._spool) for stream in (STDOUT, STDERR)}
