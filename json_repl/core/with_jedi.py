"""Both sides: completion by jedi, where that is installed. It evaluates on live objects, which may run code of theirs:
only for a copy of the session that is thrown away.
"""

from __future__ import annotations

import os
import re
import sys
from time import monotonic

from json_repl.core.completion import MOST, Match
from json_repl.core.imports import ours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TYPE_SECONDS = 0.2  # for finding out what the matches are


_WORD = re.compile(r"\b[^\W\d]\w*")


def matches(code: str, cursor: int, names: dict[str, Any]) -> list[Match]:
    """The names that fit; none where jedi is not installed, or has failed."""
    before = code[:cursor]
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n") - 1
    # It takes its time for every name that it is given.
    namespace = {name: names[name] for name in set(_WORD.findall(code)) if name in names}
    path = [entry or os.getcwd() for entry in sys.path if isinstance(entry, str)]
    try:
        with ours():  # all the time, as it imports parts of itself when it needs them
            import jedi

            jedi.settings.case_insensitive_completion = False
            project = jedi.Project(os.getcwd(), sys_path=path)
            found = jedi.Interpreter(code, [namespace], project=project).complete(line, column)[:MOST]
            deadline = monotonic() + _TYPE_SECONDS
            return [Match(one.name_with_symbols, _kind(one, deadline)) for one in found]
    except Exception:  # it is known to fail now and then
        return []


def _kind(completion: Any, deadline: float) -> str:
    if monotonic() > deadline:
        return "<unknown>"
    try:
        return str(completion.type)
    except Exception:
        return "<unknown>"
