"""Parent side: the answers of a JSON-RPC batch, which leave together."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Batch:
    """Collects the answers of a batch, which leave together, in the order of the requests, once the last is there."""

    def __init__(self, size: int, write: Callable[[bytes], None]) -> None:
        self._missing = size
        self._lines: list[bytes | None] = [None] * size
        self._write = write

    def place(self, index: int) -> Callable[[bytes | None], None]:
        """What takes the answer of the request that stands there."""

        def add(line: bytes | None) -> None:
            self._lines[index] = line
            self._missing -= 1
            lines = [line for line in self._lines if line is not None]
            if not self._missing and lines:
                self._write(b"[" + b",".join(lines) + b"]")

        return add
