"""Parent side: looks at a session's state from a copy of it that is thrown away, so that nothing is changed or blocked.

    look --> the newest copy --LOOK--> looker, a worker that runs no requests --CALL--> what is to be seen, as JSON
                                 |
                                 +-- too late, or it has ended: a second one, in which no code of the user's runs

A looker is kept for the next look at the same state, for some seconds, as an editor completes at every key.
"""

from __future__ import annotations

import json
from collections import deque
from time import time

from json_repl.core.errors import RpcError, WireError, WorkerLost
from json_repl.core.snapshot import LOOK
from json_repl.core.wire import unpack_texts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from json_repl.lineage import Lineage
    from json_repl.loop import Timer
    from json_repl.past import Past
    from json_repl.shelf import Snapshot

    Done = Callable[[dict[str, object] | RpcError | None], None]

    class Manager(Protocol):
        """A `WorkerManager`."""

        lineage: Lineage

        def twin(self, past: Past, role: bytes) -> Any:
            """One more, with a past of its own."""


_decode = json.JSONDecoder().decode  # in a local session user code may spoil the module
KEPT_SECONDS = 10.0  # a looker that nobody has used for so long is let go of
MOVING_SECONDS = 1.0  # a state that threads and tasks change all the time is not copied for each look
LAST_SECONDS = 2.0  # for a look in which no code of the user's runs


class _Look:
    """One look on its way. `done` is called once, with a result or an error."""

    def __init__(self, what: str, given: dict[str, Any], seconds: float, is_stale: bool | None, done: Done) -> None:
        self.what = what
        self.given = given
        self.seconds = seconds
        self.done = done
        self.free = True  # code of the user's may run for it
        self.note: str | None = None  # why that was given up
        self.is_stale = bool(is_stale)
        self.is_ordered = is_stale is None
        self.deadline: Timer | None = None


