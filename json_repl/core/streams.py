"""Both sides: fd 0, 1 and 2 of user code, and the text streams over them.

fd 0 is empty. fd 1 and 2 are pipes: C code and child processes write into them. Python's own writes go into the
`OutputBuffer` at once, and each first drains both pipes, so that everything is in the order in which it happened.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import resource
import select
import sys
from _thread import _count, get_ident, get_native_id
from os import listdir, read, write

from json_repl.core import forks
from json_repl.core.output import STDERR, STDOUT, OutputBuffer, of_request

__all__ = [
    "STDERR",
    "STDOUT",
    "Capture",
    "CapturedBytes",
    "can_open",
    "empty_stdin",
    "fill_standard_files",
    "high_duplicate",
    "install",
    "poll_anyhow",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap
    from collections.abc import Buffer, Callable  # type: ignore[attr-defined]

# User code's print() comes here with its own builtins in force.
_bytes, _len, _map, _memoryview, _type, _zip, _OSError = bytes, len, map, memoryview, type, zip, OSError
_lockf, _LOCK_EX, _LOCK_UN = fcntl.lockf, fcntl.LOCK_EX, fcntl.LOCK_UN
_POLLIN = select.POLLIN
_get_ident, _get_native_id = get_ident, get_native_id
_THREADS = "/proc/self/task"
_EINVAL, _OPEN_FILES = errno.EINVAL, resource.RLIMIT_NOFILE
_getrlimit, _setrlimit = resource.getrlimit, resource.setrlimit
PIPE_BYTES = 1 << 18  # as much as a pipe of ours can hold, so that one read takes all


class CapturedBytes(io.BufferedIOBase):
    """``sys.stdout.buffer``: unbuffered, as every byte must be in the answer even if the process dies next."""

    mode = "wb"

    def __init__(self, capture: Capture, stream: int) -> None:
        self._capture = capture
        self._fd = stream
        self.name = "<stdout>" if stream == STDOUT else "<stderr>"

    def write(self, data: Buffer) -> int:
        """Take all of `data`; its length is returned."""
        data = data if _type(data) is _bytes else _bytes(_memoryview(data))
        self._capture.write(self._fd, data)
        return _len(data)

    def fileno(self) -> int:
        """1 or 2: the pipe that goes the same way."""
        return self._fd

    def writable(self) -> bool:
        """Always."""
        return True

    @property
    def raw(self) -> CapturedBytes:
        """There is nothing below."""
        return self

    def close(self) -> None:
        """Ignored: the stream belongs to the session, which goes on."""


class _Nothing(io.TextIOWrapper):
    """An empty stdin, which stays: ``exit()`` closes it, and the session goes on."""

    def close(self) -> None:
        """Ignored."""


class Capture:
    """The output of one process's user code.

    Args:
        pipes: the read ends of the pipes behind fd 1 and 2, not blocking.
        buffer: where output goes.
        tell: called when something was written that somebody waits for.
        lock: a file that is locked while the pipes are read, as the parent may read them too.
        our_threads: how many threads of this process are none of the user's.
    """

    def __init__(
        self,
        pipes: dict[int, int],
        buffer: OutputBuffer,
        tell: Callable[[], object],
        lock: int | None = None,
        our_threads: int = 0,
    ) -> None:
        self.buffer = buffer
        self._our_threads = our_threads
        self._tell = tell
        self._lock = lock
        self._streams = {fd: stream for stream, fd in pipes.items()}  # e.g. {7: STDOUT, 8: STDERR}
        self._number = self._newest = 0  # the request that runs, and the one that has begun last
        self._main_thread = get_ident()
        self._threads: dict[int, int] = {}  # those of earlier requests, by the system's ids, e.g. {4711: 3}
        self._watch()

    def use(self, page: mmap.mmap) -> None:
        """This process has become another worker, whose pipes have the same numbers."""
        self.buffer.use(page)
        self._threads = {}
        self._watch()

    def _watch(self) -> None:
        self._poll = select.poll()
        for fd in self._streams:
            self._poll.register(fd, _POLLIN)

    def text_streams(self) -> tuple[io.TextIOWrapper, io.TextIOWrapper, io.TextIOWrapper]:
        """New stdin, stdout and stderr for user code."""
        out, err = (
            io.TextIOWrapper(
                CapturedBytes(self, stream),
                encoding="utf-8",
                errors="backslashreplace",
                newline="\n",
                write_through=True,
            )
            for stream in (STDOUT, STDERR)
        )
        nothing = _Nothing(io.BufferedReader(io.FileIO(os.devnull)), encoding="utf-8")
        return nothing, out, err

    def begin(self, number: int) -> None:
        """From here on output is that of request `number`; what came before is nobody's."""
        self.drain()
        self._main_thread = get_ident()
        if self._threads or _count() > self._our_threads:
            self._threads = {id: self._threads.get(id, self._newest) for id in _thread_ids()}
        self.buffer.belong_to(number)
        self._number = self._newest = number

    def end(self, answer: Callable[[], object] = lambda: None) -> None:
        """The request has ended: hand over the rest of its output, then have it answered. What comes after is late."""
        with self.buffer.lock:
            self.drain()
            self.buffer.flush()
            answer()
            self.buffer.belong_to(0)
            self._number = 0

    def write(self, stream: int, data: bytes) -> None:
        """Add what Python code writes, after all that was written to the pipes before it."""
        if forks.in_child:  # it has no answer of its own: what it prints goes the way of any child's output
            _write_all(stream, data)
            return
        buffer = self.buffer
        # A signal's handler prints while this thread is in here already: it waits, and what it prints does too.
        if buffer.lock._is_owned():  # type: ignore[attr-defined]
            buffer.waiting.append((self._by_us(stream), data))
            return
        with buffer.lock:
            if poll_anyhow(self._poll, 0):
                self._drain()
            buffer.append(stream if _get_ident() == self._main_thread else self._by_us(stream), data)
        if buffer.waiting:
            self.drain()
        if buffer.is_awaited():
            self._tell()

    def _by_us(self, stream: int) -> int:
        """`stream`, as that of the request that has started this thread, where it is not the one that runs."""
        if _get_ident() == self._main_thread:
            return stream
        starter = self._threads.get(_get_native_id(), self._newest)
        return stream if starter == self._number else of_request(stream, starter)

    def drain(self) -> None:
        """Take what stands in the pipes, at most their capacity: a child that floods them must not hold us here."""
        with self.buffer.lock:
            self._drain()
            self.buffer.append_waiting()

    def _drain(self) -> None:
        ready = poll_anyhow(self._poll, 0)
        if ready:
            try:
                self._change_lock(_LOCK_EX)
                for fd, event in ready:
                    self._read(fd, event)
                self.buffer.append_waiting()
            finally:
                self._change_lock(_LOCK_UN)

    def _read(self, fd: int, event: int) -> None:
        if not event & _POLLIN:  # user code closed its fd 1 or 2, or ours
            self._poll.unregister(fd)
            return
        try:
            # Read and kept in one call into C: between two of ours a signal's handler may raise.
            self.buffer.waiting.extend(_zip((self._streams[fd],), _map(read, (fd,), (PIPE_BYTES,))))
        except _OSError:  # EAGAIN: the parent was faster
            pass

    def _change_lock(self, to: int) -> None:
        if self._lock is not None:
            try:
                _lockf(self._lock, to)
            except _OSError:  # user code has closed it
                pass


