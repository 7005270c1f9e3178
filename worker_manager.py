"""Parent side: the parent's end of ONE session's worker: hand over requests, keep their deadlines, settle their ends.

    start(request) --> [no worker: json_repl/lineage.py has one made] --> REQUEST --> the worker runs it
                                                                            |
    done(outcome)  <-- ANSWER <-- interrupt, then kill <------------- deadline
                   <-- the worker ended: the next one has the newest state, then by cause, see `_settle`

How a request ends that its worker does not answer:

    A  no worker can be had                WorkerUnavailable: the caller runs it elsewhere
    B  the worker was taken away           a new worker, and the code again, if nothing else was undone
    C  the code itself ended the worker    an error; the code is not run again
    D  the code outlived its time          interrupted, or killed; an error
"""

from __future__ import annotations

import marshal
import signal
from time import perf_counter

from json_repl import ending, travel
from json_repl.core import log, wire
from json_repl.core import outcome as ends
from json_repl.core.errors import InternalError, WireError, WorkerLost, WorkerUnavailable
from json_repl.core.outcome import Outcome
from json_repl.core.settings import GRACE_SECONDS
from json_repl.core.snapshot import SUCCESSOR
from json_repl.lineage import STOP_SECONDS, Lineage
from json_repl.look import Looks
from json_repl.loop import Loop, Visit
from json_repl.memory import OutOfMemoryCount
from json_repl.turn import RESTARTS, Turn, crash, is_timeout, killed, not_run, not_taken, was_taken_away

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from json_repl.past import Past
    from json_repl.shelf import Snapshot
    from json_repl.turn import End


