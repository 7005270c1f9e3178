"""`variables`: pages and filters of any number of names, one value and what is in it, frames and arrays."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from typing import Any

import pytest
from harness import Session

Start = Callable[..., Session]


def _rows(session: Session, **params: Any) -> dict[str, Any]:
    return {row["name"]: row for row in session.ask("variables", **params)["variables"]}


def test_a_row_tells_type_size_shape_and_a_short_text(session: Session) -> None:
    session.run("numbers = [1, 2, 3]; class_ = dict; text = 'é' * 100; none = None")
    rows = _rows(session)
    size = int(session.value("numbers.__sizeof__() + 16"))
    assert rows["numbers"] == {
        "name": "numbers", "type": "list", "module": "builtins", "repr": "[1, 2, 3]", "size_bytes": size, "shape": [3],
    }  # fmt: skip
    assert (rows["class_"]["repr"], rows["class_"]["shape"]) == ("<class 'dict'>", None)
    assert (len(rows["text"]["repr"]), rows["text"]["shape"], rows["none"]["repr"]) == (80, [100], "None")


REPRS = {
    "{'a': [1, (2,)], 3: {4}}": "{'a': [1, (2,)], 3: {4}}",
    "[]": "[]",
    "()": "()",
    "set()": "set()",
    "frozenset({1})": "frozenset({1})",
    "frozenset()": "frozenset()",
    "__import__('collections').OrderedDict(a=1)": "OrderedDict({'a': 1})",
    "__import__('collections').Counter('aab')": "Counter({'a': 2, 'b': 1})",
    "range(3)": "range(0, 3)",
    "range(10 ** 10000)": "<range>",
    "10 ** 10000": "<int of 33220 bits>",
    "list(range(1000))": "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21...",
    "[[[[[[1]]]]]]": "[[[[[...]]]]]",
    "b'raw'": "b'raw'",
    "1.5": "1.5",
    "float('nan')": "nan",
    "1j": "1j",
    "...": "Ellipsis",
    "len": "<built-in function len>",
    "lambda: 1": "<function <lambda>>",
    "ValueError('a', 1)": "ValueError('a', 1)",
    "__import__('pathlib').PurePath": "<class 'pathlib.PurePath'>",
    "__import__('pathlib').Path('/tmp')": "PosixPath('/tmp')",
    "__import__('datetime').date(2020, 1, 2)": "datetime.date(2020, 1, 2)",
    "__import__('datetime').datetime(2020, 1, 2)": "datetime.datetime(2020, 1, 2, 0, 0)",
    "__import__('decimal').Decimal('1.5')": "Decimal('1.5')",
    "object()": "<object object>",
    "memoryview(b'abc')": "<memoryview (3,)>",
    "'\\ud800'": "'\\ud800'",
    "'a' * 10**7": "'" + "a" * 76 + "...",
}


def test_a_short_text_is_pythons_repr_where_that_runs_no_code_of_the_users(session: Session) -> None:
    for number, code in enumerate(REPRS):
        session.run(f"v{number} = {code}")
    rows = _rows(session)
    found = {code: rows[f"v{number}"]["repr"] for number, code in enumerate(REPRS)}
    found["__import__('pathlib').PurePath"] = found["__import__('pathlib').PurePath"].replace("._local", "")
    assert found == REPRS


# -- pages and filters -------------------------------------------------------------------------------------------------


def test_pages_hold_every_name_once_in_the_order_in_which_they_were_made(session: Session) -> None:
    session.run("globals().update((f'n{n}', n) for n in range(95)); h = 1")
    found: list[str] = []
    offset: int | None = 0
    while offset is not None:
        page = session.ask("variables", offset=offset, limit=10)
        assert page["count"] == 96 and len(page["variables"]) <= 10
        found += [row["name"] for row in page["variables"]]
        offset = page["next_offset"]
    assert sorted(found) == sorted({"h", *(f"n{n}" for n in range(95))})
    assert [name for name in found if name != "h"] == [f"n{n}" for n in range(95)]
    beyond = session.ask("variables", offset=1000, limit=10)
    assert (beyond["variables"], beyond["count"], beyond["next_offset"]) == ([], 96, None)
    assert session.ask("variables", limit=0)["variables"] == []


FILTERS = {
    "match": [("um", ["number"]), ("*s", ["words", "things"]), ("[nw]*", ["number", "words"]), ("", None)],
    "type": [("int", ["number", "two"]), ("in", []), ("*t", ["number", "words", "things", "two"]), ("str", ["text"])],
}  # fmt: skip


@pytest.mark.parametrize(("param", "value", "wanted"), [(key, *case) for key in FILTERS for case in FILTERS[key]])
def test_names_can_be_chosen_by_a_part_a_pattern_or_their_type(
    session: Session, param: str, value: str, wanted: list[str] | None
) -> None:
    session.run("number = 1; words = ['a']; things = []; two = 2; text = 's'")
    answer = session.ask("variables", **{param: value})
    found = [row["name"] for row in answer["variables"]]
    assert found == (["number", "words", "things", "two", "text"] if wanted is None else wanted)
    assert answer["count"] == len(found)


def test_both_filters_hold_and_pages_are_of_what_is_left(session: Session) -> None:
    session.run("globals().update((f'{kind}{n}', n if kind == 'a' else str(n)) for n in range(9) for kind in 'ab')")
    answer = session.ask("variables", match="a*", type="int", offset=2, limit=3)
    assert [row["name"] for row in answer["variables"]] == ["a2", "a3", "a4"]
    assert (answer["count"], answer["next_offset"]) == (9, 5)


def test_a_hundred_thousand_names_are_told_by_pages_and_completed(session: Session) -> None:
    session.run("globals().update((f'name_{n:06}', n) for n in range(100_000))")
    page = session.ask("variables", offset=99_990, limit=50)
    assert [row["name"] for row in page["variables"]] == [f"name_{n:06}" for n in range(99_990, 100_000)]
    assert page["count"] == 100_000
    assert [row["repr"] for row in session.ask("variables", match="name_054321")["variables"]] == ["54321"]
    assert session.ask("complete", code="name_05432")["matches"] == [f"name_05432{n}" for n in range(10)]


# -- one of them -------------------------------------------------------------------------------------------------------

NESTED = """
class Thing:
    __slots__ = ("slot", "empty", "__dict__")
    shared = 1
    def __init__(self): self.slot = [1]; self.plain = {"k": "v"}
    @property
    def computed(self): return "made"
    def __repr__(self): return "<a thing>"
