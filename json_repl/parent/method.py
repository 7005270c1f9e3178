"""Parent side: how a method of the wire is declared, and how what a request gives it is checked."""

from __future__ import annotations

from json_repl.core.errors import InvalidParams
from json_repl.core.settings import MOST_SECONDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# What a param's kind means: the Python types it takes, and the words for it.
KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "string": ((str,), "a string"),
    "boolean": ((bool,), "true or false"),
    "count": ((int,), "a whole number, not below 0"),
    "seconds": ((int, float), "a number of seconds, not below 0"),
    "id": ((str, int, float), "a string or a number"),
    "path": ((list,), "an array of strings and whole numbers"),
}
REQUIRED = object()


class Param:
    """A parameter of a method; null means its default, unless it says what else."""

    __slots__ = ("default", "doc", "kind", "name", "null", "words")

    def __init__(
        self,
        name: str,
        kind: str,
        doc: str,
        default: object = None,
        words: tuple[str, ...] = (),
        null: object = None,
    ) -> None:
        self.name, self.kind, self.doc, self.default, self.words = name, kind, doc, default, words
        self.null = default if null is None else null

    def check(self, method: str, value: object) -> object:
        """The value to use.

        Raises:
            InvalidParams: it is not one that this parameter takes.
        """
        if value is None and self.default is not REQUIRED:
            return self.null
        types, text = KINDS[self.kind]
        good = isinstance(value, types) and (self.kind == "boolean" or not isinstance(value, bool))
        if good and self.kind in ("count", "seconds"):
            good = 0 <= value < float("inf")  # type: ignore[operator]
        if good and self.kind == "path":
            good = all(type(step) in (str, int) for step in value)  # type: ignore[attr-defined]
        if good and self.kind == "seconds":
            return float(min(value, MOST_SECONDS))  # type: ignore[call-overload]
        if not good or (self.words and value not in self.words):
            text = "one of " + ", ".join(self.words) if self.words else text
            raise InvalidParams(f"{method}: {self.name!r} takes {text}.")
        return value


_SESSION_ID = Param("session_id", "string", 'The session; by default the one called "default".')


class Method:
    """A method of the wire. A `control` one is answered when it is read, also while code runs; others in order.

    One that `defers`, as all that are answered in order, gets a function that takes its result when it is there. One
    that looks `aside` is answered at once where there are copies of the state to look at, and in order elsewhere.
    """

    __slots__ = ("_defaults", "_required", "aside", "control", "defers", "doc", "handler", "name", "params", "result")

    def __init__(
        self,
        name: str,
        doc: str,
        params: tuple[Param, ...],
        result: str,
        handler: Callable[..., Any],
        *,
        control: bool = False,
        defers: bool = False,
        aside: bool = False,
    ) -> None:
        self.name, self.doc, self.result = name, doc, result
        self.control, self.defers, self.aside = control, defers, aside
        self.params = {param.name: param for param in params}
        self._defaults = {param.name: param.default for param in params}
        self._required = [param for param in params if param.default is REQUIRED]
        self.handler = handler

    @property
    def kind(self) -> str:
        """When it is answered, for people."""
        return "aside" if self.aside else "control" if self.control else "ordered"

    def check(self, given: dict[str, object] | list[object]) -> dict[str, object]:
        """The values of all parameters, by name.

        Raises:
            InvalidParams: what was given does not fit; the text says what would.
        """
        if isinstance(given, list):
            if len(given) > len(self.params):
                raise InvalidParams(f"{self.name} takes at most {len(self.params)} params: {self._names()}.")
            given = dict(zip(self.params, given))
        for param in self._required:
            if param.name not in given:
                raise InvalidParams(f"{self.name} needs {param.name!r}: {param.doc}")
        values = self._defaults.copy()
        for name, value in given.items():
            if name not in self.params:
                raise InvalidParams(f"{self.name} has no param {name[:100]!r}; it takes {self._names()}.")
            values[name] = self.params[name].check(self.name, value)
        return values

    def _names(self) -> str:
        return ", ".join(self.params) or "none"


def declaring(methods: dict[str, Method]) -> Callable[..., Callable[[Any], Any]]:
    """A decorator for handlers of methods: takes the name, the doc, the params and how it is answered, see `Method`."""

    def method(name: str, doc: str, *params: Param, result: str, **how: bool) -> Callable[[Any], Any]:
        def declare(handler: Any) -> Any:
            methods[name] = Method(name, doc, (*params, _SESSION_ID), result, handler, **how)
            return handler

        return declare

    return method
