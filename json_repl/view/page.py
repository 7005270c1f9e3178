"""A reader's side: the page: what is said of each cell, in words, blocks and marks; page.html lays it out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from json_repl.view import rich, texts
from json_repl.view.transcript import Cell, Json, Stray, compact, items, table, text

_LIGHT, _DARK = "default", "github-dark"  # of pygments' styles
_MOST_OF_A_VALUE = 60  # characters, of a parameter beside the code
_MOST_OF_A_HEADLINE = 300
_SHORT = 200  # characters of JSON: more are folded

_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass
class Shown:
    """A cell as the page shows it."""

    kind: str  # "execution", or "event": one line in the flow, or "stray"
    anchor: str
    label: str  # e.g. "e3"
    headline: str = ""  # of an event
    undone_by: str = ""
    code: Markup | None = None
    chips: list[tuple[str, str]] = field(default_factory=list)  # e.g. [("bad", "timeout"), ("", "silent: true")]
    blocks: list[tuple[str, str, Markup]] = field(default_factory=list)  # e.g. [("stdout", "", Markup("<pre>..."))]
    marks: list[tuple[str, str]] = field(default_factory=list)  # what became of the state, e.g. [("lost", "...")]
    foot: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        return any(kind == "bad" for kind, _ in self.chips)


def render(entries: list[Cell | Stray], title: str) -> str:
    """The page as HTML that needs nothing beside itself."""
    shown = [_show(entry, f"c{number}") for number, entry in enumerate(entries, 1) if not _is_elsewhere(entry)]
    template = _environment.get_template("page.html")
    return template.render(
        title=title,
        entries=shown,
        executions=sum(entry.kind == "execution" for entry in shown),
        seconds=sum(_elapsed_ms(entry) for entry in entries if isinstance(entry, Cell)) / 1000,
        light=Markup(texts.colours(_LIGHT)),
        dark=Markup(texts.colours(_DARK)),
    )


def _is_elsewhere(entry: Cell | Stray) -> bool:
    return isinstance(entry, Cell) and entry.folded and entry.refusal is None


def _show(entry: Cell | Stray, anchor: str) -> Shown:
    if isinstance(entry, Stray):
        return _show_stray(entry, anchor)
    shown = _show_execution(entry, anchor) if entry.execution else _show_event(entry, anchor)
    if entry.session != "default":
        shown.chips.insert(0, ("session", f"session {entry.session}"))
    if entry.refusal is not None:
        shown.chips.append(("bad", text(table(entry.refusal.get("data")).get("reason")) or "refused"))
        shown.blocks.append(("error", "", _headline(text(entry.refusal.get("message")) or compact(entry.refusal))))
    elif not entry.answered and entry.wants_answer:
        shown.chips.append(("odd", "no answer"))
    if not entry.seen:
        shown.chips.append(("", "the request is not in this transcript"))
    return shown


def _show_stray(stray: Stray, anchor: str) -> Shown:
    if "__READY__" in stray.line:
        return Shown("event", anchor, "", headline="The session is ready")
    shown = Shown("stray", anchor, f"line {stray.number}", code=texts.terminal(stray.line))
    if stray.refusal is not None:
        shown.chips.append(("bad", text(table(stray.refusal.get("data")).get("reason")) or "refused"))
        shown.blocks.append(("error", "", _headline(text(stray.refusal.get("message")))))
    return shown


# -- code that ran -----------------------------------------------------------------------------------------------------


def _show_execution(cell: Cell, anchor: str) -> Shown:
    result = cell.result or {}
    code = cell.params.get("code")
    return Shown(
        "execution",
        anchor,
        cell.execution_id or "code",
        undone_by=cell.undone_by,
        code=texts.code(code, "python") if isinstance(code, str) else None,
        chips=[*([("", "wait")] if cell.method == "wait" else []), *_parameters(cell, {"code"}), *_ends(result)],
        blocks=list(_blocks(cell, result)),
        marks=list(_marks(cell, result)),
        foot=list(_foot(result)),
    )


def _parameters(cell: Cell, elsewhere: set[str]) -> Iterator[tuple[str, str]]:
    for name, value in cell.params.items():
        if name in elsewhere and isinstance(value, str):
            continue
        if cell.method == "input_reply" and name == "value":
            value = "•••"  # the question is not known, so it may be a password's
        said = value if isinstance(value, str) else compact(value)
        yield "", f"{name}: {said if len(said) <= _MOST_OF_A_VALUE else said[:_MOST_OF_A_VALUE] + ' …'}"


def _ends(result: Json) -> Iterator[tuple[str, str]]:
    if result.get("status") == "running":
        yield "odd", "still running"
    elif result.get("status") == "error":
        error = table(result.get("error"))
        yield "bad", " · ".join(filter(None, [text(result.get("reason")) or "error", text(error.get("signal"))]))
    if type(result.get("attempts")) is int and result["attempts"] > 1:
        yield "odd", f"ran {result['attempts']} times"


def _blocks(cell: Cell, result: Json) -> Iterator[tuple[str, str, Markup]]:
    """What there is to read below the code, in the order in which it came about, as far as that is known."""
    error = table(result.get("error"))
    late = text(result.get("late_output"))
    if late:
        yield "late", "printed since the answer before", texts.terminal(late)
    for question in cell.told.questions:
        reply = "no reply" if question.reply is None else "•••" if question.hidden else question.reply
        yield "asked", "input", texts.terminal(f"{question.prompt}⟵ {reply}")
    # The answer holds all of it, but where it was too much, or where there is none.
    whole = result and result.get("truncated") is not True
    for kind, value in _output(result) if whole or not cell.told.pieces else cell.told.joined():
        if kind == "display":
            yield "display", "", rich.show(value)
        elif value:
            yield kind, {"stderr": "stderr", "late": "printed later"}.get(kind, ""), texts.terminal(value)
    if rich.is_rich(table(result.get("data"))):
        yield "result", "", rich.show({"data": result["data"]})
    elif result.get("result") is not None:
        yield "result", "", texts.terminal(text(result["result"]))
    if error:
        yield "error", "", _error(error)


def _output(result: Json) -> Iterator[tuple[str, Any]]:
    """The output in an answer."""
    stderr, error = text(result.get("stderr")), table(result.get("error"))
    if error:  # its text ends stderr, for clients that show nothing else
        stderr = stderr.removesuffix(_traceback(error))
    yield "stdout", text(result.get("stdout"))
    yield "stderr", stderr.strip("\n")
    for output in items(result.get("outputs")):
        yield "display", table(output)


def _traceback(error: Json) -> str:
    return text(error.get("traceback")) or f"{text(error.get('ename'))}: {text(error.get('evalue'))}\n"


def _error(error: Json) -> Markup:
    summary = f"{text(error.get('ename'))}: {text(error.get('evalue'))}"
    traceback = _traceback(error)
    shown = _headline(summary)
    if traceback.strip() not in (summary, text(error.get("ename"))):
        shown += texts.traceback(traceback)
    stacks = error.get("stacks")
    if stacks:
        stacks = "\n".join(map(text, stacks)) if isinstance(stacks, list) else text(stacks)
        shown += _folded("what every thread did", texts.traceback(stacks))
    return shown


def _headline(message: str) -> Markup:
    if len(message) > _MOST_OF_A_HEADLINE:
        message = message[:_MOST_OF_A_HEADLINE] + " …"
    return Markup('<p class="headline">{}</p>').format(message.translate(texts.VISIBLE))


def _folded(summary: str, inner: Markup) -> Markup:
    return Markup("<details><summary>{}</summary>{}</details>").format(summary, inner)


def _marks(cell: Cell, result: Json) -> Iterator[tuple[str, str]]:
    """What became of the session's state."""
    state = table(result.get("session_state"))
    undone = ", ".join(map(text, items(state.get("undone"))))
    if cell.undone_by:
        yield "undone", f"What this did was undone by {cell.undone_by}."
    if state.get("state") == "restored":
        yield (
            "restored",
            "The state is as it was before this request." + (f" Undone with it: {undone}." if undone else ""),
        )
    elif state.get("state") == "lost":
        names = [text(name) for name in items(state.get("lost_names"))]
        more = state["lost_count"] - len(names) if type(state.get("lost_count")) is int else 0
        names += [f"{more} more"] if more > 0 else []
        yield "lost", "The state is lost" + (f": {', '.join(names)}." if names else ".")
    if state.get("threads_lost"):
        yield "lost", f"Threads that are lost: {text(state['threads_lost'])}."
    if result.get("changes") is not None:
        changes = {kind: ", ".join(map(text, items(names))) for kind, names in table(result["changes"]).items()}
        said = "; ".join(f"{kind} {names}" for kind, names in changes.items() if names)
        yield "tried", f"A dry run, thrown away: {said or 'no name changed'}."
    if result.get("fallback"):
        why = text(table(result["fallback"]).get("message")) or text(result["fallback"])
        yield "lost", f"It ran in the session's own process: {why}."
    if result.get("truncated") is True:
        yield "cut", "There was more output than the answer holds."


