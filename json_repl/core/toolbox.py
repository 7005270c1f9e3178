"""Both sides: what code in a session finds ready in its namespace."""

from __future__ import annotations

import os
import sys

from json_repl.core.imports import load_private, ours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

PRIVATE_NAME = "json_repl_helpers"


def make_toolbox(ask: Callable[..., Any], further: str | None, warn: Callable[[str], None]) -> dict[str, object]:
    """The names that every namespace starts with.

    Args:
        ask: asks the session's history: a question's name and its arguments.
        further: the user's own helper modules, separated by ``os.pathsep``.
        warn: gets a sentence for each of those that cannot be had.
    """
    helpers = _LazyHelpers(further, warn)

    def get_recent_executions(n: int = 10) -> list[dict[str, Any]]:
        """The last `n` requests of this session, oldest first: code, when, where it ran, how it ended, how long."""
        return list(ask("recent", int(n)))

    def get_failed_executions() -> list[dict[str, Any]]:
        """All requests in the history that ended with an error, oldest first."""
        return list(ask("failed"))

    def get_execution_stats() -> dict[str, Any]:
        """Counts and times over all requests of this session."""
        return dict(ask("stats"))

    def clear_execution_history() -> int:
        """Forget the requests of this session; returns how many there were."""
        return int(ask("clear"))

    functions = (get_recent_executions, get_failed_executions, get_execution_stats, clear_execution_history)
    return {"h": helpers, "helpers": helpers, **{function.__name__: function for function in functions}}


class _LazyHelpers(type(sys)):  # type: ignore[misc]
    """The helpers, loaded at the first look at one of them."""

    def __init__(self, further: str | None, warn: Callable[[str], None]) -> None:
        super().__init__("helpers", "What code in a session reaches for all day: see dir(h), help(h.read).")
        self.__dict__["_further"] = further
        self.__dict__["_warn"] = warn
        if further:  # faults in the user's own modules are told at the start, not in the middle of their work
            self._load()

    def _load(self) -> ModuleType:
        loaded = self.__dict__.get("_loaded")
        if loaded is None:
            loaded = self.__dict__["_loaded"] = load_private(PRIVATE_NAME, "helpers")
            if self._further:
                with ours():
                    add_modules = loaded.add_modules
                for problem in add_modules(self._further.split(os.pathsep)):
                    self._warn(problem)
        return loaded

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__all__":
            raise AttributeError(name)
        helpers = self._load()
        with ours():  # this may load a file of ours, and with it modules that the user's folder has too
            return getattr(helpers, name)

    def __dir__(self) -> list[str]:
        return dir(self._load())

    def __repr__(self) -> str:
        return "<helpers: see dir(h), help(h.read)>"
