"""Source text of any shape: run as CPython runs it, or refused with an error; the session lives."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from harness import Shared


@pytest.fixture(scope="module", params=["local", "worker"])
def shared(request: pytest.FixtureRequest) -> Iterator[Shared]:
    """One session of each backend for all cases."""
    shared = Shared(request.param)
    yield shared
    shared.end()


VALUES = {
    "nothing": ("", None),
    "blank lines": ("\n\n   \n\t\n", None),
    "only a comment": ("# nothing", None),
    "a comment behind the value": ("5 # five", "5"),
    "a comment below the value": ("5\n# five\n\n", "5"),
    "a semicolon behind the value": ("5;", "5"),
    "several on a line": ("a = 5; b = 6; a * b", "30"),
    "form feeds": ("\f5\f\n\f", "5"),
    "CRLF": ("if True:\r\n    a = 5\r\na\r\n", "5"),
    "CR": ("if True:\r    a = 5\ra\r", "5"),
    "CRLF in a string": ("'''a\r\nb'''", r"'a\nb'"),
    "tabs": ("if True:\n\ta = 5\n\tif a:\n\t\ta = 6\na", "6"),
    "a coding line": ("# -*- coding: latin-1 -*-\n'é'", "'é'"),
    "a backslash at a line's end": ("5 + \\\n6", "11"),
    "names in other scripts": ("größe = 5; 変数 = größe; 変数", "5"),
    "names that normalise": ("ﬁ = 5; fi", "5"),
    "emoji": ("'🐍' * 2", "'🐍🐍'"),
    "an ellipsis": ("...", "Ellipsis"),
    "a huge integer": (f"{'9' * 4000} % 10", "9"),
    "a huge hexadecimal integer": (f"0x{'f' * 1_000_000} % 16", "15"),
    "a line of a megabyte": (f"len({'x' * 1_000_000!r})", "1000000"),
    "a comment of a megabyte": (f"5 #{'x' * 1_000_000}", "5"),
    "20,000 lines": ("a = 0\n" + "a += 1\n" * 20_000 + "a", "20000"),
    "20,000 items": (f"len([{'0, ' * 20_000}])", "20000"),
    "90 levels of blocks": ("".join(" " * n + "if 1:\n" for n in range(90)) + " " * 90 + "a = 5\na", "5"),
    "80 nested parentheses": ("(" * 80 + "5" + ")" * 80, "5"),
    "a sum of 500 terms": ("+".join("1" * 500), "500"),
    "a chain of 500 calls": ("''" + ".strip()" * 500, "''"),
    "500 elifs": ("a = 1\nif a == 0: pass\n" + "elif a == 9: pass\n" * 500 + "a", "1"),
    "a docstring alone": ("'''doc'''", "'doc'"),
    "global": ("global first\nfirst", "41"),
    "an annotation without a value": ("a: int\n__annotations__['a'].__name__", "'int'"),
    "a class in one line": ("class A: x = 5\nA.x", "5"),
    "a decorator": ("def twice(f): return lambda: 2 * f()\n@twice\ndef f(): return 5\nf()", "10"),
    "match": ("match 5:\n    case n: a = n\na", "5"),
    "a walrus": ("(a := 5)", "5"),
    "a starred value": ("*range(3),", "(0, 1, 2)"),
}


@pytest.mark.parametrize(("code", "result"), VALUES.values(), ids=VALUES.keys())
def test_odd_source_runs_as_in_python(shared: Shared, code: str, result: str | None) -> None:
    answer = shared.run(code)
    assert (answer["status"], answer["result"]) == ("ok", result), answer["stderr"]


REFUSED = {
    "a NUL": ("a = 5\0", {"SyntaxError", "ValueError"}),
    "a lone surrogate in a string": ("'\ud800'", {"UnicodeEncodeError", "SyntaxError"}),
    "a lone surrogate in a name": ("a\udc80 = 1", {"UnicodeEncodeError", "SyntaxError"}),
    "an integer of too many digits": ("9" * 5000, {"SyntaxError"}),
    "an unclosed parenthesis": ("(", {"SyntaxError"}),
    "an unclosed string": ("'''", {"SyntaxError"}),
    "a wrong indentation": ("a = 1\n  b = 2", {"IndentationError"}),
    "tabs mixed with spaces": ("if 1:\n        a = 1\n\tb = 2", {"TabError"}),
    "return outside a function": ("return 5", {"SyntaxError"}),
    "yield outside a function": ("yield 5", {"SyntaxError"}),
    "a byte that is no letter": ("a = 5 € 6", {"SyntaxError"}),
    "a zero-width space": ("\u200b5", {"SyntaxError"}),
    "an unknown encoding is a comment": ("# coding: nonsense\n1 +", {"SyntaxError"}),
    "a late future import": ("a = 1\nfrom __future__ import annotations", {"SyntaxError"}),
    "an unknown future import": ("from __future__ import teleport", {"SyntaxError"}),
}


@pytest.mark.parametrize(("code", "enames"), REFUSED.values(), ids=REFUSED.keys())
def test_source_that_is_no_python_is_refused_without_a_frame_of_ours(
    shared: Shared, code: str, enames: set[str]
) -> None:
    answer = shared.run(code)
    assert answer["reason"] == "exception"
    assert answer["error"]["ename"] in enames
    assert answer["error"]["ename"] in answer["stderr"]
    assert "json_repl" not in answer["stderr"] and "Traceback" not in answer["stderr"]


MONSTROUS = {
    "a byte order mark": "\ufeff5",
    "100,000 nested parentheses": "(" * 100_000 + "5" + ")" * 100_000,
    "100,000 open parentheses": "(" * 100_000,
    "100,000 nested lists": "[" * 100_000 + "]" * 100_000,
    "100,000 unary minuses": "-" * 100_000 + "5",
    "100,000 nots": "not " * 100_000 + "5",
    "a sum of 100,000 terms": "+".join("1" * 100_000),
    "a power of 100,000 terms": "**".join("1" * 100_000),
    "a comparison of 100,000 terms": "<".join("1" * 100_000),
    "a chain of 100,000 calls": "a" + "()" * 100_000,
    "a chain of 100,000 attributes": "a" + ".b" * 100_000,
    "100,000 nested lambdas": "lambda: " * 100_000 + "5",
    "a conditional of 100,000 branches": "1 if 0 else " * 100_000 + "5",
    "2,000 levels of blocks": "".join(" " * n + "if 1:\n" for n in range(2_000)) + " " * 2_000 + "5",
    "100,000 elifs": "if 0: pass\n" + "elif 0: pass\n" * 100_000,
    "100,000 decorators": "@print\n" * 100_000 + "def f(): pass",
    "2,000 nested functions": "".join(" " * n + "def f():\n" for n in range(2_000)) + " " * 2_000 + "5",
    "an f-string in f-strings": "f'{" * 500 + "5" + "}'" * 500,
    "a backslash for every line": "\\\n" * 100_000 + "5",
    "a target of 100,000 names": ",".join(f"a{n}" for n in range(100_000)) + " = range(100_000)",
    "a subscript of 100,000": "a" + "[0]" * 100_000,
}


@pytest.mark.parametrize("code", MONSTROUS.values(), ids=MONSTROUS.keys())
def test_monstrous_source_ends_in_an_answer(shared: Shared, code: str) -> None:
    answer = shared.run(code, timeout=20)
    assert answer["reason"] in (None, "exception"), answer["stderr"]
    assert len(answer["stderr"]) < 1_000_000


@pytest.mark.parametrize("terms", [1000, 2000, 3000])
def test_a_sum_that_plain_python_takes_is_taken(shared: Shared, terms: int) -> None:
    code = "+".join(["first"] * terms)
    try:
        compile(code, "<plain>", "exec")
    except RecursionError:
        pytest.skip("this Python refuses it itself")
    assert shared.value(code) == str(41 * terms)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        pytest.param(
            r"'\d'",
            "invalid escape sequence",
            marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="silent before"),
        ),
        ("5 is 5", '"is" with'),
        ("assert (5, 'always')", "assertion is always true"),
        ("import warnings; warnings.warn('look out')", "UserWarning: look out"),
        ("import warnings; warnings.warn('old', DeprecationWarning)", "DeprecationWarning: old"),
        ("async def f(): pass\nf(); None", "was never awaited"),
    ],
)
def test_a_warning_is_on_stderr_of_a_request_that_succeeds(shared: Shared, code: str, said: str) -> None:
    answer = shared.run(code)
    assert answer["status"] == "ok"
    assert said in answer["stderr"]


def test_a_warning_shows_the_line_that_caused_it(shared: Shared) -> None:
    answer = shared.run("import warnings\n\nwarnings.warn('look here')")
    assert ":3: UserWarning: look here" in answer["stderr"]
    assert "warnings.warn('look here')" in answer["stderr"].splitlines()[-1]
