r"""Client side: the process of a session, its three pipes, and who gets what comes out of them.

    start(call) --stdin--> the session --stdout--> answer --> call.post(result), by its id
                                               \-> notification --> call.post((method, params)), by its execution_id

Everything of a `Wire` runs in one thread, that of its loop: asyncio's, or that of a `LoopThread`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

Json = dict[str, Any]

_READ_BYTES = 1 << 18
_MOST_STDERR = 8000  # bytes: the last of it that is kept
MOST_PARKED = 1000  # notifications, of up to 64 KiB each
_GONE_SECONDS = 2.0  # from the end of its stdout, or a kill, to the end of the process


class SessionError(Exception):
    """The base of what a client raises."""


class RequestError(SessionError):
    """The session has answered a request with an error of the protocol.

    Attributes:
        code: e.g. -32010.
        reason: its word, e.g. "busy"; docs/protocol.md lists them.
        message: what is wrong and what to do.
    """

    def __init__(self, error: Json) -> None:
        self.code: int = error["code"]
        self.reason: str = error["data"]["reason"]
        self.message: str = error["message"]
        super().__init__(f"{self.reason}: {self.message}")


class SessionEnded(SessionError):
    """The session is over: this request has no answer, and no later one will have.

    Attributes:
        exit_status: of its process; -9 after SIGKILL; None where it is not known.
        stderr: the last of what it has written there.
    """

    def __init__(self, why: str, exit_status: int | None, stderr: str) -> None:
        self.exit_status = exit_status
        self.stderr = stderr
        super().__init__(f"{why}\n{stderr}".rstrip())


Posted = tuple[str, Json] | Json | SessionError  # a notification, e.g. ("stream", {...}); at last the answer


class Request(Protocol):
    """What a wire knows of a call."""

    id: int
    method: str
    params: Json
    line: bytes
    hears: bool  # it wants the notifications of its execution

    @property
    def post(self) -> Callable[[Posted], None]:
        """Takes what comes of it."""


class Loop(Protocol):
    """What a wire needs of a loop: asyncio's have it."""

    def add_reader(self, fd: int, callback: Callable[[], None], /) -> Any: ...
    def add_writer(self, fd: int, callback: Callable[[], None], /) -> Any: ...
    def remove_reader(self, fd: int, /) -> Any: ...
    def remove_writer(self, fd: int, /) -> Any: ...


