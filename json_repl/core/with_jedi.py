"""Both sides: completion by jedi, where that is installed. It evaluates on live objects, which may run code of theirs:
only for a copy of the session that is thrown away.
"""

from __future__ import annotations

import os
import re
import sys
from _thread import allocate_lock, start_new_thread
from time import monotonic

from json_repl.core.completion import MOST, Match
from json_repl.core.imports import ours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TYPE_SECONDS = 0.2  # for finding out what the matches are
_WORD = re.compile(r"\b[^\W\d]\w*")
_at_work = allocate_lock()


def matches(code: str, cursor: int, names: dict[str, Any], patience: float) -> list[Match]:
    """The names that fit; none where jedi is not installed, has failed, or has taken more than `patience` seconds.

    Then it goes on in its thread: the first time it may read all that it knows of Python, which it keeps on the disk.
    """
    found: list[Match] = []
    done = allocate_lock()

    def work() -> None:
        try:
            found.extend(_ask(code, cursor, names))
        except Exception:  # it is known to fail now and then
            pass
        finally:
            _at_work.release()
            done.release()

    if not _at_work.acquire(timeout=patience):
        return []
    done.acquire()
    start_new_thread(work, ())
    done.acquire(timeout=patience)
    return found[:]


def _ask(code: str, cursor: int, names: dict[str, Any]) -> list[Match]:
    before = code[:cursor]
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n") - 1
    # It takes its time for every name that it is given.
    namespace = {name: names[name] for name in set(_WORD.findall(code)) if name in names}
    path = [entry or os.getcwd() for entry in sys.path if isinstance(entry, str)]
    with ours():  # all the time, as it imports parts of itself when it needs them
        import jedi

        jedi.settings.case_insensitive_completion = False
        project = jedi.Project(os.getcwd(), sys_path=path)
        found = jedi.Interpreter(code, [namespace], project=project).complete(line, column)[:MOST]
        deadline = monotonic() + _TYPE_SECONDS
        return [Match(one.name_with_symbols, _kind(one, deadline)) for one in found]


def _kind(completion: Any, deadline: float) -> str:
    if monotonic() > deadline:
        return "<unknown>"
    try:
        return str(completion.type)
    except Exception:
        return "<unknown>"
