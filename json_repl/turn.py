"""Parent side: one request on its way through a worker, and the outcomes of those that no worker has answered."""

from __future__ import annotations

import signal

from json_repl import processes
from json_repl.core import outcome as ends
from json_repl.core.outcome import Error, Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from json_repl.core.errors import WorkerUnavailable
    from json_repl.loop import Timer

RESTARTS = 3  # of a worker that does not come up, and of one that was taken from a request: the user's own number

# These come from outside; every other signal a process brings upon itself.
_TAKEN_AWAY = (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGHUP)


class Turn:
    """One request on its way through the worker. `done` is called exactly once, with an Outcome or WorkerUnavailable.

    Args:
        number: of the request, unique in this process.
        code: what to run.
        timeout: seconds that it may take, or None.
        retries: how often it may run again when its worker was taken away.
        always: run it again, then elsewhere, whatever the cause (the original design's ladder).
    """

    __slots__ = (
        *("always", "attempts", "code", "deadline", "done", "filename", "killed_for", "number", "pieces", "retries"),
        *("silent", "stacks", "started", "timeout"),
    )

    def __init__(
        self,
        number: int,
        code: str,
        done: Callable[[Outcome | WorkerUnavailable], None],
        *,
        filename: str | None = None,
        silent: bool = False,
        timeout: float | None = None,
        retries: int = RESTARTS,
        always: bool = False,
    ) -> None:
        self.number = number
        self.code = code
        self.done = done
        self.filename = filename
        self.silent = silent
        self.timeout = timeout
        self.retries = retries
        self.always = always
        self.attempts = 0
        self.started = 0.0
        self.pieces: list[tuple[int, bytes]] = []  # output, in order, e.g. [(1, b"hello\n")]
        self.deadline: Timer | None = None
        self.killed_for: str | None = None  # the reason for which we have interrupted it, e.g. "timeout"
        self.stacks: list[str] = []

    def output(self, wanted: int) -> str:
        """All that came on one stream."""
        return b"".join(data for stream, data in self.pieces if stream == wanted).decode("utf-8", "replace")


def was_taken_away(code: int | None) -> bool:
    """Whether an exit code shows that a worker was ended from outside; None: there was garbage on its wire."""
    return code is None or code in _TAKEN_AWAY


def failure(reason: str, ename: str, evalue: str, stacks: list[str] | None = None, **extra: Any) -> Outcome:
    """An outcome that we make up, as the worker could not: `ename` and `evalue` as of an exception."""
    lines = [*(stacks or []), f"{ename}: {evalue}\n"]
    return Outcome(reason, Error(ename, evalue, lines, **extra))


def crash(code: int | None, text: str, stacks: list[str], turn: Turn) -> Outcome:
    """What a request is answered whose worker ended with `code`; `text` says the same in words."""
    evalue = f"the worker {text} while it ran this request"
    if code is None:
        evalue += f" (attempt {turn.attempts}); something has written into its private files"
    elif was_taken_away(code):
        evalue += f" (attempt {turn.attempts}); something outside took it away, perhaps for want of memory"
    elif turn.killed_for is None:
        evalue += "; the code was not run again"
    return failure(
        ends.CRASH,
        "WorkerCrash",
        evalue,
        stacks,
        signal=None if code is None else processes.signal_name(code),
        exit_status=None if code is None or code < 0 else code,
    )


def is_timeout(outcome: Outcome, turn: Turn, stacks: list[str]) -> None:
    """Make `outcome` a timeout. `stacks` are those of all threads when the time was over."""
    lines = outcome.error.traceback if outcome.error else stacks
    outcome.reason = ends.TIMEOUT
    outcome.result = None
    evalue = f"the code did not end within {turn.timeout:g} s"
    outcome.error = Error("ExecutionTimeout", evalue, [*lines, f"ExecutionTimeout: {evalue}\n"], stacks="".join(stacks))


def killed(turn: Turn, stacks: list[str]) -> Outcome:
    """What a request is answered whose worker we have killed, as it did not end when it was interrupted."""
    if turn.killed_for == ends.TIMEOUT:
        outcome = Outcome(ends.TIMEOUT)
        is_timeout(outcome, turn, stacks)
        return outcome
    return failure(ends.INTERRUPTED, "KeyboardInterrupt", "the code did not end, and its worker was killed", stacks)
