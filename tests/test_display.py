"""What a value shows beside its repr, and what `display()` shows: MIME bundles, in order, by reference if too large."""

from __future__ import annotations

import base64
from textwrap import dedent
from typing import Any

import pytest
from harness import Session

PNG = b"\x89PNG\r\n\x1a\n made by hand"
RICH = f"""
class Rich:
    def __repr__(self): return "<rich>"
    def _repr_html_(self): return "<b>rich</b>"
    def _repr_png_(self): return {PNG!r}
    def _repr_json_(self): return {{"a": [1, float("nan")], 2: None}}
    def _repr_latex_(self): return None
"""


def shown(answer: Any) -> list[Any]:
    """The data of what was shown."""
    return [output["data"] for output in answer["outputs"]]


def notifications(session: Session, *methods: str) -> list[tuple[str, Any]]:
    """Those of these methods until now."""
    told = session.notifications
    return [(found["method"], found["params"]) for found in told if found["method"] in methods]


# -- the last value ----------------------------------------------------------------------------------------------------


def test_a_value_shows_all_that_it_knows_to_show(session: Session) -> None:
    session.run(RICH)
    answer = session.run("Rich()")
    assert (answer["status"], answer["result"], answer["metadata"]) == ("ok", "<rich>", {})
    assert answer["data"] == {
        "text/plain": "<rich>",
        "text/html": "<b>rich</b>",
        "image/png": base64.b64encode(PNG).decode(),
        "application/json": {"a": [1, None], "2": None},
    }


