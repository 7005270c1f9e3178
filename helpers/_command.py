"""Child side: running a command to its end, and never longer than wanted.

    input ----> stdin  \\
    result <--- stdout  > command, in a session of its own, so that it can be killed with all that it started
    result <--- stderr /

The command is over when its own process has ended, not when the last holder of a pipe has: a program that it left in
the background does not keep us waiting.
"""

from __future__ import annotations

import math
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from typing import IO, NamedTuple

from ._paths import StrPath, expand, folder

# How soon the end of a command is seen whose pipes somebody else holds open, in seconds.
_TICK = 0.05
# How long a killed process may take to go; longer only if the kernel holds it.
_KILL_WAIT = 5.0
# How long to read on after the end, should a program left in the background never stop writing.
_DRAIN = 1.0
_CHUNK = 65536


class Result(NamedTuple):
    """How a command ended. `code` is its exit status, or minus the signal that ended it; `duration` is in seconds."""

    code: int
    stdout: str
    stderr: str
    timed_out: bool
    duration: float

    @property
    def ok(self) -> bool:
        """Whether it ended by itself with exit status 0."""
        return self.code == 0 and not self.timed_out

    def summary(self) -> str:
        """How it ended, in a few words."""
        if self.timed_out:
            return f"timed out, killed after {self.duration:.2f} s"
        ending = f"exit status {self.code}" if self.code >= 0 else f"ended by signal {_signal_name(-self.code)}"
        return f"{ending} after {self.duration:.2f} s"

    def __repr__(self) -> str:
        parts = [f"({self.summary()})", self.stdout.rstrip("\n")]
        if self.stderr:
            parts.append("--- stderr\n" + self.stderr.rstrip("\n"))
        return "\n".join(part for part in parts if part)


class CommandError(RuntimeError):
    """A command failed; `result` is the Result of `run`."""

    def __init__(self, message: str, result: Result) -> None:
        super().__init__(message, result)
        self.message = message
        self.result = result

    def __str__(self) -> str:
        return self.message


def run(
    command: str | Sequence[StrPath],
    timeout: float | None = None,
    *,
    cwd: StrPath | None = None,
    env: Mapping[str, str] | None = None,
    input: str | bytes = "",
    check: bool = False,
) -> Result:
    """Run a command to its end and return Result(code, stdout, stderr, timed_out, duration).

    command: a list is run as it is, a string by /bin/sh. timeout: seconds, after which the command and all that it
    started in its process group are killed, and the result has timed_out and the output so far; None waits for ever.
    cwd: the folder to run in. env: variables added to those of this process. input: what its stdin holds.
    check: raise CommandError, which has the `result`, unless the command exits with status 0 in time.
    Raises FileNotFoundError if there is no such command or folder. Ctrl-C kills the command, too.
    """
    started = time.monotonic()
    data = input.encode() if isinstance(input, str) else input
    with _ctrl_c_held() as let_go, closing(_Running(_start(command, cwd, env), data)) as running:
        let_go()
        timed_out = running.finish(math.inf if timeout is None else started + timeout)
        stdout, stderr = running.output()
    result = Result(running.code, stdout, stderr, timed_out, time.monotonic() - started)
    if check and not result.ok:
        raise CommandError(f"{_shown(command)}: {result.summary()}{_last_line(result)}", result)
    return result


@contextmanager
def _ctrl_c_held() -> Iterator[Callable[[], None]]:
    """Keep Ctrl-C back until the function given is called, so that it never finds a process that nobody owns yet."""
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    came: list[int] = []

    def note(number: int, frame: object) -> None:
        came.append(number)

    def let_go() -> None:
        if signal.getsignal(signal.SIGINT) is note:
            signal.signal(signal.SIGINT, handler)
            if came:
                signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGINT, note)
    try:
        yield let_go
    finally:
        let_go()


def _start(
    command: str | Sequence[StrPath], cwd: StrPath | None, env: Mapping[str, str] | None
) -> subprocess.Popen[bytes]:
    if not command:
        raise ValueError("the command is empty")
    where = None if cwd is None else folder(cwd)
    try:
        return subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            shell=isinstance(command, str),
            cwd=where,
            env={**os.environ, **env} if env else None,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no command {_shown(command)}: neither a file nor on PATH") from None


class _Running:
    """A command that was started, and its three pipes, served without blocking."""

    def __init__(self, process: subprocess.Popen[bytes], data: bytes) -> None:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        self._process = process
        self._pipes = (process.stdin, process.stdout, process.stderr)
        self._unsent = memoryview(data)
        self._received = {process.stdout: bytearray(), process.stderr: bytearray()}
        self._selector = selectors.DefaultSelector()
        for pipe in self._pipes:
            os.set_blocking(pipe.fileno(), False)
        self._selector.register(process.stdin, selectors.EVENT_WRITE, self._send)
        for pipe in self._received:
            self._selector.register(pipe, selectors.EVENT_READ, self._receive)

    @property
    def code(self) -> int:
        """The exit status; that of a killed process also while the kernel still holds it."""
        return -signal.SIGKILL if self._process.returncode is None else self._process.returncode

    def finish(self, deadline: float) -> bool:
        """Serve the pipes until the process has ended. Returns whether it had to be killed at the deadline."""
        while self._process.poll() is None:
            left = deadline - time.monotonic()
            if left <= 0:
                self._kill()
                return True
            self._wait(left)
        return False

    def output(self) -> tuple[str, str]:
        """What came by stdout and stderr until now."""
        enough = time.monotonic() + _DRAIN
        while self._serve(0) and time.monotonic() < enough:
            pass
        stdout, stderr = (received.decode("utf-8", "replace") for received in self._received.values())
        return stdout, stderr

    def close(self) -> None:
        """Kill what has not ended, and let go of the pipes, whoever else holds them."""
        self._kill()
        self._selector.close()
        for pipe in self._pipes:
            pipe.close()

    def _wait(self, left: float) -> None:
        if self._selector.get_map():
            self._serve(min(left, _TICK))
            return
        # Its pipes are closed a moment before it can be waited for: there is no tick to lose now.
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(None if left == math.inf else left)

    def _serve(self, seconds: float) -> bool:
        """Move what can be moved, waiting for it at most so long. Returns whether there was anything."""
        ready = self._selector.select(seconds)
        for key, _ in ready:
            key.data(key.fileobj)
        return bool(ready)

    def _send(self, pipe: IO[bytes]) -> None:
        try:
            sent = os.write(pipe.fileno(), self._unsent[:_CHUNK])
        except BrokenPipeError:  # it wants no more
            sent = len(self._unsent)
        self._unsent = self._unsent[sent:]
        if not self._unsent:
            self._selector.unregister(pipe)
            pipe.close()

    def _receive(self, pipe: IO[bytes]) -> None:
        data = os.read(pipe.fileno(), _CHUNK)
        self._received[pipe] += data
        if not data:
            self._selector.unregister(pipe)

    def _kill(self) -> None:
        """SIGKILL at once: what may catch a milder signal may outlive the bound that was asked for."""
        if self._process.returncode is not None:  # reaped: its number may be another's by now
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_KILL_WAIT)


def _shown(command: str | Sequence[StrPath]) -> str:
    return command if isinstance(command, str) else " ".join(expand(word) for word in command)


def _last_line(result: Result) -> str:
    lines = (result.stderr.strip() or result.stdout.strip()).splitlines()
    return f": {lines[-1]}" if lines else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
