"""Child side: copies of a worker, parked by fork, from which new workers are made.

    live worker --park--> parked copy, which waits on a channel of its own
                             |
    parent --role, new files-+--fork--> a live worker in the state that the copy has kept

A parked copy runs no user code, holds nothing of the session open but its channel, and ends when that does. It stays
when a worker is made from it, so that the same state can be had again.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import fcntl
import os
import stat
import struct
import sys
from _socket import AF_UNIX, CMSG_SPACE, SCM_RIGHTS, SOCK_SEQPACKET, SOL_SOCKET, socket, socketpair
from time import perf_counter, process_time, sleep, time

from json_repl.core import forks, log, wire
from json_repl.core.imports import keep, ours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# `_signal` and not `signal`, whose functions look up their own module.
os, fcntl, stat, signal = keep(os), keep(fcntl), keep(stat), keep(_signal)

SMALL_SECONDS = 0.005  # a snapshot that costs no more is taken after every answer
LONG_FACTOR = 10  # a larger one, when the request ran for so many times its cost ...
BURST_SHARE = 0.2  # ... or snapshots take no more than this share of the time ...
IDLE_FACTOR = 3  # ... or the session has been idle for so many times its cost

# What a copy is told to make: the worker that goes on for a lost one, that of a second session, one for a single
# request, one that is only looked at; or nothing, but to end.
SUCCESSOR, CLONE, TRIAL, LOOK, BYE = b"successor", b"clone", b"trial", b"look", b"bye"

LOSS_SECONDS = 1.0  # for the end of a session to be seen by its keeper

PRISTINE = 0  # instead of a request's number: the state before the first one
KEEPER = (1 << 62) - 1  # and a copy that is there only to end what is left, as that of the pristine state does too
GUARDS = (PRISTINE, KEEPER)
MARK = "JSON_REPL_WORKER"  # in the environment of all that a worker starts: "<session's process>.<which session>"
# Request number, pid, threads of the user's that the copy lacks, whether threads or tasks change the state any time,
# when it was made.
REPORT = struct.Struct("<QQQ?d")
_ONLY_AT_FIRST = os.O_CREAT | os.O_EXCL | os.O_TRUNC | os.O_NOFOLLOW | getattr(os, "O_TMPFILE", 0)  # flags of open()
_FD = struct.Struct("<i")
_HANDED = len(wire.CHILD_FDS) + 2  # files that come with a role: ours, and fd 1 and 2
_HARMLESS_DEVICES = {os.makedev(1, minor) for minor in (3, 5, 7, 8, 9)}  # null, zero, full, random, urandom

_QUIET = ("ignore", None, DeprecationWarning, None, 0)  # as in `warnings.filters`
_ALL_SIGNALS = signal.valid_signals()
_modules = sys.modules
_mark = os.environ.get(MARK, "")  # what this process wears now
_environ = os.environ
LIVE, COPY, FAILED = "live", "copy", "failed"  # where `Parking.park` returns


class Parking:
    """Takes snapshots of this process.

    Args:
        fd: our private files, by their names in `wire.CHILD_FDS`.
        mode: "auto", "always" or "off".
        note: tells the parent for which request a copy is about to report, or, with None, that it will not.
        has_tasks: whether tasks of the session's event loop go on between requests.
        resume: makes a copy a live worker, once it has its new files.
    """

    def __init__(
        self,
        fd: dict[str, int],
        mode: str,
        note: Callable[[int | None], None],
        has_tasks: Callable[[], bool],
        resume: Callable[[bytes], None],
    ) -> None:
        self.due: int | None = None  # the request whose state no copy holds yet
        self._fd = fd
        self.mode = mode if is_possible() else "off"
        self._note = note
        self._has_tasks = has_tasks
        self._resume = resume
        # Seconds of CPU that the last ones took here: what they take by the clock tells of how busy the machine is.
        self._costs = [0.0, 0.0, 0.0]
        self._last = perf_counter()
        self._newest: int | None = None  # the request after which the last copy was made
        self._moves = False  # that state may have changed since
        self.guarded = False  # there is a copy that ends what is left
        self._session = os.getppid()
        self._captured = {stream: _identity(stream) for stream in (1, 2)}

    def after_answer(self, number: int, elapsed: float) -> None:
        """A request that took `elapsed` seconds was answered: take a snapshot now if that costs little."""
        if self.mode != "auto":
            return
        self.due = number
        if self._cost <= max(SMALL_SECONDS, elapsed / LONG_FACTOR) or self._cost <= BURST_SHARE * (
            perf_counter() - self._last
        ):
            self.park(number)

    @property
    def _cost(self) -> float:
        return sorted(self._costs)[1]

    def risk(self) -> tuple[int, float]:
        """What a loss would cost beyond the request that caused it: threads, and milliseconds that copies are saved."""
        is_costly = self.mode == "auto" and self._cost > SMALL_SECONDS
        return (_count_threads() - 1 if self.mode != "off" else 0), self._cost * 1000 if is_costly else 0.0

    def holds(self, number: int) -> bool:
        """Whether there is a copy of the state after request `number`, which is still the same."""
        return self._newest == number and not self._moves

    def patience(self) -> float | None:
        """Seconds of idleness after which a snapshot that is due should be taken; None: none is due."""
        return None if self.due is None else self._cost * IDLE_FACTOR

    def guard(self) -> None:
        """Before any user code: leave a copy that kills what is left when the session has ended, however that came.

        The kernel ends the worker's process group with the session (see `end_with_parent`); this one sees to those that
        have left the group, and to a worker that has closed all its files. It holds the pristine state, too.
        """
        self.park(PRISTINE if self.due == PRISTINE else KEEPER)

    def park(self, number: int) -> str:
        """Leave a copy behind, in the state after request `number`.

        Returns in the live worker, as LIVE or FAILED, and as COPY in each worker that is made of the copy later.
        """
        self.guarded = self.guarded or number in GUARDS
        if not is_possible():
            return FAILED
        if number != KEEPER:
            self.due = None
        started, self._made_at = process_time(), time()
        random = _modules.get("random")
        random = random if hasattr(random, "getstate") else None  # and not a module of the user's
        self._lost_threads = _count_threads() - 1
        tasks = _count_tasks()
        if tasks > self._lost_threads + 1:
            _end_pools()
            tasks = _count_tasks()
        self._moves = tasks > 1 or self._has_tasks()
        dice = random.getstate() if random is not None else None
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ALL_SIGNALS)
        try:
            self._note(number)  # before, as this process may be killed at any moment
            role = self._double_fork(self._leave_session)
            if role is FAILED:
                self._note(None)
            elif role is COPY:
                self._wait_for_our_time(number)
                if dice is not None:  # forking has made other dice of them
                    random.setstate(dice)  # type: ignore[union-attr]
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self._last = perf_counter()
        if role is LIVE:
            self._newest = number
            self._costs = [*self._costs[1:], process_time() - started]
        return role

    def _double_fork(self, leave: Callable[[], None]) -> str:
        # The new process is nobody's child here: user code can neither wait for it nor see it. It becomes a child of
        # the session, which adopts orphans.
        forks.by_us = True
        quiet = _keep_quiet()
        try:
            child = os.fork()
            if child == 0:
                try:
                    leave()  # here, as the live worker waits for this process: nothing is held any more when it goes on
                    grandchild = os.fork()
                except BaseException:
                    os._exit(1)
                if grandchild:
                    os._exit(0)
                return COPY
        except OSError:  # no memory, or too many processes: then there is no snapshot of this state
            return FAILED
        finally:
            forks.by_us = False
            if quiet is not None:
                quiet.remove(_QUIET)
        status = 0
        try:
            _, status = os.waitpid(child, 0)
        except ChildProcessError:  # user code has SIGCHLD ignored
            pass
        _swallow_sigchld()
        return FAILED if status else LIVE

    # -- in the copy -------------------------------------------------------------------------------------------------

    def _leave_session(self) -> None:
        """Be out of reach of what is sent to the session's group; hold no pipe, lock, port or offset of user code."""
        os.setsid()
        keep = {*self._fd.values(), *(stream for stream in (1, 2) if _identity(stream) == self._captured[stream])}
        for fd in map(int, os.listdir("/proc/self/fd")):
            if fd in keep:
                continue
            try:
                status = os.fstat(fd)
            except OSError:  # that of the listing itself
                continue
            if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
                replaced = _reopen(fd)
            else:
                replaced = stat.S_ISCHR(status.st_mode) and status.st_rdev in _HARMLESS_DEVICES
            if not replaced:
                _let_go([fd])

    def _wait_for_our_time(self, number: int) -> None:
        try:
            _let_go([self._fd[name] for name in ("requests", "answers", "life")])
            channel, far_end = socketpair(AF_UNIX, SOCK_SEQPACKET)
            report = REPORT.pack(number, os.getpid(), self._lost_threads, self._moves, self._made_at)
            reports = socket(AF_UNIX, SOCK_SEQPACKET, 0, self._fd["reports"])
            reports.sendmsg([report], [(SOL_SOCKET, SCM_RIGHTS, _FD.pack(far_end.fileno()))])
            reports.detach()
            far_end.close()
            while True:
                role, mark, files = _receive(channel)
                if not role and number in GUARDS and self._has_lost_session():
                    _kill_marked()
                if not files:
                    os._exit(0)
                if self._double_fork(os.setsid) is COPY:
                    break
                for file in files:
                    os.close(file)
            channel.close()
            _own_offsets()
            self._take_files(files)
            _wear(mark)
            self._resume(role)
        except BaseException:  # whatever it is: this copy must not go on as a second live worker
            os._exit(1)

    def _has_lost_session(self) -> bool:
        """Whether our channel has ended because the session has, and not because it has let go of us."""
        deadline = perf_counter() + LOSS_SECONDS
        while os.getppid() == self._session:  # the system closes a process's files before it hands on its children
            if perf_counter() > deadline:
                return False
            sleep(0.001)
        return True

    def _take_files(self, files: list[int]) -> None:
        *private, out, err = files
        for name, file in zip(wire.CHILD_FDS, private):
            os.dup2(file, self._fd[name], inheritable=False)
        for stream, file in ((1, out), (2, err)):
            if _identity(stream) == self._captured[stream]:
                os.dup2(file, stream)
            self._captured[stream] = _identity(file)
        for file in files:
            os.close(file)