class Looks:
    """Of one session's worker."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._lineage = manager.lineage
        self._lineage.past.on_change = self._state_has_changed
        self._waiting: deque[_Look] = deque()
        self._current: _Look | None = None
        self._looker: Any = None
        self._copy: Snapshot | None = None  # which it was made from
        self._expiry: Timer | None = None

    def start(self, what: str, given: dict[str, Any], seconds: float, done: Done, *, is_stale: bool | None) -> None:
        """Look at the newest state; see core/looks.py for what. `done` gets the result, or an RpcError.

        After `seconds` what would run code of the user's is given up; the result's `note` tells. It `is_stale` if
        requests run or wait that may change the state; None: it comes in its turn.
        """
        look = _Look(what, given, seconds, is_stale, done)
        look.deadline = self._lineage.loop.call_in(seconds, lambda: self._is_late(look))
        self._waiting.append(look)
        self._next()

    def end(self) -> None:
        """Let go of the looker; looks under way are answered with an error."""
        looks = [*([self._current] if self._current else []), *self._waiting]
        self._current = None
        self._waiting.clear()
        self._drop()
        for look in looks:
            self._close(look, WorkerLost("the session's worker was ended meanwhile."))

    def kill(self) -> None:
        """End the looker at once, from within a signal's handler too."""
        if self._looker is not None:
            self._looker.kill()

    # -- one after the other -----------------------------------------------------------------------------------------

    def _next(self) -> None:
        if self._current is None and self._waiting:
            self._current = self._waiting.popleft()
            self._find(self._current)

    def _find(self, look: _Look) -> None:
        """A copy to look at: of the state as it is now, or the newest while code runs."""
        lineage = self._lineage
        busy = lineage.link is not None and bool(lineage.link.busy)
        newest = lineage.past.shelf.newest() if busy or not look.free or self._will_do(look) else None
        if newest is not None:
            look.is_stale |= busy or newest.moves or newest.number != lineage.past.present
            self._look_in(newest, look)
        else:
            lineage.at_present(lambda copy: self._look_in(copy, look))

    def _will_do(self, look: _Look) -> bool:
        """Whether the looker shows how things that move were a moment ago, and that is enough."""
        return (
            not look.is_ordered
            and self._copy is not None
            and self._copy.moves
            and time() - self._copy.made_at < MOVING_SECONDS
        )

    def _look_in(self, copy: Snapshot | str, look: _Look) -> None:
        if look is not self._current:  # it was too late
            return
        if isinstance(copy, str):
            self._finish(look, WorkerLost(f"{copy}."))
        elif self._looker is not None and self._copy is copy:
            self._ask(look)
        else:
            self._make(copy, look)

    def _make(self, copy: Snapshot, look: _Look) -> None:
        def arrived(origin: Snapshot | None) -> None:
            if looker is not self._looker or look is not self._current:
                return
            if origin is None or origin.number != copy.number:
                self._failed(look, "the copy of the state has ended")
            else:
                self._ask(look)

        self._drop()
        self._copy = copy
        self._looker = looker = self._manager.twin(self._lineage.branch(copy, alone=True), LOOK)
        looker.on_late_output = lambda owner, pieces: None  # what the user's code prints in a look is nobody's
        looker.lineage.begin(arrived)

    def _ask(self, look: _Look) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        looker = self._looker

        def answered(result: Any) -> None:
            if looker is self._looker and look is self._current:
                self._take(look, result)

        looker.call(answered, what=look.what, free=look.free, given=look.given)

    def _take(self, look: _Look, result: bytes | RpcError) -> None:
        if isinstance(result, RpcError):
            self._failed(look, result.message.rstrip("."))
            return
        try:
            found = read_look(unpack_texts(result))
        except WireError as error:
            self._failed(look, str(error))
            return
        self._finish(look, None if found is None else {**found, "stale": look.is_stale, "note": look.note})

    def _failed(self, look: _Look, why: str) -> None:
        """The looker has ended: once more, without code of the user's, which may have done that."""
        self._drop()
        if look.free:
            self._restrain(look, f"it was given up, as {why}")
        else:
            self._finish(look, WorkerLost(f"what was looked for cannot be told: {why}."))

    def _is_late(self, look: _Look) -> None:
        if look is self._current:
            self._drop()
        if look.free:
            self._restrain(look, f"it took more than {look.seconds:g} s")
        elif look is self._current:
            self._finish(look, WorkerLost(f"nothing could be seen of the state within {look.seconds:g} s."))
        else:
            self._waiting.remove(look)
            self._close(look, WorkerLost(f"other looks have taken more than {look.seconds:g} s."))

    def _restrain(self, look: _Look, why: str) -> None:
        look.free = False
        look.note = f"told without running any code of the objects': with it, {why}"
        if look.deadline is not None:
            look.deadline.cancel()
        look.deadline = self._lineage.loop.call_in(LAST_SECONDS, lambda: self._is_late(look))
        if look is self._current:
            self._find(look)

    def _finish(self, look: _Look, result: dict[str, object] | RpcError | None) -> None:
        self._current = None
        self._close(look, result)
        if self._expiry is not None:
            self._expiry.cancel()
        if self._copy is not self._lineage.past.shelf.newest():
            self._drop()
        elif self._looker is not None:
            self._expiry = self._lineage.loop.call_in(KEPT_SECONDS, self._drop)
        self._next()

    def _close(self, look: _Look, result: dict[str, object] | RpcError | None) -> None:
        if look.deadline is not None:
            look.deadline.cancel()
        look.done(result)

    def _state_has_changed(self) -> None:
        if self._current is None:
            self._drop()

    def _drop(self) -> None:
        looker, self._looker, self._copy = self._looker, None, None
        if looker is not None:
            looker.lineage.discard()


def read_look(texts: list[str | None]) -> dict[str, object] | None:
    """What a look has found; None: nothing is there.

    Raises:
        WireError: that is no result of ours.
    """
    try:
        found = _decode(texts[0] or "")
    except (ValueError, IndexError, RecursionError):
        raise WireError("the result of a look cannot be read") from None
    if found is not None and not isinstance(found, dict):
        raise WireError("the result of a look is none of ours")
    return found
