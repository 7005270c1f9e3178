"""Output that is told while code runs: all of it, in order, before the answer, and nothing else."""

from __future__ import annotations

import json
import os
import random
import signal
from pathlib import Path
from textwrap import dedent
from time import sleep
from typing import Any

import psutil
import pytest
from harness import Session, wait_until

ALL = 1 << 30  # bytes: more than any answer here holds


def read_lines(session: Session, *ids: Any) -> list[Any]:
    """Every line up to the answers with these ids, each of which is JSON and comes once."""
    missing = list(ids)
    lines = []
    while missing:
        lines.append(json.loads(session.read_line()))
        if "method" not in lines[-1]:
            missing.remove(lines[-1]["id"])
    return lines


def pieces(lines: list[Any], name: str | None = None) -> list[Any]:
    """The params of the `stream` notifications."""
    found = [line["params"] for line in lines if line.get("method") == "stream"]
    return [params for params in found if name in (None, params["name"])]


def told(lines: list[Any], name: str = "stdout") -> str:
    """The text that was streamed."""
    return "".join(params["text"] for params in pieces(lines, name))


def stream(session: Session, code: str, **params: Any) -> tuple[list[Any], Any]:
    """All lines of a request with `stream`, and its answer, which is the last of them."""
    session.send({"id": "s", "code": dedent(code), "stream": True, "max_output_bytes": ALL, **params})
    lines = read_lines(session, "s")
    return lines, lines[-1]


def wait_for(file: Path) -> str:
    """Code that goes on when the file is there."""
    return f"import os, time\nwhile not os.path.exists({str(file)!r}): time.sleep(0.001)\n"


# -- while it runs ----------------------------------------------------------------------------------------------------

WRITERS = {
    "print": "print('first')",
    "write without a newline": "import sys; _ = sys.stdout.write('first')",
    "os.write": "import os; _ = os.write(1, b'first')",
    "a child": "import os; _ = os.system('echo first')",
    "a thread": "import threading; t = threading.Thread(target=print, args=('first',)); t.start(); t.join()",
}


@pytest.mark.parametrize("writer", WRITERS)
def test_the_first_piece_comes_while_the_code_runs(session: Session, tmp_path: Path, writer: str) -> None:
    seen = tmp_path / "seen"
    session.send({"id": 1, "code": f"{WRITERS[writer]}\n{wait_for(seen)}print('last')", "stream": True})
    lines = []
    while not told(lines).strip():
        lines.append(json.loads(session.read_line()))
        assert "id" not in lines[-1], lines[-1]
    seen.touch()
    lines += read_lines(session, 1)
    assert told(lines).split() == lines[-1]["stdout"].split() or told(lines) == lines[-1]["stdout"]
    assert told(lines) == lines[-1]["stdout"] and told(lines).endswith("last\n")


def test_every_later_piece_comes_while_the_code_runs(session: Session, tmp_path: Path) -> None:
    body = "".join(f"print('piece {n}')\n{wait_for(tmp_path / str(n))}" for n in range(20))
    session.send({"id": 1, "code": body, "stream": True})
    lines = []
    for n in range(20):
        while f"piece {n}\n" not in told(lines):
            lines.append(json.loads(session.read_line()))
        (tmp_path / str(n)).touch()
    assert read_lines(session, 1)[-1]["status"] == "ok"


# -- all of it --------------------------------------------------------------------------------------------------------

