"""Parent side: which requests have made a worker's state what it is, and what a loss of it has cost."""

from __future__ import annotations

from json_repl.core import outcome as ends

TYPE_CHECKING = False
if TYPE_CHECKING:
    from json_repl.core.outcome import Outcome
    from json_repl.shelf import Snapshot

_MOST_REMEMBERED = 1000  # requests


class Timeline:
    """The requests that were answered and not undone, oldest first, and the names that there were after each."""

    def __init__(self) -> None:
        self.requests: list[int] = []
        self._names: dict[int, tuple[list[str], int]] = {}  # e.g. {3: (["x", "y"], 2)}: the first names, and how many

    def add(self, number: int, outcome: Outcome) -> None:
        """A request was answered."""
        names = self._now()[0] if outcome.names is None else outcome.names
        self.requests.append(number)
        self._names[number] = (names, outcome.variable_count)
        if len(self._names) > _MOST_REMEMBERED:
            del self._names[next(iter(self._names))]
            del self.requests[:-_MOST_REMEMBERED]

    def return_to(self, snapshot: Snapshot) -> dict[str, object]:
        """The state is that of `snapshot`: what the next answer tells of it."""
        undone = [number for number in self.requests if number > snapshot.number]
        del self.requests[len(self.requests) - len(undone) :]
        told: dict[str, object] = {"state": ends.RESTORED, "undone": [f"e{number}" for number in undone]}
        return {**told, "threads_lost": snapshot.threads} if snapshot.threads else told

    def lose_all(self) -> dict[str, object]:
        """The state is gone: what the next answer tells of it."""
        if not self.requests:
            return {"state": ends.RESTORED}  # it was empty, and is empty again
        names, count = self._now()
        self.requests.clear()
        return {"state": ends.LOST, "lost_names": names, "lost_count": count}

    def _now(self) -> tuple[list[str], int]:
        return self._names.get(self.requests[-1], ([], 0)) if self.requests else ([], 0)
