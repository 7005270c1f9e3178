"""Both sides: what user code printed, in order, each byte once, also when its process dies in the middle.

    print() --> OutputBuffer --(memory shared with the parent)--> OutputReader.peek   while it runs, or after its death
                     |
                     +-- full, or the request ended --> OUTPUT frame --> OutputReader.take

Every byte has a place in the one stream of all output, so a piece seen by both ways counts once. Pieces are records
(stream, length, data); the last one is open, its length 0, until another stream writes or the buffer is handed over.
All belong to the request that runs, but those that say themselves whose they are: an earlier one's thread wrote them.
"""

from __future__ import annotations

import struct
from _thread import RLock
from functools import partial
from operator import itemgetter

from json_repl.core.errors import WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable

STDOUT, STDERR = 1, 2
DISPLAY = 3  # what is shown: a line of JSON for each message, see core/display.py
STREAMS = {"stdout": STDOUT, "stderr": STDERR}
PAGE_BYTES = 1 << 16
FOLLOW_SECONDS = 0.002  # between two looks at output that is streamed

_len, _memoryview, _take = len, memoryview, next  # user code's print() comes here with its own builtins in force

_PLACE = struct.Struct("@QQ")  # place of the first byte, number of the request it belongs to (0: none is running)
_USED = struct.Struct("@Q")  # stored in one step, as the other process may read at any moment
_CPU = struct.Struct("<d")
_RECORD = struct.Struct("<BI")
_OWNED_RECORD = struct.Struct("<BIQ")  # the length counts the owner too
_OWNED = 0x10  # added to the stream of such a record
_OWNER_SHIFT = 8
_LENGTH, _LENGTH_AT = struct.Struct("<I"), 1  # within a record

# The page: _PLACE at 0, _USED at 16, the interrupt's target at 24 (written by the parent), one more than the number of
# the request after which a snapshot was last taken at 32, the request that was begun last at 40, the seconds of CPU
# that the process had taken before that at 48, how many snapshots were taken at 56, whether somebody waits for what is
# written next at 64 (set by the parent), records from 128 on.
_USED_AT = 16
_TARGET_AT = 24
_PARKED_AT = 32
_BEGUN_AT = 40
_CPU_AT = 48
_COPIES_AT = 56
_AWAITED_AT = 64
_DATA_AT = 128


def of_request(stream: int, owner: int) -> int:
    """A stream as `OutputBuffer.append` takes it, where the bytes are not those of the request that runs."""
    return stream | owner << _OWNER_SHIFT


