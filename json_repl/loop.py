"""Parent side: one thread around one poll. Everything that can happen is a file that can be read, or a moment."""

from __future__ import annotations

import os
import signal
from heapq import heappop, heappush
from select import POLLIN, POLLOUT, poll
from time import monotonic

from json_repl.core.streams import fill_standard_files, poll_anyhow

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sized

READ = POLLIN
WRITE = POLLOUT
_LONGEST_WAIT = 86_400_000  # milliseconds, as poll takes no more than 2**31; a turn that ends early does no harm
GONE = 0  # only the end of the other side, which poll always tells


class Timer:
    """A moment at which a function is called once, unless cancelled before."""

    __slots__ = ("call", "when")

    def __init__(self, when: float, call: Callable[[], object] | None) -> None:
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

    def call_in(self, seconds: float, callback: Callable[[], object]) -> Timer:
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


class Visit:
    """``with Visit(loop, ended, cut_short): ...`` starts what will add to `ended`, and returns when it has.

    For calls from somebody else's program, which keeps its own. Its files: where fd 0, 1 or 2 is closed, none of ours
    gets that number. Its signals: what its handlers raise must not come in the middle of ours. So an interrupt goes to
    `cut_short`, which ends the code that runs (False if none does); the program gets it at the end of the visit.
    """

    def __init__(self, loop: Loop, ended: Sized, cut_short: Callable[[], bool]) -> None:
        self._loop = loop
        self._ended = ended
        self._cut_short = cut_short
        self._interrupted = False

    def __enter__(self) -> None:
        self._filled = fill_standard_files()
        self._wake_read, self._wake_write = os.pipe()
        self._loop.watch(self._wake_read, self._pass_on)
        self._handler = signal.getsignal(signal.SIGINT)
        try:
            if callable(self._handler):
                signal.signal(signal.SIGINT, self._on_interrupt)
        except ValueError:  # handlers are called in the main thread, and this is another
            self._handler = None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is None or self._cut_short():
            error = self._wait() or error
        if callable(self._handler):
            signal.signal(signal.SIGINT, self._handler)
        self._loop.forget(self._wake_read)
        for fd in (self._wake_read, self._wake_write, *self._filled):
            os.close(fd)
        if error is not None:
            raise error
        if self._interrupted and callable(self._handler):
            self._handler(signal.SIGINT, None)

    def _wait(self) -> BaseException | None:
        raised = None
        while not self._ended:
            try:
                self._loop.turn()
            except BaseException as error:  # the program's handler of another signal has raised it
                raised = error
                self._cut_short()
        return raised

    def _on_interrupt(self, signum: int, frame: object) -> None:
        self._interrupted = True
        os.write(self._wake_write, b"!")

    def _pass_on(self) -> None:
        os.read(self._wake_read, 1)
        self._cut_short()
