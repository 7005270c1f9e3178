"""Client side: one request under way, and what its answer is made into.

A `Wire` posts what comes of a call: notifications, at last the answer. Who waits for the result takes it from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from json import dumps
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, Generic, Literal, TypeVar

from json_repl.client.wire import Json, Posted, SessionError

OnStream = Callable[[str, str], object]  # takes "stdout" or "stderr", and text
OnNotification = Callable[[str, Json], object]  # takes e.g. "retry", {"execution_id": "e3", "attempt": 2}
T = TypeVar("T")


class NoAnswer(SessionError, TimeoutError):
    """There is no answer within the seconds given. The request goes on.

    Attributes:
        call: the request; `call.result()` waits again, and `session.cancel(call)` ends it.
    """

    def __init__(self, call: _Call[Any], within: float | None) -> None:
        self.call = call
        super().__init__(f"no answer to {call.method!r} within {within:g} s; the request goes on")


class Result:
    """The answer of an execution: its fields as attributes, all of which docs/protocol.md describes.

    Attributes:
        answer: the whole of it, as it came.
    """

    status: Literal["ok", "error", "running"]
    reason: str | None
    execution_id: str
    execution_count: int
    stdout: str
    stderr: str
    result: str | None
    data: dict[str, Any] | None
    metadata: Json
    outputs: list[Json]
    error: Json | None
    changes: dict[str, list[str]] | None
    truncated: bool
    late_output: str
    backend: Literal["local", "worker"]
    attempts: int
    fallback: dict[str, str] | None
    session_state: Json
    usage: dict[str, float]

    def __init__(self, answer: Json) -> None:
        self.answer = answer
        self.__dict__.update(answer)

    @property
    def ok(self) -> bool:
        """The code has ended, without an error."""
        return self.status == "ok"

    def __repr__(self) -> str:
        return f"<Result {self.execution_id}: {self.reason or self.status}, result={self.result!r}>"


class _Call(Generic[T]):
    """One request, and what comes of it.

    Args:
        post: takes that.
        shape: makes of the answer what the caller gets.
    """

    _ids = count(1)

    def __init__(
        self,
        post: Callable[[Posted], None],
        method: str,
        params: Json,
        shape: Callable[[Json], T],
        on_stream: OnStream | None = None,
        on_notification: OnNotification | None = None,
    ) -> None:
        self.id = next(self._ids)
        self.method = method
        self.params = params
        self.post = post
        self.hears = on_stream is not None or on_notification is not None
        self._shape = shape
        self._on_stream = on_stream
        self._on_notification = on_notification
        request = {"jsonrpc": "2.0", "id": self.id, "method": method, "params": params}
        self.line = dumps(request, allow_nan=False).encode() + b"\n"

    def _tell(self, method: str, params: Json) -> None:
        try:
            if method != "stream":
                if self._on_notification is not None:
                    self._on_notification(method, params)
            elif self._on_stream is not None:
                self._on_stream(params["name"], params["text"])
        except BaseException:
            self.hears = False
            raise

    def _finish(self, end: Json | SessionError) -> T:
        self.post(end)  # for whoever asks again
        if isinstance(end, SessionError):
            raise end
        return self._shape(end)


class Call(_Call[T]):
    """A request under way in a `Session`."""

    def __init__(self, *args: Any) -> None:
        self._posted: SimpleQueue[Posted] = SimpleQueue()
        super().__init__(self._posted.put, *args)

    def result(self, within: float | None = None) -> T:
        """Wait for the answer, at most `within` seconds. Callbacks run here, and what they raise is raised here.

        Raises:
            NoAnswer: not within these seconds.
            RequestError: the answer is an error of the protocol.
            SessionEnded: there will be no answer.
        """
        deadline = None if within is None else monotonic() + within
        while True:
            try:
                posted = self._posted.get(timeout=_seconds_to(deadline))
            except Empty:
                raise NoAnswer(self, within) from None
            if not isinstance(posted, tuple):
                return self._finish(posted)
            self._tell(*posted)


class AsyncCall(_Call[T]):
    """A request under way in an `AsyncSession`."""

    def __init__(self, *args: Any) -> None:
        self._posted: asyncio.Queue[Posted] = asyncio.Queue()
        super().__init__(self._posted.put_nowait, *args)

    async def result(self, within: float | None = None) -> T:
        """As `Call.result`. To cancel the task that waits leaves the request as it is."""
        deadline = None if within is None else monotonic() + within
        while True:
            try:
                posted = await self._next(_seconds_to(deadline))
            except asyncio.TimeoutError:
                raise NoAnswer(self, within) from None
            if not isinstance(posted, tuple):
                return self._finish(posted)
            self._tell(*posted)

    async def _next(self, seconds: float | None) -> Posted:
        if not self._posted.empty():  # also where there are no seconds left
            return self._posted.get_nowait()
        return await asyncio.wait_for(self._posted.get(), seconds)


def _seconds_to(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - monotonic())
