"""Both sides: what user code printed, in order, each byte once, also when its process dies in the middle.

    print() --> OutputBuffer --(memory shared with the parent)--> OutputReader.peek   while it runs, or after its death
                     |
                     +-- full, or the request ended --> OUTPUT frame --> OutputReader.take

Every byte has a place in the one stream of all output, so a piece seen by both ways counts once. Pieces are records
(stream, length, data); the last one is open, its length 0, until another stream writes or the buffer is handed over.
"""

from __future__ import annotations

import struct
from _thread import RLock

from json_repl.core.errors import WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable

STDOUT, STDERR = 1, 2
PAGE_BYTES = 1 << 16

_len, _memoryview = len, memoryview  # user code's print() comes here with its own builtins in force

_PLACE = struct.Struct("<QQ")  # place of the first byte, number of the request it belongs to (0: none is running)
_USED = struct.Struct("<Q")
_CPU = struct.Struct("<d")
_RECORD = struct.Struct("<BI")

# The page: _PLACE at 0, _USED at 16, the interrupt's target at 24 (written by the parent), one more than the number of
# the request after which a snapshot was last taken at 32, the seconds of CPU that the process had taken before its
# last request at 40, records from 64 on.
_USED_AT = 16
_TARGET_AT = 24
_PARKED_AT = 32
_CPU_AT = 40
_DATA_AT = 64

Piece = "tuple[int, bytes]"  # (STDOUT, b"hello\n")


class OutputBuffer:
    """The writer's end. `spill` gets the payload of an OUTPUT frame, and may block: that is the back-pressure."""

    def __init__(self, page: mmap.mmap, spill: Callable[[bytes], None]) -> None:
        self.lock = RLock()
        self._page = page
        self._spill = spill
        self._place = 0
        self._owner = 0
        self._record_at = 0  # where the open record starts; 0 where none is open
        self._stream = 0
        self._restart()

    def use(self, page: mmap.mmap) -> None:
        """Begin anew in another page: this process has become another worker."""
        self._page = page
        self._place = self._owner = 0
        self._restart()

    def append(self, stream: int, data: bytes) -> None:
        """Add bytes to the end, in as many pieces as the page needs."""
        with self.lock:
            if stream == self._stream and _len(data) < _len(self._page) - self._page.tell():
                self._page.write(data)
                _USED.pack_into(self._page, _USED_AT, self._page.tell() - _DATA_AT)
                return
            view = _memoryview(data)
            while view:
                room = _len(self._page) - self._page.tell() - _RECORD.size
                if room <= 0:
                    self.flush()
                    continue
                if stream != self._stream:
                    self._open(stream)
                # The page moves on in C, at once: what a signal's handler prints goes before or after, never into it.
                self._page.write(view[:room])
                _USED.pack_into(self._page, _USED_AT, self._page.tell() - _DATA_AT)
                view = view[room:]

    def flush(self) -> None:
        """Hand over what is here. A call cut short by an exception is safe: the next one repeats it under its place."""
        with self.lock:
            end = self._page.tell()
            if end == _DATA_AT:
                return
            self._seal()
            self._spill(_PLACE.pack(self._place, self._owner) + self._page[_DATA_AT:end])
            self._place += end - _DATA_AT
            self._restart()

    def belong_to(self, owner: int) -> None:
        """From here on, output is that of request `owner`."""
        with self.lock:
            self.flush()
            self._owner = owner
            self._restart()

    def interrupt_target(self) -> int:
        """The request that the parent wants to interrupt, or 0; asking takes it away."""
        (target,) = _USED.unpack_from(self._page, _TARGET_AT)
        _USED.pack_into(self._page, _TARGET_AT, 0)
        return int(target)

    def note_parked(self, number: int | None) -> None:
        """A copy of the state after request `number` is made now, or was, and will report; None: there is none."""
        _USED.pack_into(self._page, _PARKED_AT, 0 if number is None else number + 1)

    def note_cpu(self, seconds: float) -> None:
        """A request begins, and this is what the process has taken so far."""
        _CPU.pack_into(self._page, _CPU_AT, seconds)

    def _open(self, stream: int) -> None:
        self._seal()
        self._record_at = self._page.tell()
        self._page.write(_RECORD.pack(stream, 0))
        self._stream = stream

    def _seal(self) -> None:
        if self._record_at:
            length = self._page.tell() - self._record_at - _RECORD.size
            _RECORD.pack_into(self._page, self._record_at, self._stream, length)
        self._record_at = self._stream = 0

    def _restart(self) -> None:
        self._record_at = self._stream = 0
        _USED.pack_into(self._page, _USED_AT, 0)
        _PLACE.pack_into(self._page, 0, self._place, self._owner)
        self._page.seek(_DATA_AT)


class OutputReader:
    """The reader's end: returns what is new, as ``(owner, [(STDOUT, b"..."), ...])``."""

    def __init__(self, page: mmap.mmap | None = None) -> None:
        self._page = page
        self._place = 0
        self._seen = b""

    def take(self, payload: bytes) -> tuple[int, list[tuple[int, bytes]]]:
        """The new pieces of an OUTPUT frame.

        Raises:
            WireError: the payload is none of ours.
        """
        if len(payload) < _PLACE.size:
            raise WireError("an output frame that is too short")
        place, owner = _PLACE.unpack_from(payload)
        return owner, self._new_pieces(place, payload[_PLACE.size :])

    def peek(self) -> tuple[int, list[tuple[int, bytes]]]:
        """What stands in the shared page and was not taken yet. The writer may be dead, or busy elsewhere."""
        assert self._page is not None
        place, owner = _PLACE.unpack_from(self._page)
        (used,) = _USED.unpack_from(self._page, _USED_AT)
        data = self._page[_DATA_AT : _DATA_AT + min(used, PAGE_BYTES)]
        if place > self._place or _PLACE.unpack_from(self._page) != (place, owner):
            return owner, []  # what came before was handed over meanwhile, and its frame is on the way
        return owner, self._new_pieces(place, data)

    def parked(self) -> int | None:
        """The request after which the writer has last begun to make a copy of itself; None if it never did."""
        assert self._page is not None
        (number,) = _USED.unpack_from(self._page, _PARKED_AT)
        return int(number) - 1 if number else None

    def cpu_before(self) -> float:
        """Seconds of CPU that the writer had taken before its last request."""
        assert self._page is not None
        return float(_CPU.unpack_from(self._page, _CPU_AT)[0])

    def writer_is_still(self) -> bool:
        """Whether nothing was written since the last call."""
        assert self._page is not None
        seen, self._seen = self._seen, self._page[:_TARGET_AT]
        return seen == self._seen

    def aim_interrupt(self, owner: int) -> None:
        """Name the request that the next SIGINT is meant for, so that it cannot hit a later one."""
        assert self._page is not None
        _USED.pack_into(self._page, _TARGET_AT, owner)

    def _new_pieces(self, place: int, data: bytes) -> list[tuple[int, bytes]]:
        pieces = []
        known = max(0, self._place - place)
        at = 0
        while at + _RECORD.size <= len(data):
            stream, length = _RECORD.unpack_from(data, at)
            if stream not in (STDOUT, STDERR):
                raise WireError("output of a stream that does not exist")
            start = at + _RECORD.size
            at = start + length if length else len(data)
            if max(start, known) < at:
                pieces.append((stream, data[max(start, known) : at]))
        self._place = max(self._place, place + len(data))
        return pieces
