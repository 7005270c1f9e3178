"""Parent side: the memory that processes take, as the kernel tells it. Linux only: elsewhere nothing is known."""

from __future__ import annotations


def private_bytes(pid: int) -> int | None:
    """Memory that nobody but this process holds, which would be free without it; None where that cannot be known."""
    found = _rollup(pid)
    return found["Private_Clean"] + found["Private_Dirty"] if found else None


def _rollup(pid: int) -> dict[str, int] | None:
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            lines = [line.split() for line in file]
    except OSError:  # it has ended, or the system has no such file
        return None
    return {words[0].decode().rstrip(":"): int(words[1]) * 1024 for words in lines if words[-1] == b"kB"} or None
