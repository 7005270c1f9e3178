"""The page that `view` makes of a transcript: what it says, and that it runs and fetches nothing."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from html import unescape
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from harness import BOUND, FRONT_DOOR, Session

from json_repl.view.transcript import read

for name in ("jinja2", "markdown_it", "nh3", "pygments"):
    pytest.importorskip(name, reason="the extra `view` is not installed")

rich, texts, pages = (import_module(f"json_repl.view.{name}") for name in ("rich", "texts", "page"))

Start = Callable[..., Session]

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
VOID = {"meta", "img", "br", "hr", "wbr", "col"}


class Page(HTMLParser):
    """A page as a browser reads it.

    Attributes:
        tags: each with its attributes, e.g. [("a", {"href": "#c1"})].
        cells: the text of each, by its label or headline, e.g. {"e1": "e1 1 + 1 2"}.
        classes: of each cell, e.g. {"e1": {"execution", "undone"}}.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: dict[str, str] = {}
        self.classes: dict[str, set[str]] = {}
        self._open: list[str] = []
        self._cell: tuple[set[str], list[str]] = (set(), [])
        self.feed(html)
        self.close()
        assert self._open == [], "a tag is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "article":
            self._cell = (set((dict(attrs)["class"] or "").split()), [])

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"{tag} is not closed where it should be"
        if tag == "article":
            classes, words = self._cell
            label = next(word.strip() for word in words if word.strip())
            label += "'" if label in self.cells else ""  # of another session
            self.cells[label] = " ".join("".join(words).split())
            self.classes[label] = classes

    def handle_data(self, data: str) -> None:
        if "article" in self._open:
            self._cell[1].append(data)


def page_of(*messages: Any, requests: Iterable[Any] = ()) -> Page:
    """The page of messages, each a line: a JSON value, or bytes as they are."""
    files = [
        [line if isinstance(line, bytes) else json.dumps(line).encode() for line in each]
        for each in (requests, messages)
    ]
    return Page(pages.render(read(*filter(None, files)), "A title"))


def view(*args: str, given: bytes = b"") -> tuple[str, str, int]:
    """Run the command: stdout, stderr and the exit status."""
    done = subprocess.run(
        [sys.executable, str(FRONT_DOOR), "view", *args], input=given, capture_output=True, timeout=BOUND, check=False
    )
    return done.stdout.decode(), done.stderr.decode(), done.returncode


def record(session: Session, *requests: Any) -> bytes:
    """The transcript of requests that are sent one after the other."""
    lines = [session.read_line()]
    for request in requests:
        lines.append(json.dumps(request).encode())
        session.write(lines[-1] + b"\n")
        lines.append(session.read_line())
        while b'"method"' in lines[-1][:40]:
            lines.append(session.read_line())
    return b"\n".join(lines) + b"\n"


def answer(execution_id: str = "e1", **fields: Any) -> dict[str, Any]:
    """An answer of `execute`."""
    whole = {"status": "ok", "reason": None, "execution_id": execution_id, "stdout": "", "stderr": "", "result": None}
    return {**whole, "data": None, "outputs": [], "error": None, **fields}


# -- real sessions -----------------------------------------------------------------------------------------------------


def test_a_page_tells_what_was_asked_and_what_came_back(start: Start, backend: str) -> None:
    transcript = record(
        start(backend),
        {"code": "x = 41  # <b>"},
        {"id": 7, "code": "print('to stdout'); import sys; print('to stderr', file=sys.stderr); x + 1"},
        {"jsonrpc": "2.0", "id": "r", "method": "execute", "params": {"code": "def f():\n    return 1 / 0\nf()"}},
        {"code": "print('told', flush=True)", "stream": True},
        {"method": "variables"},
        {"method": "reset"},
        {"jsonrpc": "2.0", "id": 1, "method": "no/such"},
    )
    html, stderr, status = view(given=transcript)
    assert (stderr, status) == ("", 0)
    cells = Page(html).cells
    assert list(cells) == ["The session is ready", "e1", "e2", "e3", "e4", "variables", "reset", "no/such"]
    assert "x = 41 # <b>" in cells["e1"]
    assert re.search("to stdout stderr to stderr 42 .*ms", cells["e2"])
    assert cells["e3"].count("ZeroDivisionError: division by zero") == 2  # above the traceback, and in it
    assert re.search("in f return 1 / 0", cells["e3"]) and "exception" in cells["e3"]
    assert cells["e4"].count("told") == 2 and "stream: true" in cells["e4"]
    assert '"name": "x"' in cells["variables"]
    assert "begins anew" in cells["reset"] and "method_not_found" in cells["no/such"]


