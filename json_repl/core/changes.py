"""Child side: which names a piece of code has added, changed and removed. Imported for dry runs only.

Two looks at the namespace are compared. User code runs for them (`__reduce__`, `__getstate__`), so they are taken in a
copy of the session that is thrown away.
"""

from __future__ import annotations

import hashlib
import pickle
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Buffer, Callable, Iterable  # type: ignore[attr-defined]

LARGEST = 16 << 20  # bytes of a value's pickle; a larger one is compared by identity alone

_BY_NAME = (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)  # pickled as a name, if at all


class Look:
    """The values of a namespace at one moment. What user code raises does not end it, unless it `was_interrupted`."""

    def __init__(self, items: Iterable[tuple[str, object]], was_interrupted: Callable[[], bool]) -> None:
        self._values = dict(items)  # keeps them alive, so that an identity stays that of one object
        self._digests = {name: _digest(value, was_interrupted) for name, value in self._values.items()}

    def changes(self, later: Look) -> list[str]:
        """What was done until `later`, e.g. ``["+added", "~changed", "-removed"]``."""
        added = [f"+{name}" for name in later._values if name not in self._values]
        changed = [f"~{name}" for name in self._values if name in later._values and self._differs(later, name)]
        removed = [f"-{name}" for name in self._values if name not in later._values]
        return added + changed + removed

    def _differs(self, later: Look, name: str) -> bool:
        before, after = self._digests[name], later._digests[name]
        if before is None or after is None:
            return self._values[name] is not later._values[name]
        return before != after


class _Sum:
    """A file that keeps nothing but the hash of what is written."""

    def __init__(self) -> None:
        self.hash = hashlib.blake2b(digest_size=16)
        self._size = 0

    def write(self, data: Buffer) -> int:
        size = memoryview(data).nbytes
        self._size += size
        if self._size > LARGEST:
            raise ValueError("too large")
        self.hash.update(data)
        return size


def _digest(value: object, was_interrupted: Callable[[], bool]) -> bytes | None:
    """A short name for what `value` holds; None where only its identity can tell."""
    if isinstance(value, _BY_NAME):
        return None
    for has_memo in (False, True):  # without, equal values look equal; with, a value may hold itself
        found = _Sum()
        pickler = pickle.Pickler(found, 5)
        pickler.fast = not has_memo
        try:
            pickler.dump(value)
            return found.hash.digest()
        except BaseException:  # whatever user code answers who pickles its objects
            if was_interrupted():
                raise
    return None
