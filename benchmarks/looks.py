"""What `complete`, `inspect` and `is_complete` tell beside ipykernel, on some sixty cases: ``python3 dev.py looks``.

Prints a table in Markdown, as it stands in docs/looking.md. `|` in a case is the cursor; without, it is at the end.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from jupyter_client.manager import KernelManager

from json_repl.client import Session

_SECONDS = 30.0
_MOST_SHOWN = 4  # names of a difference
SETUP = '''
import collections, functools, math, os
text, number, data = "hello", 42, {"alpha": 1, "beta": {"gamma": [1, "x"]}, "Alp": 2}
things = [1, "a", {"key": 2}]
Point = collections.namedtuple("Point", "x y")
point = Point(1, 2)
class Shape:
    "A shape."
    sides = 4
    def __init__(self, width, *, height=4):
        self.width = width
    def area(self, scale: int = 2) -> str:
        "How large it is."
        return str(scale)
    @property
    def doubled(self) -> int:
        return 2
    @classmethod
    def square(cls, side): pass
shape = Shape(3)
def measure(first, second=(1, 2), *rest, third="c", **more):
    """Measures things."""
    return first
partly = functools.partial(measure, 1)
grüße = 1
'''
COMPLETE = [
    *("tex", "tex|t", "text.up", "text.up|per()", "os.pa", "os.path.jo", "shape.", "shape.a", "shape.doubled.bit_l"),
    *("Shape.", "point.", "data['", 'data["al', "data['beta']['", "data[", "things[2]['", "things[1].up"),
    *("import os.pa", "import colle", "from os import pa", "from os.path import jo", "from collections.a", "import js"),
    *("measure(fir", "measure(1, thi", "Shape(", "shape.area(sc", "partly(sec"),
    *("open('", "open('folder/", "f'{text.up", "grü", "'ü' + tex", "for n in thi", "def f(x):\n    y = x\n    retu"),
    *("# tex", "'tex", "x = (1,\ntex", "[].app", "Shape(1).ar", "shape.area().up", "pri"),
    *("text.upper().spl", "(text + 'a').up", "import string\nstring.capw", "def f(parameter):\n    return param"),
]  # fmt: skip
INSPECT = [
    "measure",
    "measure(",
    "measure(1, num|ber",
    "shape.area",
    "Sha|pe",
    "text.upper",
    "len",
    "os.path",
    "missing",
]
IS_COMPLETE = ["1 + 1", "def f():", "def f():\n    return 1", "x = (1,", "x = )", "'''", "for n in x:\n    y\n", ""]


class Ours:
    """A session of this project."""

    def __init__(self, folder: str) -> None:
        self._session = Session.spawn(cwd=folder)
        assert self._session.execute(SETUP, within=_SECONDS).ok

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer."""
        return self._session.request(method, within=_SECONDS, timeout=_SECONDS, **params)

    def is_complete(self, code: str) -> dict[str, Any]:
        """The answer."""
        return self._session.request("is_complete", within=_SECONDS, code=code)

    def end(self) -> None:
        """End it."""
        self._session.close()


class Theirs:
    """A kernel of ipykernel's."""

    def __init__(self, folder: str) -> None:
        self._manager = KernelManager(kernel_name="python3")
        self._manager.start_kernel(cwd=folder)
        self._client = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=_SECONDS)
        self._client.execute_interactive(SETUP, timeout=_SECONDS)

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The content of the reply."""
        asking = getattr(self._client, method)
        found: dict[str, Any] = asking(**params, reply=True, timeout=_SECONDS)["content"]
        return found

    def is_complete(self, code: str) -> dict[str, Any]:
        """The content of the reply."""
        asked = self._client.is_complete(code)
        while (reply := self._client.get_shell_msg(timeout=_SECONDS))["parent_header"].get("msg_id") != asked:
            continue
        return dict(reply["content"])

    def end(self) -> None:
        """End it."""
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)


def _split(case: str) -> tuple[str, int]:
    at = case.find("|")
    return (case, len(case)) if at < 0 else (case[:at] + case[at + 1 :], at)


def _completed(answer: dict[str, Any], code: str) -> set[str]:
    """What the code before the cursor becomes."""
    return {code[: answer["cursor_start"]] + match for match in answer["matches"]}


def _compare_completion(ours: Ours, theirs: Theirs, case: str) -> str:
    code, cursor = _split(case)
    answers = [side.ask("complete", code=code, cursor_pos=cursor) for side in (ours, theirs)]
    mine, other = (_completed(answer, code) for answer in answers)
    if mine == other:
        return f"the same ({len(mine)})"
    return f"{len(mine & other)} the same; " + "; ".join(
        f"only {whose}: {_shorten(found, code)}"
        for whose, found in (("ours", mine - other), ("ipykernel", other - mine))
        if found
    )


def _shorten(found: set[str], code: str) -> str:
    line = len(code) - len(code.rpartition("\n")[2])
    shown = ", ".join(f"`{text[line:]}`" for text in sorted(found)[:_MOST_SHOWN])
    return shown if len(found) <= _MOST_SHOWN else f"{shown} and {len(found) - _MOST_SHOWN} more"


def _compare_inspection(ours: Ours, theirs: Theirs, case: str) -> str:
    code, cursor = _split(case)
    mine = ours.ask("inspect", code=code, cursor_pos=cursor)
    other = theirs.ask("inspect", code=code, cursor_pos=cursor)
    if not mine["found"] or not other["found"]:
        return "the same: not found" if mine["found"] == other["found"] else f"found: {mine['found']} {other['found']}"
    text = other["data"]["text/plain"]
    about = mine["metadata"]
    docstring = (about["docstring"] or "").partition("\n")[0]
    differs = [key for key, value in (("docstring", docstring), ("type", about["type"])) if value not in _plain(text)]
    parameters = (about["signature"] or "").partition("(")[2].rpartition(")")[0]
    if parameters not in _plain(text):
        differs.append("signature")
    return "the same object" + (f"; other {', '.join(differs)}" if differs else "")


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[\d;]*m|\n +", "", text)


def _compare_completeness(ours: Ours, theirs: Theirs, case: str) -> str:
    mine, other = ours.is_complete(case), theirs.is_complete(case)
    told = (mine["status"], mine["indent"]), (other["status"], other.get("indent", ""))
    return f"the same: {told[0][0]}" if told[0] == told[1] else f"ours {told[0]}, ipykernel {told[1]}"


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(Path(folder, "folder"))
        for name in ("one.txt", "folder/two words.csv", "folder/three.py"):
            Path(folder, name).touch()
        ours, theirs = Ours(folder), Theirs(folder)
        rows = [
            *(("complete", case, _compare_completion(ours, theirs, case)) for case in COMPLETE),
            *(("inspect", case, _compare_inspection(ours, theirs, case)) for case in INSPECT),
            *(("is_complete", case, _compare_completeness(ours, theirs, case)) for case in IS_COMPLETE),
        ]
        ours.end()
        theirs.end()
    print("| | case | |\n|---|---|---|")
    for method, case, told in rows:
        shown = repr(case)[1:-1].replace("|", "‸")
        print(f"| {method} | `{shown}` | {told} |")
    same = sum("the same" in told and "only" not in told and "other" not in told for *_, told in rows)
    print(f"\n{same} of {len(rows)} are the same.", file=sys.stderr)


if __name__ == "__main__":
    main()
