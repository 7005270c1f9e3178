"""Parent side: processes. Start one with its files, hold it, know when and how it has ended."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import sys
from time import monotonic, sleep

from json_repl.core import log
from json_repl.core.errors import WorkerUnavailable
from json_repl.core.imports import ours
from json_repl.core.outcome import RSS_UNIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

KILL_SECONDS = 2.0  # for killed processes to be gone; one that sits in the kernel is not waited for any longer

_FIRST_CHILD_FD = 200  # out of the way of what user code opens, and closes

_LONGEST_COMMAND = 200  # characters

_held: set[int] = set()  # pids of processes that somebody holds


def why_unsupported() -> str | None:
    """One sentence if this system cannot have workers, else None."""
    for module, name in ((os, "posix_spawnp"), (os, "setsid")):
        if not hasattr(module, name):
            return f"a worker needs {name}(), which this system ({sys.platform}) does not have"
    if not (hasattr(os, "pidfd_open") or hasattr(__import__("select"), "kqueue")):
        return "a worker needs pidfd_open() (Linux 5.3 or newer) or kqueue (macOS), and this system has neither"
    return None


def hold(pid: int) -> None:
    """A process that nobody else ends or reaps; see `reap_held`."""
    _held.add(pid)


def is_held(pid: int) -> bool:
    """Whether somebody holds a process."""
    return pid in _held


def reap_held(pid: int, *, wait: bool = False) -> bool:
    """Whether a process that was held, and told to end, is gone; one that does not go is killed, if we `wait`."""
    try:
        deadline = monotonic() + KILL_SECONDS
        while wait and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                wait = False
            sleep(0.001)
        if os.waitpid(pid, 0 if wait else os.WNOHANG) == (0, 0):
            return False
    except (ChildProcessError, ProcessLookupError):  # not our child: who it is a child of reaps it
        pass
    _held.discard(pid)
    return True


class Process:
    """A child of ours, held by a file that becomes readable when it ends, not by its number alone."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        _held.add(pid)
        self.end_fd, self._kqueue = _watch_end(pid)
        self.usage = (0.0, 0)  # seconds of CPU and bytes of memory that it took, once it is reaped
        self._status: int | None = None

    def send(self, signum: int) -> None:
        """Send a signal; a process that has ended gets none, and nobody else gets it in its place."""
        if self._status is None:
            try:
                os.kill(self.pid, signum)  # its number cannot be anybody else's before we have reaped it
            except ProcessLookupError:
                pass

    def send_to_group(self, signum: int) -> None:
        """Send a signal to the process and all in its group, such as the commands that its code waits for."""
        if self._status is None:
            try:
                os.killpg(self.pid, signum)
            except (ProcessLookupError, PermissionError):
                self.send(signum)

    def reap(self, *, wait: bool = False) -> int | None:
        """Its exit code, negative for a signal, as `subprocess` has it; None while it runs."""
        if self._status is None:
            try:
                pid, status, used = os.wait4(self.pid, 0 if wait else os.WNOHANG)
                if pid:
                    self._status = os.waitstatus_to_exitcode(status)
                    self.usage = (used.ru_utime + used.ru_stime, used.ru_maxrss * RSS_UNIT)
            except ChildProcessError:  # somebody else has reaped it: that it ended is all that can be known
                self._status = 255
        if self._status is not None:
            _held.discard(self.pid)
        return self._status

    def close(self) -> None:
        """Let go of the file."""
        if self.end_fd >= 0:
            if self._kqueue is not None:
                self._kqueue.close()  # type: ignore[attr-defined]
            else:
                os.close(self.end_fd)
        self.end_fd = -1


def _watch_end(pid: int) -> tuple[int, object]:
    if hasattr(os, "pidfd_open"):
        return os.pidfd_open(pid), None
    import select

    kqueue: Any = select
    queue = kqueue.kqueue()
    flags = kqueue.KQ_EV_ADD | kqueue.KQ_EV_ONESHOT
    queue.control([kqueue.kevent(pid, kqueue.KQ_FILTER_PROC, flags, kqueue.KQ_NOTE_EXIT)], 0)
    return queue.fileno(), queue


