"""Client side: a thread that does for a `Wire` what asyncio's loops do."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector
from threading import Lock, Thread


class LoopThread:
    """A loop in a thread of its own: waits for files, and calls back."""

    def __init__(self) -> None:
        self._selector = DefaultSelector()
        self._jobs: deque[Callable[[], None]] = deque()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._stopped = False
        self._lock = Lock()  # of _jobs and _stopped
        self._thread = Thread(target=self._run, name="json-repl-session client", daemon=True)
        self.add_reader(self._wake_read, self._do_jobs)
        self._thread.start()

    def call_soon(self, job: Callable[[], None]) -> bool:
        """Have it called in the thread; False if that is over. From any thread."""
        with self._lock:
            if not self._stopped:
                self._jobs.append(job)
                self._wake()
            return not self._stopped

    def stop(self) -> None:
        """Wait until all jobs are done and the thread is over."""
        self.call_soon(self._stop)
        self._thread.join()

    def add_reader(self, fd: int, callback: Callable[[], None], /) -> None:
        """Call back whenever there is something to read."""
        self._selector.register(fd, EVENT_READ, callback)

    def add_writer(self, fd: int, callback: Callable[[], None], /) -> None:
        """Call back whenever something can be written."""
        if fd not in self._selector.get_map():
            self._selector.register(fd, EVENT_WRITE, callback)

    def remove_reader(self, fd: int, /) -> None:
        """Call back no more."""
        if fd in self._selector.get_map():
            self._selector.unregister(fd)

    remove_writer = remove_reader

    def _run(self) -> None:
        while not self._stopped:
            for key, _ in self._selector.select():
                if key.fd in self._selector.get_map():  # no other callback has just removed it
                    key.data()
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _wake(self) -> None:
        try:
            os.write(self._wake_write, b"!")
        except BlockingIOError:  # full: it has more than enough to wake for
            pass

    def _do_jobs(self) -> None:
        os.read(self._wake_read, 1000)
        while self._jobs:
            self._jobs.popleft()()

    def _stop(self) -> None:
        with self._lock:
            self._stopped = not self._jobs
        if not self._stopped:
            self.call_soon(self._stop)
