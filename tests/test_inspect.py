"""`inspect`: what is known of the object at the cursor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from harness import Session

SETUP = '''
import abc, collections, enum, functools, os
number, text, data = 42, "hello", {"key": [1, 2]}
class Base:
    def area(self):
        "How large it is."
class Shape(Base):
    """A shape.

        It has sides.
    """
    def __init__(self, width: int, *, height=4): self.width = width
    def area(self, scale=2): return scale
    def plain(self): pass
    @property
    def doubled(self) -> int:
        "Twice."
        return 2 * self.width
shape = Shape(3)
def measure(first, /, second=(1, 2), *rest, third: "str" = "c", **more) -> dict:
    "Measures things."
    return {}
class Colour(enum.Enum):
    RED = 1
class Abstract(abc.ABC):
    def act(self): "Acts."
def wrapper(function):
    @functools.wraps(function)
    def inner(*args): return function(*args)
    return inner
wrapped = wrapper(measure)
partly = functools.partial(measure, 1, third="x")
'''


@pytest.fixture(scope="module", params=["local", "worker"])
def looked_at(request: pytest.FixtureRequest) -> Iterator[Session]:
    """One session of each backend for all cases."""
    session = Session(request.param)
    assert session.run(SETUP)["stderr"] == ""
    yield session
    session.end()


def _inspect(session: Session, code: str, level: int = 0) -> Any:
    at = code.find("|")
    given = {"code": code} if at < 0 else {"code": code[:at] + code[at + 1 :], "cursor_pos": at}
    answer = session.ask("inspect", **given, detail_level=level)
    assert answer["status"] == "ok" and not answer["stale"] and answer["note"] is None, answer
    assert bool(answer["data"]) == bool(answer["metadata"]) == answer["found"]
    return answer


AT = {
    "mea|sure(1)": "measure",
    "|measure(1)": "measure",
    "measure|(1)": "measure",
    "measure(|": "measure",
    "measure(1, |": "measure",
    "measure(1, num|ber": "number",
    "measure(len(|": "len",
    "measure(missing, |": "measure",
    "x = shape.ar|ea": "shape.area",
    "x = sha|pe.area": "shape",
    "data['key'].app|end": "data['key'].append",
    "os.path.join(|": "os.path.join",
    "f'{num|ber}'": "number",
    "text\nnum|ber\ntext": "number",
    "shape.\\\n  area": "shape.\\\n  area",
    "Shape(1).ar|ea": "Shape(1).area",
    "Abstract().ac|t": "Abstract().act",
    "number |": "number",
    "number + |": None,
    "miss|ing": None,
    "": None,
    "# num|ber": None,
    "'num|ber'": None,
    "1 + ": None,
    "if |": None,
}


@pytest.mark.parametrize("code", AT)
def test_the_object_at_the_cursor_is_found(looked_at: Session, code: str) -> None:
    answer = _inspect(looked_at, code)
    assert answer["metadata"].get("name") == AT[code]


SIGNATURES = {
    "measure": "measure(first, /, second=(1, 2), *rest, third: str = 'c', **more) -> dict",
    "wrapped": "wrapped(first, /, second=(1, 2), *rest, third: str = 'c', **more) -> dict",
    "partly": "partly(second=(1, 2), *rest, third: str = 'c', **more) -> dict",
    "Shape": "Shape(width: int, *, height=4)",
    "shape.area": "area(scale=2)",
    "Shape.area": "area(self, scale=2)",
    "len": "len(obj, /)",
    "text.startswith": None,
    "text.splitlines": "splitlines(keepends=False)",
    "number": None,
    "os": None,
}


@pytest.mark.parametrize("code", SIGNATURES)
def test_a_signature_is_told_of_what_can_be_called(looked_at: Session, code: str) -> None:
    assert _inspect(looked_at, code)["metadata"]["signature"] == SIGNATURES[code]


DOCS = {
    "measure": "Measures things.",
    "Shape": "A shape.\n\nIt has sides.",
    "shape": "A shape.\n\nIt has sides.",
    "shape.area": "How large it is.",
    "shape.plain": None,
    "number": "int([x]) -> integer",
    "len": "Return the number of items in a container.",
    "os": "OS routines for NT or Posix depending on what system we're on.",
    "text.upper": "Return a copy of the string converted to uppercase.",
}


@pytest.mark.parametrize("code", DOCS)
def test_the_docstring_is_told(looked_at: Session, code: str) -> None:
    docstring = _inspect(looked_at, code)["metadata"]["docstring"]
    assert docstring is None if DOCS[code] is None else docstring.startswith(DOCS[code])


def test_a_value_is_told_with_its_type_repr_and_shape(looked_at: Session) -> None:
    about = _inspect(looked_at, "data")["metadata"]
    assert (about["type"], about["module"], about["repr"], about["shape"]) == (
        "dict",
        "builtins",
        "{'key': [1, 2]}",
        [1],
    )


def test_the_text_has_all_that_is_known(looked_at: Session) -> None:
    text = _inspect(looked_at, "measure", level=1)["data"]["text/plain"]
    for part in ("Signature:   measure(first, /", "Type:        function", "<python-input-1>", "return {}", "Measures"):
        assert part in text


@pytest.mark.parametrize(
    ("code", "beginning"),
    [
        ("measure", "def measure(first"),
        ("Shape", "class Shape(Base):"),
        ("shape.area", "    def area(self, scale=2)"),
        ("shape", "class Shape(Base):"),
        ("os.path.join", "def join(a, *p):"),
        ("collections.ChainMap", "class ChainMap("),
        ("Colour", "class Colour(enum.Enum):"),
        ("Colour.RED", "class Colour(enum.Enum):"),
        ("Abstract", "class Abstract(abc.ABC):"),
    ],
)
def test_the_source_is_told_where_it_is_asked_for(looked_at: Session, code: str, beginning: str) -> None:
    assert _inspect(looked_at, code)["metadata"]["source"] is None
    assert _inspect(looked_at, code, level=1)["metadata"]["source"].startswith(beginning)


def test_the_place_of_a_definition_is_told(looked_at: Session) -> None:
    about = _inspect(looked_at, "measure")["metadata"]
    assert (about["file"], about["line"]) == ("<python-input-1>", 20)
    assert _inspect(looked_at, "os.path.join")["metadata"]["file"].endswith("posixpath.py")
    assert _inspect(looked_at, "len")["metadata"]["file"] is None


def test_a_property_is_asked_for_in_a_copy_alone(looked_at: Session) -> None:
    found = _inspect(looked_at, "shape.doubled")["metadata"]
    assert found["type"] == "int"  # as it says that it returns
    assert found["repr"] == ("6" if looked_at.backend == "worker" else None)
