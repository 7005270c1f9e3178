"""Parent side: what dead workers leave behind: processes that their user code has started, found and ended.

On Linux they become our children when their own parents end. Whose they are is told by the session of processes that a
worker leads, and by a mark in the environment, which everything that a worker starts inherits.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from time import sleep

from json_repl import processes
from json_repl.core import log
from json_repl.core.snapshot import MARK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

_MOST_LOOKS, _LOOK_SECONDS = 20, 0.001

_adopting = False  # orphans become our children
_has_children_of_its_own = False  # user code that runs in this process has children too, which are not ours to touch
_own_mark = os.urandom(8).hex()  # of this process; a keeper ends all that wears it, see core/snapshot.py
_marks: set[str] = set()  # of the lineages of workers that there are


def new_mark() -> str:
    """A mark for the processes of one more lineage of workers."""
    return f"{_own_mark}.{os.urandom(4).hex()}"


def expect(mark: str) -> None:
    """There are processes that wear this mark, until `end_all`."""
    _marks.add(mark)


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


def reap() -> None:
    """Reap adopted processes that have ended; those that somebody holds are left to them."""
    while _adopting and not _has_children_of_its_own:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if found is None or processes.is_held(found.si_pid):
            return
        os.waitpid(found.si_pid, 0)


def are_there(pid: int) -> bool:
    """Whether a worker that has ended may have left something behind; cheap, and never wrong with False."""
    try:
        os.killpg(pid, 0)
        return True
    except ProcessLookupError:
        return not _adopting or bool(_strangers())
    except PermissionError:
        return True


def end_group(pid: int) -> None:
    """Kill what is left in the process group of a worker that has ended; its parked copies are not in it."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def end_orphans(mark: str, dead: set[int], born_before: int | None = None) -> None:
    """Kill what `dead` workers have left behind: in the sessions that they led, and our children that wear `mark`.

    Of those younger than `born_before` (see `birth`) none is killed: a copy that a live worker makes is one.
    """

    def is_left(pid: int) -> bool:
        if os.getsid(pid) in dead:
            return True
        worn = _mark_of(pid)
        if worn is None:  # it has hidden its environment, or was our child before we were
            is_ours = len(_marks) <= 1 and not _has_children_of_its_own and os.getsid(pid) != os.getsid(0)
        else:
            is_ours = worn == mark
        return is_ours and (born_before is None or birth(pid) <= born_before)

    if _adopting:
        _kill(_strangers(), is_left)
    else:
        _kill(_all_in_sessions(dead), lambda pid: True)


def end_all(mark: str, pid: int) -> None:
    """Kill all that is left of a lineage, whose last worker has ended."""
    end_group(pid)
    if are_there(pid):
        end_orphans(mark, {pid})
    _marks.discard(mark)


def birth(pid: int) -> int:
    """When a process began, in the system's ticks since its own start; 0 if it has ended."""
    try:
        return int(_status(pid)[19])
    except OSError:
        return 0


def _status(pid: int) -> list[bytes]:
    """What the system tells of a process, from its state ("Z": it has ended) on; see proc_pid_stat(5)."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()


def _strangers() -> list[int]:
    """Our children that nobody holds."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            children = [int(word) for word in file.read().split()]
    except OSError:  # a kernel without that file
        psutil = processes.psutil()
        children = [child.pid for child in psutil.Process().children()] if psutil else []
    return [pid for pid in children if not processes.is_held(pid)]


def _all_in_sessions(leaders: set[int]) -> list[int]:
    psutil = processes.psutil()
    found = []
    for pid in psutil.pids() if psutil else ():
        try:
            if os.getsid(pid) in leaders and not processes.is_held(pid):
                found.append(pid)
        except (ProcessLookupError, PermissionError):
            continue
    return found


def _mark_of(pid: int) -> str | None:
    """The mark that a process wears, if it is one of ours."""
    entries = _environment(pid).split(b"\0")
    start = f"{MARK}={_own_mark}.".encode()
    return next((entry.decode().partition("=")[2] for entry in entries if entry.startswith(start)), None)


def _environment(pid: int) -> bytes:
    for _ in range(_MOST_LOOKS):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                found = file.read()
            has_ended = _status(pid)[0] in (b"Z", b"X")
        except OSError:
            return b""
        if found or has_ended:
            return found
        sleep(_LOOK_SECONDS)  # it is between two programs: `exec` is under way
    return b""


def _kill(candidates: Iterable[int], chosen: Callable[[int], bool]) -> None:
    victims = []
    for pid in candidates:
        try:
            if chosen(pid):
                victims.append(pid)
        except (ProcessLookupError, PermissionError):
            continue
    psutil = processes.psutil() if victims else None
    if psutil is None:
        return
    family: dict[int, Any] = {}
    for pid in victims:
        try:
            process = psutil.Process(pid)
            family.update((member.pid, member) for member in (process, *process.children(recursive=True)))
        except psutil.Error:
            continue
    for process in family.values():
        try:
            process.kill()
        except psutil.Error:
            continue
    psutil.wait_procs(family.values(), timeout=processes.KILL_SECONDS)
