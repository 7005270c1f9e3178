"""Parent side: the parent's end of ONE session's worker: hand over, keep the deadline, recover, go back in time.

    start(request) --> [no worker: supply.py makes one] --> REQUEST --> the worker runs it
                                                               |
    done(outcome)  <-- ANSWER <-- interrupt, then kill <-- deadline
                   <-- the worker ended: a new one from the newest snapshot, then by cause, see `_settle`

How a request ends that its worker does not answer:

    A  no worker can be had                WorkerUnavailable: the caller runs it elsewhere
    B  the worker was taken away           a new worker, and the code again, if nothing else was undone
    C  the code itself ended the worker    an error; the code is not run again
    D  the code outlived its time          interrupted, or killed; an error
"""

from __future__ import annotations

import marshal
from time import perf_counter

from json_repl import processes
from json_repl.core import log, wire
from json_repl.core import outcome as ends
from json_repl.core.errors import InternalError, WireError, WorkerLost, WorkerUnavailable
from json_repl.core.outcome import Outcome
from json_repl.core.output import STDERR, STDOUT
from json_repl.core.snapshot import KEEPER
from json_repl.loop import Loop, Visit
from json_repl.shelf import Shelf, Snapshot
from json_repl.supply import Supply
from json_repl.timeline import Timeline
from json_repl.turn import RESTARTS, Turn, crash, failure, is_timeout, killed, was_taken_away

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

STOP_SECONDS = 2.0  # for a worker that was asked to end: the user's atexit handlers run then


