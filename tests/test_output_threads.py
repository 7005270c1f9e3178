"""What threads print after the request that has started them is over: late, told as that request's, never another's."""

from __future__ import annotations

import json
import os
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from harness import Session

# Starts a thread that prints a line whenever `tell` is called with one, and says when it has.
SPEAKER = """
import queue, threading
class Speaker:
    def __init__(self):
        self.lines, self.told = queue.Queue(), queue.Queue()
        threading.Thread(target=self.speak, daemon=True).start()
    def speak(self):
        while True:
            line = self.lines.get()
            print(line)
            self.told.put(line)
    def tell(self, line):
        self.lines.put(line)
        self.told.get(timeout=30)
"""


def late(session: Session) -> list[tuple[str, str]]:
    """The late notifications until now: whose, and what; those of one execution in a row as one."""
    told = [found["params"] for found in session.notifications if found["method"] == "stream"]
    runs = groupby((params for params in told if params.get("late")), lambda params: str(params["execution_id"]))
    return [(execution_id, "".join(params["text"] for params in run)) for execution_id, run in runs]


def begin(session: Session, name: str, **params: Any) -> str:
    """Start a speaker; the execution_id of the request that has."""
    answer = session.run(f"{name} = Speaker(); {name}.tell('first')", **params)
    assert (answer["status"], answer["stdout"]) == ("ok", "first\n")
    return str(answer["execution_id"])


def test_an_earlier_requests_thread_is_never_in_a_later_ones_stdout(session: Session) -> None:
    session.run(SPEAKER)
    begin(session, "one")
    answer = session.run("print('a'); one.tell('late'); print('b')", stream=True)
    assert (answer["stdout"], answer["late_output"]) == ("a\nb\n", "late\n")
    assert "".join(found["params"]["text"] for found in session.notifications if "text" in found["params"]) == "a\nb\n"


@pytest.mark.parametrize("stream", [False, True])
def test_it_is_told_as_that_of_the_request_that_has_started_it(session: Session, stream: bool) -> None:
    session.run(SPEAKER)
    first, second = begin(session, "one", stream=True), begin(session, "two", stream=True)
    begin(session, "silent")
    answer = session.run(
        "one.tell('by one'); print('mine'); two.tell('by two'); silent.tell('by silent'); one.tell('again')",
        stream=stream,
    )
    assert (answer["stdout"], answer["late_output"]) == ("mine\n", "by silent\n")
    assert late(session) == [(first, "by one\n"), (second, "by two\n"), (first, "again\n")]


def test_it_is_told_at_once_while_nothing_runs(session: Session, tmp_path: Path) -> None:
    os.mkfifo(go := tmp_path / "go")
    session.run(f"def pass_on():\n for line in open({str(go)!r}): print(line, end='')")
    answer = session.run("import threading; threading.Thread(target=pass_on).start()", stream=True)
    with go.open("w", buffering=1) as lines:
        for text in ("first\n", "second\n"):
            lines.write(text)
            told = ""
            while told != text:
                found = json.loads(session.read_line())
                assert found["params"]["late"] is True
                assert found["params"]["execution_id"] == answer["execution_id"]
                told += found["params"]["text"]
    assert session.run("1")["late_output"] == ""


def test_a_requests_own_threads_are_in_its_stdout(session: Session) -> None:
    session.run(SPEAKER)
    for number in range(20):  # a thread that ends gives its memory, and its number in Python, to the next one
        answer = session.run(
            f"t = threading.Thread(target=print, args=({number},)); t.start(); t.join(); one = Speaker(); one.tell('x')"
        )
        assert (answer["stdout"], answer["late_output"]) == (f"{number}\nx\n", "")


def test_nothing_is_lost_or_doubled_where_many_threads_print_at_once(session: Session) -> None:
    session.run(SPEAKER)
    starters = {}
    for number in range(4):
        answer = session.run(
            f"""
def count_{number}():
    for line in range(3000): print("{number}:" + str(line) + "." * (line % 50))
thread_{number} = threading.Thread(target=count_{number}); thread_{number}.start()
""",
            stream=True,
        )
        starters[answer["execution_id"]] = answer["stdout"]
    answer = session.run(f"for line in range(3000): print('4:' + str(line) + '.' * (line % 50))\n{JOIN}")
    texts = dict.fromkeys(starters, "")
    for execution_id, text in late(session):
        texts[execution_id] += text
    found = [starters[execution_id] + texts[execution_id] for execution_id in starters] + [answer["stdout"]]
    for number, text in enumerate(found):
        assert text == "".join(f"{number}:{line}{'.' * (line % 50)}\n" for line in range(3000))


JOIN = "for number in range(4): globals()[f'thread_{number}'].join()"


def test_a_crash_loses_nothing_of_what_was_told_before(worker: Session) -> None:
    worker.run(SPEAKER)
    first = begin(worker, "one", stream=True)
    answer = worker.run("print('a'); one.tell('late'); import os; os._exit(3)")
    assert (answer["reason"], answer["stdout"], late(worker)) == ("crash", "a\n", [(first, "late\n")])
