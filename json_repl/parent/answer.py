"""Parent side: an `Outcome` as the result object of ``execute``, the same for both backends."""

from __future__ import annotations

from time import gmtime, strftime, time

from json_repl.core import outcome as ends
from json_repl.core.outcome import Outcome, failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from json_repl.parent.session import Session


def make_answer(session: Session, outcome: Outcome, execution_id: str) -> dict[str, object]:
    """The result object. Names are Jupyter's where it has one; the last block is that of the system we replace."""
    error = outcome.error
    local = outcome.backend == "local"
    worker = session.worker
    stderr = outcome.stderr
    if error is not None:
        stderr += ("\n" if stderr and not stderr.endswith("\n") else "") + error.text()
    return {
        "status": outcome.status,
        "reason": outcome.reason,
        "execution_count": session.execution_count,
        "execution_id": execution_id,
        "stdout": outcome.stdout,
        "stderr": stderr,
        "result": outcome.result,
        "data": outcome.data,
        "metadata": outcome.metadata,
        "outputs": outcome.outputs,
        "error": None if error is None else error.to_wire(),
        "changes": None if outcome.changes is None else _by_kind(outcome.changes),
        "truncated": outcome.truncated,
        "late_output": session.take_late_output(),
        "backend": outcome.backend,
        "attempts": outcome.attempts,
        "fallback": outcome.fallback,
        "session_state": {
            "state": ends.KEPT,
            "epoch": session.whole_epoch(),
            "undone": [],
            "lost_names": [],
            "warning": _warning(outcome),
            **outcome.state,
        },
        "usage": {
            "elapsed_ms": round(outcome.elapsed_ms, 3),
            "cpu_ms": round(outcome.cpu_ms, 3),
            "max_rss_bytes": outcome.max_rss_bytes,
        },
        "success": outcome.status != ends.ERROR,
        "language": "python",
        "session_mode": "persistent",
        "variable_count": outcome.variable_count,
        "note": outcome.note,
        "debug_info": {
            "repl_process_active": local or (worker is not None and worker.ready),
            "repl_ready": True,
            "execution": outcome.status,
            "helpers_loaded": True,
            "execution_mode": "local" if local else "subprocess_worker",
            "elapsed_ms": round(outcome.elapsed_ms, 3),
            "history_size": len(session.history),
        },
        "timestamp": _timestamp(),
    }


def _warning(outcome: Outcome) -> str | None:
    """What the loss of the worker would cost beyond the request that caused it."""
    words = []
    if outcome.threads:
        words.append(f"threads ({outcome.threads}) would not come back after a loss of the worker")
    if outcome.copy_ms:
        each = f"a copy of the state takes {outcome.copy_ms:.0f} ms, so there is not one after every answer"
        words.append(f"{each}: a loss may undo earlier requests too")
    return "; ".join(words) or None


def make_cancelled(session: Session) -> dict[str, object]:
    """What an answer says of a request whose turn has not come."""
    why = "the request was cancelled before its turn came"
    outcome = failure(ends.CANCELLED, "Cancelled", why)
    outcome.backend = "local" if session.worker is None else "worker"
    return make_answer(session, outcome, session.next_id())


def make_running(session: Session) -> dict[str, object]:
    """What an answer says of an execution that goes on: its output as far as it was collected."""
    assert session.running is not None
    execution_id = session.running["execution_id"]
    outcome = Outcome()
    outcome.backend = "local" if session.runs_locally else "worker"
    outcome.take_output(session.output_so_far())
    outcome.elapsed_ms = (time() - session.running["since"]) * 1000
    answer: dict[str, Any] = make_answer(session, outcome, execution_id)
    answer["status"] = answer["debug_info"]["execution"] = ends.RUNNING
    return answer


def _by_kind(changes: list[str]) -> dict[str, list[str]]:
    kinds = (("added", "+"), ("changed", "~"), ("removed", "-"))
    return {kind: [change[1:] for change in changes if change[0] == sign] for kind, sign in kinds}


_second = (0, "")  # the last one that was formatted, as formatting takes longer than all else here


def _timestamp() -> str:
    global _second
    now = time()
    if int(now) != _second[0]:
        _second = (int(now), strftime("%Y-%m-%dT%H:%M:%S", gmtime(now)))
    return f"{_second[1]}.{int(now * 1000) % 1000:03d}Z"