def test_what_became_of_the_state_is_marked_in_the_flow(start: Start) -> None:
    session = start("worker", env={"JSON_REPL_SNAPSHOTS": "always"})
    transcript = record(
        session,
        {"code": "x = 1"},
        {"code": "x = 2"},
        {"code": "import os; os._exit(3)"},
        {"method": "rollback", "to": 1},
        {"code": "y = x", "dry_run": True},
        {"code": "x = 3; 1 / 0", "on_error": "rollback"},
        {"method": "session/clone", "new_session_id": "second"},
        {"code": "x", "session_id": "second"},
    )
    page = Page(view(given=transcript)[0])
    undone = {label for label, classes in page.classes.items() if "undone" in classes}
    assert {"e2"} <= undone and not {"e1", "e4", "e5"} & undone
    assert "undone by a rollback" in page.cells["e2"]
    assert "crash" in page.cells["e3"] and "as it was before this request" in page.cells["e3"]
    assert "again as it was after e1" in page.cells["rollback"] and "e2" in page.cells["rollback"]
    assert "dry run, thrown away: added y" in page.cells["e4"]
    assert "as it was before this request" in page.cells["e5"]
    assert "second, goes on from" in page.cells["session/clone"]
    assert any("session second x 1" in cell for cell in page.cells.values())


def test_what_was_asked_by_input_and_replied_stands_beside_the_code(start: Start) -> None:
    session = start("local")
    lines = [session.read_line()]

    def go_on(*requests: Any) -> None:
        for request in requests:
            lines.append(json.dumps(request).encode())
            session.write(lines[-1] + b"\n")

    def follow(end: bytes) -> None:
        lines.append(session.read_line())
        while end not in lines[-1]:
            lines.append(session.read_line())

    go_on({"code": "import getpass; (input('Who? '), len(getpass.getpass('Key? ')))", "allow_stdin": True})
    follow(b"Who? ")
    go_on({"method": "input_reply", "value": "Ada"})
    follow(b"Key? ")
    go_on({"method": "input_reply", "value": "opensesame"})
    follow(b'"execution_count"')
    page = page_of(*lines)
    assert re.search("Who\\? .*Ada .*Key\\? .*('Ada', 10)", page.cells["e1"])
    assert "opensesame" not in page.html
    assert list(page.cells) == ["The session is ready", "e1"]


# -- which answer is whose ---------------------------------------------------------------------------------------------


def test_answers_find_their_requests_by_id_by_kind_and_by_turn() -> None:
    page = page_of(
        {"code": "first"},
        {"id": 1, "code": "second"},
        {"method": "ping"},
        {"jsonrpc": "2.0", "id": "1", "method": "execute", "params": ["third"]},
        {"code": "fourth"},
        {"pong": True},
        {"jsonrpc": "2.0", "id": "1", "result": answer("e3", result="3")},
        {"id": 1, **answer("e2", result="2")},
        answer("e1", result="1"),
        {"id": None, "error": {"code": -32010, "message": "it is busy"}},
    )
    found = {label: cell for label, cell in page.cells.items() if label != "ping"}
    assert [cell.split() for cell in found.values()][:3] == [
        ["e1", "first", "1"],
        ["e2", "second", "2"],
        ["e3", "third", "3"],
    ]
    assert "fourth" in found["code"] and "it is busy" in found["code"]
    assert "pong" in page.cells["ping"]