class OutputBuffer:
    """The writer's end. `spill` gets the payload of an OUTPUT frame, and may block: that is the back-pressure.

    A signal's handler of the user's can come between any two steps here. It may print: that goes to `waiting`, as
    nobody else changes anything while the lock is held. It may raise: then the next call begins again with the step
    that was cut short, so each step can be made twice, and what counts is moved or taken by a single call into C.
    """

    def __init__(self, page: mmap.mmap, spill: Callable[[bytes], None]) -> None:
        self._spill = spill
        self._place = self._owner = 0  # of the first byte of the page
        self._record = (0, 0)  # where the last record starts, and its data
        self._stream = 0  # that of the last record while it is open, else 0
        self.use(page)

    def use(self, page: mmap.mmap) -> None:
        """Begin anew in another page: this process has become another worker."""
        self.lock = RLock()  # a thread that has stayed behind may hold the old one
        self.waiting: list[tuple[int, bytes | memoryview]] = []  # the next ones to be appended, e.g. [(STDOUT, b"hi")]
        self._page = page
        self._write_first = map(page.write, map(itemgetter(1), iter(partial(self.waiting.pop, 0), None)))
        self._renewal: tuple[int, int] | None = (0, 0)  # the place and owner with which the page is to begin anew
        self._renew()

    def append(self, stream: int, data: bytes) -> None:
        """Add bytes to the end, in as many pieces as the page needs. The caller holds the lock."""
        page = self._page
        if stream == self._stream and not self.waiting and _len(data) <= PAGE_BYTES - page.tell():
            page.write(data)
            _USED.pack_into(page, _USED_AT, page.tell() - _DATA_AT)
        else:
            self.waiting.append((stream, data))
            self.append_waiting()

    def append_waiting(self) -> None:
        """Add what waits. The caller holds the lock."""
        while self.waiting:
            stream, data = self.waiting[0]
            room = self._open(stream)
            if _len(data) > room:
                data = _memoryview(data)
                self.waiting[:1] = [(stream, data[:room]), (stream, data[room:])]
            _take(self._write_first)  # taken from the list and written at once, so that neither is ever done alone
            _USED.pack_into(self._page, _USED_AT, self._page.tell() - _DATA_AT)

    def flush(self) -> None:
        """Hand over what is here. What was cut short is repeated under its place, which its reader knows."""
        with self.lock:
            self.append_waiting()
            self._hand_over()

    def belong_to(self, owner: int) -> None:
        """From here on, output is that of request `owner`."""
        with self.lock:
            self.flush()
            if owner:
                _USED.pack_into(self._page, _BEGUN_AT, owner)
            self._renewal = (self._place, owner)
            self._renew()

    def is_awaited(self) -> bool:
        """Whether somebody waits for what is written next; asking ends that."""
        if self._page[_AWAITED_AT]:
            self._page[_AWAITED_AT] = 0
            return True
        return False

    def interrupt_target(self) -> int:
        """The request that the parent wants to interrupt, or 0; asking takes it away."""
        (target,) = _USED.unpack_from(self._page, _TARGET_AT)
        _USED.pack_into(self._page, _TARGET_AT, 0)
        return int(target)

    def note_parked(self, number: int | None) -> None:
        """A copy of the state after request `number` is made now, or was, and will report; None: it will not."""
        (copies,) = _USED.unpack_from(self._page, _COPIES_AT)
        _USED.pack_into(self._page, _COPIES_AT, copies + 1 if number is not None else max(copies, 1) - 1)
        _USED.pack_into(self._page, _PARKED_AT, 0 if number is None else number + 1)

    def note_cpu(self, seconds: float) -> None:
        """A request begins, and this is what the process has taken so far."""
        _CPU.pack_into(self._page, _CPU_AT, seconds)

    def _open(self, stream: int) -> int:
        """See that what is written next goes to a record of `stream`; returns how much of it there is room for."""
        self._renew()
        if PAGE_BYTES - self._page.tell() <= _OWNED_RECORD.size:
            self._hand_over()
        if stream != self._stream:
            self._close()
            at = self._page.tell()
            if at == self._record[1]:  # an empty one, left by a call that was cut short
                at = self._record[0]
            owner = stream >> _OWNER_SHIFT
            if owner:
                _OWNED_RECORD.pack_into(self._page, at, stream & 0xF | _OWNED, 0, owner)
            else:
                _RECORD.pack_into(self._page, at, stream, 0)
            self._record = (at, at + (_OWNED_RECORD if owner else _RECORD).size)
            self._page.seek(self._record[1])
            self._stream = stream
        return PAGE_BYTES - self._page.tell()

    def _close(self) -> None:
        self._stream = 0
        record_at, data_at = self._record
        end = self._page.tell()
        if record_at and end > data_at:
            _LENGTH.pack_into(self._page, record_at + _LENGTH_AT, end - record_at - _RECORD.size)

    def _hand_over(self) -> None:
        self._renew()
        end = self._page.tell()
        if end > _DATA_AT:
            self._close()
            self._spill(_PLACE.pack(self._place, self._owner) + self._page[_DATA_AT:end])
            self._renewal = (self._place + end - _DATA_AT, self._owner)
            self._renew()

    def _renew(self) -> None:
        """Empty the page, where that is due."""
        if self._renewal is not None:
            self._place, self._owner = self._renewal
            self._record, self._stream = (0, 0), 0
            _USED.pack_into(self._page, _USED_AT, 0)
            _PLACE.pack_into(self._page, 0, self._place, self._owner)
            self._page.seek(_DATA_AT)
            self._renewal = None


