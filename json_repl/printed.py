"""Parent side: what one request has printed and shown: little of it is held in memory, what is much in a file."""

from __future__ import annotations

from codecs import getincrementaldecoder

from json_repl.core import log
from json_repl.core.imports import ours
from json_repl.core.output import DISPLAY, STDERR, STDOUT, STREAMS
from json_repl.outputs import Outputs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any, Protocol

    class Listener(Protocol):
        """A `json_repl.parent.stream.Stream`."""

        def send(self, pieces: list[tuple[int, bytes]]) -> None:
            """Output that has just come."""

        def tell(self, method: str, content: dict[str, Any]) -> None:
            """Something that was shown."""

        def begin_again(self, attempt: int) -> None:
            """The code runs again: what was sent before is void."""


_LONGEST_CHARACTER = 4  # bytes
_new_decoder = getincrementaldecoder("utf-8")


class Spool:
    """Files that end with their session, one for each stream: for what is too much to be held."""

    def __init__(self) -> None:
        self.files = {stream: _File() for stream in (STDOUT, STDERR, DISPLAY)}


class _File:
    def __init__(self) -> None:
        self.size = 0
        self._file: IO[bytes] | None = None

    def write(self, data: bytes) -> int:
        """Add to the end; returns how many bytes could be written."""
        written = 0
        try:
            if self._file is None:
                with ours():
                    import tempfile
                self._file = tempfile.TemporaryFile(prefix="json-repl-", buffering=0)
            while written < len(data):
                written += self._file.write(data[written:])
        except OSError as error:  # no room: the answer has its head and tail all the same
            log.warning(f"output cannot be kept in a file: {error.strerror}")
        self.size += written
        return written

    def read(self, start: int, size: int) -> bytes:
        """What stands there."""
        if self._file is None:
            return b""
        self._file.seek(start)
        data = self._file.read(size) or b""
        self._file.seek(self.size)
        return data


class _Kept:
    """One value that was too large for an answer, in the file."""

    def __init__(self, data: bytes, file: _File) -> None:
        self._file, self._place = file, file.size
        self.total = len(data)
        self.lost = self.total - file.write(data)

    def read(self, offset: int, limit: int) -> bytes:
        size = min(limit, self.total - self.lost - offset)
        return self._file.read(self._place + offset, size) if size > 0 else b""


class _Text:
    """One stream: all of it, or, from `most` bytes on, its head and tail, and the whole in a file."""

    def __init__(self, most: int, file: _File) -> None:
        self.total = 0
        self.lost = 0  # what found no room in the file, from where that began
        self._most, self._file = most, file
        self._head, self._tail = bytearray(), bytearray()
        self._place = 0  # in the file

    @property
    def is_spooled(self) -> bool:
        return self.total > self._most

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
            self._place = self._file.size
        self.lost += len(data) - (0 if self.lost else self._file.write(data))
        self._tail += data if was_spooled else data[half:]
        if len(self._tail) > self._most:
            del self._tail[: len(self._tail) - (self._most - half)]

    def text(self) -> str:
        if not self.is_spooled:
            return self._head.decode("utf-8", "replace")
        head, rest = _decode_whole(bytes(self._head))
        tail = self._tail[max(0, len(self._tail) - (self._most - len(self._head))) :]
        for _ in range(_LONGEST_CHARACTER - 1):
            if tail and tail[0] & 0xC0 == 0x80:  # within a character
                del tail[0]
        missing = self.total - len(self._head) + rest - len(tail)
        gives = "what found room on the disk" if self.lost else "them"
        note = f"\n[... {missing} bytes are left out here; output/read gives {gives} ...]\n"
        return head + note + tail.decode("utf-8", "replace")

    def read(self, offset: int, limit: int) -> bytes:
        if not self.is_spooled:
            return bytes(self._head[offset : offset + limit])
        size = min(limit, self.total - self.lost - offset)
        return self._file.read(self._place + offset, size) if size > 0 else b""

    def release(self) -> None:
        self._head.clear()
        self._tail.clear()


def _decode_whole(data: bytes) -> tuple[str, int]:
    """The text of `data` without the character that it ends within, and how many bytes of that there are."""
    decoder = _new_decoder("replace")
    text = decoder.decode(data)
    return text, len(decoder.getstate()[0])


