"""The front door imported by somebody else's program: code runs, and the program finds all of its own as it was."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from conftest import assert_none_left
from harness import BOUND, HOME


def run_host(program: str, backend: str, cwd: Path, *, mark: str = "host", **popen: object) -> str:
    """Run a program that uses the front door as a library; its stdout."""
    env = {**os.environ, "PYTHONPATH": str(HOME), "USE_SUBPROCESS_WORKER": str(int(backend == "worker"))}
    env["JSON_REPL_TEST_MARK"] = f"{mark}-{os.getpid()}"
    (cwd / "host.py").write_text(dedent(program))
    done = subprocess.run(
        [sys.executable, "host.py"],
        cwd=cwd,
        env=env,
        timeout=BOUND,
        check=False,
        **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **popen},  # type: ignore[call-overload]
    )
    assert done.returncode == 0, done.stderr and done.stderr.decode()
    assert_none_left(env["JSON_REPL_TEST_MARK"])
    return str(done.stdout.decode())


def test_code_runs_and_the_answer_is_returned(backend: str, tmp_path: Path) -> None:
    program = """
        from json_repl_session import execute_code
        assert execute_code("1+1")["result"] == "2"
        assert execute_code("x = 41; print('out'); x + 1")["stdout"] == "out\\n"
        bad = execute_code("1/0")
        assert bad["error"]["ename"] == "ZeroDivisionError" and bad["execution_count"] == 3
        print(execute_code("x, __name__")["result"], bad["backend"])
    """
    assert run_host(program, backend, tmp_path) == f"(41, '__main__') {backend}\n"


def test_the_host_finds_its_own_files_handlers_path_and_main_untouched(backend: str, tmp_path: Path) -> None:
    program = """
        import atexit, builtins, os, signal, sys, threading
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.signal(signal.SIGUSR1, lambda *_: None)

        def own():
            fds = [(os.fstat(fd).st_dev, os.fstat(fd).st_ino, os.fstat(fd).st_rdev) for fd in (0, 1, 2)]
            streams = [sys.stdin, sys.stdout, sys.stderr, sys.__stdin__, sys.__stdout__, sys.__stderr__]
            handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
            return dict(fds=fds, streams=streams, handlers=handlers, path=list(sys.path), main=sys.modules["__main__"],
                argv=list(sys.argv), cwd=os.getcwd(), builtins=dict(vars(builtins)), limit=sys.getrecursionlimit(),
                names=sorted(name for name in globals() if name != "before"), hook=sys.excepthook)

        before = own()

        def check():
            import json_repl_session
            assert own() == before, "after the import"
            for code in CODES:
                json_repl_session.execute_code(code)
                after = own()
                for name in before:
                    assert after[name] == before[name], (code, name, before[name], after[name])

        CODES = ["1+1", "print('x')", "import os; os.system('echo y'); os.write(2, b'z')", "1/0", "raise SystemExit",
                 "input()", "import sys; sys.stdout = None", "h.exists('.')",
                 "import json, helpers", "before = 'theirs'"]
        before["names"] = sorted([*before["names"], "CODES", "check"])
        check()
        print("host", file=sys.stdout)
        print("err", file=sys.stderr)
    """
    assert run_host(program, backend, tmp_path) == "host\n"


def test_output_of_the_host_and_of_the_code_do_not_mix(backend: str, tmp_path: Path) -> None:
    program = """
        import os
        from json_repl_session import execute_code
        print("one", end=" ")
        answer = execute_code("import os; print('A'); os.write(1, b'B'); os.system('echo C')")
        print("two", flush=True)
        os.write(1, b"three\\n")
        os.system("echo four")
        assert sorted(answer["stdout"].split()) == ["A", "BC"] or answer["stdout"] == "A\\nBC\\n", answer["stdout"]
    """
    assert run_host(program, backend, tmp_path) == "one two\nthree\nfour\n"


@pytest.mark.parametrize("closed", [[0], [1], [2], [0, 1, 2]], ids=str)
def test_a_host_whose_files_are_closed_can_run_code_and_its_files_stay_its_own(
    backend: str, tmp_path: Path, closed: list[int]
) -> None:
    program = f"""
        import os, sys, traceback
        sys.excepthook = lambda *error: open("failed", "w").write("".join(traceback.format_exception(*error)))
        for fd in {closed}:
            os.close(fd)

        def is_open(fd):
            try:
                return bool(os.fstat(fd))
            except OSError:
                return False

        from json_repl_session import execute_code
        answer = execute_code("import os; print('a'); os.system('echo b'); os.write(2, b'c'); 40 + 2")
        assert (answer["stdout"], answer["stderr"], answer["result"]) == ("a\\nb\\n", "c", "42"), answer
        assert not any(map(is_open, {closed}))
        own = os.open("own", os.O_RDWR | os.O_CREAT)
        assert own == {closed[0]}
        execute_code("print('a'); os.write(1, b'b'); os.write(2, b'c'); os.close(0)")
        os.write(own, b"mine")
        os.close(own)
        assert execute_code("1 / 0")["error"]["ename"] == "ZeroDivisionError"
        assert not any(map(is_open, {closed}))
        open("succeeded", "w").close()
        os._exit(0)
    """
    run_host(program, backend, tmp_path)
    assert not (tmp_path / "failed").exists(), (tmp_path / "failed").read_text()
    assert (tmp_path / "succeeded").exists() and (tmp_path / "own").read_text() == "mine"


PRESS = """
        import os, signal, threading, time
        from json_repl_session import execute_code

        def press(signum=signal.SIGINT):
            while not os.path.exists("mark"):
                time.sleep(0.005)
            os.remove("mark")
            os.kill(os.getpid(), signum)

        def run(code, execute=execute_code):
            threading.Thread(target=press, daemon=True).start()
            try:
                return execute("open('mark', 'w').close()\\n" + code)["reason"]
            except KeyboardInterrupt:
                return "raised"
