"""Both sides: the way to what looks around, which is imported when it is first needed."""

from __future__ import annotations

import os

from json_repl.core import forks
from json_repl.core.imports import ours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from json_repl.core.interpreter import Interpreter

_exit = os._exit
_looking: Any = None


def prepare() -> None:
    """Import what `variables` takes. Start-up does without, and user code may spoil what imports need."""
    global _looking
    if _looking is None:
        with ours():
            from json_repl.core import looking
        _looking = looking


def look(interpreter: Interpreter, what: str, free: bool, given: dict[str, Any]) -> list[str | None]:
    """What is to be seen in a namespace, as JSON: see `looking.answer`. Nothing of it changes.

    Args:
        what: a method that looks, e.g. "complete", and its params, `given`.
        free: code of the user's may run for it, as this process is a copy that is thrown away.
    """
    prepare()
    text = _looking.answer(interpreter, what, free, given)
    if forks.in_child:
        _exit(0)
    return [text]
