"""Running code, the same in both backends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import Session, Shared


@pytest.fixture(scope="module", params=["local", "worker"])
def shared(request: pytest.FixtureRequest) -> Iterator[Shared]:
    """One session of each backend for all cheap cases."""
    shared = Shared(request.param)
    yield shared
    shared.end()


def test_a_name_assigned_in_one_request_is_there_in_the_next(session: Session) -> None:
    session.run("x = 41")
    assert session.value("x + 1") == "42"


VALUES = {
    "an expression": ("6 * 7", "42"),
    "a string": ("'it''s'", "'its'"),
    "None": ("None", None),
    "a call that returns None": ("print(end='')", None),
    "False": ("False", "False"),
    "an empty string": ("''", "''"),
    "an assignment": ("a = 5", None),
    "an expression behind statements": ("a = 5\nb = 6\na * b", "30"),
    "a statement behind an expression": ("5\na = 6", None),
    "an expression in a block": ("if True:\n    5", None),
    "a lambda": ("(lambda: 5)()", "5"),
    "a comprehension that sees names": ("n = 3\n[n * i for i in range(n)]", "[0, 3, 6]"),
    "a class that sees names": ("n = 3\nclass A:\n    m = n\nA.m", "3"),
    "a recursive function": ("def f(n): return 1 if n < 2 else n * f(n - 1)\nf(5)", "120"),
    "del": ("a = 5\ndel a\n'a' in globals()", "False"),
    "an import": ("import os.path\nos.path.basename('/a/b')", "'b'"),
    "a star import": ("from math import *\nfloor(5.5)", "5"),
    "a context manager": ("import io\nwith io.StringIO('a') as f: text = f.read()\ntext", "'a'"),
    "try, else and finally": (
        "a = []\ntry: a += [1]\nelse_ = 5\nfinally: a += [2]\na".replace("else_ = 5\n", ""),
        "[1, 2]",
    ),
    "exec": ("exec('a = 5')\na", "5"),
    "eval": ("eval('first + 1')", "42"),
    "globals": ("globals()['a'] = 7\na", "7"),
    "locals are globals": ("locals() is globals()", "True"),
    "__name__": ("__name__", "'__main__'"),
    "__main__ is this module": ("import __main__\n__main__.first, vars(__main__) is globals()", "(41, True)"),
    "sys.modules has it": ("import sys\nvars(sys.modules[__name__]) is globals()", "True"),
    "a name in __main__": ("import __main__\n__main__.a = 8\na", "8"),
    "sys.argv": ("import sys\nsys.argv", "['']"),
    "no __file__": ("'__file__' in globals()", "False"),
    "the current folder": ("import os, sys\nsys.path[0]", "''"),
}


@pytest.mark.parametrize(("code", "result"), VALUES.values(), ids=VALUES.keys())
def test_the_result_is_the_value_of_the_last_expression_as_a_repl_shows_it(
    shared: Shared, code: str, result: str | None
) -> None:
    answer = shared.run(code)
    assert (answer["status"], answer["result"], answer["stdout"], answer["stderr"]) == ("ok", result, "", "")
    assert answer["data"] == (None if result is None else {"text/plain": result})
    assert answer["error"] is None


def test_underscore_is_the_last_value_that_was_shown(session: Session) -> None:
    assert session.value("6 * 7") == "42"
    assert session.value("_ + 1") == "43"
    session.run("None")
    session.run("a = 5")
    session.run("1 / 0")
    assert session.value("_") == "43"
    session.run("99", silent=True)
    assert session.value("_") == "43"


ONCE = {
    "a trailing expression that raises": ("runs.append(1)\n1 / 0", "ZeroDivisionError"),
    "an expression alone": ("runs.append(1)", None),
    "a value whose repr raises": (
        "class A:\n    def __repr__(self): raise OSError\nrunning = A()\nruns.append(1)\nrunning",
        "OSError",
    ),
    "a value behind statements": ("a = 5\nruns.append(1) or a", None),
    "a statement in the middle that raises": ("runs.append(1)\n[][0]\nruns.append(2)\n5", "IndexError"),
    "an awaited value": ("import asyncio\nruns.append(1)\nawait asyncio.sleep(0, 5)", None),
    "a SyntaxError at run time": ("runs.append(1)\neval('1 +')", "SyntaxError"),
    "SystemExit": ("runs.append(1)\nraise SystemExit", "SystemExit"),
}


@pytest.mark.parametrize(("code", "ename"), ONCE.values(), ids=ONCE.keys())
def test_each_statement_runs_exactly_once(shared: Shared, code: str, ename: str | None) -> None:
    shared.run("runs = []")
    answer = shared.run(code)
    assert (answer["error"] and answer["error"]["ename"]) == ename, answer["stderr"]
    assert shared.value("runs") == "[1]"


def test_nothing_of_a_request_that_does_not_compile_runs(shared: Shared) -> None:
    shared.run("runs = []")
    shared.run("runs.append(1)\nruns.append(2\n")
    assert shared.value("runs") == "[]"


def test_the_same_text_runs_anew_each_time(shared: Shared) -> None:
    shared.run("runs, values = 0, []")
    answers = [shared.run("runs += 1\nvalues.append([])\nprint(runs)\nruns * 10") for _ in range(3)]
    assert [(answer["stdout"], answer["result"]) for answer in answers] == [("1\n", "10"), ("2\n", "20"), ("3\n", "30")]
    assert shared.value("values[0] is values[1]") == "False"


def test_a_constant_list_in_repeated_text_is_a_new_one(shared: Shared) -> None:
    for _ in range(2):
        assert shared.value("a = [1]\na.append(2)\na") == "[1, 2]"


ENDS = {
    "SystemExit": ("raise SystemExit", "exit", "SystemExit", ""),
    "a status": ("raise SystemExit(3)", "exit", "SystemExit", "3"),
    "a message": ("import sys; sys.exit('bye')", "exit", "SystemExit", "bye"),
    "exit()": ("exit()", "exit", "SystemExit", "None"),
    "quit(2)": ("quit(2)", "exit", "SystemExit", "2"),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", "interrupted", "KeyboardInterrupt", ""),
    "SIGINT to itself": ("import signal; signal.raise_signal(signal.SIGINT)", "interrupted", "KeyboardInterrupt", ""),
    "GeneratorExit": ("raise GeneratorExit", "exception", "GeneratorExit", ""),
    "a BaseException": ("class Stop(BaseException): pass\nraise Stop('now')", "exception", "Stop", "now"),
    "StopIteration": ("next(iter([]))", "exception", "StopIteration", ""),
    "StopAsyncIteration": ("raise StopAsyncIteration", "exception", "StopAsyncIteration", ""),
    "MemoryError": ("raise MemoryError('full')", None, "MemoryError", "full"),
    "an exception": ("{}['k']", "exception", "KeyError", "'k'"),
    "an assertion": ("assert 1 > 2, 'no'", "exception", "AssertionError", "no"),
}


@pytest.mark.parametrize(("code", "reason", "ename", "evalue"), ENDS.values(), ids=ENDS.keys())
def test_whatever_is_raised_is_a_result(shared: Shared, code: str, reason: str | None, ename: str, evalue: str) -> None:
    answer = shared.run(code)
    assert (answer["status"], answer["success"], answer["result"]) == ("error", False, None)
    assert reason is None or answer["reason"] == reason
    assert (answer["error"]["ename"], answer["error"]["evalue"]) == (ename, evalue)
    assert answer["stderr"] == "".join(answer["error"]["traceback"])


INPUTS = {
    "input": "input('name? ')",
    "input without a prompt": "input()",
    "input of builtins": "import builtins; builtins.input()",
    "getpass": "import getpass, warnings; warnings.simplefilter('ignore'); getpass.getpass()",
    "a loop that asks again": "while True:\n    try: int(input())\n    except ValueError: pass",
}


@pytest.mark.parametrize("code", INPUTS.values(), ids=INPUTS.keys())
def test_input_has_nobody_to_ask_and_says_so_at_once(shared: Shared, code: str) -> None:
    answer = shared.run(code)
    assert answer["error"]["ename"] == "EOFError", answer["stderr"]
    assert "getpass" in code or "input() has nobody to ask" in answer["error"]["evalue"]


def test_exit_leaves_the_streams_of_later_requests_whole(session: Session) -> None:
    assert session.run("exit()")["reason"] == "exit"
    assert session.value("import sys; sys.stdin.read(), print('out')") == "('', None)"


@pytest.mark.parametrize("code", ["breakpoint()", "import pdb; pdb.set_trace()", "import code; code.interact()"])
def test_a_debugger_finds_no_terminal_and_the_request_ends(shared: Shared, code: str) -> None:
    assert shared.run(code)["status"] in ("ok", "error")


@pytest.mark.parametrize(
    ("code", "command"),
    [
        ("!ls -la", "h.run('ls -la')"),
        ("%timeit f()", "h.run("),
        ("a = 5\n!make", "h.run('make')"),
        ("  !ls", "h.run('ls')"),
    ],
)
def test_a_shell_command_or_a_magic_is_a_syntax_error_that_names_the_helper(
    shared: Shared, code: str, command: str
) -> None:
    answer = shared.run(f"\n{code}" if code[0] == " " else code)
    assert answer["error"]["ename"] in ("SyntaxError", "IndentationError")
    if answer["error"]["ename"] == "SyntaxError":
        assert command in answer["error"]["evalue"] and command in answer["stderr"]


def test_a_percent_sign_elsewhere_gives_no_such_hint(shared: Shared) -> None:
    assert "h.run" not in shared.run("5 %% 6")["stderr"]
    assert shared.value("x = 7\n(x\n% 4)") == "3"


def test_future_imports_hold_for_later_requests(session: Session) -> None:
    session.run("def f(a: unknown): pass")
    assert session.run("def f(a: unknown): pass")["error"]["ename"] == "NameError"
    session.run("from __future__ import annotations")
    assert session.value("def f(a: unknown): pass\nf.__annotations__") == "{'a': 'unknown'}"
    session.ask("reset")
    assert session.run("def f(a: unknown): pass")["error"]["ename"] == "NameError"


def test_a_future_import_that_fails_to_compile_changes_nothing(session: Session) -> None:
    session.run("from __future__ import annotations\n1 +")
    assert session.run("def f(a: unknown): pass")["error"]["ename"] == "NameError"


LIBRARY = {
    "pickle a class": (
        "import pickle\nclass A:\n    def __init__(self): self.x = 5\npickle.loads(pickle.dumps(A())).x",
        "5",
    ),
    "pickle a function": ("import pickle\ndef f(): return 5\npickle.loads(pickle.dumps(f))()", "5"),
    "dataclasses": (
        "from dataclasses import *\n@dataclass(order=True)\n"
        "class P:\n    x: int\n    y: 'list[P]' = field(default_factory=list)\n"
        "P(1), asdict(P(2)), P(1) < P(2)",
        "(P(x=1, y=[]), {'x': 2, 'y': []}, True)",
    ),
    "slots and a frozen dataclass": (
        "from dataclasses import dataclass\n@dataclass(frozen=True, slots=True)\nclass P:\n    x: int = 5\nP()",
        "P(x=5)",
    ),
    "get_type_hints": (
        "import typing\nclass A: pass\ndef f(a: 'A') -> 'list[A]': pass\ntyping.get_type_hints(f)['a'] is A",
        "True",
    ),
    "NamedTuple": ("import typing\nclass N(typing.NamedTuple):\n    a: int = 5\nN()", "N(a=5)"),
    "enum": ("import enum, pickle\nclass E(enum.Enum):\n    A = 1\npickle.loads(pickle.dumps(E.A)) is E.A", "True"),
    "abstract classes": (
        "import abc\nclass A(abc.ABC):\n    @abc.abstractmethod\n    def f(self): ...\nA.__module__",
        "'__main__'",
    ),
    "a pool of forked processes": (
        "import multiprocessing\ndef double(n): return 2 * n\n"
        "with multiprocessing.get_context('fork').Pool(2) as pool: result = pool.map(double, range(5))\nresult",
        "[0, 2, 4, 6, 8]",
    ),
    "a process pool executor": (
        "import concurrent.futures, multiprocessing\ndef double(n): return 2 * n\n"
        "with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context('fork')) as pool:\n"
        "    result = list(pool.map(double, range(5)))\nresult",
        "[0, 2, 4, 6, 8]",
    ),
    "threads": (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(4) as pool: result = [*pool.map(abs, [-1, -2])]\nresult",
        "[1, 2]",
    ),
    "a forked child that is waited for": (
        "import os\npid = os.fork()\nif pid == 0: os._exit(7)\nos.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])",
        "7",
    ),
    "no child of ours": ("import os\ntry: os.waitpid(-1, os.WNOHANG)\nexcept ChildProcessError: n = 0\nn", "0"),
    "signal handlers": (
        "import signal\ngot = []\nsignal.signal(signal.SIGUSR1, lambda *a: got.append(1))\n"
        "signal.raise_signal(signal.SIGUSR1)\ngot",
        "[1]",
    ),
    "the main thread": ("import threading\nthreading.current_thread() is threading.main_thread()", "True"),
    "one thread": ("import threading\nthreading.active_count()", "1"),
    "doctest": ("import doctest\ndef f():\n    '''>>> 1 + 1\n    2\n    '''\ndoctest.testmod().attempted", "1"),
    "timeit": ("import timeit\ntimeit.timeit('first', globals=globals(), number=3) >= 0", "True"),
}


@pytest.mark.parametrize(("code", "result"), LIBRARY.values(), ids=LIBRARY.keys())
def test_what_a_session_defines_works_with_the_standard_library(session: Session, code: str, result: str) -> None:
    session.run("first = 41")
    answer = session.run(code)
    assert (answer["status"], answer["result"], answer["stderr"]) == ("ok", result, "")
    assert session.value("first + 1") == "42"


@pytest.mark.parametrize("end", ["", "raise SystemExit(3)", "1 / 0", "import sys; sys.exit()", "print('child')"])
def test_a_forked_child_that_leaves_its_request_does_not_go_on_as_the_session(session: Session, end: str) -> None:
    session.run("first = 41")
    code = f"import os\npid = os.fork()\nif pid == 0:\n    {end or 'pass'}\nelse:\n    status = os.waitpid(pid, 0)[1]"
    session.send(
        {"id": 1, "code": code}, {"id": 2, "code": "first + 1"}, {"id": 3, "code": "pid > 0, os.getpid() != pid"}
    )
    answers = [session.read() for _ in range(3)]
    assert [answer["id"] for answer in answers] == [1, 2, 3]
    assert [answer["result"] for answer in answers] == [None, "42", "(True, True)"]
    assert answers[0]["status"] == "ok", answers[0]["stderr"]
    rest, _, status = session.finish()
    assert (rest, status) == ([], 0)


def test_helpers_and_history_are_in_the_namespace(shared: Shared) -> None:
    assert shared.value("h is helpers, callable(h.run), callable(h.read)") == "(True, True, True)"
    assert shared.value("get_recent_executions(1)[0]['code']") is not None
    assert (
        shared.value("sorted(get_execution_stats())[0], type(get_failed_executions()).__name__")
        == "('backends', 'list')"
    )
    names = [variable["name"] for variable in shared.ask("variables")["variables"]]
    assert "first" in names and not {"h", "helpers", "_"} & set(names)


def test_a_users_own_helper_modules_are_loaded(start: Callable[..., Session], backend: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def twice(n):\n    '''Two of them.'''\n    return 2 * n\n")
    session = start(backend, env={"JSON_REPL_HELPERS": str(tmp_path / "mine.py")})
    assert session.value("h.twice(21)") == "42"


def test_helper_modules_that_fail_are_told_and_cost_nothing_else(
    start: Callable[..., Session], backend: str, tmp_path: Path
) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    session = start(backend, env={"JSON_REPL_HELPERS": f"{tmp_path / 'broken.py'}:{tmp_path / 'missing.py'}"})
    assert session.value("1 + 1") == "2"
    assert session.value("callable(h.read)") == "True"