VALUES = {
    "a number": ("40 + 2", {"text/plain": "42"}),
    "a list": ("[1]", {"text/plain": "[1]"}),
    "nothing": ("None", None),
    "a class that could": ("Rich", {"text/plain": "<class '__main__.Rich'>"}),
    "a bundle": (
        "def _repr_mimebundle_(self, include=None, exclude=None): return {'text/html': 'x', 'a/b': {'c': 1}}",
        {"text/plain": "<it>", "text/html": "x", "a/b": {"c": 1}},
    ),
    "a bundle goes before a method": (
        "def _repr_mimebundle_(self, **options): return {'text/html': 'bundle'}\n def _repr_html_(self): return 'no'",
        {"text/plain": "<it>", "text/html": "bundle"},
    ),
    "who has every attribute": ("def __getattr__(self, name): return lambda *a, **k: 'what'", {"text/plain": "<it>"}),
    "who has none without an error": ("def __getattr__(self, name): raise ValueError(name)", {"text/plain": "<it>"}),
    "a method that gives half a character": ("def _repr_html_(self): return chr(0xD800)", {"text/html": "?"}),
    "what JSON cannot hold": (
        "def _repr_json_(self): return {'a': object, 'b': (1, {2})}",
        {"application/json": {"a": "<class 'object'>", "b": [1, "{2}"]}},
    ),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_value_is_shown_as_ipython_would(session: Session, name: str) -> None:
    code, data = VALUES[name]
    session.run(RICH)
    if code.startswith("def"):
        session.run(f"class It:\n def __repr__(self): return '<it>'\n {code}")
        code = "It()"
    answer = session.run(code)
    assert answer["status"] == "ok", answer["stderr"]
    assert answer["data"] == data if data is None else {**answer["data"], **data} == answer["data"]


def test_metadata_is_told_beside_the_data(session: Session) -> None:
    session.run("class It:\n def _repr_png_(self): return b'x', {'width': 3}")
    answer = session.run("It()")
    assert (answer["data"]["image/png"], answer["metadata"]) == ("eA==", {"image/png": {"width": 3}})


def test_a_method_that_raises_costs_its_own_format_and_is_told(session: Session) -> None:
    session.run("class It:\n def _repr_html_(self): 1 / 0\n def _repr_png_(self): return b'x'")
    answer = session.run("It()")
    assert (answer["status"], answer["data"]["image/png"]) == ("ok", "eA==")
    assert "text/html" not in answer["data"] and "_repr_html_ raised ZeroDivisionError" in answer["stderr"]


def test_a_method_that_hangs_is_under_the_time_limit(session: Session) -> None:
    session.run("class It:\n def _repr_html_(self):\n  while True: pass")
    answer = session.run("It()", timeout=0.3)
    assert (answer["reason"], answer["data"], answer["result"]) == ("timeout", None, None)
    assert session.value("40 + 2") == "42"


def test_silent_code_shows_no_value(session: Session) -> None:
    session.run("asked = []\nclass It:\n def _repr_html_(self): asked.append(1); return 'x'")
    assert session.run("It()", silent=True)["data"] is None
    assert session.value("asked") == "[]"


# -- display() ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["", "from IPython.display import display", "from IPython.core.display import *"])
def test_display_shows_in_the_order_of_the_output(session: Session, where: str) -> None:
    session.run(RICH)
    code = f"{where}\nprint('a')\ndisplay(Rich(), 5)\nprint('b')"
    answer = session.run(code, stream=True)
    assert (answer["stdout"], answer["result"]) == ("a\nb\n", None)
    assert [data["text/plain"] for data in shown(answer)] == ["<rich>", "5"]
    assert [output["output_type"] for output in answer["outputs"]] == ["display_data"] * 2
    told = [params for _, params in notifications(session, "stream", "display_data")]
    assert "".join(params.get("text") or params["data"]["text/plain"] for params in told) == "a\n<rich>5b\n"


def test_what_is_shown_can_be_updated_in_its_place(session: Session) -> None:
    answer = session.run("h = display('a', display_id=True)\ndisplay('b')\nh.update('c')", stream=True)
    assert [data["text/plain"] for data in shown(answer)] == ["'c'", "'b'"]
    assert [method for method, _ in notifications(session, "display_data", "update_display_data")] == [
        "display_data",
        "display_data",
        "update_display_data",
    ]
    later = session.run("h.update('d')")
    assert [(output["output_type"], output["data"]["text/plain"]) for output in later["outputs"]] == [
        ("update_display_data", "'d'")
    ]
    assert later["outputs"][0]["transient"] == answer["outputs"][0]["transient"] != {}


@pytest.mark.parametrize(
    ("code", "left"),
    [
        ("display(1); clear_output(); display(2)", ["2"]),
        ("display(1); clear_output(wait=True); display(2); display(3)", ["2", "3"]),
        ("display(1); clear_output(wait=True)", ["1"]),
        ("display(1, 2); clear_output()", []),
    ],
)
def test_clear_output_takes_away_what_was_shown(session: Session, code: str, left: list[str]) -> None:
    answer = session.run(f"print('kept'); {code}")
    assert ([data["text/plain"] for data in shown(answer)], answer["stdout"]) == (left, "kept\n")


def test_bundles_of_ones_own_and_chosen_types(session: Session) -> None:
    session.run(RICH)
    answer = session.run(
        "display({'text/html': 'x'}, raw=True, metadata={'a': 1}); display(Rich(), include=['text/html'])"
        "; display(Rich(), exclude=['image/png', 'application/json', 'text/html'])"
    )
    assert shown(answer) == [{"text/html": "x"}, {"text/html": "<b>rich</b>"}, {"text/plain": "<rich>"}]
    assert answer["outputs"][0]["metadata"] == {"a": 1}


STAND_INS = {
    "HTML('<i>')": ("text/html", "<i>"),
    "Markdown('*x*')": ("text/markdown", "*x*"),
    "Latex('$x$')": ("text/latex", "$x$"),
    "Math('x')": ("text/latex", "$\\displaystyle x$"),
    "SVG('<svg/>')": ("image/svg+xml", "<svg/>"),
    "JSON({'a': 1})": ("application/json", {"a": 1}),
    "Image(b'\\x89PNG\\r\\n\\x1a\\n')": ("image/png", "iVBORw0KGgo="),
    "Image(url='http://x/y.png')": ("text/html", '<img src="http://x/y.png"/>'),
    "IFrame('http://x', 3, 4)": ("text/html", '<iframe width="3" height="4" src="http://x" frameborder="0"></iframe>'),
}


@pytest.mark.parametrize("code", STAND_INS)
def test_what_notebooks_import_from_ipython_is_there_without_it(session: Session, code: str) -> None:
    mime, value = STAND_INS[code]
    answer = session.run(f"from IPython.display import *\nfrom IPython.display import IFrame\n{code}")
    assert answer["status"] == "ok", answer["stderr"]
    assert answer["data"][mime] == value


def test_an_installed_ipython_is_used_and_shows_through_the_session(session: Session) -> None:
    pytest.importorskip("IPython", reason="IPython is not installed: whether it shows through a session is not tested")
    answer = session.run("import IPython, IPython.display as d; d.display(d.HTML('<b>x</b>')); IPython.__file__")
    assert answer["status"] == "ok" and "IPython" in answer["result"]
    assert shown(answer)[0]["text/html"] == "<b>x</b>"


# -- what is too large, late, or cut short -----------------------------------------------------------------------------


def read_all(session: Session, answer: Any, reference: Any) -> str:
    """What a reference stands for, read in parts."""
    parts, offset = [], 0
    while offset < reference["total_bytes"]:
        part = session.ask(
            "output/read",
            execution_id=answer["execution_id"],
            stream=reference["stream"],
            offset=offset,
            limit=700_000,
        )
        parts.append(part["text"])
        offset = part["next_offset"]
    assert part["eof"]
    return "".join(parts)


def test_what_is_too_large_goes_by_reference_for_each_type(session: Session) -> None:
    session.run("class It:\n def __repr__(self): return 'small'\n def _repr_html_(self): return 'é' * 1_000_000")
    session.run(" \n")
    answer = session.run("display(It()); It()", stream=True)
    assert answer["truncated"] is True
    for bundle in (answer, answer["outputs"][0], notifications(session, "display_data")[0][1]):
        assert bundle["data"] == {"text/plain": "small"}
        assert read_all(session, answer, bundle["metadata"]["text/html"]["reference"]) == "é" * 1_000_000
    assert session.ask("output/read", execution_id=answer["execution_id"], stream="image/png")["error"]


def test_a_repr_that_is_too_large_is_cut_in_the_middle_and_can_be_read(session: Session) -> None:
    answer = session.run("'x' * 3_000_000")
    assert answer["truncated"] and len(answer["result"]) < 1_100_000 and "left out" in answer["result"]
    assert answer["data"]["text/plain"] == answer["result"]
    assert read_all(session, answer, answer["metadata"]["text/plain"]["reference"]) == repr("x" * 3_000_000)


def test_what_was_shown_before_a_crash_is_in_the_answer(worker: Session) -> None:
    answer = worker.run("display('a'); print('b'); import os; os._exit(3)")
    assert (answer["reason"], shown(answer), answer["stdout"]) == ("crash", [{"text/plain": "'a'"}], "b\n")


def test_what_an_earlier_requests_thread_shows_is_told_as_that_requests(session: Session) -> None:
    session.run("import threading; go = threading.Event()")
    code = "t = threading.Thread(target=lambda: [go.wait(), display('late')]); t.start()"
    first = session.run(code, stream=True)["execution_id"]
    answer = session.run("go.set(); t.join(); display('mine')")
    assert (shown(answer), answer["late_output"]) == ([{"text/plain": "'mine'"}], "")
    ((_, params),) = notifications(session, "display_data")
    assert (params["execution_id"], params["late"], params["data"]) == (first, True, {"text/plain": "'late'"})
    session.run(f"go.clear(); {code}")
    assert session.run("go.set(); t.join()")["late_output"] == "'late'\n"


def test_a_child_that_was_forked_shows_in_its_text(session: Session) -> None:
    answer = session.run("import os\nif os.fork() == 0:\n display('child')\n os._exit(0)\n_ = os.wait()")
    assert (answer["stdout"], answer["outputs"]) == ("'child'\n", [])


def test_a_value_has_its_repr_whatever_user_code_has_spoiled(session: Session) -> None:
    session.run(RICH)
    session.run("import builtins\nfor name in ('len', 'str', 'isinstance', 'dict'): setattr(builtins, name, None)")
    answer = session.run("Rich()")
    assert (answer["status"], answer["result"]) == ("ok", "<rich>"), answer["stderr"]


def test_garbage_among_what_is_shown_costs_nothing_else(worker: Session) -> None:
    code = """
        import sys
        capture = sys.stdout.buffer._capture
        for line in (b"no json", b"[1]", b'{"method": "shutdown"}', b'{"method": "display_data", "data": 3}'):
            capture.write(3, line + b"\\n")
        display("good")
        capture.write(3, b'{"half": ')
        """
    answer = worker.run(dedent(code))
    assert (answer["status"], shown(answer)) == ("ok", [{"text/plain": "'good'"}])
    assert worker.value("40 + 2") == "42"
