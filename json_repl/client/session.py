"""Client side: a session for threads."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from json_repl.client.calls import Call, OnNotification, OnStream, Result, T
from json_repl.client.thread import LoopThread
from json_repl.client.wire import Json, Loop, RequestError, SessionEnded, Wire

FRONT_DOOR = Path(__file__).resolve().parents[2] / "json_repl_session.py"
DEFAULT_ID = "default"
CLOSE_SECONDS = 5.0  # that a session may take to end before it is killed


class Session:
    """A session, or a clone of one, for any number of threads.

    Whatever waits takes `within`, seconds after which it raises `NoAnswer`. It raises `RequestError` where the session
    refuses the request, and `SessionEnded` where the session is over, or ends meanwhile.
    """

    def __init__(self, wire: Wire, thread: LoopThread, session_id: str = DEFAULT_ID) -> None:
        self.session_id = session_id
        self._wire = wire
        self._thread = thread

    @classmethod
    def spawn(
        cls,
        *argv: str,
        worker: bool = True,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        command: Sequence[str] | None = None,
    ) -> Session:
        """Start a session.

        Args:
            argv: further options, e.g. "--snapshots", "always".
            worker: whether code runs in a worker process.
            env: variables on top of this process's.
            command: what to start; by default the session that this file came with, with this Python.

        Raises:
            OSError: there is no such command or folder.
        """
        thread = LoopThread()
        try:
            wire = start_wire(thread, argv, worker, env, cwd, command)
        except BaseException:
            thread.stop()
            raise
        thread.call_soon(wire.watch)
        return cls(wire, thread)

    @property
    def pid(self) -> int:
        """Of the session's own process."""
        return self._wire.process.pid

    def submit(
        self,
        code: str,
        *,
        on_stream: OnStream | None = None,
        on_notification: OnNotification | None = None,
        **params: Any,
    ) -> Call[Result]:
        """Send code and do not wait; the `result()` of what is returned does.

        Args:
            on_stream: takes what the code prints, as "stdout" or "stderr" and a text, while `result()` waits.
            on_notification: takes what else is told of the execution, as a method and its params.
            params: those of the method ``execute``, see docs/protocol.md.
        """
        hears = on_stream is not None or on_notification is not None
        return self._start("execute", {"code": code, "stream": hears, **params}, Result, on_stream, on_notification)

    def execute(
        self,
        code: str,
        *,
        within: float | None = None,
        on_stream: OnStream | None = None,
        on_notification: OnNotification | None = None,
        **params: Any,
    ) -> Result:
        """Run code and wait for its answer. The arguments are those of `submit`."""
        return self.submit(code, on_stream=on_stream, on_notification=on_notification, **params).result(within)

    def wait(
        self,
        execution_id: str,
        seconds: float | None = None,
        *,
        within: float | None = None,
        on_stream: OnStream | None = None,
        on_notification: OnNotification | None = None,
    ) -> Result:
        """The answer of an execution that was "running": the last one, or after some seconds "running" again.

        What it has printed since it was "running" is told first, up to 1,000 pieces.
        """
        params = {"execution_id": execution_id, "wait": seconds}
        return self._start("wait", params, Result, on_stream, on_notification).result(within)

    def interrupt(self, execution_id: str | None = None, *, within: float | None = None) -> bool:
        """Raise KeyboardInterrupt in what runs, or only in this execution; whether any code ran."""
        params = {"execution_id": execution_id}
        return self._start("interrupt", params, was_hit).result(within)

    def cancel(self, call: Call[Any], *, within: float | None = None) -> bool:
        """Interrupt a request that runs, or take back one that waits for its turn; whether it was either."""
        params = {"request_id": call.id, "session_id": call.params["session_id"]}
        return self._start("interrupt", params, was_hit).result(within)

    def variables(
        self,
        match: str | None = None,
        *,
        type: str | None = None,
        offset: int = 0,
        limit: int | None = None,
        within: float | None = None,
    ) -> list[Json]:
        """What the namespace holds: `{name, type, module, repr, size_bytes, shape}` each; of all names, or those that
        match, or a page of them.
        """
        params = {"match": match, "type": type, "offset": offset, "limit": limit}
        return self._start("variables", params, lambda answer: list(answer["variables"])).result(within)

    def variable(
        self,
        name: str,
        *path: str | int,
        offset: int = 0,
        limit: int | None = None,
        within: float | None = None,
    ) -> Json:
        """One variable, or what `path` leads to in it, and what is in that."""
        params = {"name": name, "path": list(path), "offset": offset, "limit": limit}
        return self._start("variables", params, dict).result(within)

    def complete(self, code: str, cursor_pos: int | None = None, *, within: float | None = None) -> Json:
        """What can stand at the cursor: `{matches, cursor_start, cursor_end, ...}`."""
        return self._start("complete", {"code": code, "cursor_pos": cursor_pos}, dict).result(within)

    def inspect(
        self, code: str, cursor_pos: int | None = None, *, detail_level: int = 0, within: float | None = None
    ) -> Json:
        """What stands at the cursor: `{found, data, metadata, ...}`; with `detail_level` 1 its source too."""
        params = {"code": code, "cursor_pos": cursor_pos, "detail_level": detail_level}
        return self._start("inspect", params, dict).result(within)

    def is_complete(self, code: str, *, within: float | None = None) -> Json:
        """Whether code can be run as it stands: `{status, indent}`."""
        return self._start("is_complete", {"code": code}, dict).result(within)

    def history(
        self, n: int | None = None, *, failed: bool = False, search: str | None = None, within: float | None = None
    ) -> list[Json]:
        """The requests that were executed, oldest first: the last `n`, the failed ones, those with this text."""
        params = {"n": n, "failed": failed, "search": search}
        return self._start("history", params, lambda answer: list(answer["entries"])).result(within)

    def rollback(self, to: str | int | None = None, *, steps: int | None = None, within: float | None = None) -> Json:
        """Return to the state after an earlier execution, or undo some requests. Worker only."""
        return self._start("rollback", {"to": to, "steps": steps}, dict).result(within)

    def clone(self, name: str | None = None, *, at: str | int | None = None, within: float | None = None) -> Session:
        """A second live session, from the state after an execution, or from that of now. Worker only."""
        params = {"new_session_id": name, "at": at}
        clone = self._start("session/clone", params, dict).result(within)
        return Session(self._wire, self._thread, clone["session_id"])

    def request(self, method: str, *, within: float | None = None, **params: Any) -> Json:
        """The result of any method of docs/protocol.md."""
        return self._start(method, params, dict).result(within)

    def close(self, within: float = CLOSE_SECONDS) -> int | None:
        """End it: what runs is interrupted, and calls under way raise `SessionEnded`. Of a clone, only the clone.

        A session that takes longer than `within` seconds is killed. Returns the exit status, None of a clone.
        """
        if self.session_id != DEFAULT_ID:
            self._close_clone(within)
            return None
        self._thread.call_soon(self._wire.hang_up)
        status = self._wire.reap(within)
        self._thread.stop()
        return status

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _close_clone(self, within: float) -> None:
        self._thread.call_soon(lambda: cancel_all(self._wire, self.session_id, self._start))
        try:
            self.request("session/close", within=within)
        except (RequestError, SessionEnded) as error:
            if not is_over(error):
                raise

    def _start(
        self, method: str, params: Json, shape: Callable[[Json], T], *callbacks: Callable[..., object] | None
    ) -> Call[T]:
        call: Call[T] = Call(method, {"session_id": self.session_id, **params}, shape, *callbacks)
        if not self._thread.call_soon(lambda: self._wire.start(call)):
            call.post(self._wire.ended())
        return call


