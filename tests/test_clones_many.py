"""Many clones, many cycles, and clones where something runs out."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from harness import FRONT_DOOR, Session, wait_until

Start = Callable[..., Session]
ALWAYS = {"JSON_REPL_SNAPSHOTS": "always"}
NEEDS_WORKER = -32015


@pytest.fixture
def kept(start: Start, tmp_path: Path) -> Session:
    """A session that keeps its state after every answer."""
    return start("worker", env=ALWAYS, cwd=tmp_path)


def test_twenty_clones_live_side_by_side(kept: Session) -> None:
    names = [f"c{number}" for number in range(20)]
    kept.keep("x = [0]")
    for name in names:
        kept.clone(name)
    kept.send(*({"id": name, "code": f"x.append({name!r}); x", "session_id": name} for name in names))
    answers = {answer["id"]: answer for answer in (kept.read() for _ in names)}
    assert {name: answers[name]["result"] for name in names} == {name: f"[0, {name!r}]" for name in names}
    assert len({found["pid"] for found in kept.ask("session/list")["sessions"]}) == 21
    for name in names:
        kept.ask("session/close", session_id=name)
    assert kept.value("x") == "[0]"


def test_no_process_or_file_grows_over_many_cycles(kept: Session) -> None:
    kept.keep("import os; x = 1")

    def cycle() -> None:
        kept.clone("b")
        assert kept.run("os._exit(3)", session_id="b")["reason"] == "crash"
        kept.run("1 / 0", on_error="rollback", session_id="b")
        kept.run("x = 2", dry_run=True)
        kept.ask("session/close", session_id="b")
        assert kept.ask("rollback", to=1)["state"] == "restored"

    def size() -> tuple[int, int]:
        children = psutil.Process(kept.pid).children(recursive=True)
        return len(os.listdir(f"/proc/{kept.pid}/fd")), len(children)

    for _ in range(5):
        cycle()
    wait_until(lambda: size()[1] == 3)  # the worker, its first state and the one after e1: with a guard, or in it
    before = size()
    for _ in range(45):
        cycle()
    wait_until(lambda: size() == before)
    assert kept.value("x") == "1"


def test_clones_that_files_run_out_for_are_refused_with_the_reason_and_cost_no_state(start: Start) -> None:
    limited = ["sh", "-c", 'ulimit -n 110; exec "$0" "$@"', sys.executable, str(FRONT_DOOR)]
    session = start("worker", env=ALWAYS, command=limited)
    session.run("x = [1]")
    made = []
    while "error" not in (answer := session.ask("session/clone")):
        made.append(answer["session_id"])
        assert len(made) < 50
    assert "open files" in answer["error"]["message"]
    failed = session.run("x.append(2); 1 / 0", on_error="rollback")
    assert failed["session_state"]["state"] != "lost"
    for name in made:
        assert session.value("x", session_id=name) == "[1]"
        session.ask("session/close", session_id=name)
    assert session.value("x") in ("[1]", "[1, 2]")
    session.clone("b")


def test_a_clone_that_can_have_no_worker_any_more_says_so_and_shows_nobody_elses_state(
    start: Start, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    python.symlink_to(sys.executable)
    session = start("worker", env={**ALWAYS, "JSON_REPL_PYTHON": str(python)})
    session.run("x = 1")
    session.clone("b")
    python.unlink()
    session.ask("restart", session_id="b")
    answer = session.run("x = 2", session_id="b")
    assert (answer["status"], answer["error"]["ename"]) == ("error", "WorkerUnavailable")
    assert "error" in session.ask("variables", session_id="b")
    assert session.run("x", session_id="b", dry_run=True)["error"]["code"] == NEEDS_WORKER
    assert (session.value("x"), session.ask("status")["backend"]) == ("1", "worker")