def is_possible() -> bool:
    """Whether this system can have copies: they need fork, and Linux' view of a process' own files."""
    return hasattr(os, "fork") and sys.platform.startswith("linux")


def _keep_quiet() -> list[Any] | None:
    """Where Python would warn the user that a process with threads forks: its filters, with one of ours at their head.

    From 3.12 on it does, as the child may deadlock; ours runs no code of the user's before it is a worker.
    """
    filters = getattr(_modules.get("warnings"), "filters", None)
    if sys.version_info < (3, 12) or type(filters) is not list:
        return None
    filters.insert(0, _QUIET)
    return filters


def _swallow_sigchld() -> None:
    # All signals are blocked here. The one of our own child is taken away, unless a child of the user's has ended too.
    try:
        if os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return
    except ChildProcessError:
        pass
    signal.sigtimedwait({signal.SIGCHLD}, 0)


def _count_tasks() -> int:
    return len(os.listdir("/proc/self/task"))


def _end_pools() -> None:
    try:
        with ours():
            from json_repl.core import openmp
        openmp.pause()
    except Exception as error:  # then a copy may hang, and is given up for an older one
        log.warning(f"threads of OpenMP cannot be ended before a snapshot: {error!r}")


def _count_threads() -> int:
    try:
        return int(_modules["threading"].active_count())
    except Exception:  # not imported, or spoiled
        return 1