class OutputReader:
    """The reader's end: returns what is new by whose it is, as ``[(owner, [(STDOUT, b"..."), ...]), ...]``."""

    def __init__(self, page: mmap.mmap | None = None) -> None:
        self._page = page
        self.place = 0  # up to which all was delivered
        self._seen = b""

    def take(self, payload: bytes) -> list[tuple[int, list[tuple[int, bytes]]]]:
        """The new pieces of an OUTPUT frame.

        Raises:
            WireError: the payload is none of ours.
        """
        if len(payload) < _PLACE.size:
            raise WireError("an output frame that is too short")
        place, owner = _PLACE.unpack_from(payload)
        return self._new_pieces(owner, place, payload[_PLACE.size :])

    def peek(self) -> tuple[int, list[tuple[int, list[tuple[int, bytes]]]]] | None:
        """The request that runs, and what stands in the shared page. The writer may be dead, or busy elsewhere.

        None: what came before it was handed over meanwhile; its frame is on the wire now, and must be taken first.
        """
        assert self._page is not None
        place, owner = _PLACE.unpack_from(self._page)
        (used,) = _USED.unpack_from(self._page, _USED_AT)
        data = self._page[_DATA_AT : _DATA_AT + min(used, PAGE_BYTES)]
        if place > self.place or _PLACE.unpack_from(self._page) != (place, owner):
            return None
        return owner, self._new_pieces(owner, place, data)

    def owner(self) -> int:
        """The request that the writer runs, from its first step to its answer; 0 while there is none."""
        assert self._page is not None
        return int(_PLACE.unpack_from(self._page)[1])

    def begun(self) -> int:
        """The request that the writer has begun last; it may be over. 0: none."""
        assert self._page is not None
        return int(_USED.unpack_from(self._page, _BEGUN_AT)[0])

    def parked(self) -> int | None:
        """The request after which the writer has last begun to make a copy of itself; None if it never did."""
        assert self._page is not None
        (number,) = _USED.unpack_from(self._page, _PARKED_AT)
        return int(number) - 1 if number else None

    def cpu_before(self) -> float:
        """Seconds of CPU that the writer had taken before its last request."""
        assert self._page is not None
        return float(_CPU.unpack_from(self._page, _CPU_AT)[0])

    def copies(self) -> int:
        """How many copies of itself the writer has made that have reported, or will."""
        assert self._page is not None
        return int(_USED.unpack_from(self._page, _COPIES_AT)[0])

    def writer_is_still(self) -> bool:
        """Whether nothing was written since the last call."""
        assert self._page is not None
        seen, self._seen = self._seen, self._page[:_TARGET_AT]
        return seen == self._seen

    def wait_for_more(self, *, wanted: bool) -> None:
        """Have the writer tell as soon as it writes again, or not."""
        assert self._page is not None
        if not self._page.closed:
            self._page[_AWAITED_AT] = wanted

    def follow(self, collect: Callable[[], object], call_in: Callable[[float], object]) -> None:
        """Have what is printed taken while code runs: at once after a pause, else every `FOLLOW_SECONDS`.

        `collect` takes what there is; `call_in` has this called again in some seconds, or returns False.
        """
        place = self.place
        collect()
        if self.place == place:
            self.wait_for_more(wanted=True)
            collect()  # what was written before the writer knew
        if self.place != place:
            self.wait_for_more(wanted=call_in(FOLLOW_SECONDS) is False)

    def aim_interrupt(self, owner: int) -> None:
        """Name the request that the next SIGINT is meant for, so that it cannot hit a later one."""
        assert self._page is not None
        _USED.pack_into(self._page, _TARGET_AT, owner)

    def _new_pieces(self, running: int, place: int, data: bytes) -> list[tuple[int, list[tuple[int, bytes]]]]:
        found: list[tuple[int, list[tuple[int, bytes]]]] = []
        known = max(0, self.place - place)
        at = 0
        while at + _RECORD.size <= len(data):
            stream, length = _RECORD.unpack_from(data, at)
            owner, start = running, at + _RECORD.size
            end = start + length if length else len(data)
            if stream & _OWNED and at + _OWNED_RECORD.size <= len(data):
                stream, _, owner = _OWNED_RECORD.unpack_from(data, at)
                stream, start = stream & ~_OWNED, at + _OWNED_RECORD.size
            if stream not in (STDOUT, STDERR, DISPLAY):
                raise WireError("output of a stream that does not exist")
            at = end
            if max(start, known) < end:
                if not found or found[-1][0] != owner:
                    found.append((owner, []))
                found[-1][1].append((stream, data[max(start, known) : end]))
        self.place = max(self.place, place + len(data))
        return found
