"""Both sides: the source of every request, so that tracebacks and `inspect.getsource` show the user's own lines."""

from __future__ import annotations

import linecache
import sys

from json_repl.core.imports import ours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from types import ModuleType
    from typing import Any

_MOST_REQUESTS = 10_000
_MOST_CHARACTERS = 32_000_000

_ModuleSpec: Any = type(sys.__spec__)
_sources: dict[str, str] = {}  # e.g. {"<python-input-3>": "def f():\n    return 1\n"}, oldest first
_characters = 0


def remember(filename: str, source: str) -> None:
    """File `source` under `filename`; the oldest go when there are too many for a long session's memory."""
    global _characters
    _characters += len(source) - len(_sources.pop(filename, ""))
    _sources[filename] = source
    _file(filename, source)
    while len(_sources) > _MOST_REQUESTS or (_characters > _MOST_CHARACTERS and len(_sources) > 1):
        oldest = next(iter(_sources))
        _characters -= len(_sources.pop(oldest))
        _unfile(oldest)


def line(filename: str, number: int) -> str:
    """One line of a request's source, or nothing."""
    lines = _sources.get(filename, "").splitlines()
    return lines[number - 1] if 0 < number <= len(lines) else ""


def refill() -> None:
    """File again what user code has cleared from `linecache`."""
    for filename, source in _sources.items():
        if filename not in linecache.cache:
            _file(filename, source)


def _file(filename: str, source: str) -> None:
    try:
        # Without a time of modification, linecache never looks for a file of that name.
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    except Exception:  # user code has spoiled linecache, which costs its tracebacks their lines
        pass


def _unfile(filename: str) -> None:
    try:
        linecache.cache.pop(filename, None)
    except Exception:
        pass


def teach_inspect(inspect: ModuleType) -> None:
    """Let `inspect` find the source of classes of a session, as ``__main__`` has no file to look into."""
    genuine = getattr(inspect, "getfile", None)
    if genuine is None:  # a module of the user's
        return

    def getfile(obj: Any) -> Any:
        if isinstance(obj, type) and obj.__module__ == "__main__":
            filename = _defined_in(obj)
            if filename:
                return filename
        return genuine(obj)

    inspect.getfile = getfile  # type: ignore[attr-defined]


def teach(name: str, lesson: Callable[[ModuleType], None]) -> None:
    """Give a module to `lesson`, now or when user code imports it."""
    _lessons.by_name[name] = lesson
    if name in sys.modules:
        lesson(sys.modules[name])
    if _lessons not in sys.meta_path:
        sys.meta_path.insert(0, _lessons)


def offer(names: Collection[str], contents: Callable[[str], dict[str, object]]) -> None:
    """Have user code find modules of these names, with these contents, where there are no others."""
    sys.meta_path.append(_Offer(names, contents))


class _Lessons:
    """An import hook that gives modules to their lessons, as importing them here costs start-up."""

    def __init__(self) -> None:
        self.by_name: dict[str, Callable[[ModuleType], None]] = {}

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Part of the import system: the genuine module, taught right after it has been loaded."""
        lesson = self.by_name.get(name)
        if lesson is None:
            return None
        for finder in [finder for finder in sys.meta_path if finder is not self]:
            spec = finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                _after_load(spec.loader, lesson)
                return spec
        return None


_lessons = _Lessons()


class _Offer:
    """An import hook, the last one, for modules of ours that stand in for missing ones; also their loader."""

    def __init__(self, names: Collection[str], contents: Callable[[str], dict[str, object]]) -> None:
        self._names = names
        self._contents = contents

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Part of the import system."""
        if name not in self._names:
            return None
        is_package = any(other.startswith(f"{name}.") for other in self._names)
        return _ModuleSpec(name, self, is_package=is_package)

    def create_module(self, spec: Any) -> None:
        """Part of the import system: as ever."""

    def exec_module(self, module: ModuleType) -> None:
        """Part of the import system."""
        vars(module).update(self._contents(module.__name__))


def _after_load(loader: Any, then: Any) -> None:
    genuine = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        genuine(module)
        then(module)

    loader.exec_module = exec_module


def _defined_in(cls: type) -> str | None:
    """The newest request whose source defines a class of this name."""
    with ours():
        import ast

    wanted = cls.__qualname__.rpartition(".")[2]
    functions = [value.__code__ for value in vars(cls).values() if hasattr(value, "__code__")]
    for code in functions:
        if code.co_filename in _sources:
            return str(code.co_filename)
    for filename, source in reversed(_sources.items()):
        if f"class {wanted}" in source and any(
            isinstance(node, ast.ClassDef) and node.name == wanted for node in ast.walk(ast.parse(source))
        ):
            return filename
    return None
