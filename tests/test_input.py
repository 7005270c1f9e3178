"""input() and getpass: user code asks its client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from harness import Session

Start = Callable[..., Session]


def ask(session: Session, code: str, **params: Any) -> dict[str, Any]:
    """Send code that asks, and return what it asks."""
    session.send({"id": "code", "code": code, "allow_stdin": True, **params})
    return next_question(session)


def next_question(session: Session) -> dict[str, Any]:
    """The params of the next question; what was told before it stays in `notifications`."""
    before = len(session.notifications)
    while not any(note["method"] == "input_request" for note in session.notifications[before:]):
        session.send({"id": "tick", "method": "ping"})
        assert session.read() == {"id": "tick", "pong": True}
    params: dict[str, Any] = session.notifications[-1]["params"]
    return params


def reply(session: Session, **params: Any) -> dict[str, Any]:
    """Reply, and return the answer to the code that has asked."""
    session.send({"id": "reply", "method": "input_reply", **params})
    answers = {answer["id"]: answer for answer in (session.read(), session.read())}
    assert answers["reply"] == {"id": "reply"}
    answer: dict[str, Any] = answers["code"]
    return answer


@pytest.mark.parametrize("line", ["ann", "", "zwölf 🎉", "a\\nb", "x" * 200_000])
def test_input_returns_the_line_that_the_client_sends(session: Session, line: str) -> None:
    question = ask(session, "name = input('name? ')\nname")
    assert question == {"execution_id": "e1", "session_id": "default", "prompt": "name? ", "password": False}
    assert reply(session, value=line, execution_id="e1")["result"] == repr(line)


def test_getpass_asks_for_a_password(session: Session) -> None:
    question = ask(session, "import getpass\ngetpass.getpass()")
    assert (question["prompt"], question["password"]) == ("Password: ", True)
    assert reply(session, value="secret")["result"] == "'secret'"


def test_each_question_gets_its_own_reply(session: Session) -> None:
    ask(session, "[input(n) for n in range(3)]")
    for value in "ab":
        session.send({"method": "input_reply", "value": value})
        assert session.read() == {}
        next_question(session)
    assert reply(session, value="c")["result"] == "['a', 'b', 'c']"


def test_the_end_of_input_raises(session: Session) -> None:
    ask(session, "input()")
    answer = reply(session, eof=True)
    assert (answer["reason"], answer["error"]["ename"]) == ("exception", "EOFError")
    assert session.value("1 + 1") == "2"


@pytest.mark.parametrize("code", ["input('?')", "import getpass; getpass.getpass()"])
def test_a_request_that_allows_no_questions_gets_none(session: Session, code: str) -> None:
    answer = session.run(code)
    assert answer["error"]["ename"] == "EOFError" and "allow_stdin" in answer["error"]["evalue"]
    assert [note["method"] for note in session.notifications] == ["ready"]


def test_what_is_printed_before_a_question_is_told_before_it(session: Session) -> None:
    ask(session, "print('menu'); input()", stream=True)
    told = [note["params"].get("text", note["method"]) for note in session.notifications[1:]]
    assert "".join(told) == "menu\ninput_request"
    assert reply(session, value="")["stdout"] == "menu\n"


def test_an_interrupt_ends_the_wait_and_a_late_reply_is_refused(session: Session) -> None:
    session.run("x = 1")
    ask(session, "input()")
    session.send({"id": "stop", "method": "interrupt"})
    answers = {answer["id"]: answer for answer in (session.read(), session.read())}
    assert answers["stop"]["interrupted"] and answers["code"]["reason"] == "interrupted"
    assert session.ask("input_reply", value="late")["error"]["code"] == -32602
    assert session.value("x") == "1"


def test_code_that_asks_again_after_an_interrupt_gets_the_reply_to_its_second_question(session: Session) -> None:
    ask(session, "try: input('first')\nexcept KeyboardInterrupt: pass\ninput('second')")
    session.send({"method": "interrupt"})
    assert session.read()["interrupted"]
    if session.notifications[-1]["params"]["prompt"] != "second":
        next_question(session)
    assert reply(session, value="2")["result"] == "'2'"


def test_a_question_counts_against_the_timeout(session: Session) -> None:
    ask(session, "input()", timeout=0.2)
    answer = session.read()
    assert answer["reason"] == "timeout"
    assert session.value("1 + 1") == "2"


def test_a_question_is_ended_by_the_end_of_stdin(session: Session) -> None:
    ask(session, "input()")
    answers, _, status = session.finish()
    assert [answer["error"]["ename"] for answer in answers] == ["EOFError"] and status == 0


@pytest.mark.parametrize("params", [{}, {"value": "a", "eof": True}, {"value": "a", "execution_id": "e99"}])
def test_a_reply_that_is_none_is_refused_and_the_code_waits_on(session: Session, params: dict[str, Any]) -> None:
    ask(session, "input()")
    assert session.ask("input_reply", **params)["error"]["code"] == -32602
    assert reply(session, value="good")["result"] == "'good'"


def test_a_reply_where_nobody_waits_is_refused(session: Session) -> None:
    assert session.ask("input_reply", value="a")["error"]["code"] == -32602


def test_a_thread_cannot_ask(session: Session) -> None:
    code = """
import threading
raised = []
def run():
    try: input()
    except BaseException as error: raised.append(type(error).__name__)
thread = threading.Thread(target=run)
thread.start(); thread.join()
raised
"""
    assert session.value(code, allow_stdin=True) == "['RuntimeError']"


def test_a_dry_run_can_ask(worker: Session) -> None:
    ask(worker, "name = input()", dry_run=True)
    assert reply(worker, value="x")["changes"]["added"] == ["name"]


def test_a_question_of_a_clone_names_its_session(worker: Session) -> None:
    worker.ask("session/clone", new_session_id="b")
    question = ask(worker, "input()", session_id="b")
    assert question["session_id"] == "b"
    assert reply(worker, value="x", session_id="b")["result"] == "'x'"


def test_a_worker_that_is_taken_away_while_it_asks_asks_again(start: Start) -> None:
    session = start("worker", env={"JSON_REPL_SNAPSHOTS": "always"})
    pid = session.worker_pid()
    ask(session, f"import os\nif os.getpid() == {pid}:\n  input('first')\n  os.kill({pid}, 9)\ninput('second')")
    session.send({"method": "input_reply", "value": "1"})
    assert session.read() == {}
    if session.notifications[-1]["params"].get("prompt") != "second":
        next_question(session)
    answer = reply(session, value="2")
    assert (answer["result"], answer["attempts"]) == ("'2'", 2)
