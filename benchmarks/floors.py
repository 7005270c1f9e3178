"""Child scripts of the floors: what no session can be faster than.

F   client <-> echo              one hop
F2  client <-> relay <-> echo    two hops, as with a worker
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

CHUNK = 1 << 16


def read_lines(fd: int) -> Iterator[bytes]:
    """Whole lines, with their newline, until the other end is closed."""
    pieces: list[bytes] = []
    while piece := os.read(fd, CHUNK):
        *ends, rest = piece.split(b"\n")
        for end in ends:
            yield b"".join([*pieces, end, b"\n"])
            pieces.clear()
        if rest:
            pieces.append(rest)


def write_all(fd: int, data: bytes) -> None:
    """os.write of everything, however large."""
    while (written := os.write(fd, data)) < len(data):
        data = data[written:]


def echo() -> None:
    """Decode each line and send it back encoded anew."""
    import orjson

    for line in read_lines(0):
        write_all(1, orjson.dumps(orjson.loads(line)) + b"\n")


def relay() -> None:
    """Hand each line to an echo and its answer back, as bytes."""
    command = [sys.executable, __file__, "echo"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as child:
        assert child.stdin and child.stdout
        answers = read_lines(child.stdout.fileno())
        for line in read_lines(0):
            write_all(child.stdin.fileno(), line)
            write_all(1, next(answers))


if __name__ == "__main__":
    {"echo": echo, "relay": relay}[sys.argv[1]]()
