"""A reader's side: the lines of a transcript as cells, each a request with what came back for it.

A transcript is what `tee` has kept: requests, answers and notifications in the order in which they went by, or only
those of one direction. Nothing in it is sure to have the shape that docs/protocol.md gives it, so this file asks for
each piece by its kind (`table`, `items`, `text`), and what it does not understand it keeps as a `Stray` line.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]

# What only this method's result has, for answers without an id: control methods are answered out of turn.
_TELLTALES = {
    "ping": "pong",
    "describe": "methods",
    "interrupt": "interrupted",
    "snapshots": "snapshots",
    "output/read": "next_offset",
    "session/list": "sessions",
    "variables": "variables",
    "history": "entries",
    "rollback": "undone",
    "session/clone": "cloned_from",
    "status": "queued",
    "reset": "epoch",
    "restart": "epoch",
}
_OF_UNREADABLE_LINES = (-32700, -32600, -32013)  # errors that answer a line of which no id is known


@dataclass
class Question:
    """What code has asked by ``input()``; `reply` is None until there was one."""

    prompt: str
    hidden: bool  # a password
    reply: str | None = None


@dataclass
class Told:
    """What notifications have said of one execution while it ran."""

    pieces: list[tuple[str, Any]] = field(default_factory=list)  # e.g. [("stdout", "1\n"), ("display", {"data": {}})]
    questions: list[Question] = field(default_factory=list)

    def joined(self) -> Iterator[tuple[str, Any]]:
        """The pieces, neighbours of one stream as one."""
        for kind, pieces in groupby(self.pieces, lambda piece: piece[0]):
            if kind == "display":
                yield from pieces
            else:
                yield kind, "".join(text for _, text in pieces)


@dataclass
class Cell:
    """A request and what came back."""

    method: str  # "" where neither the request nor the answer says which
    params: Json
    seen: bool = True  # the request is in the transcript, not only its answer
    wants_answer: bool = True
    session: str = "default"
    result: Json | None = None  # the answer, or
    refusal: Json | None = None  # the error of the protocol that came instead
    told: Told = field(default_factory=Told)
    undone_by: str = ""  # e.g. "a rollback"
    folded: bool = False  # shown elsewhere: the reply to a question, beside it

    @property
    def answered(self) -> bool:
        return self.result is not None or self.refusal is not None

    @property
    def execution(self) -> bool:
        """Whether this is about code that ran, or should have."""
        return self.method == "execute" or (self.result is not None and _is_execution(self.result))

    @property
    def execution_id(self) -> str:
        return text((self.result or self.params).get("execution_id"))


@dataclass
class Stray:
    """A line that is neither a request nor an answer, or a notification that belongs to no execution."""

    line: str
    number: int  # in its file, from 1
    refusal: Json | None = None  # how the session has answered it


def read(*files: Iterable[bytes]) -> list[Cell | Stray]:
    """The cells of a transcript, in the order of their requests.

    Args:
        files: lines, e.g. open files; the requests' first where they are apart from the answers.
    """
    reader = _Reader(apart=len(files) > 1)
    for lines in files:
        for number, line in enumerate(lines, 1):
            reader.take_line(line.decode("utf-8", "replace").lstrip("\ufeff").strip(), number)
    return reader.finish()


def table(value: object) -> Json:
    """The value if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[Any]:
    """The value if it is a JSON array, else an empty one."""
    return value if isinstance(value, list) else []


def text(value: object) -> str:
    """The value as text: a string as it is, nothing for null, several lines for an array of strings."""
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return "".join(value)
    return value if isinstance(value, str) else "" if value is None else compact(value)


def compact(value: object, indent: int | None = None) -> str:
    """The value as JSON."""
    try:
        return json.dumps(value, ensure_ascii=False, indent=indent)
    except RecursionError:
        return "[nested too deeply to be shown]"