thing = Thing()
data = {"a": [1, {"b": thing}], 2: "two", (3, 4): "pair", None: "none", "2": "text"}
unique = {7}
itself = []; itself.append(itself)
"""
PATHS = {
    ("data",): "dict",
    ("data", "a"): "[1, {'b': <",
    ("data", "a", 0): "1",
    ("data", "a", 1, "b", "slot"): "[1]",
    ("data", "a", 1, "b", "plain", "k"): "'v'",
    ("data", "a", 1, "b", "shared"): "1",
    ("data", 2): "'two'",
    ("data", "2"): "'text'",
    ("data", "(3, 4)"): "'pair'",
    ("data", "None"): "'none'",
    ("unique", 0): "7",
    ("itself", 0, 0, 0): "[[",
    ("Thing", "shared"): "1",
}


@pytest.mark.parametrize("way", PATHS)
def test_a_path_leads_into_a_value(session: Session, way: tuple[Any, ...]) -> None:
    assert session.run(NESTED)["status"] == "ok"
    answer = session.ask("variables", name=way[0], path=list(way[1:]))
    assert answer["repr"].startswith(PATHS[way]) or answer["type"] == PATHS[way]
    assert (answer["path"], answer["stale"], answer["note"]) == (list(way[1:]), False, None)


def test_each_step_that_is_told_leads_to_what_is_told_there(session: Session) -> None:
    session.run(NESTED)
    seen = 0
    for name in ("data", "thing", "unique", "itself", "Thing"):
        for child in session.ask("variables", name=name)["children"]:
            found = session.ask("variables", name=name, path=[child["step"]])
            assert (found["type"], found["size_bytes"]) == (child["type"], child["size_bytes"]), child
            seen += 1
    assert seen > 10


def test_an_object_is_told_with_what_it_holds_and_its_own_repr_in_a_copy_alone(session: Session) -> None:
    session.run(NESTED)
    answer = session.ask("variables", name="thing")
    assert answer["repr"] == ("<a thing>" if session.backend == "worker" else "<__main__.Thing object>")
    assert {child["step"]: child["kind"] for child in answer["children"]} == {"plain": "attribute", "slot": "attribute"}
    computed = session.ask("variables", name="thing", path=["computed"])
    assert computed.get("repr") == ("'made'" if session.backend == "worker" else None)


def test_a_long_value_is_told_by_pages(session: Session) -> None:
    session.run("many = list(range(2500)); table = {f'k{n}': n for n in range(2500)}; text = 'x' * 100_000")
    for name, steps in (("many", range(2500)), ("table", [f"k{n}" for n in range(2500)])):
        page = session.ask("variables", name=name, offset=2400, limit=50)
        assert [child["step"] for child in page["children"]] == list(steps)[2400:2450]
        assert (page["count"], page["next_offset"]) == (2500, 2450)
        assert len(session.ask("variables", name=name)["children"]) == 1000
    assert len(session.ask("variables", name="text")["repr"]) < 11_000


@pytest.mark.parametrize(
    "params",
    [
        {"name": "missing"},
        {"name": "data", "path": ["missing"]},
        {"name": "data", "path": ["a", 5]},
        {"name": "data", "path": ["a", "x"]},
        {"name": "thing", "path": ["empty"]},
        {"path": ["a"]},
        {"name": "data", "match": "a"},
        {"name": "data", "path": [1.5]},
    ],
)
def test_what_is_not_there_is_an_error_that_says_so(session: Session, params: dict[str, Any]) -> None:
    session.run(NESTED)
    error = session.ask("variables", **params)["error"]
    assert error["code"] == -32602 and "variables" in error["message"]


# -- hostile objects ---------------------------------------------------------------------------------------------------

HOSTILE = {
    "a repr that raises": "class A:\n def __repr__(self): raise SystemExit\nx = A()",
    "a repr that hangs": "class A:\n def __repr__(self):\n  while True: pass\nx = A()",
    "a repr that kills": "import os, signal\nclass A:\n def __repr__(self): os.kill(os.getpid(), signal.SIGKILL)\n"
    "x = A()",
    "a repr that exits": "import os\nclass A:\n def __repr__(self): os._exit(0)\nx = A()",
    "a repr that forks": "import os\nclass A:\n def __repr__(self): os.fork(); return 'forked'\nx = A()",
    "a repr that is no text": "class A:\n def __repr__(self): return 5\nx = A()",
    "a repr of a subclass": "class S(str):\n def __len__(self): 1 / 0\nclass A:\n"
    " def __repr__(self): return S('a')\nx = A()",
    "a repr that prints": "class A:\n def __repr__(self): print('printed'); return 'a'\nx = A()",
    "a repr that asks": "class A:\n def __repr__(self): input('?'); return 'a'\nx = A()",
    "a repr that recurses": "class A:\n def __repr__(self): return repr(self)\nx = A()",
    "a repr that spoils": "import builtins\nclass A:\n def __repr__(self):\n"
    "  builtins.len = builtins.type = None\n  return 'a'\nx = A()",
    "attributes that raise": "class A:\n def __getattr__(self, n): 1 / 0\n __getattribute__ = __getattr__\nx = A()",
    "attributes that hang": "class A:\n def __getattribute__(self, n):\n  while True: pass\nx = A()",
    "a dir that hangs": "class A:\n def __dir__(self):\n  while True: pass\nx = A()",
    "a dir that lies": "class A:\n def __dir__(self): return [1, None, 'a b', 'real', object()]\nx = A()",
    "a class that lies": "class A:\n __class__ = property(lambda self: 1 / 0)\nx = A()",
    "a dictionary that lies": "class A:\n __dict__ = property(lambda self: 1 / 0)\nx = A()",
    "a metaclass": "class M(type):\n __name__ = __module__ = __mro__ = __dict__ = property(lambda c: 1 / 0)\n"
    " def __getattribute__(c, n): 1 / 0\n def __hash__(c): 1 / 0\n def __eq__(c, o): 1 / 0\n"
    " def __instancecheck__(c, o): 1 / 0\nclass A(metaclass=M): pass\nx = A()\ny = A",
    "keys that are equal to nothing": "class K(str):\n __hash__ = str.__hash__\n def __eq__(self, o): 1 / 0\n"
    "x = {K('a'): 1, K('b'): 2}\nglobals()[K('q')] = 3",
    "a container that lies": "class L(list):\n def __len__(self): return -1\n def __iter__(self): 1 / 0\n"
    " def __getitem__(self, i): 1 / 0\nx = L([1, 2])",
    "a dictionary of one's own": "class D(dict):\n"
    " items = keys = __iter__ = __len__ = __getitem__ = get = lambda *a: 1 / 0\n"
    "x = D(a=1)",
    "a list in itself": "x = []; x.append(x); x.append({'x': x})",
    "a huge int": "x = [10 ** 100_000]",
    "a huge text": "x = 'y' * 10**8",
    "a size that raises": "class A:\n def __sizeof__(self): 1 / 0\nx = A()",
    "a shape that raises": "class A:\n shape = property(lambda s: 1 / 0)\n dtype = nbytes = shape\nx = A()",
    "a signature that raises": "class A:\n"
    " __signature__ = __text_signature__ = __wrapped__ = property(lambda s: 1 / 0)\n"
    " def __call__(self): pass\nx = A()\ndef f(): pass\nf.__wrapped__ = f\nf.__signature__ = x",
    "a doc that raises": "class A:\n __doc__ = property(lambda s: 1 / 0)\nx = A()",
    "a default that raises": "class D:\n def __repr__(self): 1 / 0\ndef x(a=D(), b: D() = 1) -> D(): pass",
    "a module that lies": "import sys\nclass Mod(type(sys)):\n def __getattribute__(s, n): 1 / 0\nx = Mod('x')",
    "a frame that lies": "import sys, types\npandas = sys.modules['pandas'] = types.ModuleType('pandas')\n"
    "class DataFrame:\n shape = property(lambda s: 1 / 0)\nDataFrame.__module__ = 'pandas'\n"
    "pandas.DataFrame = DataFrame\n"
    "x = DataFrame()",
    "a deep list": "x = []\nfor _ in range(100_000): x = [x]",
    "an exception": "class E(Exception):\n args = property(lambda s: 1 / 0)\nx = E(1)",
    "an empty slot": "class A:\n __slots__ = ('a',)\nx = A()",
}  # fmt: skip


@pytest.mark.parametrize("code", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_object_is_told_and_changes_nothing(session: Session, code: str) -> None:
    assert session.run(f"kept = 41\n{code}\nNone")["status"] == "ok"
    assert "x" in _rows(session)
    looks = [
        session.ask("variables", name="x", timeout=0.3),
        session.ask("complete", code="x.", timeout=0.3),
        session.ask("complete", code="x['", timeout=0.3),
        session.ask("complete", code="x(", timeout=0.3),
        session.ask("inspect", code="x", detail_level=1, timeout=0.3),
        session.ask("inspect", code="x.y", timeout=0.3),
    ]
    assert [answer["error"] for answer in looks if "error" in answer] == []
    assert looks[0]["name"] == "x" and looks[4]["found"]
    after = session.run("kept + 1, len([1])")
    assert (after["result"], after["session_state"]["state"], after["late_output"]) == ("(42, 1)", "kept", "")
    json.dumps(looks)


# -- arrays and frames -------------------------------------------------------------------------------------------------


def _needs(name: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(name) is None
    return pytest.mark.skipif(missing, reason=f"{name} is not installed: what `variables` tells of it is not tested")


LIBRARIES = {
    "numpy": (
        "import numpy; x = numpy.arange(6.0).reshape(3, 2)",
        [3, 2],
        48,
        {"columns": ["0", "1"], "types": ["float64", "float64"], "rows": [["2.0", "3.0"], ["4.0", "5.0"]]},
    ),
    "pandas": (
        "import pandas; x = pandas.DataFrame({'a': [1, 2, 3], 'b': [0.5, 1.5, 2.5]}, index=list('uvw'))",
        [3, 2],
        None,
        {"columns": ["a", "b"], "types": ["int64", "float64"], "rows": [["2", "1.5"], ["3", "2.5"]]},
    ),
    "polars": (
        "import polars; x = polars.DataFrame({'a': [1, 2, 3], 'b': ['u', 'v', 'w']})",
        [3, 2],
        None,
        {"columns": ["a", "b"], "types": ["Int64", "String"], "rows": [["2", "'v'"], ["3", "'w'"]]},
    ),
}


@pytest.mark.parametrize("library", [pytest.param(name, marks=_needs(name)) for name in LIBRARIES])
def test_a_table_is_told_with_its_shape_its_size_and_its_rows(session: Session, library: str) -> None:
    code, shape, size, table = LIBRARIES[library]
    assert session.run(code, timeout=60)["stderr"] == ""
    row = _rows(session)["x"]
    assert row["shape"] == shape and row["size_bytes"] >= 24 and size in (None, row["size_bytes"])
    told = session.ask("variables", name="x", offset=1, timeout=30)
    assert (told["count"], told["next_offset"], told["children"]) == (3, None, [])
    assert [column["name"] for column in told["table"]["columns"]] == table["columns"]
    assert [column["type"] for column in told["table"]["columns"]] == table["types"]
    assert told["table"]["rows"] == table["rows"]
    assert told["table"]["index"] == (["v", "w"] if library == "pandas" else ["1", "2"])
    if library != "numpy":
        assert session.ask("complete", code="x['", timeout=30)["matches"] == ["a", "b"]
        column = session.ask("variables", name="x", path=["a"], timeout=30)
        assert (column["shape"], column["table"]["rows"]) == ([3], [["1"], ["2"], ["3"]])


@_needs("numpy")
def test_an_array_is_told_by_its_elements(session: Session) -> None:
    session.run(
        "import numpy; x = numpy.arange(24).reshape(2, 3, 4); y = numpy.array([1.5, 2.5]); z = y[0]", timeout=60
    )
    assert {name: row["shape"] for name, row in _rows(session, type="ndarray").items()} == {"x": [2, 3, 4], "y": [2]}
    assert _rows(session)["z"]["repr"] == "1.5"
    found = session.ask("variables", name="x", path=[1, 2], timeout=30)
    assert [child["repr"] for child in found["children"]] == ["20", "21", "22", "23"]
