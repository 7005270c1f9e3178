"""Both sides: log lines on stderr. Nothing waits for somebody to read them: a line that cannot leave is counted."""

from __future__ import annotations

from os import write
from select import POLLOUT, poll

_LARGEST = 4000  # bytes; a pipe that polls as writable takes that much without blocking (PIPE_BUF is 4096)

debugging = False
fd = 2
dropped = 0  # lines that nobody could take


def debug(text: str) -> None:
    """What happened, for people who look for a fault."""
    if debugging:
        _write("debug: " + text)


def warning(text: str) -> None:
    """Something that the user should know and no answer says."""
    _write("warning: " + text)


def say(text: str) -> None:
    """Something for the person at the terminal, or at the end of a script."""
    _write(text)


def _write(text: str) -> None:
    global dropped
    line = f"json-repl-session: {text}".encode("utf-8", "backslashreplace")[:_LARGEST].replace(b"\n", b"\n  ") + b"\n"
    try:
        waiting = poll()
        waiting.register(fd, POLLOUT)
        if waiting.poll(0) == [(fd, POLLOUT)]:
            write(fd, line)
            return
    except OSError:
        pass
    dropped += 1
