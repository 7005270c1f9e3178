"""Both sides: how a piece of code ended. Both backends make one `Outcome` per request; nothing else is an answer."""

from __future__ import annotations

import struct
import sys

from json_repl.core.errors import WireError
from json_repl.core.output import STDERR, STDOUT
from json_repl.core.wire import pack_texts, unpack_texts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OK, ERROR, RUNNING = "ok", "error", "running"

# Why a request ended as it did; None where the code simply ran to its end.
EXCEPTION = "exception"
INTERRUPTED = "interrupted"
TIMEOUT = "timeout"
MEMORY = "memory"
CRASH = "crash"
EXIT = "exit"
CANCELLED = "cancelled"

RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes, in which the system tells `max_rss_bytes`

KEPT, RESTORED, LOST = "kept", "restored", "lost"

_REASONS = (None, EXCEPTION, INTERRUPTED, TIMEOUT, MEMORY, CRASH, EXIT, CANCELLED)
_NUMBERS = struct.Struct("<BddQQQd")


_str, _type, _encode, _isascii = str, type, str.encode, str.isascii  # used while user code's builtins are in force


def safe_text(text: str) -> str:
    """A string of type str exactly, and without lone surrogates, which strict readers of JSON refuse."""
    if _type(text) is _str and _isascii(text):
        return text
    return _encode(text, "utf-8", "backslashreplace").decode()


class Error:
    """A Python exception as text; `traceback` is a list of lines, as Jupyter has it."""

    __slots__ = ("ename", "evalue", "extra", "traceback")

    def __init__(self, ename: str, evalue: str, traceback: list[str], **extra: object) -> None:
        self.ename = safe_text(ename)
        self.evalue = safe_text(evalue)
        self.traceback = [safe_text(line) for line in traceback]
        self.extra = extra  # e.g. {"signal": "SIGSEGV", "exit_status": None}

    def to_wire(self) -> dict[str, object]:
        """The ``error`` field of an answer."""
        return {"ename": self.ename, "evalue": self.evalue, "traceback": self.traceback, **self.extra}

    def text(self) -> str:
        """What a person reads: the traceback, or one line where there is none."""
        return "".join(self.traceback) or f"{self.ename}: {self.evalue}\n"


class Outcome:
    """How one request ended. Times are in milliseconds, sizes in bytes."""

    __slots__ = (
        "attempts",
        "backend",
        "changes",
        "copy_ms",
        "cpu_ms",
        "data",
        "elapsed_ms",
        "error",
        "fallback",
        "max_rss_bytes",
        "metadata",
        "names",
        "note",
        "outputs",
        "reason",
        "result",
        "rich",
        "state",
        "stderr",
        "stdout",
        "threads",
        "truncated",
        "variable_count",
    )

    def __init__(self, reason: str | None = None, error: Error | None = None) -> None:
        self.reason = reason
        self.error = error
        self.result: str | None = None
        self.rich: str | None = None  # what its value shows, by MIME type, as JSON; see core/display.py
        self.data: dict[str, Any] | None = None  # the same, for the answer
        self.metadata: dict[str, Any] = {}
        self.outputs: list[dict[str, Any]] = []  # what else was shown
        self.stdout = ""
        self.stderr = ""
        self.truncated = False  # there is more of them
        self.elapsed_ms = 0.0
        self.cpu_ms = 0.0
        self.max_rss_bytes = 0
        self.variable_count = 0
        self.threads = 0  # of the user's, which no copy of the state has
        self.copy_ms = 0.0  # what a copy costs, where that is too much for one after each answer
        self.names: list[str] | None = None  # the first names of the namespace, where they changed
        self.changes: list[str] | None = None  # by a dry run, e.g. ["+new", "~changed", "-removed"]
        self.backend = "local"
        self.attempts = 1
        self.fallback: dict[str, str] | None = None
        self.note: str | None = None
        self.state: dict[str, object] = {}  # what differs from "kept", e.g. {"state": "lost", "lost_names": ["x"]}

    @property
    def status(self) -> str:
        """``"ok"`` or ``"error"``."""
        return OK if self.reason is None else ERROR

    def is_timeout(self, seconds: float, lines: list[str], **told: object) -> None:
        """Make this one of code that did not end within `seconds`; `lines` are shown if it has no traceback."""
        evalue = f"the code did not end within {seconds:g} s"
        shown = self.error.traceback if self.error is not None else lines
        self.reason, self.result, self.rich = TIMEOUT, None, None
        self.error = Error("ExecutionTimeout", evalue, [*shown, f"ExecutionTimeout: {evalue}\n"], **told)

    def take_output(self, printed: Any) -> None:
        """Hold what is to be answered of a `json_repl.printed.Printed`, and of the value as that has room for it."""
        self.outputs = printed.outputs
        self.result, self.data, self.metadata = printed.fit_value(self.result, self.rich)
        self.stdout, self.stderr, self.truncated = printed.text(STDOUT), printed.text(STDERR), printed.is_truncated

    def to_frame(self) -> bytes:
        """The payload of an ANSWER frame. Output travels apart."""
        numbers = _NUMBERS.pack(
            _REASONS.index(self.reason),
            self.elapsed_ms,
            self.cpu_ms,
            self.max_rss_bytes,
            self.variable_count,
            self.threads,
            self.copy_ms,
        )
        texts: list[str | None] = [self.result, self.rich]
        for found in (self.names, self.changes):
            texts += [None] if found is None else [str(len(found)), *found]
        if self.error is not None:
            texts += [self.error.ename, self.error.evalue, *self.error.traceback]
        return numbers + pack_texts(texts)

    @classmethod
    def from_frame(cls, payload: bytes) -> Outcome:
        """The inverse of `to_frame`.

        Raises:
            WireError: the payload is none of ours.
        """
        outcome = cls()
        try:
            numbers = _NUMBERS.unpack_from(payload)
            reason, outcome.elapsed_ms, outcome.cpu_ms, outcome.max_rss_bytes, outcome.variable_count, *risk = numbers
            outcome.threads, outcome.copy_ms = risk
            outcome.reason = _REASONS[reason]
            if not all(0 <= time < float("inf") for time in (outcome.elapsed_ms, outcome.cpu_ms, outcome.copy_ms)):
                raise WireError("an answer on the worker's wire whose times are none")
            outcome.result, outcome.rich, *texts = unpack_texts(payload, _NUMBERS.size)
            outcome.names, texts = _take_counted(texts)
            outcome.changes, texts = _take_counted(texts)
            if texts:
                ename, evalue, *lines = [text or "" for text in texts]
                outcome.error = Error(ename, evalue, lines)
        except (struct.error, IndexError, ValueError) as error:
            raise WireError(f"an answer on the worker's wire that cannot be read: {error}") from None
        return outcome


def failure(reason: str, ename: str, evalue: str, stacks: list[str] | None = None, **extra: object) -> Outcome:
    """An outcome that we make up: `ename` and `evalue` as of an exception, below lines of `stacks`."""
    return Outcome(reason, Error(ename, evalue, [*(stacks or []), f"{ename}: {evalue}\n"], **extra))


def _take_counted(texts: list[str | None]) -> tuple[list[str] | None, list[str | None]]:
    """A list that stands behind its length, or None, and what comes after it."""
    count, *rest = texts
    if count is None:
        return None, rest
    return [text or "" for text in rest[: int(count)]], rest[int(count) :]
