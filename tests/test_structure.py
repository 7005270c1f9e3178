"""The house: who imports whom, what the child may import, and what the way to the first answer may cost."""

from __future__ import annotations

import ast
import os
import re
import select
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import HOME, Session, wait_until

Start = Callable[..., Session]

FILES = [
    *(HOME / name for name in ("json_repl_session.py", "worker_manager.py", "subprocess_worker.py")),
    *sorted(HOME.glob("json_repl/**/*.py")),
    *sorted(HOME.glob("helpers/**/*.py")),
]
# Left to right: each imports only from rooms to its left (or its own), in one of the lines.
CHILD_LINE = ("core", "helpers", "subprocess_worker")
PARENT_LINE = ("core", "machinery", "worker_manager", "parent", "service", "cli", "json_repl_session")
# A program's side stands apart: it is in nobody's line, and shares nothing with what it starts.
CLIENT_LINE = ("client",)
# So does a reader's side, which knows transcripts alone; the command line starts it.
VIEW_LINE = ("view", "cli")
LINES = (CHILD_LINE, PARENT_LINE, CLIENT_LINE, VIEW_LINE)
LARGEST_FILE = 400  # lines


def _module(file: Path) -> str:
    parts = file.relative_to(HOME).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_module(file): file for file in FILES}


def _room(module: str) -> str:
    """Where a module lives: the files directly in json_repl/ are the parent's machinery, but for the command line."""
    top, _, rest = module.partition(".")
    if top != "json_repl":
        return top
    room = rest.partition(".")[0]
    if room in ("", "core"):
        return "core"
    return room if any(room in line for line in LINES) else "machinery"


def _imports(file: Path) -> Iterator[tuple[str, bool]]:
    """Names of the modules that a file imports anywhere, and whether only type checkers see it."""
    tree = ast.parse(file.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(file.relative_to(HOME).parts[: -node.level]) if node.level else ""
            source = ".".join(part for part in (package, node.module) if part)
            inner = [f"{source}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else source for name in inner]
        else:
            continue
        for name in names:
            yield name, id(node) in typing_only


def _ours(file: Path, *, typing: bool = False) -> set[str]:
    return {name for name, only in _imports(file) if name in MODULES and (typing or not only)}


@pytest.mark.parametrize("module", MODULES)
def test_a_file_imports_only_from_rooms_to_its_left(module: str) -> None:
    room = _room(module)
    lines = [line for line in LINES if room in line]
    assert lines, f"{module} is in no room of the house"
    for other in _ours(MODULES[module]) - {module}:
        left = {name for line in lines for name in line[: line.index(room) + 1]}
        assert _room(other) in left, f"{module} imports {other}"


def test_nobody_imports_in_a_circle() -> None:
    graph = {module: _ours(file) - {module} for module, file in MODULES.items()}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path, module])
        if module not in done:
            for other in graph[module]:
                visit(other, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_nobody_imports_a_front_door_from_inside() -> None:
    for module, file in MODULES.items():
        assert not {"json_repl_session", "subprocess_worker"} & _ours(file, typing=True), module


def _reachable(module: str) -> set[str]:
    found, waiting = {module}, [module]
    while waiting:
        for other in _ours(MODULES[waiting.pop()]) - found:
            found.add(other)
            waiting.append(other)
    return found


def test_no_file_of_the_child_names_a_module_outside_the_standard_library() -> None:
    """But one that need not be there, and is looked for in copies that are thrown away."""
    for module in _reachable("subprocess_worker") | {name for name in MODULES if _room(name) in ("core", "helpers")}:
        for name, typing_only in _imports(MODULES[module]):
            if (module, name) == ("json_repl.core.with_jedi", "jedi"):
                continue
            assert typing_only or name in MODULES or name.partition(".")[0] in sys.stdlib_module_names, (module, name)


def test_no_file_is_too_long_to_be_read_at_once() -> None:
    too_long = {
        module: n for module, file in MODULES.items() if (n := len(file.read_text().splitlines())) > LARGEST_FILE
    }
    assert not too_long


# -- in live processes -------------------------------------------------------------------------------------------------


def test_a_live_worker_has_nothing_loaded_from_outside_the_standard_library(start: Start, tmp_path: Path) -> None:
    code = (
        "import sys; found = {name: getattr(module, '__file__', None) for name, module in list(sys.modules.items())}\n"
        "sorted(name for name, file in found.items() if file and file.endswith('.py') or name.partition('.')[0] "
        "not in sys.stdlib_module_names)"
    )
    # Whatever a site-packages folder loads into every Python (.pth files) is not ours to answer for.
    bare = start("local", command=[sys.executable, "-c", f"{code.splitlines()[0]}\nprint(*found)"])
    site = set(bare.read_line().decode().split())
    session = start("worker", cwd=tmp_path)
    session.value("[h.read, h.search_code, h.run('true'), h.list_files('.'), h.exists('x')]")
    session.value("await __import__('asyncio').sleep(0)")
    session.run("1 / 0")
    session.ask("variables")
    tops = {name.partition(".")[0] for name in ast.literal_eval(session.value(code))} - site
    ours = {"json_repl", "json_repl_helpers", "helpers", "subprocess_worker"}
    assert tops <= sys.stdlib_module_names | ours, tops - sys.stdlib_module_names - ours


NOT_BEFORE_THE_FIRST_ANSWER = {
    *("click", "psutil", "asyncio", "logging", "orjson", "subprocess", "dataclasses", "typing"),
    *("inspect", "tempfile", "concurrent", "importlib.metadata", "selectors", "random"),
}


@pytest.mark.parametrize("where", ["local", "worker"])
def test_the_way_to_the_first_answer_loads_nothing_that_is_slow_to_import(start: Start, where: str) -> None:
    """The answer is too large for its pipe: while it waits there, what comes after a first answer has not begun."""
    session = start(where, env={"PYTHONPROFILEIMPORTTIME": "1"})
    session.send({"code": "'x' * 1_000_000"})
    assert session.process.stdout is not None and session.process.stderr is not None
    out, err = session.process.stdout.fileno(), session.process.stderr.fileno()
    wait_until(lambda: b'"status"' in os.read(out, 1000))
    loaded = set()
    text = b""
    while select.select([err], [], [], 0)[0]:
        text += os.read(err, 1 << 16)
    for name in re.findall(r"\|\s+([\w.]+)\n", text.decode()):
        loaded.add(name)
    assert "json_repl.parent.server" in loaded
    assert sorted(loaded & NOT_BEFORE_THE_FIRST_ANSWER) == []


def test_a_workers_first_answer_loads_nothing_that_is_slow_to_import(worker: Session) -> None:
    loaded = set(ast.literal_eval(worker.value("import sys; sorted(sys.modules)")))
    assert "json_repl.core.interpreter" in loaded
    of_the_parent = {"json", "ctypes", "json_repl.parent", "json_repl.loop", "worker_manager"}
    assert sorted(loaded & (NOT_BEFORE_THE_FIRST_ANSWER | of_the_parent)) == []


def test_what_code_in_a_worker_imports_and_breaks_does_not_show_in_the_session(worker: Session) -> None:
    worker.run("import sys, json; json.dumps = None; sys.modules['re'] = None; import colorsys")
    answer = worker.ask("execute", code="6 * 7", fallback="auto")
    assert (answer["result"], answer["backend"]) == ("42", "worker")
    assert worker.ask("history", n=1)["entries"][0]["code"] == "6 * 7"