def family(pid: int) -> list[dict[str, object]]:
    """All that a process has started, and what those have: ``[{"pid": 12, "command": "sleep 100"}]``."""
    library = psutil()
    found: list[dict[str, object]] = []
    if library is not None:
        try:
            for child in library.Process(pid).children(recursive=True):
                found.append({"pid": child.pid, "command": " ".join(child.cmdline())[:_LONGEST_COMMAND]})
        except library.Error:  # it has just ended
            pass
    return found


def usage(pid: int) -> dict[str, object] | None:
    """What a process takes now: ``{"rss_bytes": 9000000, "cpu_s": 0.04, "threads": 1}``; None if it has ended."""
    library = psutil()
    if library is None:
        return None
    try:
        with ours():  # as it imports more when it is asked
            process = library.Process(pid)
        with process.oneshot():
            cpu = process.cpu_times()
            return {
                "rss_bytes": process.memory_info().rss,
                "cpu_s": round(cpu.user + cpu.system, 3),
                "threads": process.num_threads(),
            }
    except library.Error:
        return None


def catches(pid: int, signum: int) -> bool:
    """Whether a process has a handler for a signal, which would end it else; True where the system does not tell."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            caught = next(line for line in file if line.startswith(b"SigCgt:"))
        return bool(int(caught.split()[1], 16) >> (signum - 1) & 1)
    except (OSError, StopIteration):
        return True


def spawn(command: Sequence[str], environ: Mapping[str, str], files: Sequence[int], out: int, err: int) -> Process:
    """Start `command` with an empty stdin, with `out` and `err`, and with `files` under consecutive numbers.

    The first of those numbers takes the place of ``"{first}"`` in the command.

    Raises:
        WorkerUnavailable: it cannot be started; the text says why.
    """
    open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    high = _FIRST_CHILD_FD if open_files > _FIRST_CHILD_FD + len(files) else 3
    first = max(high, *(number + 1 for number in (*files, out, err)))
    if first + len(files) > open_files:
        raise WorkerUnavailable(
            f"too few open files are allowed for a worker (ulimit -n is {open_files})", hopeless=True
        )
    actions: list[tuple[int, int, int] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, out, 1),
        (os.POSIX_SPAWN_DUP2, err, 2),
        *((os.POSIX_SPAWN_DUP2, number, first + place) for place, number in enumerate(files)),
    ]
    arguments = [argument.replace("{first}", str(first)) for argument in command]
    try:
        pid = os.posix_spawnp(arguments[0], arguments, environ, file_actions=actions, setsigmask=())
    except OSError as error:
        hopeless = error.errno in (errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ENOTDIR)
        raise WorkerUnavailable(f"{arguments[0]} cannot be started: {error.strerror}", hopeless=hopeless) from None
    try:
        return Process(pid)
    except OSError as error:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise WorkerUnavailable(f"a started worker cannot be watched: {error.strerror}") from None


def exit_text(code: int) -> str:
    """An exit code in words, e.g. ``"was killed by SIGSEGV"`` or ``"exited with status 3"``."""
    name = signal_name(code)
    return f"was killed by {name}" if name else f"exited with status {code}"


def signal_name(code: int) -> str | None:
    """The name of the signal in a negative exit code, or None."""
    if code >= 0:
        return None
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def psutil() -> Any:
    """The library, imported when first needed, or None."""
    try:
        with ours():
            import psutil
    except ImportError:
        log.warning("psutil is not installed: what a worker has started is neither found nor ended")
        return None
    return psutil


def memory_file(size: int) -> int:
    """A file without a name, in memory where the system has that, which cannot change its size unless it is empty."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("json-repl", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    else:
        with ours():
            import tempfile
        fd, name = tempfile.mkstemp()
        os.unlink(name)
    os.ftruncate(fd, size)
    if size and hasattr(fcntl, "F_ADD_SEALS"):  # a page that its worker cut short would kill who reads it
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    return fd
