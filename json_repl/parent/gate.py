"""Parent side, local backend: what goes on while the only thread runs user code.

A second thread sleeps behind an epoll that lets nothing through while the main thread is in our own code. The main
thread opens it before user code and closes it, under one lock, before the answer is written: so the two are never
both in our code, and nothing of it needs further locks. While open, the thread answers control requests, empties the
pipes behind fd 1 and 2, and interrupts code whose time is over.
"""

from __future__ import annotations

import os
import select
import sys
from _thread import _count as _count_in_python
from _thread import allocate_lock, get_ident, start_new_thread
from os import listdir, read, write
from signal import SIG_BLOCK, SIG_SETMASK, SIGINT, pthread_kill, pthread_sigmask, valid_signals
from time import monotonic, sleep

from json_repl.core.imports import ours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# User code may spoil modules: what is used while it runs, or after, is bound here or a method of an object of ours.
_HAS_EPOLL = hasattr(select, "epoll")
_EPOLLIN = getattr(select, "EPOLLIN", 0)

_ALL_SIGNALS = valid_signals()
_MOST_LOOKS, _LOOK_SECONDS = 50, 0.0002  # for a thread that has ended to be gone
INSIST_SECONDS = 1.0  # code that does not end when it is interrupted is interrupted again after that
PAUSE_SECONDS = 0.001  # between two looks: code that prints all the time shall not wake this thread all the time


class Gate:
    """Watches `files`, e.g. ``{0: read a request}``, while it is open, until their callback returns False.

    Where there is no epoll (macOS), nothing is watched while local code runs, and time limits do not work.
    """

    def __init__(self, files: dict[int, Callable[[], object]]) -> None:
        self.late = False  # the time of what runs was over
        self._files = files
        self._lock = allocate_lock()
        self._open = False
        self._main_thread = get_ident()
        self._next_interrupt: float | None = None
        self._calls: list[tuple[float, Callable[[], None]]] = []  # moments, and what is called then
        self._forking = allocate_lock()
        self._stopped = allocate_lock()
        self._stopped.acquire()
        self._running = False
        self._quiet: Any = None  # our filter of warnings, while it is in force
        self.watched: set[int] = set()
        if not _HAS_EPOLL:
            return
        self._inner = select.epoll()  # what is watched
        for fd in files:
            try:
                self._inner.register(fd, select.EPOLLIN)
                self.watched.add(fd)
            except PermissionError:  # a regular file: its lines are answered in order
                continue
        self._outer = select.epoll()  # the gate: lets news of the inner one through, or not
        self._outer.register(self._inner, 0)
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        self._outer.register(self._wake_read, select.EPOLLIN)
        # A process that forks should have one thread: the child of more may deadlock, and Python 3.12 on warns of it.
        os.register_at_fork(before=self._stop, after_in_parent=self._start_again, after_in_child=self._after_fork)
        self._in_child = False
        self._start()

    def open(self, timeout: float | None) -> None:
        """User code runs from here on; interrupt it in `timeout` seconds, if given."""
        self.late = False
        self._main_thread = get_ident()
        with self._lock:
            self._open = True
            if not _HAS_EPOLL:
                return
            self._outer.modify(self._inner, _EPOLLIN)
            if timeout:
                self._next_interrupt = monotonic() + timeout
            if timeout or self._calls:
                write(self._wake_write, b"!")

    def call_in(self, seconds: float, call: Callable[[], None]) -> bool:
        """Call back once from the other thread, under the lock, while the gate is open; False where there is none."""
        if not _HAS_EPOLL:
            return False
        self._calls.append((monotonic() + seconds, call))
        write(self._wake_write, b"!")
        return True

    def exclusively(self, call: Callable[[], None]) -> bool:
        """Call while nothing of the other thread happens; False, and not at all, while no user code runs: our time.

        Signals wait, as their handlers raise.
        """
        mask = pthread_sigmask(SIG_BLOCK, ())  # in a call of its own, as each may raise what was to be raised
        try:
            pthread_sigmask(SIG_BLOCK, _ALL_SIGNALS)
            with self._lock:
                if self._open:
                    call()
                return self._open
        finally:
            pthread_sigmask(SIG_SETMASK, mask)

    def close(self) -> None:
        """User code runs no more. Nothing of the other thread happens after this."""
        with self._lock:
            self._open = False
            if not _HAS_EPOLL:
                return
            self._next_interrupt = None
            self._calls.clear()
            if self._quiet is not None:
                with ours():
                    import warnings
                if self._quiet in warnings.filters:
                    warnings.filters.remove(self._quiet)  # type: ignore[attr-defined]
                self._quiet = None
            self._outer.modify(self._inner, 0)

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the code that runs. Called from what the gate lets through, under its lock."""
        pthread_kill(self._main_thread, SIGINT)

    def end(self) -> None:
        """Have no other thread from here on: one that Python's end meets needs a file of its own (libgcc_s) to go."""
        if _HAS_EPOLL and self._running:
            self._halt(_count_in_python)

    def _start(self) -> None:
        self._running = True
        start_new_thread(self._serve, ())

    def _stop(self) -> None:
        self._forking.acquire()  # until the fork is over: two threads of the user's may fork at once
        if self._running and not self._in_child:
            self._halt(_count_threads)

    def _halt(self, count: Callable[[], int]) -> None:
        threads = count()
        self._running = False
        write(self._wake_write, b"!")
        self._stopped.acquire()
        for _ in range(_MOST_LOOKS):  # Python has the thread for a moment longer, and the system even more
            if count() < threads:
                break
            sleep(_LOOK_SECONDS)

    def _start_again(self) -> None:
        if not self._in_child:
            self._start_quietly()
        self._forking.release()

    def _start_quietly(self) -> None:
        # Python 3.13 alone looks for threads after this, and would warn of ours; of the user's it shall.
        if sys.version_info[:2] == (3, 13) and _count_threads() == 1:
            with ours():
                import warnings
            warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
            self._quiet = warnings.filters[0]
        self._start()

    def _after_fork(self) -> None:
        self._in_child = True
        self._forking = allocate_lock()

    def _serve(self) -> None:
        pthread_sigmask(SIG_BLOCK, _ALL_SIGNALS)  # they are the main thread's
        while self._running:
            self._outer.poll(self._patience())
            with self._lock:
                try:
                    read(self._wake_read, 100)
                except BlockingIOError:
                    pass
                looked = self._open and self._look()
            if looked:
                sleep(PAUSE_SECONDS)
        self._stopped.release()

    def _patience(self) -> float:
        if not self._open:
            return -1.0
        moments = [moment for moment, _ in [*self._calls]]
        if self._next_interrupt is not None:
            moments.append(self._next_interrupt)
        return min(max(0.0, min(moments) - monotonic()), 86400.0) if moments else -1.0

    def _look(self) -> bool:
        for due in [call for call in self._calls if monotonic() >= call[0]]:
            self._calls.remove(due)
            due[1]()
        if self._next_interrupt is not None and monotonic() >= self._next_interrupt:
            self.late = True
            self._next_interrupt = monotonic() + INSIST_SECONDS
            self.interrupt()
        ready = self._inner.poll(0)
        for fd, _ in ready:
            if self._files[fd]() is False:
                self._inner.unregister(fd)
        return bool(ready)


def _count_threads() -> int:
    return len(listdir("/proc/self/task"))
