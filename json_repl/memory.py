"""Parent side: the memory that processes take, as the kernel tells it. Linux only: elsewhere nothing is known."""

from __future__ import annotations

import os
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_FRESH_SECONDS = 10.0  # a look at the kernel's count that is no older is taken for the present one


def private_bytes(pid: int) -> int | None:
    """Memory that nobody but this process holds, which would be free without it; None where that cannot be known."""
    found = _rollup(pid)
    return found["Private_Clean"] + found["Private_Dirty"] if found else None


def extra_bytes(pid: int, copies: Iterable[int]) -> int:
    """Memory that the copies of a process hold beyond what it holds itself."""
    own = _rollup(pid)
    if own is None:
        return 0
    # A share of each page that several hold counts for each of them, so that the sum over all is what all hold.
    together = own["Pss"] + sum(found["Pss"] for copy in copies if (found := _rollup(copy)))
    return max(0, together - own["Rss"])


def a_quarter() -> int:
    """A quarter of the memory that there is, or that this process may take, in bytes."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in _cgroup_files("memory.max", "memory.limit_in_bytes"):
        try:
            with open(file) as text:
                sizes.append(int(text.read()))
        except (OSError, ValueError):  # there is none, or no limit
            continue
    return min(sizes) // 4


class OutOfMemoryCount:
    """The kernel's own count of processes that it has killed for want of memory, here and around us."""

    def __init__(self) -> None:
        self._looked = 0.0
        self._count = 0

    def refresh(self) -> None:
        """Look, if the last look was long ago: what came before is nobody's fault any more."""
        if monotonic() - self._looked > _FRESH_SECONDS:
            self._look()

    def has_grown(self) -> bool:
        """Whether there was one since the last look."""
        return self._count < self._look()

    def _look(self) -> int:
        self._looked = monotonic()
        self._count = _oom_kills()
        return self._count


def _oom_kills() -> int:
    for file in (*_cgroup_files("memory.events", "memory.oom_control"), "/proc/vmstat"):
        try:
            with open(file, "rb") as lines:
                for line in lines:
                    if line.startswith(b"oom_kill "):
                        return int(line.split()[1])
        except OSError:
            continue
    return 0


def _cgroup_files(unified: str, legacy: str) -> list[str]:
    files = []
    try:
        with open("/proc/self/cgroup") as lines:
            groups = [line.rstrip().split(":", 2) for line in lines]
    except OSError:
        return []
    for _, controllers, path in groups:
        for group in dict.fromkeys((path, "/")):  # in a container its own group may be seen as the root
            if not controllers:
                files.append(f"/sys/fs/cgroup{group.rstrip('/')}/{unified}")
            elif "memory" in controllers.split(","):
                files.append(f"/sys/fs/cgroup/memory{group.rstrip('/')}/{legacy}")
    return files


def _rollup(pid: int) -> dict[str, int] | None:
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            lines = [line.split() for line in file]
    except OSError:  # it has ended, or the system has no such file
        return None
    return {words[0].decode().rstrip(":"): int(words[1]) * 1024 for words in lines if words[-1] == b"kB"} or None