def test_requests_may_be_in_a_file_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "in").write_text(
        '{"code": "6 * 7"}\nnot JSON\n{"code": "input()"}\n{"method": "input_reply", "value": "typed"}\n'
    )
    lines = [
        answer("e1", result="42"),
        {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "it is no JSON"}},
        {
            "jsonrpc": "2.0",
            "method": "input_request",
            "params": {"execution_id": "e2", "prompt": "?", "password": False},
        },
        {},
        answer("e2", result="'typed'"),
    ]
    (tmp_path / "out").write_text("".join(json.dumps(line) + "\n" for line in lines))
    html, _, status = view("--requests", str(tmp_path / "in"), str(tmp_path / "out"), "--title", "Two files")
    page = Page(html)
    assert status == 0 and "<title>Two files</title>" in html
    assert list(page.cells) == ["e1", "line 2", "e2"]
    assert "6 * 7 42" in page.cells["e1"]
    assert "it is no JSON" in page.cells["line 2"]
    assert re.search("\\?.* typed 'typed'", page.cells["e2"])


def test_answers_alone_are_shown_without_their_code() -> None:
    page = page_of(answer("e1", stdout="hello"), {"pong": True}, {"undone": ["e1"], "execution_id": "e0", "epoch": 1})
    assert "hello" in page.cells["e1"] and "request is not in this transcript" in page.cells["e1"]
    assert "pong" in page.cells["ping"]
    assert "Undone: e1" in page.cells["rollback"] and "undone" in page.classes["e1"]


def test_a_batch_is_its_requests() -> None:
    batch = [{"jsonrpc": "2.0", "id": n, "method": "execute", "params": {"code": f"{n}"}} for n in (1, 2)]
    page = page_of(batch, [{"jsonrpc": "2.0", "id": n, "result": answer(f"e{n}")} for n in (2, 1)])
    assert {label: cell.split()[1] for label, cell in page.cells.items()} == {"e1": "1", "e2": "2"}


def test_a_request_without_an_answer_is_marked_and_shows_what_was_told() -> None:
    def told(method: str, **params: Any) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "method": method, "params": {"execution_id": "e4", "session_id": "default", **params}}

    shown = {"data": {"text/plain": "at first"}, "transient": {"display_id": "d"}}
    page = page_of(
        {"code": "work()", "stream": True},
        told("stream", name="stdout", text="void"),
        told("retry", attempt=2),
        told("stream", name="stdout", text="one "),
        told("stream", name="stdout", text="two"),
        told("display_data", **shown),
        told("update_display_data", **{**shown, "data": {"text/plain": "at last"}}),
        {"jsonrpc": "2.0", "method": "execute", "params": {"code": "a notification"}},
    )
    first, second = page.html.split("<article")[1:]
    assert "no answer" in first and "runs again" in first and "one two" in first and "at last" in first
    assert "void" not in first and "at first" not in first
    assert "no answer" not in second


@pytest.mark.parametrize(
    ("piece", "shown"),
    [({"name": "stdout", "text": "a\n"}, "a"), ({"name": "stdout", "text": "b", "late": True}, "printed later b")],
)
def test_output_that_an_answer_leaves_out_is_shown_where_it_was_told(piece: dict[str, Any], shown: str) -> None:
    stream = {"jsonrpc": "2.0", "method": "stream", "params": {"execution_id": "e1", **piece}}
    page = page_of({"code": "1"}, stream, answer(stdout="cut", truncated=True))
    assert shown in page.cells["e1"] and "cut" not in page.cells["e1"]
    assert "more output than the answer holds" in page.cells["e1"]


