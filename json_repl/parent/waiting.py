"""Parent side: answers that a client does not wait for to the end, and asks for again.

execute {wait: 1} --1 s--> {"status": "running", "execution_id": "e3"}
wait {execution_id: "e3"} ----------------> its answer, kept until then
"""

from __future__ import annotations

from time import monotonic

from json_repl.core.errors import InvalidParams
from json_repl.parent.answer import make_running

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from json_repl.core.errors import RpcError
    from json_repl.parent.session import Session

    Done = Callable[[dict[str, object] | RpcError], None]


class Patience:
    """Of one session's clients.

    Args:
        call_in: calls back in some seconds, while code runs too.
    """

    def __init__(self, session: Session, call_in: Callable[[float, Callable[[], None]], Any]) -> None:
        self._session = session
        self._call_in = call_in
        self._limit: tuple[float, Callable[[], None]] | None = None  # when the patience with the next execution ends
        self._waiting: dict[str, list[Done]] = {}  # who waits for what runs, though its own request was answered
        self._finished: dict[str, dict[str, object] | RpcError] = {}  # answers that nobody has fetched yet

    def bounded(self, seconds: float, done: Done) -> Done:
        """What takes the answer of the execution that is about to begin.

        `done` gets what there is after `seconds`, if it has not ended by then, and in any case its answer.
        """
        answered: list[str] = []

        def give_up() -> None:
            if not answered:
                self._session.collect()
            if not answered and self._session.running is not None:
                execution_id = self._session.running["execution_id"]
                answered.append(execution_id)
                self._waiting[execution_id] = []
                done(make_running(self._session))

        def finish(result: dict[str, object] | RpcError) -> None:
            if not answered:
                answered.append("")
            else:
                self._end(answered[0], result)
            done(result)

        self._limit = (monotonic() + seconds, give_up)
        self._call_in(seconds, give_up)
        return finish

    def begin_locally(self) -> None:
        """The execution begins in this process, whose loop does not turn meanwhile."""
        limit, self._limit = self._limit, None
        if limit is not None:
            self._call_in(max(0.0, limit[0] - monotonic()), limit[1])

    def wait(self, execution_id: str, seconds: float | None, done: Done) -> None:
        """Give the answer of an execution as soon as it is there, or what there is after `seconds`.

        Raises:
            InvalidParams: no answer of it is to be had here.
        """
        if execution_id in self._finished:
            done(self._finished.pop(execution_id))
            return
        if execution_id not in self._waiting:
            raise InvalidParams(f"no answer of {execution_id!r} is kept: it was given, or there is none yet.")
        self._waiting[execution_id].append(done)

        def give_up() -> None:
            if done in self._waiting.get(execution_id, ()):
                self._session.collect()
            if done in self._waiting.get(execution_id, ()):
                self._waiting[execution_id].remove(done)
                done(make_running(self._session))

        if seconds is not None:
            self._call_in(seconds, give_up)

    def _end(self, execution_id: str, result: dict[str, object] | RpcError) -> None:
        waiting = self._waiting.pop(execution_id)
        if not waiting:
            self._finished[execution_id] = result
        for done in waiting:
            done(result)
