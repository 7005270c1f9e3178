"""Child side: the list that searches answer with."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


class Found(list[T]):
    """A list that shows one result a line; `truncated` says that there was more than `limit` allowed."""

    truncated = False

    def __init__(self, results: Iterable[T], limit: int | None = None) -> None:
        rest = iter(results)
        super().__init__(islice(rest, limit))
        self.truncated = any(True for _ in rest)

    def __repr__(self) -> str:
        lines = [str(result) for result in self] or ["(nothing found)"]
        if self.truncated:
            lines.append(f"(cut after {len(self)}: give a larger max_results, or search for less)")
        return "\n".join(lines)
