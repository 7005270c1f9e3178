"""Values and exceptions that misbehave when they are looked at: each is answered once, and the session lives."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from harness import Shared

needs_groups = pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups came with Python 3.11")


@pytest.fixture(scope="module", params=["local", "worker"])
def shared(request: pytest.FixtureRequest) -> Iterator[Shared]:
    """One session of each backend for all cases."""
    shared = Shared(request.param)
    yield shared
    shared.end()


def method(name: str, body: str, base: str = "") -> str:
    """Code whose value is an object with one method."""
    return f"class Odd({base}):\n    def {name}(self, *args): {body}\nOdd()"


RAISING = {
    "raises": ("raise ValueError('no')", "exception", "ValueError"),
    "raises an exception without text": ("raise Exception", "exception", "Exception"),
    "exits": ("raise SystemExit(3)", "exit", "SystemExit"),
    "calls exit()": ("exit()", "exit", "SystemExit"),
    "interrupts": ("raise KeyboardInterrupt", "interrupted", "KeyboardInterrupt"),
    "raises GeneratorExit": ("raise GeneratorExit", "exception", "GeneratorExit"),
    "recurses": ("return repr(self)", "exception", "RecursionError"),
    "returns None": ("return None", "exception", "TypeError"),
    "returns bytes": ("return b'x'", "exception", "TypeError"),
    "returns a number": ("return 5", "exception", "TypeError"),
}


@pytest.mark.parametrize(("body", "reason", "ename"), RAISING.values(), ids=RAISING.keys())
def test_a_repr_that_fails_is_the_error_of_its_request(shared: Shared, body: str, reason: str, ename: str) -> None:
    answer = shared.run(method("__repr__", body))
    assert (answer["status"], answer["reason"], answer["error"]["ename"]) == ("error", reason, ename)
    assert answer["result"] is None
    assert "json_repl" not in answer["stderr"]


ODD_VALUES = {
    "a subclass of str": ("class S(str): pass\n" + method("__repr__", "return S('text')"), "text"),
    "a str that lies": (
        """
            class S(str):
                def __str__(self): return S("told")
                def encode(self, *args): return 5
                def __len__(self): return -1
                def __eq__(self, other): raise RuntimeError
                __hash__ = None
            class Odd:
                def __repr__(self): return S("kept")
            Odd()
            """,
        ("kept", "told"),
    ),
    "a lone surrogate": ("'\\ud800'", "'\\ud800'"),
    "a lone surrogate as its repr": (method("__repr__", "return chr(0xd800) + 'x'"), "\\ud800x"),
    "NUL and control characters": (method("__repr__", "return chr(0) + chr(27) + chr(0x85)"), "\0\x1b\x85"),
    "line separators": (method("__repr__", "return 'a\\u2028\\u2029\\r\\nb'"), "a\u2028\u2029\r\nb"),
    "not a number": ("float('nan'), float('inf')", "(nan, inf)"),
    "a list that holds itself": ("a = [1]; a.append(a); a", "[1, [...]]"),
    "a dict that holds itself": ("d = {}; d[0] = d; d", "{0: {...}}"),
    "a repr that is replaced": ("class Odd: pass\nOdd.__repr__ = lambda self: 'new'\nOdd()", "new"),
    "a class whose metaclass has a repr": (
        "class M(type):\n    def __repr__(cls): return 'a class'\nclass C(metaclass=M): pass\nC",
        "a class",
    ),
    "attributes that raise": (method("__getattribute__", "1 / 0") + "\n0", "0"),
    "a class that lies": ("class Odd:\n    __class__ = property(lambda self: 1 / 0)\nid(Odd()) > 0", "True"),
    "truth, length and hash that raise": (
        "class Odd:\n    __bool__ = __len__ = __hash__ = __eq__ = lambda *args: 1 / 0\n"
        "    def __repr__(self): return 'odd'\nOdd()",
        "odd",
    ),
    "a repr that prints": ("class Odd:\n    def __repr__(self): print('in repr'); return 'odd'\nOdd()", "odd"),
    "a repr that runs another": ("class Odd:\n    def __repr__(self): return repr(first)\nOdd()", "41"),
    "a repr that deletes our names": (method("__repr__", "globals().pop('_', 0); return 'gone'"), "gone"),
}


@pytest.mark.parametrize(("code", "result"), ODD_VALUES.values(), ids=ODD_VALUES.keys())
def test_an_odd_value_is_shown_as_its_repr(shared: Shared, code: str, result: str | tuple[str, ...]) -> None:
    answer = shared.run(code)
    assert answer["status"] == "ok", answer["stderr"]
    assert answer["result"] in (result if isinstance(result, tuple) else (result,))


def test_a_huge_repr_is_complete_where_there_is_room_for_it(shared: Shared) -> None:
    answer = shared.run("'ab' * 5_000_000", max_output_bytes=20_000_000)
    assert answer["result"] == repr("ab" * 5_000_000)


def test_a_repr_of_too_many_digits_is_an_error_that_says_so(shared: Shared) -> None:
    answer = shared.run("10 ** 5000")
    assert answer["error"]["ename"] == "ValueError"
    assert "digits" in answer["error"]["evalue"]


ENDLESS = {
    "a repr": method("__repr__", "\n        while True: pass"),
    "the text of an exception": "class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E",
    "__del__ of a value that is dropped": "class D:\n    def __del__(self):\n        while True: pass\nD(); None",
    "__del__ of a local of a frame that raised": """
        class D:
            def __del__(self):
                while True: pass
        def f():
            d = D()
            raise ValueError
        f()
        """,
    "iteration": "class Odd(list):\n    def __iter__(self):\n        while True: yield 1\nsum(Odd())",
    "code that refuses the first interrupt": "try:\n    while True: pass\nexcept BaseException:\n    while True: pass",
}


@pytest.mark.parametrize("code", ENDLESS.values(), ids=ENDLESS.keys())
def test_what_is_endless_ends_at_its_time_limit(shared: Shared, code: str) -> None:
    answer = shared.run(code, timeout=0.2)
    assert (answer["status"], answer["reason"]) == ("error", "timeout"), answer["stderr"]


def test_an_object_that_is_dropped_after_a_silent_request_can_be_interrupted_too(shared: Shared) -> None:
    code = "class D:\n    def __del__(self):\n        while True: pass\nD()"
    assert shared.run(code, timeout=0.2, silent=True)["reason"] == "timeout"


EXCEPTIONS = {
    "its text raises": ("class E(Exception):\n    def __str__(self): raise ValueError\nraise E", "E"),
    "its text exits": ("class E(Exception):\n    def __str__(self): raise SystemExit\nraise E", "E"),
    "its text is no text": ("class E(Exception):\n    def __str__(self): return 5\nraise E", "E"),
    "its text is a str that lies": (
        "class S(str):\n    encode = None\n    __str__ = lambda self: self\nclass E(Exception):\n"
        "    def __str__(self): return S('t')\nraise E",
        "E",
    ),
    "its text is a lone surrogate": ("raise ValueError(chr(0xdc80))", "ValueError"),
    "its text is huge": ("raise ValueError('x' * 3_000_000)", "ValueError"),
    "its repr raises": ("class E(Exception):\n    def __repr__(self): 1 / 0\nraise E(1)", "E"),
    "its attributes raise": (
        "class E(Exception):\n    def __getattribute__(self, name): raise RuntimeError(name)\nraise E",
        "E",
    ),
    "its traceback lies": ("class E(Exception):\n    __traceback__ = property(lambda self: 1 / 0)\nraise E", "E"),
    "its traceback is no traceback": ("class E(Exception):\n    __traceback__ = 5\nraise E", "E"),
    "its cause lies": ("class E(Exception):\n    __cause__ = __context__ = 5\nraise E", "E"),
    "its class's name lies": (
        "class M(type):\n    __name__ = property(lambda cls: 1 / 0)\nclass E(Exception, metaclass=M): pass\nraise E",
        None,
    ),
    "its class's name is no text": (
        "class M(type):\n    __name__ = __qualname__ = __module__ = 5\nclass E(Exception, metaclass=M): pass\nraise E",
        None,
    ),
    "its class has no module": ("class E(Exception): pass\nE.__module__ = None\nraise E", "E"),
    "its class's name is a surrogate": ("raise type(chr(0xd800), (Exception,), {})", None),
    "it is its own cause": ("e = ValueError()\ne.__cause__ = e\nraise e", "ValueError"),
    "two cause each other": ("a, b = ValueError(), KeyError()\na.__cause__, b.__cause__ = b, a\nraise a", "ValueError"),
    "its context goes round": (
        "a, b = ValueError(), KeyError()\na.__context__, b.__context__ = b, a\nraise a",
        "ValueError",
    ),
    "its notes are no notes": ("e = ValueError(1)\ne.__notes__ = 5\nraise e", "ValueError"),
    "its notes raise": (
        "class N:\n    def __str__(self): raise SystemExit\ne = ValueError(1)\ne.__notes__ = [N(), 3]\nraise e",
        "ValueError",
    ),
    "a SyntaxError with odd fields": ("raise SyntaxError('m', ('f', 'x', [], 5))", "SyntaxError"),
    "a SyntaxError with odd numbers": ("raise SyntaxError('m', ('f', -5, -7, 'text'))", "SyntaxError"),
    "a SyntaxError without fields": ("raise SyntaxError", "SyntaxError"),
    "a NameError with an odd name": ("raise NameError(name=[])", "NameError"),
    "an AttributeError of a hostile object": (
        "class O:\n    def __dir__(self): raise SystemExit\nraise AttributeError('no', name='x', obj=O())",
        "AttributeError",
    ),
    "an ImportError with an odd name": ("raise ImportError(name=3, path=[])", "ImportError"),
    "an OSError with odd fields": ("raise OSError([], {}, 5)", "OSError"),
    "a UnicodeDecodeError with odd bounds": ("raise UnicodeDecodeError('x', b'', 5, -7, 'y')", "UnicodeDecodeError"),
    "a class is no exception": ("raise 5", "TypeError"),
    "it cannot be made": ("class E(Exception):\n    def __init__(self): 1 / 0\nraise E", "ZeroDivisionError"),
    "its hash raises": ("class E(Exception):\n    __hash__ = __eq__ = lambda *a: 1 / 0\nraise E", "E"),
    "a function's name lies": (
        "def f(): 1 / 0\nf.__code__ = f.__code__.replace(co_name='x' * 100_000, co_filename='\\ud800')\nf()",
        "ZeroDivisionError",
    ),
}


@pytest.mark.parametrize(("code", "ename"), EXCEPTIONS.values(), ids=EXCEPTIONS.keys())
def test_an_odd_exception_is_answered(shared: Shared, code: str, ename: str | None) -> None:
    answer = shared.run(code)
    assert (answer["status"], answer["reason"]) == ("error", "exception")
    assert ename is None or answer["error"]["ename"] == ename
    assert all(isinstance(answer["error"][key], str) for key in ("ename", "evalue"))
    assert answer["error"]["ename"] in answer["stderr"]


def test_an_exception_whose_text_interrupts_is_answered(shared: Shared) -> None:
    answer = shared.run("class E(Exception):\n    def __str__(self): raise KeyboardInterrupt\nraise E")
    assert answer["status"] == "error"
    assert answer["error"]["ename"] == "E"


def test_a_chain_of_thousands_of_exceptions_is_told(shared: Shared) -> None:
    code = """
        error = None
        for number in range(3000):
            try: raise ValueError(number) from error
            except ValueError as latest: error = latest
        raise error
        """
    answer = shared.run(code)
    assert (answer["error"]["ename"], answer["error"]["evalue"]) == ("ValueError", "2999")
    assert "raise error\n" in answer["stderr"]


@needs_groups
@pytest.mark.parametrize(
    "code",
    {
        "wide": "raise ExceptionGroup('wide', [ValueError(n) for n in range(20_000)])",
        "deep": "e = ValueError(1)\nfor n in range(2000): e = ExceptionGroup('deep', [e])\nraise e",
        "of itself": "e = ExceptionGroup('g', [ValueError(1)])\ne.exceptions[0].__cause__ = e\nraise e",
    }.values(),
    ids=["wide", "deep", "of itself"],
)
def test_an_odd_group_is_answered(shared: Shared, code: str) -> None:
    answer = shared.run(code)
    assert answer["error"]["ename"] == "ExceptionGroup"
    assert "raise e" in answer["stderr"] or "raise ExceptionGroup" in answer["stderr"]


def test_a_deep_recursion_shows_its_lines_once(shared: Shared) -> None:
    answer = shared.run("def f(n): return f(n + 1)\nf(0)")
    assert answer["error"]["ename"] == "RecursionError"
    assert "[Previous line repeated" in answer["stderr"]
    assert len(answer["stderr"]) < 2000


@pytest.mark.parametrize(
    "body", ["raise ValueError('late')", "raise SystemExit", "raise KeyboardInterrupt", "print(1 / 0)"]
)
def test_a_finalizer_that_raises_is_told_on_stderr_and_stops_nothing(shared: Shared, body: str) -> None:
    answer = shared.run(f"class D:\n    def __del__(self): {body}\nd = D()\ndel d\n'went on'")
    assert answer["result"] == "'went on'"
    assert "Exception ignored in" in answer["stderr"]


def test_a_finalizer_of_a_failed_frame_prints_into_the_same_answer(shared: Shared) -> None:
    code = """
        class D:
            def __del__(self): print("finalized")
        def f():
            d = D()
            raise ValueError
        f()
        """
    answer = shared.run(code)
    assert (answer["error"]["ename"], answer["stdout"]) == ("ValueError", "finalized\n")


def test_variables_are_told_of_hostile_values_too(shared: Shared) -> None:
    code = """
        class M(type):
            __name__ = __module__ = property(lambda cls: 1 / 0)
        class Hostile(metaclass=M):
            __repr__ = __str__ = __len__ = __eq__ = __getattribute__ = lambda *args: 1 / 0
            __hash__ = None
        hostile = Hostile()
        """
    shared.run(code)
    answer = shared.ask("variables")
    assert "hostile" in [variable["name"] for variable in answer["variables"]]
    shared.run("del hostile, Hostile, M")