class _Reader:
    def __init__(self, *, apart: bool) -> None:
        self._apart = apart  # the requests are in a file of their own
        self.entries: list[Cell | Stray] = []
        self._waiting: dict[str, deque[Cell]] = {}  # for their answers, by the id as JSON, e.g. {'"r1"': ..., "": ...}
        self._strays: deque[Stray] = deque()  # that were not answered
        self._told: dict[tuple[str, str], Told] = {}  # e.g. {("default", "e3"): ...}, until its cell is known
        self._cells: dict[tuple[str, str], Cell] = {}  # the first of each execution
        self._displays: dict[str, list[Json]] = {}  # by display_id: what an update changes
        self._early_replies: list[Cell] = []  # to questions that come later, as all answers do in a file of their own
        self._takers = {
            "stream": self._take_stream,
            "retry": self._take_retry,
            "display_data": self._take_display,
            "update_display_data": self._take_update,
            "clear_output": lambda params: self._about(params).pieces.clear(),
            "input_request": self._take_question,
        }

    def take_line(self, line: str, number: int) -> None:
        if not line:
            return
        try:
            messages = json.loads(line)
        except (ValueError, RecursionError):
            messages = None
        batch = messages if isinstance(messages, list) else [messages]
        if batch and all(isinstance(message, dict) for message in batch):
            for message in batch:
                self._take(message, line, number)
        else:
            self._add_stray(line, number)

    def finish(self) -> list[Cell | Stray]:
        """What was told of executions whose answer never came goes to the cells that wait for one."""
        cells = [entry for entry in self.entries if isinstance(entry, Cell)]
        waiting = deque(cell for cell in cells if cell.method == "execute" and not cell.answered)
        for (session, execution_id), told in self._told.items():
            if not told.pieces and not told.questions:
                continue
            cell = next((cell for cell in waiting if cell.session == session), None)
            if cell is not None:
                waiting.remove(cell)
            else:
                cell = Cell("execute", {"execution_id": execution_id}, seen=False, session=session)
                self.entries.append(cell)
            cell.told = told
        return self.entries

    def _add_stray(self, line: str, number: int) -> None:
        stray = Stray(line, number)
        self.entries.append(stray)
        if line != "__READY__":
            self._strays.append(stray)

    def _take(self, message: Json, line: str, number: int) -> None:
        """It is a notification (1), a request (2), an answer of JSON-RPC (3), a refusal (4) or a bare answer (5)."""
        method = message.get("method")
        if isinstance(method, str):
            if method in self._takers and "id" not in message:  # 1
                self._takers[method](table(message.get("params")))
            elif method == "ready":  # 1
                self.entries.append(Stray(line, number))
            else:  # 2
                self._add_request(method.removeprefix("repl/"), message)
        elif isinstance(message.get("code"), str) and "status" not in message:  # 2
            self._add_request("execute", message)
        elif "jsonrpc" in message:  # 3
            self._answer(message, message.get("result"), message.get("error"))
        elif message.keys() <= {"id", "error"} and "error" in message:  # 4
            self._answer(message, None, message["error"])
        else:  # 5
            self._answer(message, {key: value for key, value in message.items() if key != "id"}, None)

    # -- requests and answers ------------------------------------------------------------------------------------------

    def _add_request(self, method: str, message: Json) -> None:
        bare = "jsonrpc" not in message
        given = message.get("params")
        if isinstance(given, list):  # by position
            first = "code" if method == "execute" else "0"
            given = {str(place) if place else first: value for place, value in enumerate(given)}
        rest = {name: value for name, value in message.items() if bare and name not in ("id", "method", "params")}
        params = {**rest, **table(given)}
        session = text(params.pop("session_id", None)) or "default"
        cell = Cell(method, params, wants_answer=bare or "id" in message, session=session)
        self.entries.append(cell)
        if cell.wants_answer:
            self._waiting.setdefault(_key(message), deque()).append(cell)
        if method == "input_reply":
            self._reply(cell)

    def _answer(self, message: Json, result: object, refusal: object) -> None:
        refusal = refusal if isinstance(refusal, dict) else None
        if refusal and not _key(message) and refusal.get("code") in _OF_UNREADABLE_LINES and self._strays:
            # Among answers there may be lines of other programs too: then it is the last one that was a request.
            stray = self._strays.popleft() if self._apart else self._strays.pop()
            stray.refusal = refusal
            return
        result = result if isinstance(result, dict) else {"result": result}
        cell = self._take_waiting(_key(message), None if refusal else result)
        if cell is None:
            cell = Cell("" if refusal else _method_of(result), {}, seen=False)
            self.entries.append(cell)
        if refusal:
            cell.refusal = refusal
            return
        cell.result = result
        if _is_execution(result):
            self._file(cell)
        state = table(result.get("session_state")) if _is_execution(result) else result
        why = "a rollback" if cell.method == "rollback" else "the loss of the worker"
        for execution_id in items(state.get("undone")):
            undone = self._cells.get((cell.session, text(execution_id)))
            if undone is not None and undone is not cell:
                undone.undone_by = why

    def _take_waiting(self, key: str, result: Json | None) -> Cell | None:
        """The cell that an answer is for: with an id, the oldest of that id; else the oldest that it may answer."""
        waiting = self._waiting.get(key, deque())
        for place, cell in enumerate(waiting):
            if key or result is None or _fits(cell.method, result):
                del waiting[place]
                return cell
        return None

    def _file(self, cell: Cell) -> None:
        """An execution's id is known only now: what was told of it before is the cell's."""
        result = table(cell.result)
        key = (cell.session, cell.execution_id)
        if not cell.seen:  # an answer does not say of which session it is; what was told before does
            key = next((told for told in self._told if told[1] == cell.execution_id), key)
            cell.session = key[0]
        if key in self._told:
            cell.told = self._told.pop(key)
        self._cells.setdefault(key, cell)
        for output in items(result.get("outputs")):
            self._register(table(output))

    # -- notifications -------------------------------------------------------------------------------------------------

    def _about(self, params: Json) -> Told:
        key = (text(params.get("session_id")) or "default", text(params.get("execution_id")))
        if key not in self._told and key in self._cells:  # its answer was not the last word, e.g. "running"
            return self._cells[key].told
        return self._told.setdefault(key, Told())

    def _take_stream(self, params: Json) -> None:
        kind = "late" if params.get("late") is True else "stderr" if params.get("name") == "stderr" else "stdout"
        self._about(params).pieces.append((kind, text(params.get("text"))))

    def _take_retry(self, params: Json) -> None:
        self._about(params).pieces[:] = [("note", "the code runs again, as its worker was taken away")]

    def _take_display(self, params: Json) -> None:
        self._about(params).pieces.append(("display", params))
        self._register(params)

    def _take_update(self, params: Json) -> None:
        for shown in self._displays.get(_display_id(params), []):
            shown["data"], shown["metadata"] = params.get("data"), params.get("metadata")

    def _take_question(self, params: Json) -> None:
        question = Question(text(params.get("prompt")), hidden=params.get("password") is not False)
        self._about(params).questions.append(question)
        for reply in self._early_replies:
            if reply.params.get("execution_id") in (None, params.get("execution_id")):
                self._early_replies.remove(reply)
                _fill(question, reply)
                return

    def _reply(self, cell: Cell) -> None:
        wanted = cell.params.get("execution_id")
        for (session, execution_id), told in self._told.items():
            for question in told.questions:
                if question.reply is None and session == cell.session and wanted in (None, execution_id):
                    _fill(question, cell)
                    return
        self._early_replies.append(cell)

    def _register(self, display: Json) -> None:
        display_id = _display_id(display)
        if display_id:
            self._displays.setdefault(display_id, []).append(display)


def _key(message: Json) -> str:
    return "" if message.get("id") is None else compact(message["id"])


def _is_execution(result: Json) -> bool:
    return "status" in result and "stdout" in result


def _fits(method: str, result: Json) -> bool:
    """Whether a result may be that of a method."""
    if method in ("execute", "wait"):
        return _is_execution(result)
    return _TELLTALES[method] in result if method in _TELLTALES else not _is_execution(result)


def _method_of(result: Json) -> str:
    if _is_execution(result):
        return "execute"
    return next((method for method, telltale in _TELLTALES.items() if telltale in result), "")


def _display_id(display: Json) -> str:
    return text(table(display.get("transient")).get("display_id"))


def _fill(question: Question, reply: Cell) -> None:
    question.reply = "(the end of input)" if reply.params.get("eof") is True else text(reply.params.get("value"))
    reply.folded = True
