"""Signals, files and limits that user code turns against its own process: each request is answered once."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import Session

ALARM = """
import signal
first = 41
count = 0
def handler(*args):
    global count
    count += 1
    {body}
signal.signal(signal.SIGALRM, handler)
"""


@pytest.mark.parametrize(
    "body", ["raise ValueError('alarm')", "raise SystemExit(3)", "raise KeyboardInterrupt", "1 / 0"]
)
def test_a_handler_that_raises_between_requests_costs_no_request(session: Session, tmp_path: Path, body: str) -> None:
    os.mkfifo(tmp_path / "rung")
    told = f"with open({str(tmp_path / 'rung')!r}, 'w') as file: file.write('rung')\n    {body}"
    session.run(ALARM.format(body=told))
    for _ in range(2):
        session.run("signal.setitimer(signal.ITIMER_REAL, 0.001)")
        assert (tmp_path / "rung").read_text() == "rung"
        session.send({"id": 1, "code": "first + 1"}, {"id": 2, "code": "count > 0"})
        answers = [session.read(), session.read()]
        assert [(answer["id"], answer["result"]) for answer in answers] == [(1, "42"), (2, "True")], answers
        assert answers[0]["session_state"]["state"] == "kept"


def test_a_handler_that_prints_between_requests_is_heard_once(session: Session, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rung")
    told = f"print('rung')\n    with open({str(tmp_path / 'rung')!r}, 'w') as file: file.write('rung')"
    session.run(ALARM.format(body=told))
    session.run("signal.setitimer(signal.ITIMER_REAL, 0.001)")
    assert (tmp_path / "rung").read_text() == "rung"
    answers = [session.run("1"), session.run("2")]
    assert [answer["late_output"] + answer["stdout"] for answer in answers] == ["rung\n", ""]


def stop_timer(session: Session) -> None:
    """Its handler may raise in the very request that stops it."""
    for _ in range(100):
        if session.run("signal.setitimer(signal.ITIMER_REAL, 0)")["status"] == "ok":
            return
    raise AssertionError("the timer cannot be stopped")


def test_a_handler_that_raises_all_the_time_never_tears_what_is_printed(session: Session) -> None:
    # But not between two lines of the code below, which would end it.
    session.run(ALARM.format(body="if args[1].f_code.co_name != '<module>': raise ValueError"))
    code = """
import os, sys
signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
rounds = done = 0
while count < 1500:
    rounds += 1
    try:
        print("out", rounds)
        print("err", rounds, file=sys.stderr)
        os.write(1, b"raw %d\\n" % rounds)
        done += 1
    except ValueError:
        pass
signal.setitimer(signal.ITIMER_REAL, 0); None
"""
    session.send({"id": 1, "code": code, "timeout": 25}, {"id": 2, "code": "first + 1"})
    answers = [session.read(), session.read()]
    assert [(answer["id"], answer["result"]) for answer in answers] == [(1, None), (2, "42")]
    assert session.value("count >= 1500") == "True"
    done = int(session.value("done"))
    for word, text in (("out", answers[0]["stdout"]), ("raw", answers[0]["stdout"]), ("err", answers[0]["stderr"])):
        numbers = [int(number) for number in re.findall(rf"{word} (\d+)\n", text)]
        assert numbers == sorted(set(numbers)) and len(numbers) >= done
    assert not re.search("err|Error", answers[0]["stdout"]) and not re.search("out|raw", answers[0]["stderr"])
    assert [answer["session_state"]["state"] for answer in answers] == ["kept", "kept"]


def test_a_handler_that_prints_all_the_time_never_tears_what_is_printed(session: Session) -> None:
    # They interrupt each other too: what is to be whole is one write.
    session.run("import itertools, sys; numbers = itertools.count()")
    session.run(ALARM.format(body="sys.stderr.write(f'<{next(numbers)}>\\n')"))
    code = """
signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
lines = 0
while count < 1500:
    lines += 1
    sys.stdout.write(f"[{lines}]\\n")