# -- lines that are something else -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe garbage",
        b"[]",
        b"[1, {}]",
        b"null",
        b'"text"',
        b"1e999",
        b"[" * 100_000,
        b"9" * 10_000,
        b'{"a":',
        b"\x00",
    ],
)
def test_a_line_that_is_no_message_is_shown_as_it_is(line: bytes) -> None:
    page = page_of({"code": "1"}, line, answer())
    assert list(page.cells) == ["e1", "line 2"]


ODD = [None, True, -1, 1e308, float("nan"), "", "text \ud800 \x00 <b>", [], [[]], [None, {"a": 1}], {}, {"": {"": []}}]


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_no_field_can_hold_anything_that_a_page_fails_for(odd: Any) -> None:
    whole = answer(
        error={"ename": "E", "evalue": "v", "traceback": ["t"], "stacks": ["s"], "signal": "S"},
        session_state={"state": "lost", "undone": ["e1"], "lost_names": ["x"], "lost_count": 3, "threads_lost": 1},
        usage={"elapsed_ms": 1, "cpu_ms": 1, "max_rss_bytes": 1},
        outputs=[{"data": {"text/html": "<b>", "image/png": PNG}, "metadata": {}, "transient": {"display_id": "d"}}],
        data=dict.fromkeys([*rich.RENDERERS, "x/y"], "x"),
        changes={"added": ["x"]},
        fallback={"reason": "r", "message": "m"},
        attempts=2,
        late_output="late",
        timestamp="now",
    )
    told = {"execution_id": "e1", "session_id": "s", "name": "stdout", "text": "t", "data": {}, "transient": {}}
    messages: list[Any] = [
        {"id": 1, "code": "1", "session_id": "s"},
        {"jsonrpc": "2.0", "id": 1, "method": "execute", "params": {"code": "1"}},
        *({"jsonrpc": "2.0", "method": name, "params": told} for name in ("stream", "display_data", "input_request")),
        {"jsonrpc": "2.0", "id": 1, "result": whole},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "m", "data": {"reason": "r"}}},
        {"id": 1, **whole},
        *({"method": method} for method in ("rollback", "reset", "session/clone", "interrupt", "input_reply")),
        {"undone": ["e1"], "execution_id": "e1", "epoch": 1},
        {"epoch": 1},
        {"cloned_from": "a", "session_id": "s"},
        {"interrupted": True},
    ]
    for number, message in enumerate(messages):
        for variant in _with_each_replaced(message, odd):
            assert "</html>" in page_of(*messages[:number], variant, *messages[number + 1 :]).html


def _with_each_replaced(value: Any, odd: Any) -> Iterable[Any]:
    """The value with another one in place of each of its parts, at any depth."""
    yield odd
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        for inner in _with_each_replaced(value[key], odd):
            copy = value.copy()
            copy[key] = inner
            yield copy


def test_what_the_session_said_on_a_line_stands_beside_that_line() -> None:
    refusal = {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "it is no JSON"}}
    page = page_of(b"a line of a log", {"code": "1"}, answer(), b"{nonsense", refusal)
    assert "it is no JSON" in page.cells["line 4"] and "it is no JSON" not in page.cells["line 1"]


def test_an_empty_transcript_gives_a_page_that_says_so() -> None:
    assert "nothing in this transcript" in page_of().html


# -- nothing runs, nothing is fetched ----------------------------------------------------------------------------------

HOSTILE = [
    "<script>alert(1)</script>",
    "</pre></article></style></title><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<img src=https://example.org/x.png><img src=//example.org/x.png><img src=file:///etc/passwd>",
    "<img src='data:text/html,<script>alert(1)</script>'>",
    "<svg onload=alert(1)><script>alert(1)</script></svg>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe><object data=x></object><embed src=x>",
    "<a href='javascript:alert(1)'>a</a><a href='data:text/html,x'>b</a><a href=' java\nscript:x'>c</a>",
    "<style>* { display: none }</style><p style='position: fixed' class='mark' id='c1'>x</p>",
    "<link rel=stylesheet href=https://example.org/x.css><meta http-equiv=refresh content='0;url=https://example.org'>",
    "<base href=https://example.org><form action=https://example.org><input name=a></form>",
    "<math><mi xlink:href='javascript:alert(1)'>x</mi></math><video src=x autoplay></video>",
    "![x](https://example.org/x.png) [y](javascript:alert(1)) <script>alert(1)</script>",
    "' onerror=alert(1) \" onerror=alert(1) x=",
    "{{ 7 * 7 }} {% include 'page.css' %}",
]
MIMES = [
    "text/html",
    "text/markdown",
    "image/svg+xml",
    "image/png",
    "text/latex",
    "application/json",
    "text/plain",
    "x/y",
]