def _thread_ids() -> list[int]:
    try:
        return [int(name) for name in listdir(_THREADS)]
    except Exception:  # there is no such folder (macOS), or user code's audit hook does not let us look
        return []


def poll_anyhow(poll: select.poll, timeout: float | None) -> list[tuple[int, int]]:
    """``poll.poll(timeout)``, also where user code has left itself fewer open files than the system polls at once."""
    try:
        return poll.poll(timeout)
    except _OSError as error:
        if error.errno != _EINVAL:  # a signal's handler has raised it
            raise
        _, most = _getrlimit(_OPEN_FILES)
        _setrlimit(_OPEN_FILES, (most, most))
        return poll.poll(timeout)


def _write_all(fd: int, data: bytes) -> None:
    view = _memoryview(data)
    while view:
        view = view[write(fd, view) :]


def high_duplicate(fd: int) -> int:
    """A private copy of `fd`, out of the way of user code and of its children."""
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 200)
    except OSError:  # a low limit of open files
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)


def fill_standard_files() -> list[int]:
    """Open the null device in the place of each of fd 0, 1 and 2 that is closed, so that no other file gets its number.

    Those that were closed are returned.
    """
    filled = []
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            filled.append(os.open(os.devnull, os.O_RDWR))  # it gets the lowest number that is free, which is `fd`
    return filled


def can_open(count: int) -> bool:
    """Whether this process may open so many more files. fd 0 is open."""
    files: list[int] = []
    try:
        while len(files) < count:
            files.append(os.dup(0))
    except OSError:
        return False
    finally:
        for fd in files:
            os.close(fd)
    return True


def empty_stdin() -> None:
    """Make fd 0 the null device."""
    null = os.open(os.devnull, os.O_RDONLY)
    if null != 0:
        os.dup2(null, 0)
        os.close(null)


def install(streams: tuple[io.TextIOWrapper, io.TextIOWrapper, io.TextIOWrapper]) -> None:
    """Make these the standard streams."""
    sys.stdin, sys.stdout, sys.stderr = streams
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = streams  # type: ignore[misc]
