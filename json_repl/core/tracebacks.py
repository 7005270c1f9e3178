"""Both sides: an exception as the text that a person reads: the user's own frames and lines, and none of ours."""

from __future__ import annotations

import os
import sys

from json_repl.core import sources
from json_repl.core.imports import HOME, ours
from json_repl.core.outcome import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    import traceback
    from types import TracebackType
    from typing import Any

_OUR_FILES = tuple(
    os.path.join(HOME, name)
    for name in ("json_repl/", "helpers/", "json_repl_session.py", "worker_manager.py", "subprocess_worker.py")
)
_OUR_LINES = tuple(f'File "{file}' for file in _OUR_FILES)
_ASYNCIO = os.path.join(os.path.dirname(os.__file__), "asyncio", "")  # between our frames and those of awaited code
_traceback: Any = None


def prepare() -> None:
    """Import what formatting takes. Start-up does without, and user code may spoil what imports need."""
    global _traceback
    if _traceback is None:
        with ours():
            import traceback
        _traceback = traceback


def explain(error: BaseException, source: str) -> Error:
    """The exception as `traceback` shows it.

    Raises:
        BaseException: what the exception's own code raises, or what user code has done to the modules needed here.
    """
    prepare()
    sources.refill()
    try:
        str(error)  # here, as `traceback` swallows an interrupt of a text that never ends
    except Exception:
        pass
    if isinstance(error, SyntaxError):
        if error.text is None and error.filename and error.lineno:  # the compiler looks for it in a file
            error.text = sources.line(error.filename, error.lineno) or None
        _hint(error, source)
    trace = _without_ours(_genuine(error, "__traceback__"))
    report = _traceback.TracebackException(type(error), error, trace, lookup_lines=False)
    _leave_out_our_frames(report)
    with ours():  # as it imports what it needs for this when it needs it
        lines = list(report.format())
    return Error(_name(error), report._str, lines)  # not by another str(error): one that hangs was interrupted once


def without_text(error: BaseException, why: BaseException) -> Error:
    """The exception where `explain` has raised `why`: with what can be had without running anybody's code."""
    name, arguments = _name(error), _genuine(error, "args")
    plain = arguments and all(type(argument) in (str, int) for argument in arguments)
    evalue = ", ".join(map(str, arguments)) if plain else f"<its text cannot be had: {type(why).__name__}>"
    lines = ["Traceback (most recent call last):\n"]
    trace = _without_ours(_genuine(error, "__traceback__"))
    while trace is not None:
        code = trace.tb_frame.f_code
        lines.append(f'  File "{code.co_filename}", line {trace.tb_lineno}, in {code.co_name}\n')
        lines += [f"    {line.strip()}\n" for line in [sources.line(code.co_filename, trace.tb_lineno)] if line]
        trace = trace.tb_next
    return Error(name, evalue, [*lines, f"{name}: {evalue}\n"])


def without_our_lines(dump: str) -> list[str]:
    """The lines of what `faulthandler` has written, without those of our files, and threads that have no others."""
    lines = [line for line in dump.splitlines(keepends=True) if not line.lstrip().startswith(_OUR_LINES)]
    following = [*lines[1:], "\n"]
    return [line for line, after in zip(lines, following) if not ("hread 0x" in line and after == "\n")]


def _name(error: BaseException) -> str:
    return str(type.__dict__["__name__"].__get__(type(error)))


def _genuine(error: BaseException, attribute: str) -> Any:
    # Not by getattr(), which a class of the user's may have overridden.
    return BaseException.__dict__[attribute].__get__(error)


def _without_ours(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith((*_OUR_FILES, _ASYNCIO)):
        trace = trace.tb_next
    return trace


def _leave_out_our_frames(report: traceback.TracebackException | None, seen: frozenset[int] = frozenset()) -> None:
    if report is None or id(report) in seen:
        return
    report.stack[:] = [frame for frame in report.stack or () if not frame.filename.startswith(_OUR_FILES)]
    if not report.stack:  # a SyntaxError of the request itself has no "Traceback" above it in a REPL
        report.stack = None  # type: ignore[assignment]
    for other in (report.__cause__, report.__context__, *(getattr(report, "exceptions", None) or ())):
        _leave_out_our_frames(other, seen | {id(report)})


def _hint(error: SyntaxError, source: str) -> None:
    lines = source.splitlines()
    at = (error.lineno or 1) - 1
    line = lines[at].strip() if at < len(lines) else ""
    if line[:1] in ("!", "%"):
        what = "shell commands" if line[0] == "!" else "magics"
        error.msg = f"{error.msg}: there are no {what} here; run a command with h.run({line[1:].strip()!r})"


def show(error: BaseException) -> None:
    """Have user code's own hook show what it has raised between requests."""
    try:
        sys.excepthook(type(error), error, error.__traceback__)
    except BaseException:  # it is user code that runs here
        sys.__excepthook__(type(error), error, error.__traceback__)
