"""Output that comes after its request has ended, and processes that hold on to a session's files."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import Session

CHILD_THAT_WAITS = """
import subprocess, sys
child = subprocess.Popen(["sh", "-c", "read line <" + {fifo!r} + "; echo late >&{fd}; echo done >" + {done!r}])
"""


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """A named pipe, by which a test lets something go on."""
    os.mkfifo(path := tmp_path / "go")
    os.mkfifo(tmp_path / "done")
    return path


def let_go(fifo: Path) -> None:
    """Let what waits for the pipe go on, and wait until it has said that it is done."""
    fifo.write_text("go\n")
    assert (fifo.parent / "done").read_text()


@pytest.mark.parametrize("fd", [1, 2])
def test_what_a_child_prints_between_requests_is_in_the_next_answer_once(session: Session, fifo: Path, fd: int) -> None:
    answer = session.run(CHILD_THAT_WAITS.format(fifo=str(fifo), done=str(fifo.parent / "done"), fd=fd))
    assert (answer["status"], answer["stdout"], answer["late_output"]) == ("ok", "", "")
    let_go(fifo)
    answers = [session.run("child.wait()"), session.run("1"), session.run("2")]
    texts = [text for answer in answers for text in (answer["late_output"], answer["stdout"], answer["stderr"]) if text]
    assert texts == ["late\n"]
    assert answers[0]["late_output"] == "late\n"


def test_what_a_thread_prints_between_requests_is_in_the_next_answer_once(session: Session, fifo: Path) -> None:
    session.run(f"""
import threading
def speak():
    open({str(fifo)!r}).read()
    print("late")
    with open({str(fifo.parent / "done")!r}, "w") as done: done.write("done")
thread = threading.Thread(target=speak)
thread.start()
""")
    let_go(fifo)
    answers = [session.run("thread.join()"), session.run("1")]
    assert [answer["late_output"] + answer["stdout"] for answer in answers] == ["late\n", ""]


def test_what_a_thread_prints_all_the_time_appears_exactly_once(session: Session) -> None:
    begun = session.run("""
import threading
stop = threading.Event()
def count():
    number = 0
    while not stop.is_set():
        print(number)
        number += 1
        stop.wait(0.0001)
    print("end", number)
thread = threading.Thread(target=count)
thread.start()
""")
    answers = [begun, *(session.run(f"{n}") for n in range(200))]
    answers += [session.run("stop.set(); thread.join()"), session.run("0")]
    text = "".join(answer["late_output"] + answer["stdout"] for answer in answers)
    lines = text.split()
    count = int(lines[-1])
    assert lines == [*map(str, range(count)), "end", str(count)]


def test_what_a_child_prints_all_the_time_appears_exactly_once(session: Session) -> None:
    begun = session.run("""
import subprocess
child = subprocess.Popen(["sh", "-c", "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done"])
""")
    answers = [begun, *(session.run(f"{n}") for n in range(100)), session.run("child.wait()"), session.run("0")]
    text = "".join(answer["late_output"] + answer["stdout"] for answer in answers)
    assert text.split() == [str(number) for number in range(20_000)]


def test_a_thread_that_prints_all_the_time_does_not_spoil_what_a_crash_restores(
    start: Callable[..., Session],
) -> None:
    worker = start("worker", env={"JSON_REPL_SNAPSHOTS": "always"})
    code = """
import itertools, threading
def speak():
    for number in itertools.count(): print(number)
threading.Thread(target=speak, daemon=True).start()
"""
    worker.run(code)
    worker.run("first = 41")
    assert worker.run("import os; os._exit(9)")["session_state"]["state"] == "restored"
    answer = worker.run("print('words'); first + 1")
    assert (answer["result"], answer["stdout"]) == ("42", "words\n")


def test_a_child_that_floods_between_requests_loses_nothing(session: Session) -> None:
    answers = [
        session.run(code, max_output_bytes=3_000_000)
        for code in (
            "import subprocess; child = subprocess.Popen(['head', '-c', '3000000', '/dev/zero'])",
            "child.wait()",
            "1",
        )
    ]
    assert sum(len(answer["late_output"]) + len(answer["stdout"]) for answer in answers) == 3_000_000


def test_a_child_that_holds_the_pipes_does_not_hold_the_answer(session: Session, fifo: Path) -> None:
    code = f"import os; os.system('(read line <{fifo}; echo done >{fifo.parent / 'done'}) & echo started')"
    answer = session.run(code)
    assert (answer["stdout"], answer["result"]) == ("started\n", "0")
    assert session.value("1 + 1") == "2"
    let_go(fifo)


def test_a_child_that_holds_the_pipes_does_not_hold_the_end(session: Session) -> None:
    child = int(session.value("import subprocess; child = subprocess.Popen(['sleep', '1000']); child.pid"))
    answers, _, status = session.finish()
    assert (answers, status) == ([], 0)
    if session.backend == "local":  # as with any Python script; what a worker has started ends with it
        os.kill(child, signal.SIGKILL)


def test_what_the_code_prints_last_is_not_lost_at_the_end(session: Session) -> None:
    session.send({"code": "import atexit; atexit.register(print, 'bye'); print('one')"}, {"code": "print('two')"})
    answers, _, status = session.finish()
    assert [answer["stdout"] for answer in answers] == ["one\n", "two\n"]
    assert status == 0


def pipes_of(pid: int) -> set[str]:
    """The files behind a process's stdin and stdout, e.g. {"pipe:[123]"}."""
    return {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}


def test_user_code_and_its_children_have_no_file_of_the_protocol(start: Callable[..., Session], backend: str) -> None:
    session = start(backend)
    own = session.process
    assert own.stdin is not None and own.stdout is not None
    protocol = {os.readlink(f"/proc/self/fd/{file.fileno()}") for file in (own.stdin, own.stdout)}
    assert len(protocol) == 2
    code = "[__import__('os').readlink(f'/proc/self/fd/{n}') for n in range(3)]"
    assert not protocol & set(eval(session.value(code)))
    options = "shell=True, close_fds=False, capture_output=True, text=True"
    answer = session.value(f"import subprocess; subprocess.run('ls -l /proc/self/fd', {options}).stdout")
    assert "/proc/" in answer and not [pipe for pipe in protocol if pipe in answer]
    if backend == "worker":
        assert not protocol & pipes_of(session.worker_pid())


def test_bytes_for_every_low_file_stay_off_the_protocol(session: Session) -> None:
    code = """
import os
for fd in range(3):
    try: os.write(fd, b'{"id": "forged"}\\n')
    except OSError: pass
os.read(0, 100), open("/dev/stdin").read()
"""
    session.send({"id": 1, "code": code}, {"id": 2, "code": "1 + 1"})
    answers = [session.read(), session.read()]
    assert [answer["id"] for answer in answers] == [1, 2]
    assert answers[0]["result"] == "(b'', '')"
    assert answers[0]["stdout"] == '{"id": "forged"}\n'