def assert_inert(page: Page) -> None:
    """No tag of the page can run or fetch anything, and its policy forbids it before there is any content."""
    assert {tag for tag, _ in page.tags} <= {
        *("html", "head", "meta", "title", "style", "body", "header", "h1", "h2", "h3", "nav", "main", "article"),
        *("div", "pre", "span", "p", "a", "img", "details", "summary"),
        *("ul", "li", "strong", "em", "code", "table", "thead", "tbody", "tr", "th", "td", "b", "br", "hr"),
    }
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name not in ("src", "srcset", "srcdoc", "data", "action", "href") or re.match(
                {"img": "data:image/", "a": "#|https?://|mailto:"}[tag], value or ""
            ), (tag, name, value)
            assert name != "style" or re.fullmatch(r"[a-z:;0-9. (),#-]*", value or "")
    metas = [attributes for tag, attributes in page.tags if tag == "meta"]
    assert metas[0] == {"charset": "utf-8"}
    policy = dict(part.strip().split(" ", 1) for part in (metas[1]["content"] or "").split(";"))
    assert metas[1]["http-equiv"] == "Content-Security-Policy"
    assert policy["default-src"] == "'none'" and policy["img-src"] == "data:" and "script-src" not in policy


@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_code_has_made_neither_runs_nor_fetches(hostile: str) -> None:
    error = {"ename": hostile, "evalue": hostile, "traceback": [hostile], "stacks": [hostile]}
    page = page_of(
        hostile.encode().replace(b"\n", b" "),
        {"code": hostile, "session_id": hostile, "filename": hostile},
        {**answer(stdout=hostile, stderr=hostile, result=hostile, late_output=hostile), "error": error},
        {"code": "1"},
        {
            **answer("e2", data={"text/html": hostile}),
            "outputs": [{"data": {mime: hostile}, "metadata": {mime: {"width": hostile}}} for mime in MIMES],
            "session_state": {"state": "lost", "lost_names": [hostile], "undone": [hostile]},
            "fallback": {"message": hostile},
        },
        {"method": hostile, hostile: hostile},
        {hostile: hostile},
    )
    assert_inert(page)
    assert "<title>A title</title>" in page.html
    assert sum(tag == "article" for tag, _ in page.tags) == len(re.findall("<article ", page.html)) >= 4


def test_the_style_of_the_page_is_its_own() -> None:
    page = page_of({"code": "1"}, answer(data={"text/html": "<p class='mark' id='c1' style='color: red'>x</p>"}))
    assert "<p>x</p>" in page.html


