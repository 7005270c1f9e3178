"""A client that does not wait for the end of an execution asks for its answer later; what waits can be cancelled."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import Session, wait_until


class Running:
    """A request whose client was told that it runs; it goes on when the file `go` is there."""

    def __init__(self, session: Session, folder: Path, last: str = "40 + 2", **params: Any) -> None:
        self.session, self.go = session, folder / "go"
        hold = f"import os, time\nprint('begun')\nwhile not os.path.exists({str(self.go)!r}): time.sleep(0.001)\n"
        self.answer = session.run(f"{hold}print('done')\n{last}", **{"wait": 0.05, "id": "r", **params})
        self.id = self.answer["execution_id"]

    def wait(self, **params: Any) -> Any:
        """Ask for its answer."""
        return self.session.ask("wait", execution_id=self.id, **params)


@pytest.fixture
def running(session: Session, tmp_path: Path) -> Running:
    """One in each backend."""
    session.run("kept = 1")
    return Running(session, tmp_path)


# -- waiting ----------------------------------------------------------------------------------------------------------


def test_a_client_is_told_what_there_is_and_fetches_the_answer_once(running: Running) -> None:
    assert (running.answer["status"], running.answer["id"], running.answer["reason"]) == ("running", "r", None)
    again = running.wait(wait=0.01)
    assert (again["status"], again["stdout"], again["execution_id"]) == ("running", "begun\n", running.id)
    assert running.session.ask("status")["running"]["execution_id"] == running.id
    running.go.touch()
    last = running.wait()
    assert (last["status"], last["stdout"], last["result"]) == ("ok", "begun\ndone\n", "42")
    assert last["execution_id"] == running.id
    assert running.wait()["error"]["code"] == -32602


def test_an_answer_is_kept_until_it_is_fetched(running: Running) -> None:
    running.go.touch()
    assert running.session.value("kept + 1") == "2"
    for n in range(5):
        running.session.run(str(n))
    assert running.wait(wait=0)["result"] == "42"
    assert running.wait(wait=0)["error"]["code"] == -32602


def test_each_of_several_waiters_gets_the_answer(running: Running) -> None:
    running.session.send(*({"id": n, "method": "wait", "execution_id": running.id} for n in range(5)))
    assert running.wait(wait=0, id="short")["status"] == "running"
    running.go.touch()
    answers = [running.session.read() for _ in range(5)]
    assert [(answer["id"], answer["result"]) for answer in answers] == [(n, "42") for n in range(5)]
    assert running.wait()["error"]["code"] == -32602


def test_wait_0_answers_at_once(session: Session, tmp_path: Path) -> None:
    running = Running(session, tmp_path, wait=0)
    assert running.answer["status"] == "running"
    assert running.wait(wait=0)["status"] == "running"
    running.go.touch()
    assert running.wait()["result"] == "42"


def test_the_wait_is_kept_by_code_that_falls_back_to_the_sessions_own_process(start: Any, tmp_path: Path) -> None:
    session = start("worker", env={"JSON_REPL_PYTHON": "/is/not/there"})
    go = tmp_path / "go"
    code = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)\n'done'"
    answer = session.run(code, wait=0.2)
    assert (answer["status"], answer["backend"]) == ("running", "local")
    go.touch()
    answer = session.ask("wait", execution_id=answer["execution_id"])
    assert (answer["result"], answer["fallback"]["reason"]) == ("'done'", "worker_unavailable")


def test_a_request_that_ends_in_time_is_answered_as_ever_and_only_once(session: Session) -> None:
    answer = session.run("40 + 2", wait=25)
    assert (answer["status"], answer["result"]) == ("ok", "42")
    assert session.ask("wait", execution_id=answer["execution_id"])["error"]["code"] == -32602
    assert session.value("1 + 1") == "2"


@pytest.mark.parametrize("execution_id", ["e99", "", "nonsense"])
def test_there_is_no_answer_of_what_was_never_run(session: Session, execution_id: str) -> None:
    assert session.ask("wait", execution_id=execution_id, wait=0)["error"]["code"] == -32602


def test_a_request_that_was_refused_is_not_answered_again(local: Session) -> None:
    local.send({"id": 1, "code": "1", "wait": 0.05, "dry_run": True}, {"id": 2, "code": "import time; time.sleep(0.3)"})
    local.send({"id": 3, "code": "2"})
    answers = [local.read() for _ in range(3)]
    assert [(answer["id"], answer.get("status")) for answer in answers] == [(1, None), (2, "ok"), (3, "ok")]
    assert local.ask("ping") == {"pong": True}


def test_answers_that_come_just_when_patience_ends_come_once(session: Session) -> None:
    session.run("import time")
    early = late = 0
    for n in range(150):
        session.send({"id": n, "code": f"time.sleep(0.004); print({n}); {n}", "wait": 0.003 + n % 20 / 10_000})
        answer = session.read()
        if answer["status"] == "running":
            late += 1
            answer = session.ask("wait", execution_id=answer["execution_id"], id=n)
        else:
            early += 1
        assert (answer["id"], answer["result"], answer["stdout"]) == (n, str(n), f"{n}\n")
        assert session.ask("output/read", execution_id=answer["execution_id"])["error"]["code"] == -32602
    assert late


def test_output_is_streamed_on_after_the_client_was_told(session: Session, tmp_path: Path) -> None:
    running = Running(session, tmp_path, stream=True)
    running.go.touch()
    last = running.wait()
    told = [line["params"]["text"] for line in session.notifications if line["method"] == "stream"]
    assert "".join(told) == last["stdout"] == "begun\ndone\n"


def test_in_a_batch_too(session: Session, tmp_path: Path) -> None:
    go = tmp_path / "go"
    code = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.001)"
    session.send([{"id": 1, "code": code, "wait": 0.05}, {"id": 2, "method": "ping"}])
    first, _ = session.read()
    assert first["status"] == "running"
    wait = {"method": "wait", "params": {"execution_id": first["execution_id"]}, "jsonrpc": "2.0"}
    session.send([{**wait, "id": 3}, {"id": 4, "code": "40 + 2"}])
    go.touch()
    last, following = session.read()
    assert (last["id"], last["result"]["status"], following["result"]) == (3, "ok", "42")


# -- how it may end ---------------------------------------------------------------------------------------------------

ENDS: dict[str, tuple[str, dict[str, Any], str]] = {
    "an exception": ("1 / 0", {}, "exception"),
    "an exit": ("raise SystemExit(1)", {}, "exit"),
    "its time": ("while True: pass", {"timeout": 0.5}, "timeout"),
    "a crash": ("os.abort()", {}, "crash"),
}


@pytest.mark.parametrize("name", ENDS)
def test_the_answer_tells_how_it_has_ended(
    start: Callable[..., Session], backend: str, tmp_path: Path, name: str
) -> None:
    if name == "a crash" and backend == "local":
        pytest.skip("a crash of local code is that of the session")
    code, params, reason = ENDS[name]
    running = Running(start(backend), tmp_path, code, **params)
    running.session.send({"id": "w", "method": "wait", "execution_id": running.id})
    running.go.touch()
    last = running.session.read()
    assert (last["id"], last["reason"], last["stdout"]) == ("w", reason, "begun\ndone\n")
    assert running.session.value("1 + 1") == "2"


@pytest.mark.parametrize("by", [{}, {"request_id": "r"}, {"execution_id": True}, "SIGINT"], ids=str)
def test_it_can_be_interrupted(running: Running, by: Any) -> None:
    if by == "SIGINT":
        running.session.process.send_signal(signal.SIGINT)
    else:
        by = {"execution_id": running.id} if "execution_id" in by else by
        assert running.session.ask("interrupt", **by)["interrupted"] is True
    assert running.wait()["reason"] == "interrupted"
    assert running.session.value("kept") == "1"


def test_the_end_of_stdin_waits_for_it_and_answers_its_waiters(running: Running) -> None:
    running.session.send({"id": "w", "method": "wait", "execution_id": running.id})
    running.session.close_stdin()
    running.go.touch()
    assert running.session.read()["result"] == "42"
    assert (running.session.read(), running.session.wait()) == (None, 0)


@pytest.mark.parametrize("fetched", [True, False], ids=["fetched", "not fetched"])
@pytest.mark.parametrize("option", ["--check", "--fail-fast"])
def test_its_failure_counts(
    start: Callable[..., Session], backend: str, tmp_path: Path, option: str, fetched: bool
) -> None:
    running = Running(start(backend, option), tmp_path, "1 / 0")
    if fetched:
        running.session.send({"id": "w", "method": "wait", "execution_id": running.id})
    running.session.send({"id": "n", "code": "40 + 2"})
    assert running.session.ask("status")["queued"] == 1  # all is read
    running.session.close_stdin()
    running.go.touch()
    answers = {answer["id"]: answer for answer in iter(running.session.read, None)}
    assert set(answers) == ({"w", "n"} if fetched else {"n"})
    assert answers["n"].get("result") == ("42" if option == "--check" else None)
    assert running.session.wait() == 1


# -- requests that wait for their turn --------------------------------------------------------------------------------


def test_a_queued_request_is_cancelled_and_not_run(running: Running, tmp_path: Path) -> None:
    session = running.session
    session.send({"id": 1, "code": "kept = 2"}, {"id": "1", "code": "text = 3"}, {"id": 2, "method": "variables"})
    session.send({"id": "c", "method": "interrupt", "request_id": 1})
    session.send({"id": "d", "method": "interrupt", "request_id": 2})
    session.send({"id": "e", "method": "interrupt", "request_id": 1})
    answers = [session.read() for _ in range(5)]
    assert [answer["id"] for answer in answers] == [1, "c", 2, "d", "e"]
    assert (answers[0]["status"], answers[0]["reason"]) == ("error", "cancelled")
    assert answers[2]["error"]["code"] == -32016
    assert [(a["interrupted"], a["cancelled"]) for a in answers if "cancelled" in a] == [
        (False, True),
        (False, True),
        (False, False),
    ]
    running.go.touch()
    assert session.read()["id"] == "1"
    assert session.value("kept, text") == "(1, 3)"


@pytest.mark.parametrize(
    "cancel",
    [
        {"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": 5}},
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 5}},
        {"jsonrpc": "2.0", "method": "interrupt", "params": {"request_id": 5}},
    ],
    ids=lambda cancel: str(cancel["method"]),
)
@pytest.mark.parametrize("dialect", ["bare", "JSON-RPC", "batch"])
def test_cancelling_by_notification(running: Running, cancel: dict[str, Any], dialect: str) -> None:
    session = running.session
    bare = {"id": 5, "code": "kept = 2"}
    request: Any = (
        bare if dialect == "bare" else {"jsonrpc": "2.0", "id": 5, "method": "execute", "params": {"code": "kept = 2"}}
    )
    session.send([{"id": 4, "method": "ping"}, request] if dialect == "batch" else request, cancel)
    answer = session.read()
    answer = answer[1] if dialect == "batch" else answer
    assert answer["id"] == 5 and (answer if dialect == "bare" else answer["result"])["reason"] == "cancelled"
    running.go.touch()
    wait_until(lambda: session.ask("status")["state"] == "idle")
    assert session.value("kept") == "1"
