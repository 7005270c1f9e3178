"""Parent side: the parent's end of ONE session's worker: start it, hand over, keep the deadline, restart it.

    start(request) --> [no worker: spawn, wait for READY] --> REQUEST --> the worker runs it
                                                                |
    done(outcome)  <-- ANSWER <-- interrupt, then kill <-- deadline
                   <-- the worker ended: by cause, see `_lost`

How a request can end that its worker does not answer, by cause:

    A  no worker can be had                restarts with pauses, then WorkerUnavailable: the caller runs it elsewhere
    B  the worker was taken away           a new worker, and the code again, if no earlier state was lost with it
    C  the code itself ended the worker    an error; the code is not run again
    D  the code outlived its time          interrupted, or killed; an error
"""

from __future__ import annotations

import marshal
import sys
from time import monotonic, perf_counter

from json_repl import processes
from json_repl.core import log, wire
from json_repl.core import outcome as ends
from json_repl.core.errors import InternalError, WireError, WorkerLost, WorkerUnavailable
from json_repl.core.outcome import Outcome
from json_repl.core.output import STDERR, STDOUT
from json_repl.loop import Loop, Timer
from json_repl.turn import RESTARTS, Turn, crash, failure, is_timeout, was_taken_away
from json_repl.worker_link import WorkerLink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PAUSES = (0.05, 0.2, 0.8)  # seconds before each restart of a worker that did not come up
BOOT_SECONDS = 20.0  # a worker that has not said that it is ready by then is not coming
GRACE_SECONDS = 1.0  # for interrupted code to end by itself
STOP_SECONDS = 2.0  # for a worker that was asked to end: the user's atexit handlers run then
HEALTHY_SECONDS = 10.0  # a worker that lived so long has its failed starts forgiven, as in jupyter_client's restarter
REFUSED = 3  # exit status of a worker that cannot boot and has said why (gunicorn's WORKER_BOOT_ERROR)


