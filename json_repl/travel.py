"""Parent side: what can be made of kept states: go back to one, go on from one twice, try something in a copy."""

from __future__ import annotations

from json_repl.core.errors import RpcError, WorkerLost
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

        def twin(self, past: Past, role: bytes) -> Any:
            """One more, with a past of its own."""


_GONE = "the copy of that state has ended meanwhile"


def go_back(
    lineage: Lineage, to: str | float | None, steps: int | None, done: Callable[[dict[str, object] | RpcError], None]
) -> None:
    """Have the session's state be one that it was: see `Past.find` for `to` and `steps`.

    Raises:
        InvalidParams: no copy of that state is kept.
    """
    snapshot = lineage.past.find(to, steps)

    def arrived(origin: Snapshot | None) -> None:
        if origin is not snapshot:
            done(WorkerLost(f"{_GONE}; the next answer tells which state there is now."))
            return
        told = lineage.past.take_loss()
        place = {"execution_id": f"e{snapshot.number}", "execution_count": lineage.past.execution_count()}
        done({**place, **told})

    lineage.return_to(snapshot, arrived)


def clone(manager: Manager, at: str | float | None, done: Callable[[Any], None]) -> None:
    """Make the manager of a second session, which goes on from the state `at`, by default the present one.

    `done` gets it, or an RpcError.

    Raises:
        InvalidParams: no copy of that state is kept.
    """

    def begin(copy: Snapshot | str) -> None:
        if isinstance(copy, str):
            done(WorkerLost(f"there is nothing to clone: {copy}."))
            return

        def arrived(origin: Snapshot | None) -> None:
            if origin is None or origin.number != copy.number:
                twin.lineage.discard()
                done(WorkerLost(f"{_GONE}."))
                return
            twin.lineage.past.take_loss()
            done(twin)

        twin = manager.twin(manager.lineage.branch(copy), CLONE)
        twin.lineage.begin(arrived)

    if at is None:
        manager.lineage.at_present(begin)
    else:
        begin(manager.lineage.past.find(at, None))


def run_in_a_copy(manager: Manager, copy: Snapshot, turn: Turn) -> None:
    """Run a dry run's code where it changes nothing."""

    def ended(outcome: Outcome | WorkerUnavailable) -> None:
        if not isinstance(outcome, Outcome):
            outcome = not_run(str(outcome))
        outcome.state = manager.lineage.past.take_loss()
        manager.trial = None
        trial.lineage.discard()
        turn.done(outcome)

    def arrived(origin: Snapshot | None) -> None:
        if origin is None or origin.number != copy.number:
            ended(not_run(_GONE))
        else:
            trial.lineage.past.take_loss()
            trial.start(turn.number, turn.code, ended, compares=True, **turn.options())

    manager.trial = trial = manager.twin(manager.lineage.branch(copy), TRIAL)
    trial.lineage.begin(arrived)