class Printed:
    """Both streams of a request, and what it shows, each in up to `most` bytes of memory.

    A `listener` is told each piece as it comes.
    """

    def __init__(self, most: int, spool: Spool, listener: Listener | None = None) -> None:
        self.listener = listener
        self._most, self._spool = most, spool
        self._begin()
        self._ended = False

    def _begin(self) -> None:
        self._texts = {stream: _Text(self._most, self._spool.files[stream]) for stream in (STDOUT, STDERR)}
        self._shown = Outputs()
        self._kept: dict[str, _Kept] = {}  # e.g. {"outputs/0/image/png": ...}

    def add(self, pieces: list[tuple[int, bytes]]) -> None:
        """Take what was printed, e.g. ``[(STDOUT, b"hello")]``."""
        text: list[tuple[int, bytes]] = []
        for stream, data in pieces:
            if stream != DISPLAY:
                self._texts[stream].add(data)
                text.append((stream, data))
                continue
            for method, content in self._shown.feed(data, self._fit):
                if self.listener is not None:
                    self.listener.send(text)
                    self.listener.tell(method, content)
                text = []
        if self.listener is not None:
            self.listener.send(text)

    def begin_again(self, attempt: int) -> None:
        """The code runs again: what it has printed before is void."""
        self._begin()
        if self.listener is not None:
            self.listener.begin_again(attempt)

    @property
    def is_truncated(self) -> bool:
        """Whether `text` leaves something out of a stream."""
        return bool(self._kept) or any(text.is_spooled for text in self._texts.values())

    @property
    def outputs(self) -> list[dict[str, Any]]:
        """What was shown: Jupyter's ``display_data``, as they are now."""
        return self._shown.listing

    def fit_value(
        self, result: str | None, rich: str | None
    ) -> tuple[str | None, dict[str, Any] | None, dict[str, Any]]:
        """The last value's repr, its MIME bundle, and the metadata of that, as they fit into an answer."""
        if result is None:
            return None, None, {}
        content = Outputs.parse(rich.encode()) if rich is not None else None
        content = content or {"data": {}, "metadata": {}}
        content["data"]["text/plain"] = result
        self._fit("", content)
        if "text/plain" not in content["data"]:
            text = _Text(self._most, _File())
            text.add(result.encode("utf-8", "replace"))
            content["data"]["text/plain"] = text.text()
        return content["data"]["text/plain"], content["data"], content["metadata"]

    def _fit(self, place: str, content: dict[str, Any]) -> None:
        """Take what is too large out of a bundle; in the metadata there is then where `output/read` has it."""
        for mime, value in [*content["data"].items()]:
            data = Outputs.to_bytes(value)
            if len(data) > self._most:
                self._kept[place + mime] = kept = _Kept(data, self._spool.files[DISPLAY])
                about = content["metadata"].get(mime)
                told = {"stream": place + mime, "total_bytes": kept.total, "lost_bytes": kept.lost}
                content["metadata"][mime] = {**(about if isinstance(about, dict) else {}), "reference": told}
                del content["data"][mime]

    def text(self, stream: int) -> str:
        """What an answer holds of a stream."""
        return self._texts[stream].text()

    def read(self, stream: str, offset: int, limit: int) -> dict[str, object]:
        """Any part of a stream, cut between characters: the result of ``output/read``.

        Raises:
            KeyError: there is no such stream.
        """
        found = self._texts[STREAMS[stream]] if stream in STREAMS else self._kept[stream]
        data = found.read(offset, limit and max(limit, _LONGEST_CHARACTER))
        at_end = self._ended and offset + len(data) >= found.total - found.lost
        text, rest = (data.decode("utf-8", "replace"), 0) if at_end else _decode_whole(data)
        told = {"text": text, "offset": offset, "next_offset": offset + len(data) - rest, "eof": at_end}
        return {**told, "total_bytes": found.total, "lost_bytes": found.lost}

    def end(self) -> None:
        """No more comes, and the answer has left: of a stream that the spool has, nothing need be held."""
        self._ended = True
        for text in self._texts.values():
            if text.is_spooled:
                text.release()