class WorkerManager:
    """One session's worker, made when first needed. All but `execute` and `stop` return at once.

    Args:
        loop: the parent's loop; one of its own by default.
        python: the interpreter; by default the one that runs this.
        helpers: the user's own helper modules, as in JSON_REPL_HELPERS.
        snapshots, keep: as in JSON_REPL_SNAPSHOTS and JSON_REPL_SNAPSHOT_KEEP.
        answer_question: what the worker's user code asks its session, and the reply.
        on_late_output: output that belongs to no request.
    """

    def __init__(
        self,
        loop: Loop | None = None,
        *,
        python: str | None = None,
        helpers: str | None = None,
        snapshots: str = "auto",
        keep: int = 8,
        answer_question: Callable[[list[str]], Any] = lambda question: [],
        on_late_output: Callable[[list[tuple[int, bytes]]], None] = lambda pieces: None,
    ) -> None:
        self.epoch = 0  # grows whenever the namespace is not the live continuation of what it was
        self._loop = loop or Loop()
        self._shelf = Shelf(self._loop, keep)
        self._supply = Supply(self, self._loop, self._shelf, python, helpers, snapshots)
        self._answer_question = answer_question
        self._on_late_output = on_late_output
        self._turn: Turn | None = None
        self._call: tuple[bytes, Callable[[object], None]] | None = None
        self._then: Callable[[], None] | None = None  # what comes first when the next worker is ready
        self._numbers = 0
        self._restarts = 0
        self._timeline = Timeline()
        self._loss: dict[str, object] = {}  # told with the next answer

    # -- what others call --------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """A worker can take a request."""
        return self._supply.ready

    @property
    def given_up(self) -> str | None:
        """Why there will be no worker, until `restart`."""
        return self._supply.given_up

    def prepare(self) -> None:
        """Make the worker now, as it will be needed."""
        if not self._supply.under_way and self.given_up is None:
            self._supply.boot()

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
            KeyboardInterrupt: it came while the code ran, which it has ended.
        """
        ended: list[Outcome | WorkerUnavailable] = []
        self._numbers += 1
        with Visit(self._loop, ended, self.cut_short):
            self.start(self._numbers, code, ended.append, timeout=timeout)
        if isinstance(ended[0], WorkerUnavailable):
            raise ended[0]
        return ended[0]

    def call(self, method: str, done: Callable[[object], None], **params: object) -> None:
        """Have the worker answer a method other than execute; `done` gets its result, packed texts, or an RpcError."""
        self._call = (marshal.dumps((method, params), 4), done)
        self._proceed()

    def interrupt(self, number: int | None = None) -> bool:
        """Raise KeyboardInterrupt in the request that runs (only if it is `number`, when given); False if none does."""
        turn, link = self._turn, self._supply.link
        if turn is None or number not in (None, turn.number):
            return False
        if link is not None and link.busy:
            link.interrupt()
        elif self._then is None:
            evalue = "the request was cancelled before a worker had taken it"
            self._end_turn(failure(ends.CANCELLED, "Cancelled", evalue))
        return True

    def cut_short(self) -> bool:
        """Interrupt the request that runs, and kill its worker if that does not end it; False if none runs."""
        if self._turn is not None:
            self._turn.always, self._turn.retries = False, 0
        return self._end_code(ends.INTERRUPTED) or self.interrupt()

    def restart(self) -> None:
        """End the worker and begin anew, with an empty namespace; a session that had fallen back has workers again."""
        had_state = bool(self._timeline.requests)
        self.stop()
        self._supply.forgive()
        self.epoch += had_state
        self._timeline.lose_all()
        self.prepare()

    def reset(self, done: Callable[[], None]) -> None:
        """Return to the state before the first request: from the copy that was made then, else in a new worker."""
        pristine = self._shelf.get(0)
        if pristine is None:
            self.restart()
            done()
        else:
            self._return_to(pristine, done)

    def kill(self) -> None:
        """End the worker and all that it has started, at once, from within a signal's handler too."""
        link = self._supply.let_go()
        if link is not None and link.process is not None:
            link.kill()
            link.process.reap(wait=True)
            processes.end_all(link.process.pid)
        self._shelf.clear()

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """End the worker and all that it has started: ask, wait, kill. Returns when it is gone."""
        link = self._supply.let_go()
        if link is not None:
            link.hang_up()
            link.busy = 0
            patience = self._loop.call_in(seconds, link.kill)
            while not link.closed:
                self._loop.turn()
            patience.cancel()
            if link.process is not None:
                processes.end_all(link.process.pid)
        self._shelf.clear()  # last, as the keeper is among them

    def take_loss(self) -> dict[str, object]:
        """What an answer must tell of state that was lost since the last one."""
        loss, self._loss = self._loss, {}
        return loss

    def state(self) -> dict[str, object]:
        """For people who ask how it is."""
        process = self._supply.link.process if self._supply.link else None
        return {
            "pid": process.pid if process else None,
            "ready": self.ready,
            "restarts": self._restarts,
            "failed_starts": self._supply.failed_starts,
            "epoch": self.epoch,
            "given_up": self.given_up,
            "snapshots": len([*self._shelf]),
        }

    # -- handing over ------------------------------------------------------------------------------------------------

    def _proceed(self) -> None:
        if self._turn is None and self._call is None:
            return
        if self.given_up is not None:
            self.on_given_up(self.given_up)
        elif self.ready and self._then is None:
            self._hand_over()
        else:
            self.prepare()

    def _hand_over(self) -> None:
        link, turn = self._supply.link, self._turn
        assert link is not None
        if self._call is not None:
            link.send(wire.CALL, self._call[0])
        if turn is not None and not link.busy:
            turn.attempts += 1
            turn.started = perf_counter()
            link.busy = turn.number
            link.send(wire.REQUEST, marshal.dumps((turn.number, turn.code, turn.filename, turn.silent), 4))
            if turn.timeout:
                turn.deadline = self._loop.call_in(turn.timeout, self._deadline)

    def _deadline(self) -> None:
        self._end_code(ends.TIMEOUT)

    def _end_code(self, reason: str) -> bool:
        turn, link = self._turn, self._supply.link
        if turn is None or link is None or not link.busy:
            return False
        if turn.killed_for is None:
            turn.killed_for = reason
            attempt = turn.attempts
            link.end_request(lambda: self._turn is turn and turn.attempts == attempt)
        return True

    # -- news of the supply ------------------------------------------------------------------------------------------

    def on_ready(self, origin: Snapshot | None) -> None:
        """A worker is there."""
        if origin is not None:
            self._loss = self._timeline.return_to(origin)
        elif self._timeline.requests:
            self._loss = self._timeline.lose_all()
        then, self._then = self._then, None
        if then is not None:
            then()
        if (self._turn is not None or self._call is not None) and self.ready:
            self._hand_over()

    def on_given_up(self, why: str) -> None:
        """There will be none."""
        if self._timeline.requests:
            self._loss = self._timeline.lose_all()
        then, self._then = self._then, None
        if then is not None:
            then()
        call, self._call = self._call, None
        if call is not None:
            call[1](WorkerLost(f"there is no worker: {why}."))
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.done(WorkerUnavailable(why))

    def on_frame(self, kind: int, payload: bytes) -> None:
        """A frame of the worker."""
        if kind == wire.ANSWER and self._turn is not None:
            self._answered(Outcome.from_frame(payload))
        elif kind == wire.QUESTION and self._supply.link is not None:
            self._reply([part or "" for part in wire.unpack_texts(payload)])
        elif kind in (wire.RESULT, wire.FAILURE) and self._call is not None:
            call, self._call = self._call, None
            call[1](payload if kind == wire.RESULT else InternalError(f"{wire.unpack_texts(payload)[0]}."))
        else:
            raise WireError("a frame that nobody waits for")

    def _reply(self, question: list[str]) -> None:
        assert self._supply.link is not None
        try:
            reply = self._answer_question(question)
        except (IndexError, ValueError):
            raise WireError("a question that is none of ours") from None
        self._supply.link.send(wire.REPLY, marshal.dumps(reply, 4))

    def on_output(self, owner: int, pieces: list[tuple[int, bytes]]) -> None:
        """Output of the request that runs, or of none."""
        if self._turn is not None and owner == self._turn.number:
            self._turn.pieces += pieces
        else:
            self._on_late_output(pieces)

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """The worker has parked a copy of itself."""
        (self._shelf.keep_keeper if snapshot.number == KEEPER else self._shelf.add)(snapshot)

    def on_lost(self, code: int | None, stacks: list[str]) -> None:
        """The worker has ended: another one from the newest state that there is, and then see `_settle`."""
        self._restarts += 1
        self.epoch += 1
        turn = self._turn
        if turn is not None and turn.deadline is not None:
            turn.deadline.cancel()
        text = "sent bytes that are no answer" if code is None else processes.exit_text(code)
        if turn is None:
            log.warning(f"the worker {text} while it was idle; a new one is made")
        newest = self._shelf.newest()
        if newest is None:
            self._loss = self._timeline.lose_all()
            self._settle(turn, code, text, stacks)
            self.prepare()
        else:
            self._then = lambda: self._settle(turn, code, text, stacks)
            self._supply.revive(newest)

    # -- ends of a request -------------------------------------------------------------------------------------------

    def _answered(self, outcome: Outcome) -> None:
        turn, link = self._turn, self._supply.link
        assert turn is not None and link is not None
        link.busy = 0
        self._supply.has_served = True
        processes.reap_orphans()
        self._timeline.add(turn.number, outcome)
        if turn.killed_for == ends.TIMEOUT:
            is_timeout(outcome, turn, link.stacks())
            if turn.always:
                self._again_or_elsewhere(turn, "was interrupted when the time was over")
                self._proceed()
                return
        self._end_turn(outcome)

    def _settle(self, turn: Turn | None, code: int | None, text: str, stacks: list[str]) -> None:
        """What becomes of a request whose worker has ended, now that the state is what it will be:

        1. its time was over (D), or it was to end for another reason of ours: that is told,
        2. it was taken away, and nothing else was undone by that (B), or the request wants it so: the code runs again,
        3. anything else (C): a crash.
        """
        call, self._call = self._call, None
        if call is not None:
            call[1](WorkerLost(f"the worker {text} before it could answer."))
        if turn is None or turn is not self._turn:
            return
        undone = bool(self._loss.get("undone")) or self._loss.get("state") == ends.LOST
        taken_away = was_taken_away(code) and turn.killed_for is None
        if turn.always or (taken_away and not undone and turn.attempts <= min(turn.retries, RESTARTS)):  # case 2
            self._again_or_elsewhere(turn, text)
        elif turn.killed_for is not None:  # case 1
            self._end_turn(killed(turn, stacks))
        else:  # case 3
            self._end_turn(crash(code, text, stacks, turn))

    def _again_or_elsewhere(self, turn: Turn, text: str) -> None:
        if turn.attempts <= min(turn.retries, RESTARTS):
            log.warning(f"the worker {text} while code ran; it runs again ({turn.attempts} of {turn.retries})")
            turn.pieces.clear()
            turn.killed_for = None
        else:
            self._turn = None
            turn.done(WorkerUnavailable(f"the worker {text}, {turn.attempts} times", attempts=turn.attempts))

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

    # -- states ------------------------------------------------------------------------------------------------------

    def _return_to(self, snapshot: Snapshot, done: Callable[[], None]) -> None:
        link = self._supply.let_go()
        if link is not None:
            link.abandon()
            if link.process is not None:
                self._supply.end_what_is_left(link.process.pid)
        self.epoch += 1

        def arrived() -> None:
            self._shelf.drop_after(snapshot.number)
            self._loss = {}
            done()

        self._then = arrived
        self._supply.revive(snapshot)