# -- values by their MIME type -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"text/html": "<table><tr><th>a</th></tr></table>", "text/plain": "no"}, "<table>.*<th>a</th>"),
        ({"text/html": ["<b>", "x</b>"]}, "<b>x</b>"),
        ({"text/html": "<script>draw()</script>", "text/plain": "a plot"}, "a plot.*not shown: text/html"),
        ({"text/html": "<i>" * 50_000, "text/plain": "too much"}, "too much.*not shown: text/html"),
        (
            {"image/png": PNG, "text/plain": 'a "figure"'},
            f'<img alt="a &#34;figure&#34;" src="data:image/png;base64,{PNG}">',
        ),
        ({"image/jpeg": f" {PNG}\n"}, f'src="data:image/jpeg;base64,{PNG}"'),
        ({"image/png": "not base64!", "text/plain": "a figure"}, "a figure.*not shown: image/png"),
        ({"image/svg+xml": "<svg></svg>"}, 'src="data:image/svg\\+xml;base64,'),
        ({"text/markdown": "# Title\n\n| a |\n|---|\n| 1 |\n"}, "<h1>Title</h1>.*<td>1</td>"),
        ({"text/latex": "$\\frac{1}{2}$"}, "frac"),
        ({"application/json": {"key": [1, None]}}, "key.*null"),
        ({"application/vnd.vega+json": {}, "text/plain": "<Chart>"}, "&lt;Chart&gt;.*not shown: application/vnd.vega"),
        ({"application/javascript": "draw()"}, "not shown: application/javascript"),
        ({"text/plain": "1 < 2"}, "1 &lt; 2"),
    ],
)
def test_of_a_value_the_richest_kind_is_shown_that_needs_no_script(data: dict[str, Any], expected: str) -> None:
    for cell in (answer(outputs=[{"data": data}]), answer(result=data.get("text/plain", "no"), data=data)):
        article = page_of({"code": "1"}, cell).html.split("<article")[1]
        assert re.search(expected, article, re.DOTALL), article
        assert ">no<" not in article


def test_an_image_is_as_large_as_its_metadata_says() -> None:
    image = {"data": {"image/png": PNG}, "metadata": {"image/png": {"width": 320, "height": 20.4}}}
    assert 'width="320" height="20"' in rich.show(image)


def test_a_display_that_is_updated_shows_its_last_state() -> None:
    shown = {"data": {"text/plain": "at first"}, "metadata": {}, "transient": {"display_id": "d"}}
    update = {"execution_id": "e2", "data": {"text/plain": "at last"}, "transient": {"display_id": "d"}}
    page = page_of(
        {"code": "1"}, answer(outputs=[shown]), {"jsonrpc": "2.0", "method": "update_display_data", "params": update}
    )
    assert "at last" in page.cells["e1"] and "at first" not in page.html


# -- text --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[31mred\x1b[0m plain", '<span style="color:var(--ansi-1)">red</span> plain'),
        ("\x1b[1;92mx\x1b[22;39my", '<span style="font-weight:700;color:var(--ansi-10)">x</span>y'),
        ("\x1b[44mx", '<span style="color:#fff;background:var(--ansi-ground-4)">x</span>'),
        ("\x1b[30;47mx", '<span style="color:var(--ansi-0);background:var(--ansi-ground-7)">x</span>'),
        ("\x1b[7mx\x1b[27my", '<span style="color:var(--ground);background:var(--ink)">x</span>y'),
        ("\x1b[38;5;208mx", '<span style="color:rgb(255,135,0)">x</span>'),
        ("\x1b[48;5;255mx", '<span style="color:#000;background:rgb(238,238,238)">x</span>'),
        ("\x1b[38;2;1;2;999mx", '<span style="color:rgb(1,2,255)">x</span>'),
        ("\x1b[38mx\x1b[38;5;999my", "xy"),
        ("\x1b[2K\x1b[10;5H\x1b]0;title\x07\x1b]8;;https://example.org\x1b\\x\x1b(B", "x"),
        ("\x1b[31", "⟨U+001B⟩[31"),
        ("10 %\r20 %\r30 %\nend\r\n", "30 %\nend"),
        ("\x00\x07\u202eabc\u2066", "⟨U+0000⟩⟨U+0007⟩⟨U+202E⟩abc⟨U+2066⟩"),
        ("half \ud83d", "half ⟨U+D83D⟩"),
        ("\n  kept\ttab", "\n  kept\ttab"),
        ("日本 🎉 <&>", "日本 🎉 &lt;&amp;&gt;"),
    ],
)
def test_text_looks_as_a_terminal_would_show_it(text: str, expected: str) -> None:
    shown = texts.terminal(text)
    assert shown == f'<pre class="text">\n{expected}</pre>'
    assert "\ud83d" not in shown