OUTPUTS = {
    "nothing": "1",
    "lines": "for n in range(100_000): print(n)",
    "one large string": "print('é' * 1_000_000)",
    "os.write": "import os\nfor n in range(3000): os.write(1, b'%d\\n' % n)",
    "children": "import os\nfor n in range(10): print('a', n); os.system(f'echo b {n}; echo c {n} >&2')",
    "a child that floods": "import os; os.system('head -c 3000000 /dev/zero | tr \"\\\\0\" x')",
    "both streams": "import sys\nfor n in range(5000): print(n); print(-n, file=sys.stderr)",
    "characters cut anywhere": """
        import os, time
        for byte in 'aé€😀'.encode() * 50:
            os.write(1, bytes([byte]))
            if byte % 7 == 0: time.sleep(0.003)
        """,
    "half a character at the end": "import os; _ = os.write(1, 'x€'.encode()[:-1])",
    "no UTF-8": "import os; _ = os.write(2, b'a\\xff\\xfeb\\n' * 100)",
    "an error": "import sys; print('before'); print('e', file=sys.stderr); 1 / 0",
    "threads": """
        import threading
        def work(n):
            for i in range(300): print(f'<{n} {i}>')
        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        """,
    "an exit": "print('a'); raise SystemExit(3)",
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_what_is_told_is_what_the_answer_holds(session: Session, name: str) -> None:
    lines, answer = stream(session, OUTPUTS[name])
    error = "".join(answer["error"]["traceback"]) if answer["error"] else ""
    assert told(lines) == answer["stdout"]
    assert told(lines, "stderr") + error == answer["stderr"]
    assert {params["execution_id"] for params in pieces(lines)} <= {answer["execution_id"]}
    assert {params["session_id"] for params in pieces(lines)} <= {"default"}
    assert all(line["jsonrpc"] == "2.0" for line in lines[:-1] if line is not answer)


def test_the_order_of_both_streams_is_kept(session: Session) -> None:
    lines, _ = stream(
        session, "import sys\nfor n in range(2000): print(f'{n} ', end='', file=(sys.stdout, sys.stderr)[n % 2])"
    )
    assert "".join(params["text"] for params in pieces(lines)).split() == [str(n) for n in range(2000)]


def test_a_request_that_asks_for_no_stream_gets_none(session: Session) -> None:
    stream(session, "print('a')")
    session.send(
        *({"id": n, "code": "print('b' * 100_000)", "stream": False} for n in range(3)), {"id": 3, "code": "print(1)"}
    )
    assert [line.get("id") for line in read_lines(session, 0, 1, 2, 3)] == [0, 1, 2, 3]


def test_a_truncated_answer_does_not_cut_the_stream(session: Session) -> None:
    lines, answer = stream(session, "for n in range(50_000): print(n)", max_output_bytes=1000)
    assert answer["truncated"] and len(answer["stdout"]) < 1200
    assert told(lines).split() == [str(n) for n in range(50_000)]


def test_nothing_of_a_request_comes_after_its_answer(session: Session, tmp_path: Path) -> None:
    go, done = tmp_path / "go", tmp_path / "done"
    code = f"""
        import threading
        def late():
            import os, time
            while not os.path.exists({str(go)!r}): time.sleep(0.001)
            for n in range(500): print('late', n)
            open({str(done)!r}, 'w').close()
        threading.Thread(target=late).start()
        print('now')
        """
    lines, _ = stream(session, code)
    assert told(lines) == "now\n"
    go.touch()
    wait_until(done.exists)
    session.send(*({"id": n, "code": f"print('own {n}')", "stream": True} for n in range(20)))
    lines = read_lines(session, *range(20))
    session.send({"id": "x", "code": "1"}, {"id": "y", "code": "1"})
    lines += read_lines(session, "x", "y")
    owners = {answer["execution_id"]: answer["stdout"] for answer in lines if "id" in answer}
    own = [params for params in pieces(lines) if not params.get("late")]
    assert "".join(params["text"] for params in own) == "".join(f"own {n}\n" for n in range(20))
    assert all(params["text"] in owners[params["execution_id"]] for params in own)
    late = [params for params in pieces(lines) if params.get("late")]
    assert "".join(params["text"] for params in late) == "".join(f"late {n}\n" for n in range(500))
    assert {params["execution_id"] for params in late} == {"e1"}
    assert {answer["late_output"] for answer in lines if "id" in answer} == {""}


def test_a_thread_that_prints_between_requests_costs_no_time_afterwards(session: Session, tmp_path: Path) -> None:
    go, done = tmp_path / "go", tmp_path / "done"
    code = f"""
        import threading
        def late():
            import os, time
            while not os.path.exists({str(go)!r}): time.sleep(0.001)
            for n in range(30): print(n); time.sleep(0.003)
            open({str(done)!r}, 'w').close()
        threading.Thread(target=late).start()
        """
    stream(session, code)
    go.touch()
    wait_until(done.exists)
    process = psutil.Process(session.pid)
    before = sum(process.cpu_times()[:2])
    with pytest.raises(psutil.TimeoutExpired):
        process.wait(0.5)
    assert sum(process.cpu_times()[:2]) - before < 0.25


def test_a_clones_stream_says_whose_it_is(worker: Session) -> None:
    worker.run("x = 1")
    worker.clone("other")
    both = [
        {"id": name, "code": f"for n in range(2000): print('{name}')", "stream": True, "session_id": name}
        for name in ("default", "other")
    ]
    worker.send(*both)
    lines = read_lines(worker, "default", "other")
    for name in ("default", "other"):
        mine = "".join(params["text"] for params in pieces(lines) if params["session_id"] == name)
        assert mine == f"{name}\n" * 2000


# -- in the middle of it ----------------------------------------------------------------------------------------------


def test_control_requests_are_answered_in_the_middle_with_no_torn_line(session: Session, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    code = f"import os, sys\nn = 0\nwhile not os.path.exists({str(seen)!r}):\n for _ in range(50): print(n); print(n, file=sys.stderr); n += 1"  # noqa: E501
    session.send({"id": "s", "code": code, "stream": True, "max_output_bytes": ALL})
    lines = []
    for n in range(100):
        session.send({"id": n, "method": ("ping", "status")[n % 2]})
        lines += read_lines(session, n)
    seen.touch()
    lines += read_lines(session, "s")
    assert [line["id"] for line in lines if "id" in line] == [*range(100), "s"]
    assert told(lines) == lines[-1]["stdout"] == told(lines, "stderr")
    assert told(lines).split() == [str(n) for n in range(len(told(lines).split()))]


HANDLERS = {
    "prints": "sys.stderr.write(f'<{count}>\\n')",
    "raises": "if args[1].f_code.co_name != '<module>': raise ValueError",
}


@pytest.mark.parametrize("name", HANDLERS)
def test_a_signals_handler_in_the_middle_tears_nothing(session: Session, name: str) -> None:
    code = f"""
        import signal, sys
        count = lines = 0
        def ring(*args):
            global count
            count += 1
            {HANDLERS[name]}
        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        while count < 500:
            lines += 1
            try: sys.stdout.write(f'[{{lines}}]\\n')
            except ValueError: pass
        signal.setitimer(signal.ITIMER_REAL, 0)
        """
    lines, answer = stream(session, code, timeout=25)
    assert answer["status"] == "ok", answer["stderr"]
    assert (told(lines), told(lines, "stderr")) == (answer["stdout"], answer["stderr"])
    numbers = [int(line[1:-1]) for line in answer["stdout"].split()]
    assert numbers == sorted(set(numbers)) and len(numbers) > 100


def test_interrupts_at_any_moment_cost_no_line_and_no_answer(session: Session) -> None:
    dice = random.Random(5)
    session.run("x = 41")
    for number in range(200):
        session.send({"id": "s", "code": "while True: print('x' * 50)", "stream": True, "max_output_bytes": ALL})
        lines = [json.loads(session.read_line()) for _ in range(dice.randrange(1, 6))]
        session.send({"id": "i", "method": "interrupt"}, {"id": "n", "code": f"x + {number}"})
        lines += read_lines(session, "s", "i", "n")
        answers = {line["id"]: line for line in lines if "id" in line}
        assert answers["s"]["reason"] == "interrupted" and answers["i"]["interrupted"]
        assert answers["n"]["result"] == str(41 + number)
        assert told(lines) == answers["s"]["stdout"]


def test_what_was_printed_before_a_crash_is_told_and_is_in_the_answer(worker: Session) -> None:
    code = "import os\nfor n in range(5000): print(n)\nos.write(1, b'raw'); os.abort()"
    lines, answer = stream(worker, code)
    assert (answer["reason"], answer["stdout"]) == ("crash", "".join(f"{n}\n" for n in range(5000)) + "raw")
    assert told(lines) == answer["stdout"]


def test_what_was_told_is_void_when_the_code_runs_again(worker: Session, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    code = f"""
        import os, signal
        open({str(runs)!r}, 'a').write('x')
        print('run', os.path.getsize({str(runs)!r}))
        if os.path.getsize({str(runs)!r}) < 3: os.kill(os.getpid(), signal.SIGKILL)
        """
    worker.run("1")
    lines, answer = stream(worker, code)
    assert (answer["stdout"], answer["attempts"]) == ("run 3\n", 3)
    retries = [line["params"] for line in lines if line.get("method") == "retry"]
    about = {"execution_id": answer["execution_id"], "session_id": "default"}
    assert retries == [{**about, "attempt": 2}, {**about, "attempt": 3}]
    last = max(index for index, line in enumerate(lines) if line.get("method") == "retry")
    assert told(lines[last:]) == answer["stdout"] and told(lines[:last]).startswith("run 1\n")


@pytest.mark.parametrize("params", [{"dry_run": True}, {"on_error": "rollback"}], ids=["dry_run", "on_error"])
def test_code_that_leaves_no_trace_streams_too(worker: Session, tmp_path: Path, params: dict[str, Any]) -> None:
    seen = tmp_path / "seen"
    worker.run("x = 1")
    worker.send({"id": 1, "code": f"x = 2; print('a')\n{wait_for(seen)}print('b'); 1 / 0", "stream": True, **params})
    lines = []
    while told(lines) != "a\n":
        lines.append(json.loads(worker.read_line()))
    seen.touch()
    lines += read_lines(worker, 1)
    assert told(lines) == lines[-1]["stdout"] == "a\nb\n"
    assert worker.value("x") == "1"


@pytest.mark.skipif(not os.path.exists("/proc"), reason="counts memory in /proc")
def test_a_slow_client_slows_the_code_and_loses_nothing(session: Session) -> None:
    session.run("1")
    process = psutil.Process(session.pid)
    before = process.memory_info().rss
    session.send(
        {"id": "s", "code": "for n in range(300_000): print('x' * 100)", "stream": True, "max_output_bytes": 1000}
    )
    assert session.process.stdout is not None
    fd, head = session.process.stdout.fileno(), b""
    for _ in range(100):
        head += os.read(fd, 1)
        sleep(0.01)  # this is how slow it is
    assert process.memory_info().rss - before < 30_000_000
    session._rest = head
    lines = read_lines(session, "s")
    assert told(lines) == ("x" * 100 + "\n") * 300_000 and lines[-1]["truncated"]


def begin(session: Session, code: str) -> list[Any]:
    """Start code, and return the lines up to the first that it has printed."""
    session.send({"id": "s", "code": code, "stream": True, "max_output_bytes": ALL})
    lines = [json.loads(session.read_line())]
    while not pieces(lines):
        lines.append(json.loads(session.read_line()))
    return lines


def test_a_client_that_goes_away_in_the_middle_ends_the_session(session: Session) -> None:
    begin(session, "while True: print('x' * 50)")
    assert session.process.stdout is not None
    session.process.stdout.close()
    session.wait()


def test_code_that_comes_after_its_client_has_gone_away_is_not_run(local: Session, tmp_path: Path) -> None:
    local.run("1")
    local.process.send_signal(signal.SIGSTOP)
    wait_until(lambda: Path(f"/proc/{local.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
    local.send({"code": f"open({str(tmp_path / 'ran')!r}, 'w')\nwhile True: pass"})
    assert local.process.stdout is not None
    local.process.stdout.close()
    local.process.send_signal(signal.SIGCONT)
    local.wait()
    assert not (tmp_path / "ran").exists()


def test_sigint_in_the_middle_interrupts_the_code(session: Session) -> None:
    lines = begin(session, "while True: print(1)")
    os.kill(session.pid, signal.SIGINT)
    lines += read_lines(session, "s")
    assert lines[-1]["reason"] == "interrupted" and told(lines) == lines[-1]["stdout"]
