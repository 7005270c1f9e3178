"""Parent side: what was run, when, where, how it ended, how long it took. Common to both backends."""

from __future__ import annotations

from collections import deque
from time import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from json_repl.core.outcome import Outcome

_LONGEST_CODE = 20_000  # characters that an entry holds of a request's code


class History:
    """The last `size` requests of a session, and counts over all of them."""

    def __init__(self, size: int) -> None:
        self._entries: deque[dict[str, object]] = deque(maxlen=size)
        self._executed = self._failed = 0
        self._total_ms = 0.0
        self._backends: dict[str, int] = {}  # e.g. {"worker": 12, "local": 1}

    def __len__(self) -> int:
        return len(self._entries)

    def record(self, execution_count: int, execution_id: str, code: str, outcome: Outcome) -> None:
        """Add a request that has just ended."""
        self._add(
            {
                "execution_count": execution_count,
                "execution_id": execution_id,
                "code": code if len(code) <= _LONGEST_CODE else code[:_LONGEST_CODE],
                "code_characters": len(code),
                "started_at": time() - outcome.elapsed_ms / 1000,
                "backend": outcome.backend,
                "status": outcome.status,
                "reason": outcome.reason,
                "error": outcome.error.ename if outcome.error else None,
                "elapsed_ms": outcome.elapsed_ms,
                "stdout_characters": len(outcome.stdout),
                "stderr_characters": len(outcome.stderr),
                "result_characters": len(outcome.result or ""),
            }
        )

    def _add(self, entry: dict[str, Any]) -> None:
        self._executed += 1
        self._failed += entry["status"] == "error"
        self._total_ms += entry["elapsed_ms"]
        self._backends[entry["backend"]] = self._backends.get(entry["backend"], 0) + 1
        self._entries.append(entry)

    def branch(self, number: int) -> History:
        """The history of a second session, which goes on from the state after execution `number` of this one."""
        other = History(self._entries.maxlen or 0)
        for entry in self._entries:
            if int(str(entry["execution_id"])[1:]) <= number:
                other._add(entry)
        return other

    def search(
        self, n: int | None = None, *, failed: bool = False, search: str | None = None
    ) -> list[dict[str, object]]:
        """The last `n` entries, oldest first; only failed ones, or those whose code contains `search`, if wanted."""
        found = [
            entry
            for entry in self._entries
            if (not failed or entry["status"] == "error") and (search is None or search in str(entry["code"]))
        ]
        return found if n is None else found[max(0, len(found) - n) :]

    def stats(self) -> dict[str, object]:
        """Counts and times over all requests, also those that are no longer held."""
        return {
            "executed": self._executed,
            "succeeded": self._executed - self._failed,
            "failed": self._failed,
            "held": len(self._entries),
            "total_ms": self._total_ms,
            "mean_ms": self._total_ms / self._executed if self._executed else 0.0,
            "backends": self._backends,
        }

    def clear(self) -> int:
        """Forget all; returns how many entries there were."""
        held = len(self._entries)
        self.__init__(self._entries.maxlen or 0)  # type: ignore[misc]
        return held

    def answer(self, question: list[str]) -> object:
        """What user code asks, e.g. ``["recent", "3"]``."""
        if question[0] == "recent":
            return self.search(int(question[1]))
        if question[0] == "failed":
            return self.search(failed=True)
        return self.stats() if question[0] == "stats" else self.clear()