signal.setitimer(signal.ITIMER_REAL, 0)
lines, next(numbers)
"""
    answer = session.run(code, timeout=25, max_output_bytes=1 << 30)
    assert answer["status"] == "ok", answer["stderr"]
    lines, count = eval(answer["result"])
    assert answer["stdout"].split() == [f"[{n}]" for n in range(1, lines + 1)]
    assert sorted(answer["stderr"].split()) == sorted(f"<{n}>" for n in range(count))


def test_a_timer_that_rings_all_the_time_disturbs_no_answer(session: Session) -> None:
    session.run(ALARM.format(body="raise ValueError"))
    session.run("signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)")
    codes = [f"first + {n}" for n in range(100)]
    session.send(*({"id": n, "code": code} for n, code in enumerate(codes)))
    answers = [session.read() for _ in codes]
    assert [answer["id"] for answer in answers] == list(range(100))
    wrong = [a for a in answers if a["result"] != str(41 + a["id"]) and a["error"]["ename"] != "ValueError"]
    assert not wrong
    stop_timer(session)
    assert session.value("first + 1") == "42"
    assert {answer["session_state"]["state"] for answer in answers} == {"kept"}


def test_many_processes_that_threads_fork_are_waited_for(session: Session) -> None:
    session.run("first = 41")
    code = """
        import os, threading, warnings
        warnings.simplefilter("ignore")
        codes = []
        def work():
            for n in range(20):
                pid = os.fork()
                if not pid: os._exit(n)
                codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        sum(codes)
        """
    assert session.value(textwrap.dedent(code)) == str(4 * sum(range(20)))
    assert session.value("first + 1") == "42"
    assert session.run("while True: pass", timeout=0.2)["reason"] == "timeout"
    assert session.value("first + 1") == "42"


def test_an_audit_hook_that_raises_is_answered(session: Session) -> None:
    session.run("""
import sys
first, armed = 41, False
def hook(event, args):
    if armed and event.startswith(("open", "import", "os.", "socket")): raise RuntimeError(event)
