"""Client side: a session for asyncio. Its methods are those of session.py."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from json_repl.client.calls import AsyncCall, OnNotification, OnStream, Result, T
from json_repl.client.session import CLOSE_SECONDS, DEFAULT_ID, cancel_all, is_over, start_wire, was_hit
from json_repl.client.wire import Json, RequestError, SessionEnded, Wire


class AsyncSession:
    """A session, or a clone of one, for the tasks of one event loop."""

    def __init__(self, wire: Wire, session_id: str = DEFAULT_ID) -> None:
        self.session_id = session_id
        self._wire = wire

    @classmethod
    def spawn(
        cls,
        *argv: str,
        worker: bool = True,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        command: Sequence[str] | None = None,
    ) -> AsyncSession:
        """As `Session.spawn`, in the event loop that runs."""
        wire = start_wire(asyncio.get_running_loop(), argv, worker, env, cwd, command)
        wire.watch()
        return cls(wire)

    @property
    def pid(self) -> int:
        """As `Session.pid`."""
        return self._wire.process.pid

    def submit(
        self,
        code: str,
        *,
        on_stream: OnStream | None = None,
        on_notification: OnNotification | None = None,
        **params: Any,
    ) -> AsyncCall[Result]:
        """As `Session.submit`."""
        hears = on_stream is not None or on_notification is not None
        return self._start("execute", {"code": code, "stream": hears, **params}, Result, on_stream, on_notification)

    async def execute(
        self,
        code: str,
        *,
        within: float | None = None,
        on_stream: OnStream | None = None,
        on_notification: OnNotification | None = None,
        **params: Any,
    ) -> Result:
        """As `Session.execute`."""
        return await self.submit(code, on_stream=on_stream, on_notification=on_notification, **params).result(within)

    async def wait(
        self,
        execution_id: str,
        seconds: float | None = None,
        *,
        within: float | None = None,
        on_stream: OnStream | None = None,
        on_notification: OnNotification | None = None,
    ) -> Result:
        """As `Session.wait`."""
        params = {"execution_id": execution_id, "wait": seconds}
        return await self._start("wait", params, Result, on_stream, on_notification).result(within)

    async def interrupt(self, execution_id: str | None = None, *, within: float | None = None) -> bool:
        """As `Session.interrupt`."""
        params = {"execution_id": execution_id}
        return await self._start("interrupt", params, was_hit).result(within)

    async def cancel(self, call: AsyncCall[Any], *, within: float | None = None) -> bool:
        """As `Session.cancel`."""
        params = {"request_id": call.id, "session_id": call.params["session_id"]}
        return await self._start("interrupt", params, was_hit).result(within)

    async def variables(
        self,
        match: str | None = None,
        *,
        type: str | None = None,
        offset: int = 0,
        limit: int | None = None,
        within: float | None = None,
    ) -> list[Json]:
        """As `Session.variables`."""
        params = {"match": match, "type": type, "offset": offset, "limit": limit}
        return await self._start("variables", params, lambda answer: list(answer["variables"])).result(within)

    async def variable(
        self,
        name: str,
        *path: str | int,
        offset: int = 0,
        limit: int | None = None,
        within: float | None = None,
    ) -> Json:
        """As `Session.variable`."""
        params = {"name": name, "path": list(path), "offset": offset, "limit": limit}
        return await self._start("variables", params, dict).result(within)

    async def complete(self, code: str, cursor_pos: int | None = None, *, within: float | None = None) -> Json:
        """As `Session.complete`."""
        return await self._start("complete", {"code": code, "cursor_pos": cursor_pos}, dict).result(within)

    async def inspect(
        self, code: str, cursor_pos: int | None = None, *, detail_level: int = 0, within: float | None = None
    ) -> Json:
        """As `Session.inspect`."""
        params = {"code": code, "cursor_pos": cursor_pos, "detail_level": detail_level}
        return await self._start("inspect", params, dict).result(within)

    async def is_complete(self, code: str, *, within: float | None = None) -> Json:
        """As `Session.is_complete`."""
        return await self._start("is_complete", {"code": code}, dict).result(within)

    async def history(
        self, n: int | None = None, *, failed: bool = False, search: str | None = None, within: float | None = None
    ) -> list[Json]:
        """As `Session.history`."""
        params = {"n": n, "failed": failed, "search": search}
        return await self._start("history", params, lambda answer: list(answer["entries"])).result(within)

    async def rollback(
        self, to: str | int | None = None, *, steps: int | None = None, within: float | None = None
    ) -> Json:
        """As `Session.rollback`."""
        return await self._start("rollback", {"to": to, "steps": steps}, dict).result(within)

    async def clone(
        self, name: str | None = None, *, at: str | int | None = None, within: float | None = None
    ) -> AsyncSession:
        """As `Session.clone`."""
        params = {"new_session_id": name, "at": at}
        clone = await self._start("session/clone", params, dict).result(within)
        return AsyncSession(self._wire, clone["session_id"])

    async def request(self, method: str, *, within: float | None = None, **params: Any) -> Json:
        """As `Session.request`."""
        return await self._start(method, params, dict).result(within)

    async def close(self, within: float = CLOSE_SECONDS) -> int | None:
        """As `Session.close`."""
        if self.session_id != DEFAULT_ID:
            await self._close_clone(within)
            return None
        self._wire.hang_up()
        return await asyncio.to_thread(self._wire.reap, within)

    async def __aenter__(self) -> AsyncSession:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def _close_clone(self, within: float) -> None:
        cancel_all(self._wire, self.session_id, self._start)
        try:
            await self.request("session/close", within=within)
        except (RequestError, SessionEnded) as error:
            if not is_over(error):
                raise

    def _start(
        self, method: str, params: Json, shape: Callable[[Json], T], *callbacks: Callable[..., object] | None
    ) -> AsyncCall[T]:
        call: AsyncCall[T] = AsyncCall(method, {"session_id": self.session_id, **params}, shape, *callbacks)
        self._wire.start(call)
        return call