"""


def test_an_interrupt_of_the_host_ends_the_code_and_keeps_the_state(backend: str, tmp_path: Path) -> None:
    program = f"""{PRESS}
        execute_code("import time; x = 41")
        for _ in range(3):
            print(run("time.sleep(600)"), execute_code("x + 1")["result"])
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(20)
        except KeyboardInterrupt:
            print("host")
        answer = execute_code("x")
        print(answer["result"], answer["session_state"]["state"], answer["execution_count"])
    """
    seen = "raised" if backend == "worker" else "interrupted"
    assert run_host(program, backend, tmp_path) == f"{seen} 42\n" * 3 + "host\n41 kept 8\n"


def test_code_that_refuses_an_interrupt_of_the_host_is_ended_with_its_worker(tmp_path: Path) -> None:
    program = f"""{PRESS}
        execute_code("import time; x = 41; time.sleep(0.1)")
        print(run("while True:\\n try: time.sleep(600)\\n except BaseException: pass"))
        answer = execute_code("x + 1")
        print(answer["result"], answer["backend"], answer["session_state"]["epoch"])
    """
    assert run_host(program, "worker", tmp_path) == "raised\n42 worker 1\n"


def test_an_interrupt_while_there_is_no_worker_yet_reaches_the_host(tmp_path: Path) -> None:
    python, go = tmp_path / "python", tmp_path / "go"
    python.write_text(
        f'#!/bin/sh\ntouch {tmp_path}/mark\nwhile [ ! -e {go} ]; do sleep 0.01; done\nexec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    program = f"""
        import os
        os.environ["JSON_REPL_PYTHON"] = {str(python)!r}
        {PRESS}
        print(run(""))
        open("go", "w").close()
        print(execute_code("6 * 7")["result"])
    """
    assert run_host(program, "worker", tmp_path) == "raised\n42\n"


def test_a_manager_of_the_hosts_own_is_interrupted_too(tmp_path: Path) -> None:
    program = f"""{PRESS}
        from worker_manager import WorkerManager
        manager = WorkerManager()
        manager.execute("import time; x = 41")
        print(run("time.sleep(600)", manager.execute), manager.execute("x + 1").result)
        manager.stop()
    """
    assert run_host(program, "worker", tmp_path) == "raised 42\n"


def test_what_another_handler_of_the_host_raises_ends_the_code_too(tmp_path: Path) -> None:
    program = f"""{PRESS}
        def on_alarm(signum, frame):
            raise TimeoutError("enough")
        signal.signal(signal.SIGALRM, on_alarm)
        execute_code("import time; x = 41")
        threading.Thread(target=press, args=[signal.SIGALRM], daemon=True).start()
        try:
            execute_code("open('mark', 'w').close(); time.sleep(600)")
        except TimeoutError as error:
            print(error, execute_code("x + 1")["result"])
    """
    assert run_host(program, "worker", tmp_path) == "enough 42\n"


def test_code_runs_from_another_thread_of_the_host(backend: str, tmp_path: Path) -> None:
    program = """
        import threading
        from json_repl_session import execute_code
        found = []
        thread = threading.Thread(target=lambda: found.append(execute_code("x = 41; x + 1", timeout=20)["result"]))
        thread.start()
        thread.join()
        print(found, execute_code("x")["result"])
    """
    assert run_host(program, backend, tmp_path) == "['42'] 41\n"


def test_a_limit_of_time_holds_in_a_host_too(backend: str, tmp_path: Path) -> None:
    program = """
        from json_repl_session import execute_code
        execute_code("x = 41")
        print(execute_code("while True: pass", timeout=0.2)["reason"], execute_code("x + 1")["result"])
    """
    assert run_host(program, backend, tmp_path) == "timeout 42\n"


def test_the_names_of_the_front_door_are_there_and_the_manager_is_made_when_needed(tmp_path: Path) -> None:
    program = """
        import json_repl_session as door
        assert door.USE_SUBPROCESS_WORKER is True and door.WORKER_AVAILABLE is True and door._worker_manager is None
        assert door.execute_code("1+1")["backend"] == "worker"
        assert door._worker_manager is door.get_worker_manager()
        door.USE_SUBPROCESS_WORKER = False
        assert door.execute_code("1+1")["backend"] == "local"
        from worker_manager import WorkerManager
        manager = WorkerManager()
        outcome = manager.execute("print('a'); 40 + 2", timeout=30.0)
        assert (outcome.result, outcome.stdout) == ("42", "a\\n"), outcome
        manager.stop()
        print("fine")
    """
    assert run_host(program, "worker", tmp_path) == "fine\n"


def test_wrong_variables_do_not_break_an_import(tmp_path: Path) -> None:
    program = """
        import os
        os.environ["JSON_REPL_TIMEOUT"] = "soon"
        from json_repl_session import execute_code
        print(execute_code("1+1")["result"])
    """
    assert run_host(program, "local", tmp_path) == "2\n"


def test_a_host_in_a_folder_of_its_own_modules_keeps_them(backend: str, tmp_path: Path) -> None:
    for name in ("helpers", "json", "history", "code", "selectors", "traceback", "linecache"):
        (tmp_path / f"{name}.py").write_text("MINE = 1\n")
    program = """
        from json_repl_session import execute_code
        assert execute_code("40 + 2")["result"] == "42"
        assert execute_code("1/0")["error"]["ename"] == "ZeroDivisionError"
        import code, helpers, history, json, linecache, selectors, traceback
        print([module.MINE for module in (code, helpers, history, json, linecache, selectors, traceback)])
        assert execute_code("1/0")["error"]["ename"] == "ZeroDivisionError"
    """
    assert run_host(program, backend, tmp_path) == "[1, 1, 1, 1, 1, 1, 1]\n"
