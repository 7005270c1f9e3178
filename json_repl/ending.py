"""Parent side: how a request that runs is ended, or looked at: its stacks are told, it is interrupted, then killed."""

from __future__ import annotations

from json_repl import processes
from json_repl.core import wire
from json_repl.core.settings import GRACE_SECONDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from json_repl.worker_link import WorkerLink

STACKS_SECONDS = 0.005  # for all stacks to be written before the code is interrupted
_MOST_LOOKS = 50  # at stacks that are being written


def end_late(link: WorkerLink, goes_on: Callable[[], bool]) -> None:
    """The request's time is over: have every thread's stack written, interrupt it, kill its worker if it goes on."""
    _write_stacks(link)

    def interrupt() -> None:
        if goes_on() and not link.closed:
            link.interrupt()

    # Not at once: the system gives a second signal to another thread while the first is on its way.
    for seconds in (STACKS_SECONDS, GRACE_SECONDS / 2):
        link.loop.call_in(seconds, interrupt)
    link.loop.call_in(GRACE_SECONDS, lambda: _kill(link, goes_on, lambda: None))


def kill_later(link: WorkerLink, seconds: float, goes_on: Callable[[], bool], killed: Callable[[], None]) -> None:
    """The request was interrupted: kill its worker if it goes on after that time, with every thread's stack written."""

    def end() -> None:
        if goes_on() and not link.closed:
            _write_stacks(link)
            link.loop.call_in(STACKS_SECONDS, lambda: _kill(link, goes_on, killed))

    link.loop.call_in(seconds, end)


def ask_for_stacks(link: WorkerLink, done: Callable[[str], None]) -> None:
    """Give `done` the Python stacks of all threads, without frames of ours; "" where they cannot be had."""
    if link.closed or not _write_stacks(link):
        done("")
        return

    def look(looks: int, seen: int) -> None:
        size = link.stacks_size()
        if link.closed or not looks or 0 < size == seen:
            done("" if link.closed else "".join(link.stacks()))
        else:
            link.loop.call_in(STACKS_SECONDS, lambda: look(looks - 1, size))

    look(_MOST_LOOKS, 0)


def _write_stacks(link: WorkerLink) -> bool:
    """Have the worker write them, which one without a handler for that would end of."""
    if link.process is None or not processes.catches(link.process.pid, wire.DUMP_SIGNAL):
        return False
    link.process.send(wire.DUMP_SIGNAL)
    return True


def _kill(link: WorkerLink, goes_on: Callable[[], bool], killed: Callable[[], None]) -> None:
    link.collect()
    if goes_on() and not link.closed:  # else its answer was among what was collected
        killed()
        link.kill()
