"""Parent side: one thread around one poll. Everything that can happen is a file that can be read, or a moment."""

from __future__ import annotations

from heapq import heappop, heappush
from select import POLLIN, POLLOUT, poll
from time import monotonic

from json_repl.core.streams import poll_anyhow

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

READ = POLLIN
WRITE = POLLOUT
_LONGEST_WAIT = 86_400_000  # milliseconds, as poll takes no more than 2**31; a turn that ends early does no harm
GONE = 0  # only the end of the other side, which poll always tells


class Timer:
    """A moment at which a function is called once, unless cancelled before."""

    __slots__ = ("call", "when")

    def __init__(self, when: float, call: Callable[[], None] | None) -> None:
        self.when = when
        self.call = call

    def cancel(self) -> None:
        """Do not call it."""
        self.call = None

    def __lt__(self, other: Timer) -> bool:
        return self.when < other.when


class Loop:
    """Calls back when a file is ready or a moment has come."""

    def __init__(self) -> None:
        self._poll = poll()
        self._callbacks: dict[int, Callable[[], object]] = {}  # e.g. {0: read a request}
        self._timers: list[Timer] = []
        # Calls its argument, which waits, and lets user code go on meanwhile: tasks, and handlers of its signals.
        self.let_go_on: Callable[[Callable[[], object]], None] | None = None

    def watch(self, fd: int, callback: Callable[[], object], events: int = READ) -> None:
        """Call back whenever `fd` is ready, until `forget`; a second call replaces the first."""
        self._poll.register(fd, events)
        self._callbacks[fd] = callback

    def forget(self, fd: int) -> None:
        """Stop watching `fd`; does nothing if nobody does."""
        if self._callbacks.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def watched(self) -> list[int]:
        """What is watched now."""
        return [*self._callbacks]

    def call_in(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call back once, in `seconds` from now."""
        timer = Timer(monotonic() + seconds, callback)
        heappush(self._timers, timer)
        return timer

    def turn(self) -> None:
        """Wait for the next thing that happens, and handle what has happened."""
        timers = self._timers
        while timers and timers[0].call is None:
            heappop(timers)
        wait = None
        if timers:
            wait = min(max(0, int((timers[0].when - monotonic()) * 1000) + 1), _LONGEST_WAIT)
        for fd, _ in self._wait(wait):
            callback = self._callbacks.get(fd)  # gone, if an earlier one of this turn has closed it
            if callback is not None:
                callback()
        if timers:
            now = monotonic()
            while timers and timers[0].when <= now:
                call = heappop(timers).call
                if call is not None:
                    call()

    def _wait(self, milliseconds: int | None) -> list[tuple[int, int]]:
        if self.let_go_on is None:
            return poll_anyhow(self._poll, milliseconds)
        found: list[tuple[int, int]] = []
        self.let_go_on(lambda: found.extend(poll_anyhow(self._poll, milliseconds)))
        return found or poll_anyhow(self._poll, 0)  # where user code has raised all the time
