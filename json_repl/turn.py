"""Parent side: one request on its way through a worker, and the outcomes of those that no worker has answered."""

from __future__ import annotations

import signal
from time import perf_counter

from json_repl import processes
from json_repl.core import outcome as ends
from json_repl.core.outcome import Outcome, failure
from json_repl.core.settings import DEFAULT_MAX_OUTPUT
from json_repl.printed import Printed, Spool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from json_repl.core.errors import WorkerUnavailable
    from json_repl.loop import Timer

RESTARTS = 3  # of a worker that does not come up, and of one that was taken from a request: the user's own number

# These come from outside; every other signal a process brings upon itself.
_TAKEN_AWAY = (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGHUP)


class End:
    """How a worker has ended.

    Args:
        code: its exit code, negative for a signal; None: it was ended for garbage on its wire.
        busy: the request that it was sent last and has not answered, or 0.
        has_begun: it had begun that.
        stacks: lines of Python stacks that it has written at last.
        cpu_seconds: what its last request took.
        max_rss_bytes: the most memory that it ever had.
    """

    def __init__(
        self, code: int | None, busy: int, has_begun: bool, stacks: list[str], cpu_seconds: float, max_rss_bytes: int
    ) -> None:
        self.code = code
        self.busy = busy
        self.has_begun = has_begun
        self.text = "sent bytes that are no answer" if code is None else processes.exit_text(code)
        self.stacks = stacks
        self.cpu_ms = max(0.0, cpu_seconds * 1000)
        self.max_rss_bytes = max_rss_bytes


class Turn:
    """One request on its way through the worker. `done` is called exactly once, with an Outcome or WorkerUnavailable.

    Args:
        number: of the request, unique in this process.
        code: what to run.
        timeout: seconds that it may take, or None.
        retries: how often it may run again when its worker was taken away.
        always: run it again, then elsewhere, whatever the cause (the original design's ladder).
        undoes_errors: where it fails, have the namespace as it was before.
        dry_run: run it in a copy of the session that is thrown away.
        compares: tell which names it changes.
        printed: takes what it prints.
        ask: puts a prompt of the code's to the client, and whether it asks for a password; None: it may not ask.
    """

    __slots__ = (
        "always",
        "ask",
        "attempts",
        "children",
        "code",
        "compares",
        "deadline",
        "done",
        "dry_run",
        "execution_count",
        "filename",
        "killed_for",
        "missed",
        "number",
        "printed",
        "question",
        "retries",
        "silent",
        "started",
        "timeout",
        "undoes_errors",
        "undoes_to",
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
        execution_count: int = 0,
        undoes_errors: bool = False,
        dry_run: bool = False,
        compares: bool = False,
        printed: Printed | None = None,
        ask: Callable[[str, bool], None] | None = None,
    ) -> None:
        self.number = number
        self.code = code
        self.done = done
        self.filename = filename
        self.silent = silent
        self.timeout = timeout
        self.retries = retries
        self.always = always
        self.execution_count = execution_count
        self.undoes_errors = undoes_errors
        self.undoes_to: int | None = None  # the request whose state it is, of which there is a copy
        self.dry_run = dry_run
        self.compares = compares
        self.ask = ask
        self.question: int | None = None  # that the client was asked, and has not replied to
        self.printed = printed or Printed(DEFAULT_MAX_OUTPUT, Spool())
        self.attempts = 0
        self.started = 0.0
        self.deadline: Timer | None = None
        self.killed_for: str | None = None  # the reason for which we have interrupted it, e.g. "timeout"
        self.children: list[dict[str, object]] = []  # processes that it had started, when its time was over
        self.missed = False  # a worker that it was sent to has ended before it had begun it

    def begin(self) -> None:
        """A worker gets it, for the first time or again."""
        self.attempts += 1
        self.question = None
        self.started = perf_counter()

    def stop_clock(self) -> None:
        """Its time counts no more."""
        if self.deadline is not None:
            self.deadline.cancel()

    def for_worker(self) -> tuple[int, str, str | None, bool, bool, bool]:
        """What the worker has to know."""
        return self.number, self.code, self.filename, self.silent, self.compares, self.ask is not None

    def options(self) -> dict[str, Any]:
        """What another worker has to know that runs it instead."""
        names = ("filename", "silent", "timeout", "retries", "execution_count", "printed", "ask")
        return {name: getattr(self, name) for name in names}

    def never_again(self) -> None:
        """It is not to run again, whatever becomes of its worker."""
        self.always, self.retries, self.missed = False, 0, True

    def is_killed(self) -> None:
        """Its worker is killed, as it did not end when it was interrupted."""
        self.killed_for = self.killed_for or ends.INTERRUPTED

    def may_run_again(self, innocent: bool) -> bool:
        """Whether it is to, now that its worker has ended; `innocent`: not through it, and nothing else was undone."""
        if self.killed_for == ends.INTERRUPTED:
            return False
        return self.always or (innocent and self.attempts <= min(self.retries, RESTARTS))

    def may_be_missed(self) -> bool:
        """Its worker has ended before it had begun this: whether the next one may have it, once, and not as a retry."""
        if self.missed or self.killed_for is not None:
            return False
        self.missed = True
        self.attempts -= 1
        return True


def was_taken_away(code: int | None) -> bool:
    """Whether an exit code shows that a worker was ended from outside; None: there was garbage on its wire."""
    return code is None or code in _TAKEN_AWAY


def not_run(why: str) -> Outcome:
    """The outcome of a request that needs a copy of the state, where none can be had."""
    outcome = failure(ends.CANCELLED, "NoSnapshot", f"the code was not run: {why}")
    outcome.backend = "worker"
    return outcome


def not_taken() -> Outcome:
    """The outcome of a request that was interrupted while it waited for a worker."""
    return failure(ends.CANCELLED, "Cancelled", "the request was cancelled before a worker had taken it")


def crash(turn: Turn, end: End) -> Outcome:
    """What a request is answered whose worker has ended while it ran."""
    evalue = f"the worker {end.text} while it ran this request"
    if turn.killed_for == ends.MEMORY:
        evalue += "; the kernel counts a process killed for want of memory meanwhile, so the code was not run again"
    elif end.code is None:
        evalue += f" (attempt {turn.attempts}); something has written into its private files"
    elif was_taken_away(end.code):
        evalue += f" (attempt {turn.attempts}); something outside took it away, perhaps for want of memory"
    else:
        evalue += "; the code was not run again"
    return failure(
        turn.killed_for or ends.CRASH,
        "MemoryLimit" if turn.killed_for == ends.MEMORY else "WorkerCrash",
        evalue,
        end.stacks,
        signal=None if end.code is None else processes.signal_name(end.code),
        exit_status=None if end.code is None or end.code < 0 else end.code,
    )


def is_timeout(outcome: Outcome, turn: Turn, stacks: list[str]) -> None:
    """Make `outcome` a timeout. `stacks` are those of all threads when the time was over."""
    outcome.is_timeout(turn.timeout or 0, stacks, stacks="".join(stacks), children=turn.children)


def killed(turn: Turn, stacks: list[str]) -> Outcome:
    """What a request is answered whose worker we have killed, as it did not end when it was interrupted."""
    if turn.killed_for == ends.TIMEOUT:
        outcome = Outcome(ends.TIMEOUT)
        is_timeout(outcome, turn, stacks)
        return outcome
    return failure(ends.INTERRUPTED, "KeyboardInterrupt", "the code did not end, and its worker was killed", stacks)
