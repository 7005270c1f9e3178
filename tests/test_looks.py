"""Looking around disturbs nothing and waits for nothing: what looks aside sees a copy, for a bounded time."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from harness import HOME, Session, lives, wait_until

Start = Callable[..., Session]

PYTHON = "while True: pass"
SLEEP = "import time\nwhile True: time.sleep(60)"
IN_C = "import itertools; any(itertools.repeat(0))"
NO_COPIES = {"JSON_REPL_SNAPSHOTS": "off"}


def _begin(session: Session, code: str, tmp_path: Path) -> None:
    """Have request "busy" run, and wait until it does."""
    mark = tmp_path / "running"
    session.send({"id": "busy", "code": f"open({str(mark)!r}, 'w').close()\n{code}", "timeout": 0, "retries": 0})
    wait_until(mark.exists)


def _end(session: Session) -> None:
    assert session.ask("interrupt")["interrupted"]
    answer = session.read()
    assert (answer["id"], answer["reason"]) == ("busy", "interrupted")


def _processes(session: Session) -> set[int]:
    """All that the session has started, but what has ended."""
    found = psutil.Process(session.pid).children(recursive=True)
    return {process.pid for process in found if lives(process.pid)}


# -- while code runs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [PYTHON, SLEEP, IN_C], ids=["python", "sleep", "in C"])
def test_code_that_runs_for_ever_is_looked_at_from_a_copy(worker: Session, tmp_path: Path, code: str) -> None:
    worker.run("text = 'a'; data = {'key': 1}")
    pid = worker.worker_pid()
    _begin(worker, f"text = None\n{code}", tmp_path)
    for _ in range(3):
        answer = worker.ask("complete", code="text.up")
        assert (answer["matches"], answer["stale"], answer["note"]) == (["upper"], True, None)
    assert worker.ask("complete", code="data['")["matches"] == ["key"]
    found = worker.ask("inspect", code="text")
    assert (found["metadata"]["type"], found["stale"]) == ("str", True)
    assert worker.ask("is_complete", code="if 1:") == {"status": "incomplete", "indent": "    "}
    assert worker.ask("status")["state"] == "busy"
    if code is IN_C:
        os.kill(pid, signal.SIGKILL)
        assert worker.read()["id"] == "busy"
    else:
        _end(worker)
        assert worker.value("text, __import__('os').getpid()") == f"(None, {pid})"


def test_the_first_request_of_all_is_looked_at_too(worker: Session, tmp_path: Path) -> None:
    _begin(worker, PYTHON, tmp_path)
    answer = worker.ask("complete", code="pri")
    assert ("print" in answer["matches"], answer["stale"]) == (True, True)
    _end(worker)


def test_what_waits_makes_a_look_stale(worker: Session) -> None:
    worker.run("first = 1")
    worker.send({"id": 1, "code": "second = 2"}, {"id": 2, "method": "complete", "code": "first"})
    answers = {answer["id"]: answer for answer in (worker.read(), worker.read())}
    assert (answers[2]["matches"], answers[2]["stale"]) == (["first"], True)
    assert worker.ask("complete", code="secon")["matches"] == ["second"]
    assert worker.ask("complete", code="secon")["stale"] is False


def test_a_local_session_looks_in_its_turn(local: Session) -> None:
    local.send({"id": 1, "code": "first = 1"}, {"id": 2, "method": "complete", "code": "firs"})
    assert [local.read()["id"], local.read()["matches"]] == [1, ["first"]]


def test_without_copies_a_look_is_taken_while_nothing_runs_and_refused_else(start: Start, tmp_path: Path) -> None:
    session = start("worker", env=NO_COPIES)
    session.run(
        "class A:\n  def __repr__(self): raise SystemExit\n  def __dir__(self): raise SystemExit\na = A(); a.b = 1"
    )
    assert session.ask("complete", code="a.")["matches"] == ["b"]
    assert session.ask("inspect", code="a")["metadata"]["repr"] == "<__main__.A object>"
    assert session.ask("variables", name="a")["children"][0]["step"] == "b"
    _begin(session, PYTHON, tmp_path)
    error = session.ask("complete", code="a.")["error"]
    assert (error["code"], "snapshots are off" in error["message"]) == (-32010, True)
    _end(session)
    assert session.ask("complete", code="a.")["matches"] == ["b"]


def test_a_session_that_has_fallen_back_to_local_looks_there(start: Start, tmp_path: Path) -> None:
    session = start("worker", env={"JSON_REPL_PYTHON": str(tmp_path / "missing")})
    assert session.run("text = 'a'")["backend"] == "local"
    assert session.ask("complete", code="text.up")["matches"] == ["upper"]


# -- nothing changes ---------------------------------------------------------------------------------------------------


def test_a_look_changes_nothing_even_where_it_runs_code(worker: Session, tmp_path: Path) -> None:
    worker.run(
        "looks = []\nclass A:\n  def __getattr__(self, name): looks.append(name); return 'text'\n"
        "  def __dir__(self): looks.append('dir'); return ['made']\n"
        "  def __repr__(self): looks.append('repr'); return 'an A'\na = A()"
    )
    assert worker.ask("complete", code="a.")["matches"] == ["made"]
    assert worker.ask("complete", code="a.made.up")["matches"] == ["upper"]
    assert worker.ask("inspect", code="a")["metadata"]["repr"] == "an A"
    assert worker.ask("variables", name="a")["repr"] == "an A"
    assert worker.value("looks") == "[]"
    assert worker.ask("history")["entries"][-1]["code"] == "looks"


def test_tasks_of_the_session_do_not_go_on_in_a_copy_that_is_looked_at(worker: Session, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    worker.run(
        "import asyncio, os\nasync def tick():\n  while True:\n"
        f"    open({str(ran)!r}, 'a').write(f'{{os.getpid()}}\\n'); await asyncio.sleep(0.001)\n"
        "task = asyncio.create_task(tick()); await asyncio.sleep(0.01)"
    )
    for _ in range(5):
        assert "task" in worker.ask("complete", code="tas")["matches"]
    lines = len(ran.read_text().splitlines())
    wait_until(lambda: len(ran.read_text().splitlines()) > lines + 20)
    assert set(ran.read_text().split()) == {str(worker.worker_pid())}
    worker.run("task.cancel()")


def test_what_a_look_prints_starts_or_asks_is_nobodys(worker: Session) -> None:
    worker.run(
        "import os, subprocess\nclass A:\n  def __repr__(self):\n    print('printed'); os.write(1, b'written')\n"
        "    subprocess.Popen(['sleep', '1000']); return 'an A'\na = A()"
    )
    assert worker.ask("inspect", code="a")["metadata"]["repr"] == "an A"
    answer = worker.run("1")
    assert (answer["stdout"], answer["late_output"]) == ("", "")


# -- bounds ------------------------------------------------------------------------------------------------------------

BAD = {
    "hangs": ("while True: pass", "it took more than 0.2 s"),
    "hangs in C": ("import itertools; any(itertools.repeat(0))", "it took more than 0.2 s"),
    "exits": ("import os; os._exit(3)", "exited with status 3"),
    "crashes": ("import os; os.abort()", "killed by SIGABRT"),
    "closes its files": ("import os; os.closerange(3, 1000)\n  while True: pass", "it took more than 0.2 s"),
    "writes into our files": (
        "import os\n  for fd in range(3, 1000):\n   try: os.write(fd, b'x' * 100)\n   except OSError: pass", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
@pytest.mark.parametrize("way", BAD)
def test_an_object_whose_own_code_does_not_answer_is_told_without_it(
    worker: Session, tmp_path: Path, way: str, busy: bool
) -> None:
    code, why = BAD[way]
    worker.run(f"class A:\n def __dir__(self):\n  {code}\n __repr__ = __dir__\na = A(); a.real = 1; kept = 41")
    pid = worker.worker_pid()
    if busy:
        _begin(worker, PYTHON, tmp_path)
    answer = worker.ask("complete", code="a.", timeout=0.2)
    assert answer["matches"] == ["real"] and answer["stale"] is busy
    assert why in (answer["note"] or ""), answer["note"]
    assert worker.ask("inspect", code="a", timeout=0.2)["metadata"]["repr"] == "<__main__.A object>"
    if busy:
        _end(worker)
    assert worker.ask("variables", name="a", timeout=0.2)["children"][0]["step"] == "real"
    after = worker.run("kept + 1, __import__('os').getpid()")
    assert (after["result"], after["session_state"]["state"]) == (f"(42, {pid})", "kept")


def test_a_look_that_hangs_does_not_keep_others_from_their_answers(worker: Session) -> None:
    worker.run("class A:\n def __dir__(self):\n  while True: pass\na = A(); text = 'a'")
    worker.send({"id": 1, "method": "complete", "code": "a.", "timeout": 0.2})
    worker.send(*({"id": n, "method": "complete", "code": "text.up"} for n in range(2, 6)))
    answers = {answer["id"]: answer for answer in (worker.read() for _ in range(5))}
    assert answers[1]["note"] and all(answers[n]["matches"] == ["upper"] for n in range(2, 6))


# -- the process that is looked at -------------------------------------------------------------------------------------


def test_one_process_answers_all_looks_at_one_state_and_goes_with_it(worker: Session) -> None:
    worker.keep("text = 'a'")
    before = _processes(worker)
    worker.ask("complete", code="text.up")
    (looker,) = _processes(worker) - before
    worker.send(*({"id": n, "method": "complete", "code": "text.up"} for n in range(50)))
    assert [worker.read()["id"] for _ in range(50)] == [*range(50)]
    assert _processes(worker) - before == {looker}
    worker.run("text = 'b'")
    wait_until(lambda: not psutil.pid_exists(looker))


def test_it_goes_when_nobody_has_looked_for_a_while(start: Start) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(HOME)!r})\nimport json_repl_session\nfrom json_repl import look\n"
        "assert look.KEPT_SECONDS\nlook.KEPT_SECONDS = 0.1\njson_repl_session.main()"
    )
    session = start("worker", command=[sys.executable, "-c", code])
    session.keep("text = 'a'")
    before = _processes(session)
    session.ask("complete", code="text.up")
    wait_until(lambda: _processes(session) == before)
    assert session.ask("complete", code="text.up")["matches"] == ["upper"]


def test_nothing_is_left_of_many_looks(worker: Session) -> None:
    worker.keep("text = 'a'")

    def files() -> int:
        return len(os.listdir(f"/proc/{worker.pid}/fd"))

    def cycle() -> None:
        worker.keep("text = 'a'")
        assert worker.ask("complete", code="text.up")["matches"] == ["upper"]

    for _ in range(12):
        cycle()
    wait_until(lambda: len(_processes(worker)) < 20)
    before = files()
    for _ in range(20):
        cycle()
    wait_until(lambda: files() <= before + 2)


@pytest.mark.parametrize("way", ["end", "shutdown", "terminated", "killed"])
def test_nothing_is_left_when_the_session_ends_meanwhile(start: Start, way: str) -> None:
    session = start("worker")
    session.keep("class A:\n def __dir__(self):\n  while True: pass\na = A()")
    session.ask("complete", code="pri")
    session.send({"id": 1, "method": "complete", "code": "a.", "timeout": 30})
    session.ask("ping")
    if way == "terminated":
        session.process.terminate()
    elif way == "killed":
        session.process.kill()
    elif way == "shutdown":
        session.send({"id": 2, "method": "shutdown"})
        session.process.terminate()
    else:
        session.process.terminate()
        session.close_stdin()
    session.wait()


def test_looks_that_are_under_way_at_the_end_of_stdin_are_answered(start: Start, backend: str) -> None:
    session = start(backend)
    session.send({"id": 1, "code": "text = 'a'"}, {"id": 2, "method": "inspect", "code": "len"})
    answers, stderr, status = session.finish()
    assert sorted(answer["id"] for answer in answers) == [1, 2] and (stderr, status) == ("", 0)
    assert all(answer.get("found", True) for answer in answers)


# -- with what else goes on --------------------------------------------------------------------------------------------


def test_each_session_is_looked_at_for_itself(worker: Session) -> None:
    worker.run("mine = 'default'")
    worker.send(
        {"id": 1, "method": "session/clone", "new_session_id": "b"},
        {"id": 2, "method": "complete", "code": "mine", "session_id": "b"},
    )
    answers = {answer["id"]: answer for answer in (worker.read(), worker.read())}
    assert answers[2]["matches"] == ["mine"]
    worker.run("other = mine = 1", session_id="b")
    assert worker.ask("complete", code="othe", session_id="b")["matches"] == ["other"]
    assert worker.ask("complete", code="othe")["matches"] == []
    assert worker.ask("complete", code="mine.up")["matches"] == ["upper"]
    assert worker.ask("session/close", session_id="b") == {}
    assert worker.ask("complete", code="min", session_id="b")["error"]["code"] == -32011


def test_a_look_sees_the_state_that_a_session_has_returned_to(worker: Session) -> None:
    worker.keep("first = 1")
    worker.keep("second = 2")
    assert worker.ask("complete", code="secon")["matches"] == ["second"]
    worker.ask("rollback", steps=1)
    answer = worker.ask("complete", code="secon")
    assert (answer["matches"], answer["stale"]) == ([], False)
    worker.run("import os; third = 3")
    worker.run("os._exit(1)")
    assert worker.ask("complete", code="thir")["matches"] == ["third"]
    worker.ask("reset")
    assert worker.ask("complete", code="firs")["matches"] == []


def test_looks_and_dry_runs_and_returns_go_on_at_the_same_time(worker: Session) -> None:
    worker.keep("text = 'a'")
    requests: list[dict[str, Any]] = []
    for n in range(12):
        requests += [
            {"method": "complete", "code": "text.up"},
            {"code": "text = 'b'", "dry_run": True},
            {"method": "variables", "name": "text"},
            {"code": f"text = {n!r} * 2 and 'a'", "on_error": "rollback"},
            {"method": "variables", "limit": 1},
            {"method": "rollback", "steps": 1},
        ]
    worker.send(*({"id": n, **request} for n, request in enumerate(requests)))
    answers = {answer["id"]: answer for answer in (worker.read() for _ in requests)}
    assert [answer for answer in answers.values() if answer.get("error")] == []
    for n, request in enumerate(requests):
        if request.get("method") == "complete":
            assert answers[n]["matches"] == ["upper"]
        elif "name" in request:
            assert (answers[n]["repr"], answers[n]["stale"]) == ("'a'", False)


def test_a_dry_run_that_is_interrupted_takes_no_look_with_it(worker: Session) -> None:
    worker.keep("text = 'a'")
    for _ in range(5):
        worker.send(
            {"id": 1, "code": "while True: pass", "dry_run": True},
            {"id": 2, "method": "complete", "code": "text.up"},
            {"id": 3, "method": "interrupt"},
        )
        answers = {}
        while {1, 2} - set(answers):
            answer = worker.read()
            answers[answer["id"]] = answer
            if answer["id"] == 3 and not answer["interrupted"]:
                worker.send({"id": 3, "method": "interrupt"})
        assert answers[2]["matches"] == ["upper"]
        assert answers[1]["status"] == "error"
        while 3 not in answers:
            answer = worker.read()
            answers[answer["id"]] = answer
