"""Both sides: what an import statement can name, found in the file system. Nothing is imported for it."""

from __future__ import annotations

import os
import sys
from _frozen_importlib_external import PathFinder

from json_repl.core import statics
from json_repl.core.imports import ours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_MOST_FILES = 20_000  # looked at in one folder
_LARGEST_SOURCE = 2_000_000  # bytes
_SUFFIXES = (".py", ".so", ".pyc")


def importable(words: list[str]) -> Iterator[tuple[str, str]]:
    """What can come behind these words of an unfinished import statement: names, and "module" or what else they are."""
    if words[0] == "import" or "import" not in words:
        yield from _modules(words)
        return
    module = "".join(words[1 : words.index("import")])
    if words[-1] not in ("import", ",", "("):
        if words[-1] not in ("as",):
            yield "as", "keyword"
        return
    folder = _folders(module)
    yield from ((name, "module") for name in _submodules(folder))
    yield from _defined(module)


def _modules(words: list[str]) -> Iterator[tuple[str, str]]:
    if words[-1] == ".":
        package = _dotted(words[:-1])
        loaded = [name[len(package) + 1 :] for name in list(sys.modules) if name.startswith(package + ".")]
        yield from ((name, "module") for name in {*loaded, *_submodules(_folders(package))} if name.isidentifier())
    elif words[-1] in ("import", "from", ","):
        yield from ((name, "module") for name in {*sys.stdlib_module_names, *sys.builtin_module_names})
        yield from ((name, "module") for name in _submodules([entry for entry in sys.path if type(entry) is str]))
    elif words[-1] != "as":
        yield ("import" if words[0] == "from" else "as"), "keyword"


def _dotted(words: list[str]) -> str:
    """The name that stands at the end, as "os.path" in `import sys, os.path`."""
    start = len(words)
    while start > 0 and words[start - 1] not in (",", "import", "from"):
        start -= 1
    return "".join(words[start:])


def _folders(package: str) -> list[str]:
    """Where a package's modules lie; it need not be imported."""
    loaded = sys.modules.get(package)
    if statics.is_module(loaded):
        found = statics.lookup(statics.own_dict(loaded) or {}, "__path__")
        return (
            [entry for entry in statics.items(found, list, 0, 100) if type(entry) is str] if type(found) is list else []
        )
    spec = _spec(package)
    return list(spec.submodule_search_locations or ()) if spec is not None else []


def _spec(name: str) -> Any:
    parent, _, _ = name.rpartition(".")
    folders = _folders(parent) if parent else [entry for entry in sys.path if type(entry) is str]
    try:
        return PathFinder.find_spec(name, folders)
    except Exception:  # a folder that is broken
        return None


def _submodules(folders: list[str]) -> set[str]:
    found = set()
    for folder in folders:
        try:
            with os.scandir(folder or ".") as entries:
                for _, entry in zip(range(_MOST_FILES), entries):
                    name, dot, _ = entry.name.partition(".")
                    is_module = entry.name.endswith(_SUFFIXES) if dot else entry.is_dir()
                    if is_module and name.isidentifier() and not name.startswith("__"):
                        found.add(name)
        except OSError:
            continue
    return found


def _defined(module: str) -> Iterator[tuple[str, str]]:
    """The names in a module: of one that is loaded what it holds, else what its source defines."""
    loaded = sys.modules.get(module)
    if statics.is_module(loaded):
        for name in statics.names(loaded):
            yield name, ""
        return
    spec = _spec(module)
    origin = spec.origin if spec is not None else None
    if not isinstance(origin, str) or not origin.endswith(".py"):
        return
    try:
        if os.path.getsize(origin) < _LARGEST_SOURCE:
            with open(origin, "rb") as file:
                yield from _names_in(file.read())
    except (OSError, SyntaxError, ValueError):
        return


def _names_in(source: bytes) -> Iterator[tuple[str, str]]:
    with ours():
        import ast

    kinds = {ast.ClassDef: "class", ast.FunctionDef: "function", ast.AsyncFunctionDef: "function"}
    for node in ast.parse(source).body:
        if type(node) in kinds:
            yield node.name, kinds[type(node)]  # type: ignore[attr-defined]
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                yield (alias.asname or alias.name).partition(".")[0], ""
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            for target in ast.walk(node):
                if isinstance(target, ast.Name) and isinstance(target.ctx, ast.Store):
                    yield target.id, "instance"