sys.addaudithook(hook)
""")
    session.run("armed = True")
    session.send(
        {"id": 1, "code": "first + 1"}, {"id": 2, "code": "open('/dev/null')"}, {"id": 3, "code": "armed = False"}
    )
    answers = [session.read() for _ in range(3)]
    assert [answer["id"] for answer in answers] == [1, 2, 3]
    assert answers[0]["result"] == "42"
    assert answers[1]["status"] == "error"
    assert session.value("first + 1") == "42"


# What only a worker survives, as it can be replaced.


def lives(worker: Session, code: str, **params: object) -> dict[str, Any]:
    """The answer to code that may cost the worker but neither the session nor what was there before."""
    worker.run("first = 41")
    assert worker.value("first") == "41"
    worker.send({"id": 1, "code": textwrap.dedent(code), "timeout": 10, **params}, {"id": 2, "code": "1 + 1"})
    answer: dict[str, Any]
    answer, following = worker.read(), worker.read()
    assert (answer["id"], following["id"], following["result"]) == (1, 2, "2"), following["stderr"]
    first = worker.run("first")
    lost = [a for a in (answer, following, first) if a["session_state"]["state"] != "kept"]
    assert first["result"] == "41" or lost
    return answer


FILES = {
    "all files are closed": "import os; os.closerange(3, 4096)",
    "all files and streams are closed": "import os; os.closerange(0, 4096)",
    "each file is closed in turn": """
        import os
        for fd in map(int, os.listdir('/proc/self/fd')):
            try: os.close(fd)
            except OSError: pass
        """,
    "garbage in every file": """
        import os
        for fd in sorted(map(int, os.listdir('/proc/self/fd'))):
            if fd < 3: continue
            try: os.write(fd, b"garbage" * 100)
            except OSError: pass
        """,
    "a little garbage in every file": """
        import os
        for fd in sorted(map(int, os.listdir('/proc/self/fd'))):
            if fd < 3: continue
            try: os.write(fd, b"x")
            except OSError: pass
        """,
    "garbage, then output, then a crash": """
        import os
        print("before")
        for fd in sorted(map(int, os.listdir('/proc/self/fd'))):
            if fd < 3: continue
            try: os.pwrite(fd, bytes(range(256)) * 256, 0)
            except OSError: pass
        os.write(1, b"raw")
        os.abort()
        """,
    "every file is read": """
        import os
        for fd in sorted(map(int, os.listdir('/proc/self/fd'))):
            if fd < 3: continue
            try:
                os.set_blocking(fd, False)
                os.read(fd, 100_000)
            except OSError: pass
        """,
    "every file is emptied": """
        import os
        for fd in sorted(map(int, os.listdir('/proc/self/fd'))):
            if fd < 3: continue
            try: os.ftruncate(fd, 0)
            except OSError: pass
        print("x" * 100_000)
        """,
    "every file is the null device": """
        import os
        null = os.open(os.devnull, os.O_RDWR)
        for fd in range(3, 300): os.dup2(null, fd)
        """,
    "every file is stdout": "import os\nfor fd in range(2, 300): os.dup2(1, fd)",
    "no file blocks": """
        import os
        for fd in map(int, os.listdir('/proc/self/fd')):
            try: os.set_blocking(fd, False)
            except OSError: pass
        """,
    "every file is used up": """
        import os
        kept = []
        try:
            while True: kept.append(os.open(os.devnull, os.O_RDONLY))
        except OSError: pass
        """,
}


@pytest.mark.parametrize("code", FILES.values(), ids=FILES.keys())
def test_what_is_done_to_a_workers_files_costs_at_most_the_worker(worker: Session, code: str) -> None:
    answer = lives(worker, code, retries=0)
    assert answer["reason"] in (None, "exception", "crash"), answer


@pytest.mark.parametrize("number", range(12))
def test_no_single_file_of_a_worker_ends_the_session_when_it_is_closed_or_written(worker: Session, number: int) -> None:
    code = f"""
        import os
        fds = [fd for fd in sorted(map(int, os.listdir("/proc/self/fd"))) if fd > 2]
        if {number} < len(fds):
            fd = fds[{number}]
            try: os.write(fd, b"\\0" * 5000)
            except OSError: pass
            try: os.close(fd)
            except OSError: pass
        print("x" * 70_000)
        """
    answer = lives(worker, code, retries=0)
    assert answer["reason"] in (None, "exception", "crash"), answer


def test_the_request_after_one_that_closes_the_workers_wire_is_answered(start: Callable[..., Session]) -> None:
    worker = start("worker", env={"JSON_REPL_SNAPSHOTS": "always"})
    worker.run("first = 41")
    code = """
        import fcntl, os, stat
        for fd in map(int, os.listdir("/proc/self/fd")):
            try:
                is_read = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
                if fd > 2 and is_read and stat.S_ISFIFO(os.fstat(fd).st_mode): os.close(fd)
            except OSError: pass
        print("printed")
        second = 42
        """
    code = textwrap.dedent(code)
    worker.send({"id": 1, "code": code, "retries": 0}, {"id": 2, "code": "first, second, print(3)", "retries": 0})
    answers = [worker.read(), worker.read()]
    assert [answer["stdout"] for answer in answers] == ["printed\n", "3\n"]
    assert [answer["status"] for answer in answers] == ["ok", "ok"], answers[1]["stderr"]
    assert answers[1]["result"] == "(41, 42, None)"
    assert [answer["session_state"]["state"] for answer in answers] == ["kept", "restored"]
    assert answers[1]["session_state"]["undone"] == []
    assert answers[1]["attempts"] == 1


def test_a_request_that_ends_its_worker_is_not_taken_for_one_that_was_never_begun(
    worker: Session, tmp_path: Path
) -> None:
    code = f"""
        import os
        with open({str(tmp_path / "runs")!r}, "a") as file: file.write("run\\n")
        os._exit(0)
        """
    assert worker.run(textwrap.dedent(code))["reason"] == "crash"
    assert (tmp_path / "runs").read_text() == "run\n"


LIMITS = {
    "memory": "import resource; resource.setrlimit(resource.RLIMIT_AS, (1, 1)); bytearray(10**8)",
    "processes": "import os, resource; resource.setrlimit(resource.RLIMIT_NPROC, (1, 1)); os.fork()",
    "CPU time": "import resource; resource.setrlimit(resource.RLIMIT_CPU, (1, 1))\nwhile True: pass",
    "stack": "import resource, sys; sys.setrecursionlimit(10**7)\ndef f(): return [f() for _ in (0,)]\nf()",
    "a signal that stops": "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
    "an alarm": "import signal; signal.setitimer(signal.ITIMER_REAL, 0.01); signal.pause()",
    "a wait for ever": "from signal import *; pthread_sigmask(SIG_BLOCK, valid_signals()); sigwait([SIGHUP])",
    "interrupts are refused": "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    "C code that holds the interpreter": "import ctypes; ctypes.PyDLL(None).sleep(100)",
    "a null pointer": "import ctypes; ctypes.string_at(0)",
    "an exit in a thread": """
        import os, threading
        threading.Thread(target=os._exit, args=(5,)).start()
        os.read(os.pipe()[0], 1)
        """,
    "a replaced program": "import os; os.execvp('true', ['true'])",
    "a replaced program that babbles": "import os; os.execvp('yes', ['yes'])",
    "a new process group": "import os, signal; os.setpgid(0, os.getppid())",
}


@pytest.mark.parametrize("code", LIMITS.values(), ids=LIMITS.keys())
def test_a_worker_that_ruins_itself_is_replaced(worker: Session, code: str) -> None:
    answer = lives(worker, code, timeout=3 if "RLIMIT_CPU" in code else 0.5, retries=0)
    assert answer["reason"] in ("exception", "crash", "memory", "timeout", None), answer


def test_a_session_survives_a_series_of_ruined_workers(start: Callable[..., Session]) -> None:
    session = start("worker", env={"JSON_REPL_SNAPSHOTS": "always"})
    for number in range(8):
        session.run(f"number = {number}")
        assert session.run("import os; os._exit(9)")["reason"] == "crash"
        assert session.value("1 + 1") == "2"
        assert session.value("number") == str(number)