def _kill_marked() -> None:
    mark = f"{MARK}={_mark.partition('.')[0]}.".encode()
    for name in os.listdir("/proc"):
        if name.isdecimal() and int(name) != os.getpid():
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    marked = any(entry.startswith(mark) for entry in file.read().split(b"\0"))
                if marked:
                    os.kill(int(name), signal.SIGKILL)
            except OSError:  # it has just ended, or is somebody else's
                continue


def _wear(mark: str) -> None:
    """Have this process, and all that it starts, wear another mark of the same length."""
    global _mark
    old, _mark = f"{MARK}={_mark}".encode(), mark
    if MARK in _environ:  # and user code has not hidden it
        _environ[MARK] = mark
    try:  # what others see is the block that the process was started with
        with open("/proc/self/stat", "rb") as file:
            start, end = map(int, file.read().rpartition(b")")[2].split()[47:49])
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(start)
            at = memory.read(end - start).find(old)
            if at >= 0:
                memory.seek(start + at)
                memory.write(f"{MARK}={mark}".encode())
    except OSError:
        pass


def _own_offsets() -> None:
    """Share no file's offset with the copy that this process was made from."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            is_file = stat.S_ISREG(os.fstat(fd).st_mode)
        except OSError:  # that of the listing itself
            continue
        if is_file:
            _reopen(fd)


def _let_go(fds: list[int]) -> None:
    """Have these numbers stand for a dead end: who reads from it meets the end, who writes to it a broken pipe."""
    dead, other_end = socketpair()
    other_end.close()
    for fd in fds:
        try:
            os.dup2(dead.fileno(), fd, inheritable=os.get_inheritable(fd))
        except OSError:  # user code has closed it
            continue
    dead.close()


def _identity(fd: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _reopen(fd: int) -> bool:
    """Give `fd` an open file of its own, at the same offset; False where that cannot be had."""
    try:
        flags = fcntl.fcntl(fd, fcntl.F_GETFL) & ~_ONLY_AT_FIRST
        own = os.open(f"/proc/self/fd/{fd}", flags)
    except OSError:
        return False
    try:
        os.lseek(own, os.lseek(fd, 0, os.SEEK_CUR), os.SEEK_SET)
    except OSError:
        pass
    os.dup2(own, fd, inheritable=os.get_inheritable(fd))
    os.close(own)
    return True


def _receive(channel: socket) -> tuple[bytes, str, list[int]]:
    """The next message: a role, a mark, and the files that come with them; nothing at the end of the channel."""
    message, ancillary, _, _ = channel.recvmsg(64, CMSG_SPACE(_HANDED * _FD.size))
    role, _, mark = message.partition(b" ")
    return role, mark.decode(), [number for *_, data in ancillary for (number,) in _FD.iter_unpack(data)]
