"""Four ways to start behave alike, and the user's own files break none of them, nor do ours hide the user's."""

from __future__ import annotations

import _imp
import json
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
from harness import FRONT_DOOR, HOME, Session, wait_until

Start = Callable[..., Session]
MODES = ("console script", "by path", "as the replaced system's client", "as a module", "PYTHONPATH=.")

# Names of ours, of the standard library that we use, and of what we depend on.
NAMES = [
    *("helpers", "json_repl", "worker_manager", "subprocess_worker", "history", "outcome", "wire", "loop", "settings"),
    *("json", "code", "select", "signal", "struct", "traceback", "linecache", "asyncio", "inspect", "ast", "heapq"),
    *("resource", "fcntl", "mmap", "ctypes", "tempfile", "threading", "random", "logging", "subprocess", "platform"),
    *("uuid", "dataclasses", "decimal", "socket", "faulthandler", "queue", "string", "token", "tokenize", "shutil"),
    *("orjson", "click", "psutil", "errors", "core", "parent", "streams", "display", "protocol", "interpreter"),
]
NAMES = [name for name in NAMES if name not in sys.builtin_module_names]  # which nobody's file can replace
# With `-m`, Python itself imports these from the current folder before the first line of ours.
PYTHONS_OWN = {"types", "enum", "functools", "collections", "contextlib", "warnings", "re", "operator", "keyword"}


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the checkout's modules and its console script, as an installer makes them."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, symlinks=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    for name in ("json_repl", "helpers", "json_repl_session.py", "worker_manager.py", "subprocess_worker.py"):
        (packages / name).symlink_to(HOME / name)
    ours = [entry for entry in sys.path if entry.endswith("site-packages")]
    (packages / "dependencies.pth").write_text("\n".join(ours))
    script = folder / "bin" / "json-repl-session"
    script.write_text(
        f"#!{folder}/bin/python\nimport sys\nfrom json_repl_session import main\n"
        "if __name__ == '__main__':\n    sys.exit(main())\n"
    )
    script.chmod(0o755)
    return script


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    """Each way to start in turn."""
    return str(request.param)


@pytest.fixture
def start_in(start: Start, backend: str, mode: str, installed: Path) -> Callable[..., Session]:
    """Starts a session in a folder, in the mode and backend of the moment."""

    def start_in(folder: Path, **env: str) -> Session:
        command = [sys.executable, str(FRONT_DOOR)]
        if mode == "console script":
            command = [str(installed)]
        elif mode == "as the replaced system's client":
            command = [sys.executable, "-u", "-X", "utf8", str(FRONT_DOOR)]
        elif mode == "as a module":
            command, env["PYTHONPATH"] = [sys.executable, "-m", "json_repl_session"], str(HOME)
        elif mode == "PYTHONPATH=.":
            env["PYTHONPATH"] = "."
        return start(backend, command=command, env=env, cwd=folder)

    return start_in


def make_hostile(folder: Path, as_packages: bool = False) -> None:
    """Fill the folder with modules of the user's that have the names of ours."""
    text = "MINE = __name__\n"
    for name in NAMES:
        if as_packages:
            (folder / name).mkdir()
            (folder / name / "__init__.py").write_text(text)
            (folder / name / "inner.py").write_text(text)
        else:
            (folder / f"{name}.py").write_text(text)


IMPORT_ALL = f"""
import importlib
found = {{name: getattr(importlib.import_module(name), 'MINE', None) for name in {NAMES!r}}}
[name for name, mine in found.items() if mine != name]
"""