def test_of_text_that_is_too_long_both_ends_are_shown() -> None:
    shown = texts.terminal("a" * texts.MOST_CHARACTERS + "b" * texts.MOST_CHARACTERS)
    assert len(shown) < 1.1 * texts.MOST_CHARACTERS
    assert "a\n\n[1,000,000 characters are not shown here]\n\nb" in shown
    assert "2,000,000 characters" in shown


def test_code_is_highlighted_and_no_character_of_it_is_lost() -> None:
    code = "\n\n@f\ndef g(x):\n\treturn f'{x!r:>{w}}' # <é>\n\n"
    page = page_of({"code": code}, answer())
    assert '<span class="k">def</span>' in page.html
    assert unescape(re.sub("<[^>]*>", "", texts.code(code, "python"))).strip("\n") == code.strip("\n")
    assert texts.code(code, "python").count("\n") == code.count("\n")


def test_a_traceback_is_shown_whole_whatever_it_holds() -> None:
    odd = 'File "a", line 2 in b\n  File "c", line 3 in d\nno colon'  # pygments' lexer for tracebacks loops for ever
    page = page_of({"code": "1"}, answer(status="error", error={"ename": "E", "evalue": "v", "traceback": [odd]}))
    assert "no colon" in page.cells["e1"] and 'File "c", line 3 in d' in page.cells["e1"]


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_page_goes_to_a_file_or_to_stdout(tmp_path: Path) -> None:
    transcript = tmp_path / "talk.jsonl"
    transcript.write_text(json.dumps({"code": "'\ud800'"}) + "\n")
    html, stderr, status = view(str(transcript))
    assert (stderr, status) == ("", 0) and "<title>talk.jsonl</title>" in html
    out = tmp_path / "page.html"
    assert view(str(transcript), "-o", str(out)) == ("", "", 0)
    assert out.read_text("utf-8") == html
    assert view("-o", str(transcript), str(transcript))[2] == 0  # read first, then written
    assert transcript.read_text("utf-8") == html


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["view", "no/such/file"], "no/such/file"),
        (["view", "-", "-o", "no/such/folder/page.html"], "no/such/folder"),
        (["view", "--worker"], "--worker"),
        (["--worker", "view"], "view starts no session"),
        (["-e", "1", "view"], "view starts no session"),
        (["sight"], "sight"),
    ],
)
def test_a_mistake_ends_with_one_line_that_names_it(args: list[str], word: str) -> None:
    done = subprocess.run(
        [sys.executable, str(FRONT_DOOR), *args], input=b"", capture_output=True, timeout=BOUND, check=False
    )
    assert done.returncode in (1, 2) and done.stdout == b""
    assert word in done.stderr.decode() and done.stderr.count(b"\n") == 1


def test_view_loads_nothing_of_a_session_and_a_session_nothing_of_view() -> None:
    loaded = {}
    for command in (["view"], ["--local", "-e", "1"]):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", str(FRONT_DOOR), *command],
            input=b"",
            capture_output=True,
            timeout=BOUND,
            check=True,
        )
        loaded[command[0]] = set(re.findall(r"\|\s+([\w.]+)\n", done.stderr.decode()))
    assert not {"psutil", "json_repl.parent.server", "worker_manager"} & loaded["view"]
    assert "json_repl.parent.server" in loaded["--local"]
    assert not {name for name in loaded["--local"] if name.startswith(("jinja2", "pygments", "nh3", "json_repl.view"))}


def test_a_page_for_a_terminal_is_refused() -> None:
    parent, child = os.openpty()
    try:
        done = subprocess.run(
            [sys.executable, str(FRONT_DOOR), "view"],
            stdin=subprocess.DEVNULL,
            stdout=child,
            stderr=subprocess.PIPE,
            timeout=BOUND,
            check=False,
        )
    finally:
        os.close(parent)
        os.close(child)
    assert done.returncode == 2 and b"-o FILE" in done.stderr