class WorkerManager:
    """One session's worker, started when first needed. All but `execute` returns at once; the loop does the rest.

    Args:
        loop: the parent's loop; one of its own by default.
        python: the interpreter; by default the one that runs this.
        helpers: the user's own helper modules, as in JSON_REPL_HELPERS.
        answer_question: what the worker's user code asks its session, and the reply.
        on_late_output: output that belongs to no request.
    """

    def __init__(
        self,
        loop: Loop | None = None,
        *,
        python: str | None = None,
        helpers: str | None = None,
        answer_question: Callable[[list[str]], Any] = lambda question: [],
        on_late_output: Callable[[list[tuple[int, bytes]]], None] = lambda pieces: None,
    ) -> None:
        self.epoch = 0  # grows whenever the namespace is not the live continuation of what it was
        self.given_up: str | None = None  # why there will be no worker, until `restart`
        self._loop = loop or Loop()
        self._python = python or sys.executable
        self._helpers = helpers or ""
        self._answer_question = answer_question
        self._on_late_output = on_late_output
        self._link: WorkerLink | None = None
        self.ready = False  # it can take a request
        self._born = 0.0
        self._boot_timer: Timer | None = None
        self._failed_starts = 0
        self._restarts = 0
        self._turn: Turn | None = None
        self._call: tuple[bytes, Callable[[object], None]] | None = None
        self._words = b""  # what a worker that does not come up says on stderr
        self._numbers = 0
        self._requests_in_worker = 0  # answered since it started: without any, it holds no state
        self._names: list[str] = []
        self._variable_count = 0
        self._loss: dict[str, object] = {}  # told with the next answer

    # -- what others call --------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Start the worker now, as it will be needed."""
        if self._link is None and self._boot_timer is None and self.given_up is None:
            self._spawn()

    def start(
        self, number: int, code: str, done: Callable[[Outcome | WorkerUnavailable], None], **options: Any
    ) -> None:
        """Have the worker run `code`, one request at a time; the arguments are those of `Turn`."""
        assert self._turn is None, "a worker runs one request at a time"
        self._turn = Turn(number, code, done, **options)
        self._proceed()

    def execute(self, code: str, timeout: float | None = 30.0) -> Outcome:
        """Run `code` and wait for its end. `timeout` is in seconds.

        Raises:
            WorkerUnavailable: no worker has taken it. Whatever happens after that is an Outcome.
        """
        ended: list[Outcome | WorkerUnavailable] = []
        self._numbers += 1
        self.start(self._numbers, code, ended.append, timeout=timeout)
        while not ended:
            self._loop.turn()
        if isinstance(ended[0], WorkerUnavailable):
            raise ended[0]
        return ended[0]

    def call(self, method: str, done: Callable[[object], None], **params: object) -> None:
        """Have the worker answer a method other than execute; `done` gets its result, packed texts, or an RpcError."""
        self._call = (marshal.dumps((method, params), 4), done)
        self._proceed()

    def interrupt(self, number: int | None = None) -> bool:
        """Raise KeyboardInterrupt in the request that runs (only if it is `number`, when given); False if none does."""
        turn = self._turn
        if turn is None or number not in (None, turn.number):
            return False
        if self._link is not None and self._link.busy:
            self._link.interrupt()
        else:
            self._end_turn(
                failure(ends.CANCELLED, "Cancelled", "the request was cancelled before a worker had taken it")
            )
        return True

    def restart(self) -> None:
        """End the worker and begin anew, with an empty namespace; a session that had fallen back has workers again."""
        had_state = self._requests_in_worker > 0
        self.stop()
        self.given_up = None
        self._failed_starts = 0
        self.epoch += had_state
        self._forget_state()
        self.prepare()

    def kill(self) -> None:
        """End the worker and all that it has started, at once, from within a signal's handler too."""
        link, self._link, self.ready = self._link, None, False
        if link is not None:
            link.kill()
            link.process.reap(wait=True)
            _end_family(link.process.pid)

    def take_loss(self) -> dict[str, object]:
        """What an answer must tell of state that was lost since the last one."""
        loss, self._loss = self._loss, {}
        return loss

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """End the worker and all that it has started: ask, wait, kill. Returns when it is gone."""
        if self._boot_timer is not None:
            self._boot_timer.cancel()
            self._boot_timer = None
        link, self._link, self.ready = self._link, None, False
        if link is None:
            return
        link.hang_up()
        link.busy = 0
        patience = self._loop.call_in(seconds, link.kill)
        while not link.closed:
            self._loop.turn()
        patience.cancel()
        link.forget_stacks()
        _end_family(link.process.pid)

    def state(self) -> dict[str, object]:
        """For people who ask how it is, e.g. ``{"pid": 12, "ready": True, "restarts": 0, "failed_starts": 0}``."""
        return {
            "pid": self._link.process.pid if self._link else None,
            "ready": self.ready,
            "restarts": self._restarts,
            "failed_starts": self._failed_starts,
            "epoch": self.epoch,
            "given_up": self.given_up,
        }

    # -- starting ----------------------------------------------------------------------------------------------------

    def _proceed(self) -> None:
        if self.given_up is not None:
            self._refuse(self.given_up)
        elif self.ready:
            self._hand_over()
        else:
            self.prepare()

    def _spawn(self) -> None:
        self._boot_timer = None
        try:
            self._link = WorkerLink(
                self._loop, self._python, self._helpers, self._on_frame, self._on_output, self._on_end
            )
        except WorkerUnavailable as error:
            self._did_not_come_up(str(error), hopeless=error.hopeless)
            return
        self._words = b""
        self._born = monotonic()
        self._boot_timer = self._loop.call_in(BOOT_SECONDS, self._boot_is_late)
        log.debug(f"worker {self._link.process.pid} started")

    def _boot_is_late(self) -> None:
        if self._link is not None and not self.ready:
            log.warning(f"the worker has not become ready in {BOOT_SECONDS:g} s and is killed")
            self._link.kill()

    def _did_not_come_up(self, why: str, *, hopeless: bool) -> None:
        # Row A.
        self._failed_starts += 1
        if hopeless or self._failed_starts > RESTARTS:
            self.given_up = why
            if self._turn is not None or self._call is not None:
                self._refuse(why)
            return
        pause = PAUSES[self._failed_starts - 1]
        log.warning(f"{why}; trying again in {pause:g} s ({self._failed_starts} of {RESTARTS})")
        self._boot_timer = self._loop.call_in(pause, self._spawn)

    def _refuse(self, why: str) -> None:
        call, self._call = self._call, None
        if call is not None:
            call[1](WorkerLost(f"there is no worker: {why}."))
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.done(WorkerUnavailable(why))

    def _hand_over(self) -> None:
        assert self._link is not None
        if self._call is not None:
            self._link.send(wire.CALL, self._call[0])
        turn = self._turn
        if turn is not None and not self._link.busy:
            turn.attempts += 1
            turn.started = perf_counter()
            self._link.busy = turn.number
            self._link.send(wire.REQUEST, marshal.dumps((turn.number, turn.code, turn.filename, turn.silent), 4))
            if turn.timeout:
                turn.deadline = self._loop.call_in(turn.timeout, self._deadline)

    # -- news of the worker ------------------------------------------------------------------------------------------

    def _on_frame(self, kind: int, payload: bytes) -> None:
        if kind == wire.ANSWER and self._turn is not None:
            self._answered(Outcome.from_frame(payload))
        elif kind == wire.QUESTION and self._link is not None:
            question = [part or "" for part in wire.unpack_texts(payload)]
            self._link.send(wire.REPLY, marshal.dumps(self._answer_question(question), 4))
        elif kind in (wire.RESULT, wire.FAILURE) and self._call is not None:
            call, self._call = self._call, None
            call[1](payload if kind == wire.RESULT else InternalError(f"{wire.unpack_texts(payload)[0]}."))
        elif kind == wire.READY and not self.ready:
            self.ready = True
            if self._boot_timer is not None:
                self._boot_timer.cancel()
                self._boot_timer = None
            if self._turn is not None or self._call is not None:
                self._hand_over()
        else:
            raise WireError("a frame that nobody waits for")

    def _on_output(self, owner: int, pieces: list[tuple[int, bytes]]) -> None:
        if self._turn is not None and owner == self._turn.number:
            self._turn.pieces += pieces
        elif self._link is not None and not self.ready:
            self._words += b"".join(data for _, data in pieces)
        else:
            self._on_late_output(pieces)

    def _on_end(self, code: int | None) -> None:
        link, self._link = self._link, None
        if link is None:  # `stop` waits for it
            return
        was_ready, self.ready = self.ready, False
        if self._boot_timer is not None:
            self._boot_timer.cancel()
            self._boot_timer = None
        if monotonic() - self._born >= HEALTHY_SECONDS:
            self._failed_starts = 0
        stacks = link.stacks()
        link.forget_stacks()
        if processes.leaves_something(link.process.pid):  # later, as the next answer should not wait for it
            self._loop.call_in(0, lambda: processes.end_family(link.process.pid))
        text = "sent bytes that are no answer" if code is None else processes.exit_text(code)
        if was_ready:
            self._lost(code, text, stacks)
        else:
            words = self._words.decode("utf-8", "replace").strip().splitlines()
            why = f"the worker {text} before it was ready" + (f": {words[-1]}" if words else "")
            self._did_not_come_up(why, hopeless=code == REFUSED)

    # -- ends of a request -------------------------------------------------------------------------------------------

    def _answered(self, outcome: Outcome) -> None:
        turn = self._turn
        assert turn is not None and self._link is not None
        self._link.busy = 0
        self._requests_in_worker += 1
        self._variable_count = outcome.variable_count
        if outcome.names is not None:
            self._names = outcome.names
        if turn.killed_for == ends.TIMEOUT:
            is_timeout(outcome, turn, self._link.stacks())
        self._end_turn(outcome)

    def _deadline(self) -> None:
        turn = self._turn
        if turn is None or self._link is None or not self._link.busy:
            return
        if turn.killed_for is None:
            turn.killed_for = ends.TIMEOUT
            self._link.ask_for_stacks()
            self._link.interrupt()
            turn.deadline = self._loop.call_in(GRACE_SECONDS, self._deadline)
        else:
            self._link.collect()
            self._link.kill()

    def _lost(self, code: int | None, text: str, stacks: list[str]) -> None:
        """The worker has ended after it was ready. What follows:

        1. no request was running: the next answer tells what was lost,
        2. its time was over (D): a timeout,
        3. it was taken away, and nothing else was lost with it (B), or the request wants it so: the code runs again,
        4. anything else (C): a crash.
        """
        turn = self._turn
        nothing_lost = self._requests_in_worker == 0
        self._note_loss()
        self._restarts += 1
        again = None
        if turn is None:  # case 1
            log.warning(f"the worker {text} while it was idle; a new one is started")
        else:
            if turn.deadline is not None:
                turn.deadline.cancel()
            taken_away = was_taken_away(code) and turn.killed_for is None
            if (turn.always or (taken_away and nothing_lost)) and turn.attempts <= min(
                turn.retries, RESTARTS
            ):  # case 3
                log.warning(f"the worker {text} while code ran; it runs again ({turn.attempts} of {turn.retries})")
                again = turn
                turn.pieces.clear()
                turn.killed_for = None
            elif turn.always:
                self._turn = None
                turn.done(WorkerUnavailable(f"the worker {text}, {turn.attempts} times"))
            elif turn.killed_for == ends.TIMEOUT:  # case 2
                outcome = Outcome(ends.TIMEOUT)
                is_timeout(outcome, turn, stacks)
                self._end_turn(outcome)
            else:  # case 4
                self._end_turn(crash(code, text, stacks, turn))
        call, self._call = self._call, None
        if call is not None:
            call[1](WorkerLost(f"the worker {text} before it could answer."))
        if again is not None or self._turn is None:
            self.prepare()

    def _end_turn(self, outcome: Outcome) -> None:
        turn, self._turn = self._turn, None
        assert turn is not None
        if turn.deadline is not None:
            turn.deadline.cancel()
        outcome.stdout, outcome.stderr = turn.output(STDOUT), turn.output(STDERR)
        outcome.backend = "worker"
        outcome.attempts = max(turn.attempts, 1)
        if not outcome.elapsed_ms and turn.started:
            outcome.elapsed_ms = (perf_counter() - turn.started) * 1000
        outcome.state = self.take_loss()
        turn.done(outcome)

    def _note_loss(self) -> None:
        self.epoch += 1
        if self._requests_in_worker:
            self._loss = {
                "state": ends.LOST,
                "lost_names": self._names,
                "lost_count": self._variable_count,
            }
        elif not self._loss:
            self._loss = {"state": ends.RESTORED}  # it was empty, and is empty again
        self._forget_state()

    def _forget_state(self) -> None:
        self._requests_in_worker = self._variable_count = 0
        self._names = []


def _end_family(pid: int) -> None:
    if processes.leaves_something(pid):
        processes.end_family(pid)