@pytest.mark.parametrize("as_packages", [False, True], ids=["modules", "packages"])
def test_a_folder_of_the_users_own_modules_breaks_nothing_and_hides_nothing(
    start_in: Callable[..., Session], tmp_path: Path, as_packages: bool
) -> None:
    make_hostile(tmp_path, as_packages)
    session = start_in(tmp_path)
    assert session.value("40 + 2") == "42"
    assert session.value(IMPORT_ALL) == "[]"
    if as_packages:
        assert session.value("from helpers import inner; from json.inner import MINE; inner.MINE, MINE") == (
            "('helpers.inner', 'json.inner')"
        )
    # All of ours still works, what is loaded late too.
    assert session.value("hasattr(helpers, 'MINE') or h is helpers") == "True"
    assert session.value("h.write('note.txt', 'a'); h.read('note.txt'), h.run('echo b').stdout") == "('a', 'b\\n')"
    failed = session.run("def f():\n    1 / 0\nf()")
    assert failed["error"]["ename"] == "ZeroDivisionError" and "    1 / 0\n" in failed["stderr"]
    assert session.value("get_execution_stats()['failed']") == "1"
    assert "f" in [row["name"] for row in session.ask("variables")["variables"]]
    assert session.ask("history", failed=True)["entries"][0]["error"] == "ZeroDivisionError"
    assert session.value("import builtins, json; builtins.len([json.MINE])") == "1"
    session.ask("reset")
    assert session.value("import json, helpers; json.MINE, helpers.MINE") == "('json', 'helpers')"
    answers, stderr, status = session.finish()
    assert (answers, stderr, status) == ([], "", 0)


def test_a_worker_that_crashed_in_a_folder_of_the_users_own_modules_is_replaced(start: Start, tmp_path: Path) -> None:
    make_hostile(tmp_path)
    session = start("worker", cwd=tmp_path)
    session.run("import json; json.MINE")
    assert session.run("import os; os.abort()")["reason"] == "crash"
    assert session.value("import json; json.MINE") == "'json'"


@pytest.fixture(scope="session")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a module of every name that anything of ours may ever import, which ends who is not its user."""
    folder = tmp_path_factory.mktemp("poisoned")
    (folder / "first.py").write_text("import sys; print(*sys.modules)")
    loaded_first = subprocess.check_output([sys.executable, "-m", "first"], cwd=folder, text=True).split()
    # A statement of the language, and what a hook of setuptools' takes care of.
    special = {"__future__", "distutils"}
    names = {*sys.stdlib_module_names, "click", "orjson", "psutil", "helpers", "json_repl", "worker_manager"}
    for name in names - {*special, *sys.builtin_module_names, *loaded_first}:
        if not _imp.is_frozen(name):
            (folder / f"{name}.py").write_text(
                "import builtins\nif not hasattr(builtins, 'users_turn'): raise SystemExit('poison')\nMINE = __name__\n"
            )
    return folder


USE_HELPERS = """
h.json_write("a.json", [1])
h.write("b.txt", "def k(): pass")
(h.json_read("a.json"), h.run("echo b").stdout, h.parse("b.txt")[0].name, len(h.search_code("k", "b.txt")),
 "b.txt" in h.tree("."), h.search_files("b.t*", ".") != h.list_files("."))