def _foot(result: Json) -> Iterator[str]:
    usage = table(result.get("usage"))
    for name, key in (("", "elapsed_ms"), ("cpu ", "cpu_ms")):
        value = _number(usage.get(key))
        if value is not None:
            yield f"{name}{value:,.0f} ms" if value >= 10 else f"{name}{value:.2g} ms"
    memory = _number(usage.get("max_rss_bytes"))
    if memory:
        yield f"{memory / 2**20:,.0f} MiB"
    yield from filter(None, (text(result.get("backend")), text(result.get("timestamp")).replace("T", " ")))


def _elapsed_ms(cell: Cell) -> float:
    result = cell.result or {}
    if result.get("status") == "running":  # its last answer tells
        return 0.0
    return _number(table(result.get("usage")).get("elapsed_ms")) or 0.0


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and 0 <= value < 1e15 else None


# -- everything else ---------------------------------------------------------------------------------------------------


def _show_event(cell: Cell, anchor: str) -> Shown:
    """A request that is about the session; what changed its state is a mark in the flow."""
    shown = Shown("event", anchor, "", headline=cell.method or "answer", chips=list(_parameters(cell, set())))
    result = cell.result
    if result is None:
        return shown
    sentence = _sentence(cell, result)
    if sentence:
        shown.marks.append(("turn", sentence))
    elif result:
        shown.blocks.append(("json", "", _json(result)))
    return shown


def _json(result: Json) -> Markup:
    short, long = compact(result), compact(result, indent=2)
    if len(short) <= _SHORT:
        return texts.code(short, "json")
    return _folded("the answer", texts.code(long, "json"))


def _sentence(cell: Cell, result: Json) -> str:
    execution = text(result.get("execution_id"))
    if cell.method == "rollback":
        undone = ", ".join(map(text, items(result.get("undone"))))
        return f"The state is again as it was after {execution}. Undone: {undone or 'nothing'}."
    if cell.method in ("reset", "restart"):
        worker = " in a new process" if cell.method == "restart" else ""
        return f"The session begins anew{worker}, with an empty namespace (epoch {text(result.get('epoch'))})."
    if cell.method == "session/clone":
        return f"A second session, {text(result.get('session_id'))}, goes on from {text(result.get('cloned_from'))}."
    if cell.method == "interrupt":
        done = [word for word in ("interrupted", "cancelled") if result.get(word) is True]
        return f"{execution or 'It'} was {done[0]}." if done else "Nothing was there to interrupt."
    return {"session/close": f"The session {cell.session} is closed.", "shutdown": "The session ends."}.get(
        cell.method, ""
    )
