"""Parent side: the states that a session has had: which can be returned to, and what a return, or a loss, costs."""

from __future__ import annotations

from bisect import bisect
from time import time

from json_repl import memory
from json_repl.core import outcome as ends
from json_repl.core.errors import InvalidParams
from json_repl.shelf import Shelf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from json_repl.core.outcome import Outcome
    from json_repl.shelf import Snapshot

_MOST_REMEMBERED = 1000  # requests


class Past:
    """The requests that were answered and not undone, oldest first, and the copies of the states after some of them.

    A state is named by the request after which it was; 0 is that before any.
    """

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.requests: list[int] = []
        shelf.place = lambda number: bisect(self.requests, number)  # not the number: requests that failed left holes
        self.loss: dict[str, object] = {}  # what the next answer tells of it
        self.on_change: Callable[[], None] = lambda: None  # the state is another one
        self.undid_more = False  # the last loss has undone other requests than the one that ran
        # The first names of each state, how many there are, and its execution_count, e.g. {3: (["x", "y"], 2, 3)}.
        self._states: dict[int, tuple[list[str], int, int]] = {}

    @property
    def present(self) -> int:
        """The request that has made the state what it is."""
        return self.requests[-1] if self.requests else 0

    def add(self, number: int, execution_count: int, outcome: Outcome) -> None:
        """A request was answered."""
        names = self._now()[0] if outcome.names is None else outcome.names
        self.requests.append(number)
        self._states[number] = (names, outcome.variable_count, execution_count)
        if len(self._states) > _MOST_REMEMBERED:
            del self._states[next(iter(self._states))]
            del self.requests[:-_MOST_REMEMBERED]
        self.on_change()

    def take_loss(self) -> dict[str, object]:
        """What an answer must tell of state that was lost since the last one."""
        loss, self.loss = self.loss, {}
        return loss

    def lose(self, snapshot: Snapshot | None) -> None:
        """As `return_to`, because a worker was lost: the next answer tells that, and of losses since the last one."""
        earlier, latest = self.loss, self.return_to(snapshot)
        self.undid_more = bool(latest.get("undone")) or latest["state"] == ends.LOST
        if earlier:
            undone = {*_list(earlier, "undone"), *_list(latest, "undone")}
            latest = {**earlier, **latest, "undone": sorted(undone, key=lambda id: int(id[1:]))}
            latest["state"] = ends.LOST if ends.LOST in (earlier["state"], latest["state"]) else ends.RESTORED
        self.loss = latest

    def return_to(self, snapshot: Snapshot | None) -> dict[str, object]:
        """The state is that of `snapshot`, or an empty one: forget what came after it, and say what that costs."""
        self.on_change()
        if snapshot is None:
            return self._lose_all()
        self.shelf.drop_after(snapshot.number)
        undone = [number for number in self.requests if number > snapshot.number]
        del self.requests[len(self.requests) - len(undone) :]
        told: dict[str, object] = {"state": ends.RESTORED, "undone": [f"e{number}" for number in undone]}
        return {**told, "threads_lost": snapshot.threads} if snapshot.threads else told

    def _lose_all(self) -> dict[str, object]:
        if not self.requests:
            return {"state": ends.RESTORED}  # it was empty, and is empty again
        names, count, _ = self._now()
        self.requests.clear()
        return {"state": ends.LOST, "lost_names": names, "lost_count": count}

    def is_present(self, to: str | float | None, steps: int | None) -> bool:
        """Whether it is the present state that `find` would look for."""
        return self._number_of(to, steps) == self.present

    def find(self, to: str | float | None, steps: int | None) -> Snapshot:
        """The copy of a state that a client names: by execution_id or execution_count, or by how many requests ago.

        Raises:
            InvalidParams: there is none; the text says which there are.
        """
        snapshot = self.shelf.get(self._number_of(to, steps))
        if snapshot is not None:
            return snapshot
        wanted = f"after {to!r}" if steps is None else f"before the last {steps} requests"
        kept = ", ".join(f"e{snapshot.number}" for snapshot in self.shelf) or "none"
        raise InvalidParams(f"no copy of the state {wanted} is kept; there are those after: {kept} (see snapshots).")

    def _number_of(self, to: str | float | None, steps: int | None) -> int | None:
        states = self.requests if len(self.requests) == _MOST_REMEMBERED else [0, *self.requests]
        if steps is not None:
            return states[-1 - steps] if steps < len(states) else None
        for number in states:  # the first of those that share an execution_count, which is the one that was counted
            if to in (f"e{number}", self._execution_count(number)):
                return number
        return None

    def listing(self) -> list[dict[str, object]]:
        """What can be returned to, oldest first."""
        return [
            {
                "execution_id": f"e{snapshot.number}",
                "execution_count": self._execution_count(snapshot.number),
                "age_s": round(time() - snapshot.made_at, 3),
                "private_bytes": memory.private_bytes(snapshot.pid),
                "threads_lost": snapshot.threads,
                "present": snapshot.number == self.present,
            }
            for snapshot in self.shelf
        ]

    def branch(self, snapshot: Snapshot, shelf: Shelf, *, alone: bool = False) -> Past:
        """The past of a second session that goes on from `snapshot`: it can return to where this one can.

        One that is `alone` can return to nothing else.
        """
        past = Past(shelf)
        past.requests = [number for number in self.requests if number <= snapshot.number]
        past._states = {number: state for number, state in self._states.items() if number <= snapshot.number}
        for older in self.shelf:
            if older is snapshot or (older.number < snapshot.number and not alone):
                shelf.add(older.share())
        return past

    def execution_count(self) -> int:
        """That of the present state."""
        return self._now()[2]

    def _execution_count(self, number: int) -> int:
        return self._states.get(number, ([], 0, 0))[2]

    def _now(self) -> tuple[list[str], int, int]:
        return self._states.get(self.present, ([], 0, 0))


def _list(told: dict[str, object], key: str) -> list[str]:
    found = told.get(key)
    return found if isinstance(found, list) else []
