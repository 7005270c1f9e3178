"""Parent side: what can be made of kept states: go back to one, go on from one twice, try something in a copy."""

from __future__ import annotations

from json_repl.core.errors import InvalidParams, RpcError, WorkerLost
from json_repl.core.outcome import Outcome
from json_repl.core.snapshot import CLONE, TRIAL
from json_repl.turn import not_run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from json_repl.core.errors import WorkerUnavailable
    from json_repl.lineage import Lineage
    from json_repl.past import Past
    from json_repl.shelf import Snapshot
    from json_repl.turn import Turn

    class Manager(Protocol):
        """A `WorkerManager`."""

        lineage: Lineage
        trial: Any

        def begins(self, turn: Turn) -> None:
            """A turn that has waited for a copy goes on."""

        def twin(self, past: Past, role: bytes) -> Any:
            """One more, with a past of its own."""


_GONE = "the copy of that state has ended meanwhile"


def find(
    lineage: Lineage, to: str | float | None, steps: int | None, then: Callable[[Snapshot | RpcError], None]
) -> None:
    """Call `then` with the copy of a state that a client names, see `Past.find`, or with why there is none."""

    def take_present(copy: Snapshot | str) -> None:
        then(WorkerLost(f"{copy}.") if isinstance(copy, str) else copy)

    def look() -> None:
        try:
            then(lineage.past.find(to, steps))
        except InvalidParams as error:
            then(error)

    if lineage.past.is_present(to, steps):
        lineage.at_present(take_present)
    else:
        lineage.when_settled(look)


def go_back(
    lineage: Lineage, to: str | float | None, steps: int | None, done: Callable[[dict[str, object] | RpcError], None]
) -> None:
    """Have the session's state be one that it was: see `Past.find` for `to` and `steps`."""

    def begin(found: Snapshot | RpcError) -> None:
        if isinstance(found, RpcError):
            done(found)
            return
        number = found.number

        def arrived(origin: Snapshot | None) -> None:
            if origin is None or origin.number != number:
                done(WorkerLost(f"{lineage.given_up or _GONE}; the next answer tells which state there is now."))
                return
            told = lineage.past.take_loss()
            place = {"execution_id": f"e{number}", "execution_count": lineage.past.execution_count()}
            done({**place, "threads_lost": 0, **told})

        lineage.return_to(found, arrived)

    find(lineage, to, steps, begin)


def clone(manager: Manager, at: str | float | None, done: Callable[[Any, int], None]) -> None:
    """Make the manager of a second session, which goes on from the state `at`, by default the present one.

    `done` gets it, or an RpcError, and the number of threads that it lacks.
    """

    def begin(found: Snapshot | RpcError) -> None:
        if isinstance(found, RpcError):
            done(found, 0)
            return

        def arrived(origin: Snapshot | None) -> None:
            if origin is None or origin.number != found.number:
                why = twin.given_up or _GONE
                twin.lineage.discard()
                done(WorkerLost(f"no clone can be made: {why}."), 0)
                return
            twin.lineage.past.take_loss()
            done(twin, found.threads)

        twin = manager.twin(manager.lineage.branch(found), CLONE)
        twin.lineage.begin(arrived)

    find(manager.lineage, at, 0 if at is None else None, begin)


def run_in_a_copy(manager: Manager, copy: Snapshot, turn: Turn) -> None:
    """Run a dry run's code where it changes nothing."""

    def ended(outcome: Outcome | WorkerUnavailable) -> None:
        if not isinstance(outcome, Outcome):
            outcome = not_run(str(outcome))
        outcome.state = manager.lineage.past.take_loss()
        if copy.threads:
            outcome.state["threads_lost"] = copy.threads
        manager.trial = None
        trial.lineage.discard()
        turn.done(outcome)

    def arrived(origin: Snapshot | None) -> None:
        if origin is None or origin.number != copy.number:
            ended(not_run(trial.given_up or _GONE))
        else:
            trial.lineage.past.take_loss()
            manager.begins(turn)
            trial.start(turn.number, turn.code, ended, compares=True, **turn.options())

    manager.trial = trial = manager.twin(manager.lineage.branch(copy), TRIAL)
    trial.on_late_output = lambda owner, pieces: None  # of what shows its objects when they are compared
    trial.lineage.begin(arrived)