# -- for both kinds of session -----------------------------------------------------------------------------------------


def start_wire(
    loop: Loop,
    argv: Sequence[str],
    worker: bool,
    env: Mapping[str, str] | None,
    cwd: str | os.PathLike[str] | None,
    command: Sequence[str] | None,
) -> Wire:
    """Start the process of a session; the arguments are those of `Session.spawn`."""
    start = [sys.executable, str(FRONT_DOOR)] if command is None else command
    options = ["--worker" if worker else "--local", "--ready", "off"]
    return Wire(loop, [*start, *options, *argv], {**os.environ, **(env or {})}, cwd)


def was_hit(answer: Json) -> bool:
    """Whether an `interrupt` has found what it was for."""
    return bool(answer["interrupted"] or answer["cancelled"])


def cancel_all(wire: Wire, session_id: str, start: Callable[..., object]) -> None:
    """Cancel what is under way in a session, and interrupt what still runs of it. In the thread of the wire's loop."""
    for call in wire.calls_of(session_id):
        start("interrupt", {"request_id": call.id}, was_hit)
    start("interrupt", {}, was_hit)


def is_over(error: RequestError | SessionEnded) -> bool:
    """Whether the error says that there is nothing to close any more."""
    return isinstance(error, SessionEnded) or error.reason == "session_not_found"
