"""`complete` and `is_complete`: what fits where, in both backends; jedi joins in where it is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Session

Start = Callable[..., Session]

SETUP = """
import collections, functools, os
text, number, grüße, 名前 = "hello", 42, 1, 2
data = {"alpha": 1, "al'pha": 2, "beta": {"gamma": [1, "x"]}, 3: 4, b"raw": 5, (1, 2): 6, None: 7, "ü": 8}
things = [1, "a", {"key": 2}]
Point = collections.namedtuple("Point", "x y")
point = Point(1, 2)
class Shape:
    __slots__ = ("width", "empty")
    sides = 4
    def __init__(self, width, *, height=4): self.width = width
    def area(self, scale: int = 2) -> str: return str(scale)
    @property
    def doubled(self) -> int: return 2
    @classmethod
    def square(cls, side): pass
    @staticmethod
    def round(radius): pass
    def __private(self): pass
class Square(Shape): pass
shape = Square(3)
def measure(first, second=(1, 2), *rest, third="c", **more): return first
partly = functools.partial(measure, 1)
def wrapper(function):
    @functools.wraps(function)
    def inner(*args, **kwargs): return function(*args, **kwargs)
    return inner
wrapped = wrapper(measure)
_private = 1
"""


@pytest.fixture(scope="module", params=["local", "worker"])
def looked_at(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """One session of each backend for all cases, in a folder with some files."""
    folder = tmp_path_factory.mktemp("looked_at")
    (folder / "folder").mkdir()
    for name in ("one.txt", ".hidden", "it's.txt", "folder/two words.csv", "folder/three.py", "my_module.py"):
        (folder / name).write_text("class Inner: pass\ndef outer(): pass\nvalue = 1\nimport os\n")
    (folder / "my_package").mkdir()
    (folder / "my_package" / "__init__.py").touch()
    (folder / "my_package" / "part.py").touch()
    session = Session(request.param, cwd=folder)
    assert session.run(SETUP)["stderr"] == ""
    yield session
    session.end()


def _complete(session: Session, code: str) -> list[str]:
    """What the code before the `|`, or its end, can become."""
    at = code.find("|")
    given = {"code": code} if at < 0 else {"code": code[:at] + code[at + 1 :], "cursor_pos": at}
    answer = session.ask("complete", **given)
    assert answer["status"] == "ok" and not answer["stale"] and answer["note"] is None, answer
    before = given["code"][: given.get("cursor_pos")]  # type: ignore[misc]
    assert answer["cursor_end"] == len(before)
    return [before[: answer["cursor_start"]] + match for match in answer["matches"]]


# What must be among the matches, and what must not.
CASES: dict[str, tuple[list[str], list[str]]] = {
    "tex": (["text"], ["tex", "number"]),
    "tex|t + 1": (["text"], []),
    "gr": (["grüße"], []),
    "名": (["名前"], []),
    "'名前' + te": (["'名前' + text"], []),
    "print(num": (["print(number"], []),
    "impo": (["import"], []),
    "whi": (["while"], []),
    "_pri": (["_private"], []),
    "": (["text", "print"], ["_private", "__name__", "__builtins__", "while"]),
    # attributes
    "text.up": (["text.upper"], ["text.lower"]),
    "text.": (["text.upper", "text.split"], ["text.__len__"]),
    "text.__le": (["text.__len__"], []),
    "os.path.jo": (["os.path.join"], []),
    "os.path. jo": (["os.path. join"], []),
    "shape.": (["shape.area", "shape.sides", "shape.doubled", "shape.width", "shape.square"], ["shape.__init__"]),
    "Shape.squ": (["Shape.square"], []),
    "point.": (["point.x", "point.count"], []),
    "number.bit": (["number.bit_length"], []),
    "(1).bit": (["(1).bit_length"], []),
    "'a'.up": (["'a'.upper"], []),
    "[].app": (["[].append"], []),
    "{1: 2}.it": (["{1: 2}.items"], []),
    "things[1].up": (["things[1].upper"], []),
    "things[-1].ke": (["things[-1].keys"], []),
    "data['beta'].ke": (["data['beta'].keys"], []),
    "data['beta']['gamma'][1].up": (["data['beta']['gamma'][1].upper"], []),
    "shape.doubled.bit_l": (["shape.doubled.bit_length"], []),
    "shape.area().up": (["shape.area().upper"], []),
    "Shape(1).ar": (["Shape(1).area"], []),
    "x = 1\nshape.ar": (["x = 1\nshape.area"], []),
    "(text\n  .up": (["(text\n  .upper"], []),
    "missing.": ([], ["missing.text"]),
    "missing.a.b": ([], []),
    "shape.area.__sel": (["shape.area.__self__"], []),
    "1.5": ([], ["1.5"]),
    # keys
    "data['": (["data['alpha", "data['al\\'pha", "data['beta", "data['ü"], ["data['raw", "data['3"]),
    'data["al': (['data["alpha', "data[\"al'pha"], ['data["beta']),
    "data[b'": (["data[b'raw"], ["data[b'alpha"]),
    "data[": (["data['alpha'", "data[3", "data[(1, 2)"], []),
    "data['beta']['": (["data['beta']['gamma"], []),
    "things[2]['": (["things[2]['key"], []),
    "print(data['be": (["print(data['beta"], []),
    "f'{data[\"al": (["f'{data[\"alpha"], []),
    # imports
    "import os.pa": (["import os.path"], []),
    "import colle": (["import collections"], []),
    "import sys, colle": (["import sys, collections"], []),
    "import my_": (["import my_module", "import my_package"], []),
    "import my_package.": (["import my_package.part"], []),
    "from my_package import ": (["from my_package import part"], []),
    "from my_module import ": (["from my_module import " + name for name in ("Inner", "outer", "value", "os")], []),
    "from my_module import outer, va": (["from my_module import outer, value"], []),
    "from os.path import jo": (["from os.path import join"], []),
    "from xml.": (["from xml.dom"], []),
    "from os i": (["from os import"], []),
    "import os a": (["import os as"], []),
    "from nowhere import ": ([], []),
    "from . import ": ([], []),
    # arguments
    "measure(fir": (["measure(first="], []),
    "measure(1, ": (["measure(1, third=", "measure(1, text"], []),
    "measure(first=1, ": (["measure(first=1, second="], ["measure(first=1, first="]),
    "measure(first=num": (["measure(first=number"], []),
    "measure(1 + sec": ([], ["measure(1 + second="]),
    "measure(\n    thi": (["measure(\n    third=", "measure(\n    things"], []),
    "wrapped(thi": (["wrapped(third="], []),
    "partly(sec": (["partly(second="], []),
    "partly(fir": ([], ["partly(first="]),
    "Shape(": (["Shape(width=", "Shape(height="], ["Shape(self="]),
    "shape.area(": (["shape.area(scale="], ["shape.area(self="]),
    "Shape.square(": (["Shape.square(side="], ["Shape.square(cls="]),
    "Point(": (["Point(x="], ["Point(_cls="]),
    "sorted(text, re": (["sorted(text, reverse="], []),
    "def measure(fir": ([], ["def measure(first="]),
    # files
    "open('": (["open('one.txt", "open('folder/", "open('it\\'s.txt"], ["open('.hidden"]),
    "open('.h": (["open('.hidden"], []),
    'open("it': (["open(\"it's.txt"], []),
    "open('folder/": (["open('folder/three.py", "open('folder/two words.csv"], []),
    "open('folder/two w": (["open('folder/two words.csv"], []),
    "open('nowhere/": ([], []),
    # where it is nothing
    "# tex": ([], ["# text"]),
    "x = 1  # tex": ([], []),
    "'tex": ([], ["'text"]),
    "'''\ntex": ([], ["'''\ntext"]),
    "def tex": ([], ["def text"]),
    "import os as tex": ([], ["import os as text"]),
    # what cannot be parsed before the cursor
    "x = (1,\ny = [\nimport js": (["x = (1,\ny = [\nimport json"], []),
    "if True:\n    print(te": (["if True:\n    print(text"], []),
    "print('unfinished)\ntext.up": (["print('unfinished)\ntext.upper"], []),
    "] ) } text.up": (["] ) } text.upper"], []),
    "$ ? text.up": (["$ ? text.upper"], []),
    "x = 1;te": (["x = 1;text"], []),
    "f'{text.up": (["f'{text.upper"], []),
    "f'{{te": ([], ["f'{{text"]),
    "f'{number} {te": (["f'{number} {text"], []),
    "lambda: te": (["lambda: text"], []),
    "\\\ntex": (["\\\ntext"], []),
    "\x00tex": (["\x00text"], []),
}


@pytest.mark.parametrize("code", CASES)
def test_what_fits_before_the_cursor_is_told(looked_at: Session, code: str) -> None:
    wanted, unwanted = CASES[code]
    found = _complete(looked_at, code)
    assert [text for text in wanted if text not in found] == [], found[:20]
    assert [text for text in unwanted if text in found] == []
    assert len(set(found)) == len(found)


def test_arguments_come_first_then_the_users_names_and_private_ones_last(looked_at: Session) -> None:
    matches = looked_at.ask("complete", code="measure(")["matches"]
    places = [matches.index(name) for name in ("first=", "text", "abs")]
    assert places == sorted(places)
    attributes = looked_at.ask("complete", code="point.")["matches"]
    assert attributes.index("y") < attributes.index("_replace")


def test_each_match_is_told_with_its_type_and_what_it_takes(looked_at: Session) -> None:
    answer = looked_at.ask("complete", code="x = measu")
    (told,) = [row for row in answer["metadata"]["_jupyter_types_experimental"] if row["text"] == "measure"]
    assert told == {
        "text": "measure",
        "type": "function",
        "start": 4,
        "end": 9,
        "signature": "(first, second=(1, 2), *rest, third='c', **more)",
    }
    kinds = {
        row["text"]: row["type"]
        for code in ("", "shape.", "import my_", "measure(", "data['", "open('f", "whi")
        for row in looked_at.ask("complete", code=code)["metadata"]["_jupyter_types_experimental"]
    }
    wanted = {
        "text": "instance", "os": "module", "Shape": "class", "area": "function", "doubled": "property",
        "my_module": "module", "first=": "param", "alpha": "key", "folder/": "path", "while": "keyword",
    }  # fmt: skip
    assert {name: kinds[name] for name in wanted} == wanted


def test_positions_are_code_points(looked_at: Session) -> None:
    answer = looked_at.ask("complete", code="'😀' + tex + 1", cursor_pos=9)
    assert (answer["matches"], answer["cursor_start"], answer["cursor_end"]) == (["text"], 6, 9)


@pytest.mark.parametrize("method", ["complete", "inspect"])
def test_a_cursor_behind_the_end_is_refused_with_the_length(looked_at: Session, method: str) -> None:
    error = looked_at.ask(method, code="'😀'", cursor_pos=4)["error"]
    assert error["code"] == -32602 and "3 code points" in error["message"]


def test_more_than_a_thousand_matches_are_counted_and_left_off(session: Session) -> None:
    session.run("globals().update((f'name_{n:05}', n) for n in range(5000))")
    answer = session.ask("complete", code="name_")
    assert (len(answer["matches"]), answer["left_off"], answer["matches"][0]) == (1000, 4000, "name_00000")


def test_completing_changes_nothing_that_code_can_see(session: Session) -> None:
    session.run("import sys, os; before = None")
    look = "set(sys.modules), len(globals()), sys.path[:], os.listdir('/proc/self/fd') and os.getcwd()"
    session.value(look)
    session.ask("complete", code="import xml.etree.")
    before = session.value(look)
    for code in ("from xml.dom import ", "os.pa", "import tkin", "before."):
        session.ask("complete", code=code)
    assert session.value(look) == before


# -- whether code is complete ------------------------------------------------------------------------------------------

STATUS = {
    "": ("complete", ""),
    "  \n": ("complete", ""),
    "1 + 1": ("complete", ""),
    "x = 1  # :": ("complete", ""),
    "x = (1,": ("incomplete", ""),
    "x = '''a": ("incomplete", ""),
    "x = 1 + \\": ("incomplete", ""),
    "def f():": ("incomplete", "    "),
    "  ": ("complete", ""),
    "def f():\n    if x:": ("incomplete", "        "),
    "def f():\n    return 1": ("incomplete", "    "),
    "def f():\n    return 1\n": ("complete", ""),
    "for n in x:\n\ty": ("incomplete", "\t"),
    "for n in x: # why": ("incomplete", "    "),
    "@decorated": ("incomplete", ""),
    "try:\n    1\n": ("incomplete", "    "),
    "await x": ("complete", ""),
    "async for n in x:": ("incomplete", "    "),
    "x = )": ("invalid", ""),
    "1 = x": ("invalid", ""),
    "x = 'a": ("invalid", ""),
    "  x\n y": ("invalid", ""),
    "return": ("invalid", ""),
    "(" * 1000: ("invalid", ""),
    "x = 1\x00": ("invalid", ""),
    "grüße = 1": ("complete", ""),
}


@pytest.mark.parametrize("code", STATUS)
def test_code_is_complete_or_goes_on_or_can_never_be(looked_at: Session, code: str) -> None:
    answer = looked_at.ask("is_complete", code=code)
    assert (answer["status"], answer["indent"]) == STATUS[code]


def test_what_a_future_import_has_switched_on_holds_for_completeness(session: Session) -> None:
    code = "1 <> 2"
    assert session.ask("is_complete", code=code)["status"] == "invalid"
    session.run("from __future__ import barry_as_FLUFL")
    assert session.ask("is_complete", code=code)["status"] == "complete"


# -- jedi --------------------------------------------------------------------------------------------------------------

needs_jedi = pytest.mark.skipif(
    importlib.util.find_spec("jedi") is None, reason="jedi is not installed: what it knows beyond us is not tested"
)


@needs_jedi
@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ("import string\nx = string.Formatter()\nx.form", "format"),
        ("def f(parameter):\n    return param", "parameter"),
        ("x = 'a'.upper()\nx.spl", "split"),
    ],
)
def test_jedi_knows_what_has_not_run_yet(worker: Session, code: str, wanted: str) -> None:
    worker.run("1")
    assert wanted in worker.ask("complete", code=code, timeout=30)["matches"]
    loaded = "import sys; 'jedi' in sys.modules"
    assert worker.value(loaded) == "False"  # it was a copy that has loaded it


@needs_jedi
def test_a_jedi_of_the_users_own_is_not_taken_for_it(start: Start, tmp_path: Path) -> None:
    (tmp_path / "jedi.py").write_text("raise SystemExit('taken')")
    session: Any = start("worker", cwd=tmp_path)
    session.run("1")
    answer = session.ask("complete", code="def f(parameter):\n    return param", timeout=30)
    assert "parameter" in answer["matches"] and answer["note"] is None