class Wire:
    """A session's process, and the requests that are under way in it.

    Args:
        env: the whole environment of the process.
    """

    def __init__(
        self, loop: Loop, command: Sequence[str], env: Mapping[str, str], cwd: str | os.PathLike[str] | None
    ) -> None:
        self._loop = loop
        self.process = subprocess.Popen(command, bufsize=0, stdin=-1, stdout=-1, stderr=-1, env=env, cwd=cwd)
        assert self.process.stdin and self.process.stdout and self.process.stderr
        self._in, self._out, self._err = self.process.stdin, self.process.stdout, self.process.stderr
        self._why: str | None = None  # it is over
        self._unsent = bytearray()
        self._unread = bytearray()  # the begin of a line
        self._stderr = b""
        self._calls: dict[int, Request] = {}  # without an answer yet, oldest first
        self._heard: dict[tuple[str, str], Request] = {}  # e.g. {("default", "e3"): who hears of it}
        self._parked: dict[tuple[str, str], deque[tuple[str, Json]]] = {}  # what the next `wait` will hear
        self._late: dict[str, str] = {}  # what executions that were answered have left printing, by session
        self._pidfd = _pidfd(self.process.pid)

    def watch(self) -> None:
        """Begin to take what comes."""
        for file in (self._in, self._out, self._err):
            os.set_blocking(file.fileno(), False)
        self._loop.add_reader(self._out.fileno(), self._read)
        self._loop.add_reader(self._err.fileno(), self._read_stderr)
        if self._pidfd is not None:  # a process that the session has forked may hold its stdout open
            self._loop.add_reader(self._pidfd, self._is_gone)

    def start(self, call: Request) -> None:
        """Send a request; its `post` gets what comes of it, also where the session is over."""
        if self._why is not None:
            call.post(self.ended())
            return
        self._calls[call.id] = call
        if call.method == "wait" and call.hears:
            self._hear(call)
        self._unsent += call.line
        self._write()

    def calls_of(self, session_id: str) -> list[Request]:
        """What is under way in one session, oldest first, but for its end."""
        calls = [call for call in self._calls.values() if call.method != "session/close"]
        return [call for call in calls if call.params["session_id"] == session_id]

    def ended(self) -> SessionEnded:
        """What a call gets that has no answer any more."""
        return SessionEnded(self._why or "", self.process.returncode, self._stderr.decode("utf-8", "replace"))

    def hang_up(self) -> None:
        """Fail what is under way, and leave the session: it interrupts what runs, and ends."""
        self._end("the session was closed")

    def reap(self, within: float) -> int | None:
        """Wait for the end of the process, or kill it after some seconds: its exit status. In any thread."""
        for seconds in (within, _GONE_SECONDS):
            try:
                return self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return None

    # -- the pipes ---------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        try:
            del self._unsent[: os.write(self._in.fileno(), self._unsent)]
        except BlockingIOError:
            pass
        except BrokenPipeError:  # it has ended, as will be read in a moment
            self._unsent.clear()
        if self._unsent:
            self._loop.add_writer(self._in.fileno(), self._write)
        else:
            self._loop.remove_writer(self._in.fileno())

    def _read(self) -> None:
        if self._take_some() == b"":
            self._is_gone()

    def _take_some(self) -> bytes | None:
        """Take what stands on stdout; b"" at its end, None if there is nothing now."""
        try:
            data = os.read(self._out.fileno(), _READ_BYTES)
        except BlockingIOError:
            return None
        self._unread += data
        if b"\n" in data:
            *lines, self._unread = self._unread.split(b"\n")
            for line in lines:
                self._take(line)
        return data

    def _read_stderr(self) -> None:
        while True:
            try:
                data = os.read(self._err.fileno(), _READ_BYTES)
            except BlockingIOError:
                return
            self._stderr = (self._stderr + data)[-_MOST_STDERR:]
            if not data:
                self._loop.remove_reader(self._err.fileno())
                return

    def _is_gone(self) -> None:
        while self._why is None and self._take_some():
            pass  # what it has said before its end
        if self._why is None:
            self._read_stderr()
            status = self.reap(_GONE_SECONDS)
            self._end(f"the session has ended with {_in_words(status)}")

    def _end(self, why: str) -> None:
        if self._why is not None:
            return
        self._why = why
        self._loop.remove_writer(self._in.fileno())
        for fd in (self._out.fileno(), self._err.fileno(), self._pidfd):
            if fd is not None:
                self._loop.remove_reader(fd)
        for file in (self._in, self._out, self._err):
            file.close()
        if self._pidfd is not None:
            os.close(self._pidfd)
        while self._calls:
            self._calls.popitem()[1].post(self.ended())

    # -- what comes --------------------------------------------------------------------------------------------------

    def _take(self, line: bytes | bytearray) -> None:
        try:
            message = json.loads(line)
            if "method" not in message:
                self._answer(message)
            elif "execution_id" in message["params"]:
                self._tell(message["method"], message["params"])
        except (ValueError, TypeError, KeyError):  # whatever this is, the answers behind it cannot be trusted
            self.process.kill()
            self._end(f"the session was killed, as it sent what is no message: {bytes(line[:200])!r}")

    def _answer(self, message: Json) -> None:
        if message["id"] is None and self._calls:  # a line that was too long to be looked at: then the longest was
            message["id"] = max(self._calls.values(), key=lambda call: len(call.line)).id
        call = self._calls.pop(message["id"])
        for execution in [heard for heard, listener in self._heard.items() if listener is call]:
            del self._heard[execution]
        if "error" in message:
            call.post(RequestError(message["error"]))
            return
        result = message["result"]
        if call.method in ("execute", "wait"):
            result["late_output"] = self._late.pop(call.params["session_id"], "") + result["late_output"]
            self._park(_execution(call.params, result), call, running=result["status"] == "running")
        call.post(result)

    def _tell(self, method: str, params: Json) -> None:
        execution = _execution(params, params)
        if params.get("late"):
            self._late[execution[0]] = self._late.get(execution[0], "") + params["text"]
            return
        if execution in self._parked:
            self._parked[execution].append((method, params))
            return
        listener = self._heard.get(execution) or self._who_began(execution)
        if listener is not None and listener.hears:
            listener.post((method, params))

    def _who_began(self, execution: tuple[str, str]) -> Request | None:
        # Executions of one session begin in the order of their requests.
        others = list(self._heard.values())
        for call in self._calls.values():
            began = call.method == "execute" and call.params["session_id"] == execution[0]
            if began and call.hears and call not in others:
                self._heard[execution] = call
                return call
        return None

    def _hear(self, call: Request) -> None:
        execution = _execution(call.params, call.params)
        self._heard[execution] = call
        for notification in self._parked.pop(execution, ()):
            call.post(notification)

    def _park(self, execution: tuple[str, str], call: Request, *, running: bool) -> None:
        if not running:
            self._parked.pop(execution, None)
        elif call.hears and execution not in self._heard:
            self._parked[execution] = deque(maxlen=MOST_PARKED)


def _execution(request: Json, told: Json) -> tuple[str, str]:
    return request["session_id"], told["execution_id"]


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):  # not Linux, or no more files
        return None


def _in_words(status: int | None) -> str:
    name = f" ({signal.strsignal(-status)})" if status is not None and status < 0 else ""
    return f"exit status {status}{name}"