class WorkerManager:
    """One session's worker, made when first needed. All but `execute` and `stop` return at once.

    Args:
        loop: the parent's loop; one of its own by default.
        python: the interpreter; by default the one that runs this.
        helpers: the user's own helper modules, as in JSON_REPL_HELPERS.
        snapshots, keep, snapshot_memory: as in JSON_REPL_SNAPSHOTS, .._KEEP and .._MEMORY.
        answer_question: what the worker's user code asks its session, and the reply.
        on_late_output: output of an earlier request, whose number it gets, or of none (0).
        past, role: of one that goes on from another's state, see `twin`.
    """

    def __init__(
        self,
        loop: Loop | None = None,
        *,
        python: str | None = None,
        helpers: str | None = None,
        snapshots: str = "auto",
        keep: int = 8,
        snapshot_memory: int = 0,
        answer_question: Callable[[list[str]], Any] = lambda question: [],
        on_late_output: Callable[[int, list[tuple[int, bytes]]], None] = lambda owner, pieces: None,
        past: Past | None = None,
        role: bytes = SUCCESSOR,
    ) -> None:
        self.answer_question = answer_question
        self.on_late_output = on_late_output
        self.trial: WorkerManager | None = None  # runs a dry run in its stead
        source: dict[str, str | None] = {"python": python, "helpers": helpers, "snapshots": snapshots}
        limits = {"keep": keep, "snapshot_memory": snapshot_memory}
        self._options: dict[str, Any] = {**source, **limits}
        self.lineage = Lineage(self, loop or Loop(), source, **limits, past=past, role=role)
        self.looks = Looks(self)
        self._turn: Turn | None = None
        self._waiting: Turn | None = None  # for a copy of the state, before it runs
        self._call: tuple[bytes, Callable[[object], None]] | None = None
        self._numbers = 0
        self._streams = False  # a request has asked for its output as it comes, and its threads may print still
        self._oom_count = OutOfMemoryCount()

    # -- what others call --------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """A worker can take a request."""
        return self.lineage.ready

    @property
    def given_up(self) -> str | None:
        """Why there will be no worker, until a restart."""
        return self.lineage.given_up

    def prepare(self) -> None:
        """Make the worker now, as it will be needed."""
        self.lineage.prepare()

    def start(
        self, number: int, code: str, done: Callable[[Outcome | WorkerUnavailable], None], **options: Any
    ) -> None:
        """Have the worker run `code`, one request at a time; the arguments are those of `Turn`."""
        assert self._turn is None, "a worker runs one request at a time"
        turn = Turn(number, code, done, **options)
        if turn.dry_run or turn.undoes_errors:
            self._waiting = turn
            self.lineage.at_present(lambda copy: self._start_from(copy, turn))
        else:
            self._turn = turn
            self._proceed()

    def _start_from(self, copy: Snapshot | str, turn: Turn) -> None:
        if turn is not self._waiting:  # it was interrupted
            return
        if isinstance(copy, str):
            self._waiting = None
            turn.done(not_run(copy))
        elif turn.dry_run:
            travel.run_in_a_copy(self, copy, turn)
        else:
            turn.undoes_to = copy.number
            self.begins(turn)
            self._turn = turn
            self._proceed()

    def begins(self, turn: Turn) -> None:
        """A turn that has waited for a copy of the state goes on."""
        assert turn is self._waiting
        self._waiting = None

    def execute(self, code: str, timeout: float | None = 30.0) -> Outcome:
        """Run `code` and wait for its end. `timeout` is in seconds.

        Raises:
            WorkerUnavailable: no worker has taken it. Whatever happens after that is an Outcome.
            KeyboardInterrupt: it came while the code ran, which it has ended.
        """
        ended: list[Outcome | WorkerUnavailable] = []
        self._numbers += 1
        with Visit(self.lineage.loop, ended, self.cut_short):
            self.start(self._numbers, code, ended.append, timeout=timeout)
        if isinstance(ended[0], WorkerUnavailable):
            raise ended[0]
        return ended[0]

    def call(self, done: Callable[[object], None], **params: object) -> None:
        """Have the worker look at its state, see core/looks.py; `done` gets packed texts, or an RpcError."""
        self._call = (marshal.dumps(params, 4), done)
        self._proceed()

    def interrupt(self, grace: float | None = GRACE_SECONDS) -> bool:
        """Raise KeyboardInterrupt in the request that runs; False if none does.

        If it goes on for `grace` seconds (None: however long), its worker is killed, and the state is as before it.
        """
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._drop_trial()
            waiting.done(not_run("it was interrupted before"))
            return True
        if self.trial is not None:
            return self.trial.interrupt(grace)
        turn, link = self._turn, self.lineage.link
        if turn is None:
            return False
        if link is not None and link.busy:
            link.interrupt()
            if grace is not None:
                ending.kill_later(link, grace, self._still_runs(turn), turn.is_killed)
        elif not self.lineage.is_returning:
            self._end_turn(not_taken())
        return True

    def collect(self) -> None:
        """Take what the request that runs has printed until now."""
        runs_it = self.trial or self.lineage.link
        if runs_it is not None:
            runs_it.collect()

    def twin(self, past: Past, role: bytes) -> WorkerManager:
        """One more of the same kind, with a past that branches off from this one's."""
        told: dict[str, Any] = {"answer_question": self.answer_question, "on_late_output": self.on_late_output}
        return WorkerManager(self.lineage.loop, **self._options, **told, past=past, role=role)

    def cut_short(self) -> bool:
        """Interrupt the request that runs, which is not run again whatever comes; False if none runs."""
        if self._turn is not None:
            self._turn.never_again()
        return self.interrupt()

    def kill(self) -> None:
        """End the worker and all that it has started, at once, from within a signal's handler too."""
        if self.trial is not None:
            self.trial.kill()
        self.looks.kill()
        self.lineage.kill()

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """End the worker and all that it has started: ask, wait, kill. Returns when it is gone."""
        self._drop_trial()
        self.looks.end()
        self.lineage.stop(seconds)

    def close(self, done: Callable[[], None], seconds: float = STOP_SECONDS) -> None:
        """As `stop`, but return at once, and call `done` when it is gone."""
        self._drop_trial()
        self.looks.end()
        self.lineage.close(done, seconds)

    def discard(self, done: Callable[[], None]) -> None:
        """End the worker and all that it has started at once; `done` is called when it is gone."""
        self._drop_trial()
        self.looks.end()
        self.lineage.discard(done)

    def _drop_trial(self) -> None:
        if self.trial is not None:
            self.trial.lineage.discard()
            self.trial = None

    # -- handing over ------------------------------------------------------------------------------------------------

    def _proceed(self) -> None:
        if self._turn is None and self._call is None:
            return
        if self.given_up is not None:
            self.on_given_up(self.given_up)
        elif self.ready:
            self._hand_over()
        else:
            self.prepare()

    def _hand_over(self) -> None:
        link, turn = self.lineage.link, self._turn
        assert link is not None
        if self._call is not None and self._call[0]:
            link.send(wire.CALL, self._call[0])
            self._call = (b"", self._call[1])  # sent
        if turn is not None and not link.busy:
            turn.begin()
            self._oom_count.refresh()
            link.busy = turn.number
            self._streams = self._streams or turn.printed.listener is not None
            link.follow(wanted=self._streams)
            link.send(wire.REQUEST, marshal.dumps(turn.for_worker(), 4))
            if turn.timeout:
                turn.deadline = self.lineage.loop.call_in(turn.timeout, self._deadline)

    def _deadline(self) -> None:
        turn, link = self._turn, self.lineage.link
        if turn is not None and link is not None and link.busy and turn.killed_for is None:
            turn.killed_for = ends.TIMEOUT
            turn.children = link.children()
            ending.end_late(link, self._still_runs(turn))

    def _still_runs(self, turn: Turn) -> Callable[[], bool]:
        attempt = turn.attempts
        return lambda: self._turn is turn and turn.attempts == attempt

    # -- news of the lineage -----------------------------------------------------------------------------------------

    def on_ready(self) -> None:
        """A worker is there."""
        self._proceed()

    def on_given_up(self, why: str) -> None:
        """There will be none."""
        self._fail_call(f"there is no worker: {why}.")
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.done(WorkerUnavailable(why))

    def on_frame(self, kind: int, payload: bytes) -> None:
        """A frame of the worker."""
        if kind == wire.ANSWER and self._turn is not None:
            self._answered(Outcome.from_frame(payload))
        elif kind == wire.QUESTION and self.lineage.link is not None:
            self._reply([part or "" for part in wire.unpack_texts(payload)])
        elif kind in (wire.RESULT, wire.FAILURE) and self._call is not None:
            call, self._call = self._call, None
            call[1](payload if kind == wire.RESULT else InternalError(f"{wire.unpack_texts(payload)[0]}."))
        else:
            raise WireError("a frame that nobody waits for")

    def _reply(self, question: list[str]) -> None:
        assert self.lineage.link is not None
        number, *question = question
        if question[:1] == ["input"] and self._turn is not None:
            self._turn.question = int(number)
            if self._turn.ask is None:
                self.answer_input(None)
            else:
                self.lineage.link.collect()  # so that what was printed before is told before
                self._turn.ask(question[1], bool(question[2]))
            return
        try:
            reply = self.answer_question(question)
        except (IndexError, ValueError):
            raise WireError("a question that is none of ours") from None
        self.lineage.link.send(wire.REPLY, marshal.dumps((int(number), reply), 4))

    def answer_input(self, text: str | None) -> bool:
        """Give the code that waits for its client a line, or, with None, the end of input; False if none waits."""
        if self.trial is not None:
            return self.trial.answer_input(text)
        turn, link = self._turn, self.lineage.link
        if turn is None or turn.question is None or link is None or not link.busy:
            return False
        number, turn.question = turn.question, None
        link.send(wire.REPLY, marshal.dumps((number, text), 4))
        return True

    def on_output(self, owner: int, pieces: list[tuple[int, bytes]]) -> None:
        """Output of the request that runs, or of none."""
        if self._turn is not None and owner == self._turn.number:
            self._turn.printed.add(pieces)
        else:
            self.on_late_output(owner, pieces)

    def on_lost(self, end: End) -> None:
        """The worker has ended, and the state is what it will be."""
        was_idle = self._call is None
        self._fail_call(f"the worker {end.text} before it could answer.")
        turn = self._turn if self._turn is not None and self._turn.number == end.busy else None
        if turn is not None:
            turn.stop_clock()
        if turn is not None and (end.has_begun or not turn.may_be_missed()):
            self._settle(turn, end)
        elif was_idle:
            log.warning(f"the worker {end.text} while it was idle; there is a new one")

    def _fail_call(self, why: str) -> None:
        call, self._call = self._call, None
        if call is not None:
            call[1](WorkerLost(why))

    # -- ends of a request -------------------------------------------------------------------------------------------

    def _answered(self, outcome: Outcome) -> None:
        turn, link = self._turn, self.lineage.link
        assert turn is not None and link is not None
        link.busy = 0
        if turn.killed_for == ends.TIMEOUT:
            is_timeout(outcome, turn, link.stacks())
        if outcome.reason is not None and turn.undoes_to is not None:
            self.lineage.note_served()
            self.lineage.undo(turn.undoes_to, lambda: self._end_turn(outcome))
            return
        self.lineage.past.add(turn.number, turn.execution_count, outcome)
        self.lineage.note_served()
        if turn.killed_for == ends.TIMEOUT and turn.always:
            self._again_or_elsewhere(turn, "was interrupted when the time was over")
            self._proceed()
        else:
            self._end_turn(outcome)

    def _settle(self, turn: Turn, end: End) -> None:
        """What becomes of a request whose worker has ended:

        1. its time was over (D), or it was to end for another reason of ours: that is told,
        2. it was taken away, and nothing else was undone by that (B), or the request wants it so: the code runs again,
        3. anything else (C): a crash.
        """
        if end.code == -signal.SIGKILL and turn.killed_for is None and self._oom_count.has_grown():
            turn.killed_for = ends.MEMORY
        taken_away = was_taken_away(end.code) and turn.killed_for is None
        if turn.may_run_again(taken_away and not self.lineage.past.undid_more):  # case 2
            self._again_or_elsewhere(turn, end.text)
            return
        by_us = turn.killed_for in (ends.TIMEOUT, ends.INTERRUPTED)
        outcome = killed(turn, end.stacks) if by_us else crash(turn, end)  # case 1, case 3
        outcome.cpu_ms, outcome.max_rss_bytes = end.cpu_ms, end.max_rss_bytes
        self._end_turn(outcome)

    def _again_or_elsewhere(self, turn: Turn, text: str) -> None:
        turn.printed.begin_again(turn.attempts + 1)
        if turn.attempts <= min(turn.retries, RESTARTS):
            log.warning(f"the worker {text} while code ran; it runs again ({turn.attempts} of {turn.retries})")
            turn.killed_for = None
        else:
            self._turn = None
            turn.done(WorkerUnavailable(f"the worker {text}, {turn.attempts} times", attempts=turn.attempts))

    def _end_turn(self, outcome: Outcome) -> None:
        turn, self._turn = self._turn, None
        assert turn is not None
        turn.stop_clock()
        outcome.take_output(turn.printed)
        outcome.backend = "worker"
        outcome.attempts = max(turn.attempts, 1)
        if not outcome.elapsed_ms and turn.started:
            outcome.elapsed_ms = (perf_counter() - turn.started) * 1000
        outcome.state = self.lineage.past.take_loss()
        turn.done(outcome)
