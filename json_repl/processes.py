"""Parent side: processes. Start one with its files, know when it ends, stop it, and end all that it started."""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
from time import monotonic, sleep

from json_repl.core import log
from json_repl.core.errors import WorkerUnavailable
from json_repl.core.imports import ours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

KILL_SECONDS = 2.0  # for killed processes to be gone; one that sits in the kernel is not waited for any longer

_FIRST_CHILD_FD = 200  # out of the way of what user code opens, and closes

RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes, of what the system tells
_LONGEST_COMMAND = 200  # characters

_adopting = False  # orphans become our children
_has_children_of_its_own = False  # user code that runs in this process has children too, which are not ours to touch
_workers: set[int] = set()  # pids of processes that somebody holds


def why_unsupported() -> str | None:
    """One sentence if this system cannot have workers, else None."""
    for module, name in ((os, "posix_spawnp"), (os, "setsid")):
        if not hasattr(module, name):
            return f"a worker needs {name}(), which this system ({sys.platform}) does not have"
    if not (hasattr(os, "pidfd_open") or hasattr(__import__("select"), "kqueue")):
        return "a worker needs pidfd_open() (Linux 5.3 or newer) or kqueue (macOS), and this system has neither"
    return None


def hold(pid: int) -> None:
    """A process of ours that `end_family` spares; see `reap_held`."""
    _workers.add(pid)


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
    _workers.discard(pid)
    return True


class Process:
    """A child of ours, held by a file that becomes readable when it ends, not by its number alone."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        _workers.add(pid)
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
            _workers.discard(self.pid)
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
    psutil = _psutil()
    if psutil is None:
        return []
    found: list[dict[str, object]] = []
    try:
        for child in psutil.Process(pid).children(recursive=True):
            with child.oneshot():
                found.append({"pid": child.pid, "command": " ".join(child.cmdline())[:_LONGEST_COMMAND]})
    except psutil.Error:  # it has just ended
        pass
    return found


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


def adopt_orphans() -> None:
    """Become the parent of what a dead worker leaves behind, so that it can be found and ended. Linux only."""
    global _adopting
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    set_child_subreaper = 36
    _adopting = ctypes.CDLL(None, use_errno=True).prctl(set_child_subreaper, 1, 0, 0, 0) == 0
    if not _adopting:
        log.debug(f"orphans of a worker cannot be adopted: {errno.errorcode.get(ctypes.get_errno(), '?')}")


def expect_other_children() -> None:
    """User code runs in this process from now on: no child is killed or reaped any more because nobody knows it."""
    global _has_children_of_its_own
    _has_children_of_its_own = True


def leaves_something(pid: int) -> bool:
    """Whether a process that has ended may have left others behind; cheap, and never wrong with False."""
    try:
        os.killpg(pid, 0)
        return True
    except ProcessLookupError:
        pass
    except PermissionError:
        return True
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def end_group(pid: int) -> None:
    """Kill what is left in the process group of a worker that has ended; its parked copies are not in it."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def end_orphans(dead: set[int], born_before: int | None = None) -> None:
    """Kill what `dead` workers have left behind: in the sessions that they led, and what has become our child by that.

    Of our children younger than `born_before` (see `birth`) none is killed: a copy that a live worker makes is one.
    """
    own_pid, own_session = os.getpid(), os.getsid(0)
    may_be_orphans = _adopting and not _has_children_of_its_own

    def is_left(process: Any) -> bool:
        session = os.getsid(process.pid)
        orphan = may_be_orphans and session != own_session and process.ppid() == own_pid
        return session in dead or (orphan and (born_before is None or birth(process.pid) <= born_before))

    _kill_all(is_left)


def end_all(pid: int) -> None:
    """Kill all that the last worker, which has ended, has left behind."""
    end_group(pid)
    if leaves_something(pid):
        end_orphans({pid})


def birth(pid: int) -> int:
    """When a process began, in the system's ticks since its own start; 0 if it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except OSError:
        return 0


def _psutil() -> Any:
    try:
        with ours():
            import psutil
    except ImportError:
        log.warning("psutil is not installed: what a worker has started is neither found nor ended")
        return None
    return psutil


def _kill_all(chosen: Callable[[Any], bool]) -> None:
    psutil = _psutil()
    if psutil is None:
        return
    victims: dict[int, Any] = {}
    for process in psutil.process_iter():
        try:
            if process.pid not in _workers and chosen(process):
                victims.update((child.pid, child) for child in (process, *process.children(recursive=True)))
        except (ProcessLookupError, PermissionError, psutil.Error):
            continue
    for process in victims.values():
        try:
            process.kill()
        except psutil.Error:
            continue
    psutil.wait_procs(victims.values(), timeout=KILL_SECONDS)


def reap_orphans() -> None:
    """Reap adopted processes that have ended; workers are left to who holds them."""
    while _adopting and not _has_children_of_its_own:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if found is None or found.si_pid in _workers:
            return
        os.waitpid(found.si_pid, 0)
