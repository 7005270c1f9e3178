"""Errors show the user's own lines, and no line of ours."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import HOME, Session, Shared


@pytest.fixture(scope="module", params=["local", "worker"])
def shared(request: pytest.FixtureRequest) -> Iterator[Shared]:
    """One session of each backend for all cheap cases."""
    shared = Shared(request.param)
    yield shared
    shared.end()


def lines_of(answer: dict[str, Any]) -> list[str]:
    """The lines of a traceback, without those that only underline."""
    return [line.strip() for line in answer["stderr"].splitlines() if set(line.strip()) - set("^~ ")]


def test_a_traceback_is_that_of_a_repl(session: Session) -> None:
    answer = session.run("a = 0\n1 / a")
    assert lines_of(answer) == [
        "Traceback (most recent call last):",
        'File "<python-input-1>", line 2, in <module>',
        "1 / a",
        "ZeroDivisionError: division by zero",
    ]


def test_a_function_of_an_earlier_request_shows_its_own_line(session: Session) -> None:
    session.run("def f():\n    return g()\n\ndef g():\n    return 1 / 0  # here")
    session.run("x = 1")
    assert lines_of(session.run("f()")) == [
        "Traceback (most recent call last):",
        'File "<python-input-3>", line 1, in <module>',
        "f()",
        'File "<python-input-1>", line 2, in f',
        "return g()",
        'File "<python-input-1>", line 5, in g',
        "return 1 / 0  # here",
        "ZeroDivisionError: division by zero",
    ]


def test_each_version_of_a_function_shows_its_own_line(session: Session) -> None:
    session.run("def f(): return 1 / 0  # old")
    session.run("old = f")
    session.run("def f(): return 1 / 0  # new")
    assert "# old" in session.run("old()")["stderr"]
    assert "# new" in session.run("f()")["stderr"]


def test_the_same_text_again_shows_its_lines_again(session: Session) -> None:
    answers = [session.run("a = 0\n1 / a  # same") for _ in range(3)]
    assert all("1 / a  # same" in answer["stderr"] for answer in answers)


def test_lines_are_there_after_their_cache_was_cleared(session: Session) -> None:
    session.run("def f(): return 1 / 0  # here")
    session.run("import linecache; linecache.clearcache(); linecache.checkcache()")
    assert "# here" in session.run("f()")["stderr"]


def test_a_file_name_of_the_clients_own_is_shown(session: Session) -> None:
    first = session.run("1 / 0  # here", filename="cell one.py")
    assert 'File "cell one.py", line 1, in <module>' in first["stderr"] and "# here" in first["stderr"]
    second = session.run("1 / 0  # here", filename="cell two.py")
    assert 'File "cell two.py", line 1, in <module>' in second["stderr"]
    assert "cell one" not in second["stderr"]


CASES = {
    "a class's body": ("class A:\n    x = 1 / 0  # here", "ZeroDivisionError"),
    "a method": ("class A:\n    def f(self):\n        return 1 / 0  # here\nA().f()", "ZeroDivisionError"),
    "a comprehension": ("[1 / n for n in [0]]  # here", "ZeroDivisionError"),
    "a generator": ("def g():\n    yield 1 / 0  # here\nlist(g())", "ZeroDivisionError"),
    "a lambda": ("f = lambda: 1 / 0  # here\nf()", "ZeroDivisionError"),
    "a repr": ("class A:\n    def __repr__(self):\n        return 1 / 0  # here\nA()", "ZeroDivisionError"),
    "awaited code": ("async def f():\n    1 / 0  # here\nawait f()", "ZeroDivisionError"),
    "a task": (
        "import asyncio\nasync def f():\n    1 / 0  # here\nawait asyncio.create_task(f())",
        "ZeroDivisionError",
    ),
    "code in a thread that is joined": (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "def f():\n    1 / 0  # here\nThreadPoolExecutor().submit(f).result()",
        "ZeroDivisionError",
    ),
    "the standard library": ("import json\njson.loads('[')  # here", "JSONDecodeError"),
    "asyncio.run": ("import asyncio\nasync def f():\n    1 / 0  # here\nasyncio.run(f())", "ZeroDivisionError"),
    "a helper": ("h.read('/no/such/file')  # here", None),
    "input": ("input()  # here", "EOFError"),
    "a statement over lines": ("a = (1 +\n     1 / 0)  # here", "ZeroDivisionError"),
    "SystemExit": ("def f():\n    raise SystemExit  # here\nf()", "SystemExit"),
    "an interrupt": ("raise KeyboardInterrupt  # here", "KeyboardInterrupt"),
}


@pytest.mark.parametrize(("code", "ename"), CASES.values(), ids=CASES.keys())
def test_the_line_that_raised_is_shown_and_no_frame_of_ours(shared: Shared, code: str, ename: str | None) -> None:
    answer = shared.run(code)
    assert ename is None or answer["error"]["ename"] == ename
    assert "# here" in answer["stderr"]
    assert str(HOME / "json_repl") not in answer["stderr"] and "subprocess_worker" not in answer["stderr"]
    assert str(HOME / "helpers") not in answer["stderr"]
    assert answer["stderr"].startswith("Traceback (most recent call last):\n")


def test_chained_exceptions_show_each_with_its_lines(shared: Shared) -> None:
    code = """
        try:
            try: 1 / 0  # first
            except ZeroDivisionError as error: raise KeyError("k") from error  # second
        except KeyError:
            raise ValueError("v")  # third
        """
    text = shared.run(code)["stderr"]
    parts = [
        "# first",
        "ZeroDivisionError",
        "direct cause",
        "# second",
        "KeyError: 'k'",
        "During handling",
        "# third",
        "ValueError: v",
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert "During" not in shared.run("try: 1 / 0\nexcept ZeroDivisionError: raise KeyError from None")["stderr"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="groups and notes came with Python 3.11")
def test_exception_groups_and_notes_are_shown_whole(shared: Shared) -> None:
    code = """
        def f():
            raise OSError("deep")  # here
        errors = [ValueError("one"), KeyError("two")]
        try: f()
        except OSError as error:
            error.add_note("a note")
            errors.append(error)
        raise ExceptionGroup("several", errors)
        """
    answer = shared.run(code)
    assert answer["error"]["ename"] == "ExceptionGroup"
    assert answer["error"]["evalue"] == "several (3 sub-exceptions)"
    for part in ("ValueError: one", "KeyError: 'two'", "OSError: deep", "a note", "# here"):
        assert part in answer["stderr"]


SYNTAX = {
    "in the middle": ("a = 5\nb = = 6\nc = 7", 2, "b = = 6", "SyntaxError"),
    "at the end": ("a = (5", 1, "a = (5", "SyntaxError"),
    "a missing block": ("if True:\nx = 5", 2, "x = 5", "IndentationError"),
    "found by the compiler": ("x = 1\nreturn x", 2, "return x", "SyntaxError"),
    "await in a plain function": ("def f():\n    await g()", 2, "await g()", "SyntaxError"),
    "an f-string": ("x = f'{5 +}'", 1, "", "SyntaxError"),
}


@pytest.mark.parametrize(("code", "number", "line", "ename"), SYNTAX.values(), ids=SYNTAX.keys())
def test_a_syntax_error_shows_its_line_and_nothing_above(
    shared: Shared, code: str, number: int, line: str, ename: str
) -> None:
    answer = shared.run(code)
    assert answer["error"]["ename"] == ename
    first, *_, last = lines_of(answer)
    assert first.startswith('File "<python-input-') and first.endswith(f", line {number}")
    assert line in answer["stderr"]
    assert last.startswith(f"{ename}: ")


def test_a_syntax_error_of_code_that_runs_shows_both_places(shared: Shared) -> None:
    text = shared.run("def f(): exec('a = = 5')  # here\nf()")["stderr"]
    assert "# here" in text and "a = = 5" in text


@pytest.mark.skipif(sys.version_info < (3, 12), reason="before, only the interpreter itself could")
def test_names_that_were_meant_are_suggested_as_in_python(shared: Shared) -> None:
    shared.run("number = 5")
    assert "Did you mean: 'number'?" in shared.run("numbr")["stderr"]


SOURCES = {
    "a function": ("def f():\n    return 5  # {0}\n", "f"),
    "a decorated function": ("import functools\n@functools.cache\ndef f():\n    return 5  # {0}\n", "f"),
    "a lambda": ("f = lambda: 5  # {0}\n", "f"),
    "a class": ("class f:\n    x = 5  # {0}\n", "f"),
    "a class with methods": ("class f:\n    def g(self):\n        return 5  # {0}\n", "f"),
    "a method": ("class A:\n    def f(self):\n        return 5  # {0}\n", "A.f"),
    "a nested class": ("class A:\n    class f:\n        x = 5  # {0}\n", "A.f"),
    "a dataclass": ("from dataclasses import dataclass\n@dataclass\nclass f:\n    x: int = 5  # {0}\n", "f"),
    "an async function": ("async def f():\n    return 5  # {0}\n", "f"),
    "an enum": ("import enum\nclass f(enum.Enum):\n    A = 5  # {0}\n", "f"),
}


@pytest.mark.parametrize(("code", "name"), SOURCES.values(), ids=SOURCES.keys())
def test_the_source_of_what_was_defined_can_be_had_also_after_redefinition(
    shared: Shared, code: str, name: str
) -> None:
    for version in ("old", "new"):
        shared.run(code.format(version))
        shared.run("another = 1")
        shown = shared.value(f"import inspect\ninspect.getsource({name})")
        assert shown is not None and f"# {version}" in shown


def test_the_source_of_an_old_class_is_its_own(shared: Shared) -> None:
    shared.run("class A:\n    def f(self): return 1  # old")
    shared.run("Old = A")
    shared.run("class A:\n    def f(self): return 1  # new")
    assert "# old" in shared.value("import inspect\ninspect.getsource(Old)")


def test_a_warning_from_a_function_of_an_earlier_request_shows_its_line(shared: Shared) -> None:
    shared.run("import warnings\ndef warn():\n    warnings.warn('look')  # here")
    assert "# here" in shared.run("warn()")["stderr"]


def test_the_traceback_module_sees_the_lines_too(shared: Shared) -> None:
    code = "try: 1 / 0  # here\nexcept ZeroDivisionError: text = traceback.format_exc()\n'# here' in text"
    assert shared.value(f"import traceback\n{code}") == "True"


def test_an_error_in_an_imported_file_shows_that_file(
    start: Callable[..., Session], backend: str, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text("def f():\n    return 1 / 0  # in mine\n")
    session = start(backend, cwd=tmp_path)
    answer = session.run("import mine\nmine.f()")
    assert "# in mine" in answer["stderr"] and f"{os.sep}mine.py" in answer["stderr"]


def test_an_uncaught_error_in_a_thread_is_told_on_stderr(shared: Shared) -> None:
    code = """
        import threading
        def f():
            1 / 0
        thread = threading.Thread(target=f)
        thread.start()
        thread.join()
        """
    answer = shared.run(code)
    assert answer["status"] == "ok"
    assert 'File "<python-input-' in answer["stderr"] and "ZeroDivisionError" in answer["stderr"]