"""


def exercise(session: Session) -> None:
    """Have a session import all that it ever does."""
    assert session.run("print('a')")["stdout"] == "a\n"
    failed = session.run("def f(x):\n    return '世' + (x / 0)\nf(1)")
    assert failed["error"]["ename"] == "ZeroDivisionError" and "'世' + (x / 0)" in failed["stderr"]
    assert sys.version_info < (3, 11) or "~~^~~" in failed["stderr"]
    assert session.run("1 +")["error"]["ename"] == "SyntaxError"
    assert session.run("this_is_not_there.x")["error"]["ename"] == "NameError"
    assert session.value("async def g(): return 42\nawait g()") == "42"
    assert session.value(USE_HELPERS) == "([1], 'b\\n', 'k', 1, True, True)"
    late = session.run("while True: pass", timeout=0.3)
    assert late["reason"] == "timeout" and late["session_state"]["state"] == "kept"
    assert "g" in [row["name"] for row in session.ask("variables")["variables"]]
    assert session.ask("history", failed=True)["entries"][0]["error"] == "ZeroDivisionError"
    assert session.ask("status").get("state"), session.ask("status")
    assert session.ask("describe")["methods"]


def lose_the_worker(session: Session, code: str, reason: str) -> None:
    """Have code take its worker down, with a child that has gone out of its reach."""
    spawn = "import os; os.posix_spawn('/bin/sleep', ['sleep', '100'], {}, setsid=True)"
    child = int(session.value(spawn))
    lost = session.run(code, timeout=0.5)
    assert (lost["reason"], lost["session_state"]["state"]) == (reason, "restored")
    wait_until(lambda: not Path(f"/proc/{child}").exists())


@pytest.mark.parametrize("falls_back", [False, True], ids=["", "falls back"])
def test_nothing_of_ours_is_ever_found_in_the_users_folder(
    start_in: Callable[..., Session], poisoned: Path, backend: str, falls_back: bool
) -> None:
    if falls_back and backend == "local":
        pytest.skip("there is no worker to fall back from")
    session = start_in(poisoned, **({"JSON_REPL_PYTHON": "/is/not/there"} if falls_back else {}))
    exercise(session)
    import_all = f"""
        names = {[file.stem for file in poisoned.glob("*.py")]}
        import builtins; builtins.users_turn = True
        [name for name in names if getattr(__import__(name), 'MINE', None) != name]
    """
    assert session.value(dedent(import_all)) == "['first']"
    exercise(session)
    if backend == "worker" and not falls_back:
        lose_the_worker(session, "os.abort()", "crash")
        lose_the_worker(session, "import _signal; _signal.signal(2, _signal.SIG_IGN)\nwhile True: pass", "timeout")
        exercise(session)
    session.ask("reset")
    exercise(session)
    answers, stderr, status = session.finish()
    assert (answers, status) == ([], 0) and (falls_back or stderr == "")


def test_top_level_await_uses_the_real_asyncio_unless_the_user_has_one(
    start_in: Callable[..., Session], tmp_path: Path
) -> None:
    (tmp_path / "selectors.py").write_text("MINE = 1\n")
    (tmp_path / "json.py").write_text("MINE = 1\n")
    session = start_in(tmp_path)
    assert session.value("async def f(): return 42\nawait f()") == "42"
    assert session.value("import json, selectors; json.MINE, selectors.MINE") == "(1, 1)"
    assert session.value("import asyncio\nasyncio.run(f())") == "42"


def test_a_thread_of_the_users_imports_its_own_while_an_error_is_told(
    start: Start, backend: str, tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text("x = 42\n")
    session = start(backend, cwd=tmp_path)
    code = """
        import threading
        found = []
        class Loader:
            def get_source(self, name):  # which is asked for the line that failed
                thread = threading.Thread(target=lambda: found.append(__import__("own").x))
                thread.start()
                thread.join()
                return "the line"
        exec(compile("1 / 0", "generated.py", "exec"), {"__name__": "generated", "__loader__": Loader()})
    """
    assert "the line" in session.run(dedent(code))["stderr"]
    assert session.value("found") == "[42]"


def test_each_way_to_start_behaves_alike(start_in: Callable[..., Session], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("x = 41\n")
    session = start_in(tmp_path)
    session.send({"id": 1, "code": "import mine, sys, os; mine.x + 1"})
    line = session.read_line()
    assert b"__READY__" in line and json.loads(line)["method"] == "ready"
    assert session.read()["result"] == "42"
    assert session.value("__name__, sys.path[0], sys.argv, os.getcwd()") == repr(("__main__", "", [""], str(tmp_path)))
    assert session.value("sys.modules['__main__'].__dict__ is globals()") == "True"
    assert session.run("import this_is_not_there")["error"]["ename"] == "ModuleNotFoundError"
    assert session.value("class A: pass\nimport pickle; type(pickle.loads(pickle.dumps(A()))) is A") == "True"
    assert session.finish() == ([], "", 0)


def test_a_folder_made_or_entered_later_is_where_imports_look(start_in: Callable[..., Session], tmp_path: Path) -> None:
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "helpers.py").write_text("MINE = 7\n")
    session = start_in(tmp_path)
    session.run("import os; os.chdir('later')")
    assert session.value("import helpers; helpers.MINE") == "7"
    assert session.value("h.exists('helpers.py')") == "True"


def test_a_folder_named_helpers_without_init_is_the_users_too(start: Start, backend: str, tmp_path: Path) -> None:
    (tmp_path / "helpers").mkdir()
    (tmp_path / "helpers" / "mine.py").write_text("x = 42\n")
    session = start(backend, cwd=tmp_path)
    assert session.value("from helpers import mine; mine.x") == "42"


def test_modules_that_python_itself_imports_first_do_no_harm_to_a_start_by_path(
    start: Start, backend: str, tmp_path: Path
) -> None:
    for name in PYTHONS_OWN:
        (tmp_path / f"{name}.py").write_text("MINE = 1\n")
    session = start(backend, cwd=tmp_path)
    assert session.value("40 + 2") == "42"
    assert session.run("1 / 0")["error"]["ename"] == "ZeroDivisionError"


def test_a_linked_folder_on_the_path_is_the_current_folder_too(start: Start, backend: str, tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    make_hostile(real)
    link.symlink_to(real)
    session = start(backend, cwd=link, env={"PYTHONPATH": str(link), "PWD": str(link)})
    assert session.value("40 + 2") == "42"
    assert session.value(IMPORT_ALL) == "[]"


def test_a_front_door_behind_a_link_finds_its_house(start: Start, backend: str, tmp_path: Path) -> None:
    (tmp_path / "house").symlink_to(HOME)
    session = start(backend, command=[sys.executable, str(tmp_path / "house" / FRONT_DOOR.name)], cwd=tmp_path)
    assert session.value("h.exists('house')") == "True"
    (tmp_path / "door.py").symlink_to(FRONT_DOOR)
    session = start(backend, command=[sys.executable, str(tmp_path / "door.py")], cwd=tmp_path)
    assert session.value("40 + 2") == "42"


def test_a_session_started_in_its_own_house_works(start: Start, backend: str) -> None:
    session = start(backend, command=[sys.executable, "json_repl_session.py"], cwd=HOME)
    assert session.value("h.exists('json_repl_session.py')") == "True"
    session = start(backend, command=[sys.executable, "-m", "json_repl_session"], cwd=HOME)
    assert session.value("40 + 2") == "42"


def test_a_folder_that_is_gone_does_no_harm(start: Start, backend: str, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    command = ["sh", "-c", 'rmdir "$PWD" && exec "$@"', "sh", sys.executable, str(FRONT_DOOR)]
    session = start(backend, command=command, cwd=gone)
    assert session.value("40 + 2") == "42"
    assert session.run("1 / 0")["error"]["ename"] == "ZeroDivisionError"


@pytest.mark.parametrize("flag", ["-I", "-S", "-O", "-B", "-s"])
def test_flags_of_python_do_no_harm(start: Start, backend: str, tmp_path: Path, flag: str) -> None:
    make_hostile(tmp_path)
    session = start(backend, command=[sys.executable, flag, str(FRONT_DOOR)], cwd=tmp_path)
    assert session.value("40 + 2") == "42"


def test_what_a_session_imports_in_a_worker_is_not_in_the_parent(worker: Session, tmp_path: Path) -> None:
    parent = Path(f"/proc/{worker.pid}/maps")
    if not parent.exists():
        pytest.skip("looks into /proc")
    worker.run("import _decimal, _sqlite3")
    child = Path(f"/proc/{worker.worker_pid()}/maps").read_text()
    assert "_decimal" in child and "_decimal" not in parent.read_text()
