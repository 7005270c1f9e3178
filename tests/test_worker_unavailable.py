"""Row A: a worker that cannot be had. The session says so, goes on by itself, and has workers again when told."""

from __future__ import annotations

import re
import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import HOME, Session, wait_until

Product = Callable[[str], Path]

# What a worker's script is replaced with. The first line of each counts its starts.
COUNT = "import os, struct, sys, time\nopen(os.path.join(os.path.dirname(sys.argv[0]), 'starts'), 'a').write('x')\n"
READY = "os.write(int(sys.argv[1]) + 1, struct.pack('<HBxQ', 0x524A, 1, 4) + struct.pack('<I', 0))\n"
BROKEN = {
    "exits at once": "",
    "exits with a sentence": "sys.exit('no room today')",
    "raises": "raise ImportError('no such thing')",
    "kills itself": "os.kill(os.getpid(), 9)",
    "prints garbage on its wire": "os.write(int(sys.argv[1]) + 1, b'garbage' * 9); time.sleep(60)",
    "is silent": "time.sleep(60)",
    "is stopped": "os.kill(os.getpid(), 19)",
    "babbles on stderr and stdout": "while True: os.write(2, b'bla\\n' * 999); os.write(1, b'bla\\n' * 999)",
    "closes its wire": "os.closerange(0, 999); time.sleep(60)",
}


@pytest.fixture
def product(tmp_path: Path) -> Product:
    """Makes a copy of the product whose worker is the given script, with shorter pauses and patience."""

    def make(worker: str) -> Path:
        home = tmp_path / "product"
        home.mkdir()
        for file in ("json_repl_session.py", "worker_manager.py", "subprocess_worker.py"):
            shutil.copy(HOME / file, home)
        for folder in ("json_repl", "helpers"):
            shutil.copytree(HOME / folder, home / folder, ignore=shutil.ignore_patterns("__pycache__"))
        _set_constant(home, "BOOT_SECONDS", "0.4")
        _set_constant(home, "PAUSES", "(0.01, 0.02, 0.03)")
        (home / "subprocess_worker.py").write_text(worker)
        return home

    return make


def _set_constant(home: Path, name: str, value: str) -> None:
    changed = 0
    for file in [home / "worker_manager.py", *home.glob("json_repl/*.py")]:
        text, count = re.subn(rf"(?m)^{name} = [^#\n]*", f"{name} = {value}", file.read_text())
        file.write_text(text)
        changed += count
    assert changed == 1, f"{name} is set in {changed} places"


def _command(home: Path) -> list[str]:
    return [sys.executable, str(home / "json_repl_session.py")]


def _starts(home: Path) -> int:
    file = home / "starts"
    return len(file.read_text()) if file.exists() else 0


def _assert_fell_back(answer: Any, result: str) -> None:
    assert (answer["status"], answer["result"], answer["backend"]) == ("ok", result, "local"), answer
    assert answer["fallback"]["reason"] == "worker_unavailable" and answer["fallback"]["message"]


@pytest.mark.parametrize("what", BROKEN)
def test_a_worker_that_does_not_come_up_is_tried_four_times_and_then_the_session_runs_code_itself(
    start: Callable[..., Session], product: Product, what: str
) -> None:
    home = product(COUNT + BROKEN[what])
    session = start("worker", command=_command(home))
    _assert_fell_back(session.run("x = 40; x"), "40")
    assert _starts(home) == 4
    _assert_fell_back(session.run("x + 2"), "42")
    assert session.ask("status")["backend"] == "local" and session.ask("status")["worker"]["given_up"]
    assert session.ask("variables")["variables"][0]["name"] == "x"
    _, errors, status = session.finish()
    assert _starts(home) == 4
    assert errors.count("trying again") == 3 and "which isolates nothing" in errors and "Traceback" not in errors
    assert status == 0


@pytest.mark.parametrize("worker", [None, "def ("], ids=["missing", "a syntax error"])
def test_a_worker_script_that_python_cannot_run_is_a_fallback_that_says_so(
    start: Callable[..., Session], product: Product, worker: str | None
) -> None:
    home = product(worker or "")
    if worker is None:
        (home / "subprocess_worker.py").unlink()
    answer = start("worker", command=_command(home)).run("6 * 7")
    _assert_fell_back(answer, "42")
    assert ("No such file" if worker is None else "SyntaxError") in answer["fallback"]["message"]


def test_a_worker_that_says_why_it_cannot_boot_is_not_tried_again(
    start: Callable[..., Session], product: Product
) -> None:
    home = product(COUNT + "print('there is no licence', file=sys.stderr)\nsys.exit(3)")
    session = start("worker", command=_command(home))
    answer = session.run("6 * 7")
    _assert_fell_back(answer, "42")
    assert "there is no licence" in answer["fallback"]["message"]
    assert _starts(home) == 1


def test_a_parent_without_its_worker_manager_runs_code_itself(start: Callable[..., Session], product: Product) -> None:
    home = product("")
    (home / "worker_manager.py").unlink()
    session = start("worker", command=_command(home))
    _assert_fell_back(session.run("6 * 7"), "42")
    assert "restart" in session.ask("describe")["methods"] and session.ask("restart")["epoch"] >= 0
    _assert_fell_back(session.run("6 * 8"), "48")


def test_a_worker_that_ends_before_it_takes_a_request_is_not_started_for_ever(
    start: Callable[..., Session], product: Product
) -> None:
    home = product(COUNT + READY)
    session = start("worker", command=_command(home))
    wait_until(lambda: session.ask("status")["worker"]["given_up"])
    assert _starts(home) == 4
    _assert_fell_back(session.run("6 * 7"), "42")


def test_a_session_that_fell_back_has_workers_again_after_restart(
    start: Callable[..., Session], product: Product
) -> None:
    home = product(COUNT)
    session = start("worker", command=_command(home))
    _assert_fell_back(session.run("x = 1; x"), "1")
    session.ask("restart")
    _assert_fell_back(session.run("'x' in globals()"), "False")
    assert _starts(home) == 8, "each restart is worth another four tries"
    shutil.copy(HOME / "subprocess_worker.py", home)
    _assert_fell_back(session.run("y = 1; y"), "1")
    session.ask("restart")
    answer = session.run("'y' in globals()")
    assert (answer["result"], answer["backend"], answer["fallback"]) == ("False", "worker", None)
    assert session.ask("status")["worker"]["given_up"] is None


def test_workers_that_cannot_be_had_any_more_cost_the_state_and_the_answer_names_it(
    start: Callable[..., Session], product: Product
) -> None:
    home = product((HOME / "subprocess_worker.py").read_text())
    session = start("worker", command=_command(home), env={"JSON_REPL_SNAPSHOTS": "off"})
    session.run("x = y = 1")
    (home / "subprocess_worker.py").write_text("")
    assert session.run("__import__('os').abort()")["reason"] == "crash"
    answer = session.run("'x' in globals()")
    _assert_fell_back(answer, "False")
    following = session.run("3")
    assert (following["backend"], following["session_state"]["state"]) == ("local", "kept")


@pytest.mark.parametrize("kind", ["missing", "not executable", "a folder", "not a program", "another program"])
def test_an_interpreter_that_cannot_run_a_worker_is_a_fallback_that_names_it(
    start: Callable[..., Session], tmp_path: Path, kind: str
) -> None:
    python = tmp_path / "python"
    if kind == "a folder":
        python.mkdir()
    elif kind != "missing":
        python.write_text("#!/bin/sh\necho I am another program >&2\n" if kind == "another program" else "bla")
        python.chmod(0o644 if kind == "not executable" else 0o755)
    session = start("worker", env={"JSON_REPL_PYTHON": str(python)})
    answer = session.run("6 * 7")
    _assert_fell_back(answer, "42")
    assert ("I am another program" if kind == "another program" else str(python)) in answer["fallback"]["message"]
    assert str(answer["fallback"]["message"]) in session.finish()[1]


def _limited(start: Callable[..., Session], backend: str, limit: int) -> Session:
    return start(backend, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)))


@pytest.mark.parametrize("limit", [20, 21, 24, 28, 29, 40])
def test_with_few_files_allowed_the_session_answers_and_ends_well(
    start: Callable[..., Session], backend: str, limit: int
) -> None:
    session = _limited(start, backend, limit)
    answer = session.run("import os; os.system('true'); x = 6 * 7; x")
    assert answer["result"] == "42"
    assert answer["backend"] == backend or answer["fallback"]["reason"] == "worker_unavailable"
    if answer["backend"] == "worker":
        assert session.run("os.abort()")["reason"] == "crash"
        assert session.value("6 * 7") == "42"
    answers, errors, status = session.finish()
    assert (answers, status) == ([], 0), errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("limit", [6, 8, 10, 12, 14, 16, 17, 18, 19])
def test_with_too_few_files_the_session_says_so_in_a_sentence_and_ends(
    start: Callable[..., Session], backend: str, limit: int
) -> None:
    session = _limited(start, backend, limit)
    assert session.process.stderr is not None
    assert (session.read(), session.wait()) == (None, 1)
    errors = session.process.stderr.read().decode()
    assert "open files" in errors and errors.count("\n") == 1


def test_code_that_leaves_no_room_for_another_file_is_answered_and_the_session_ends_well(
    start: Callable[..., Session], backend: str
) -> None:
    session = _limited(start, backend, 64)
    code = "files = []\ntry:\n while True: files.append(open('/dev/null'))\nexcept OSError: pass\nlen(files) > 20"
    assert session.value(code) == "True"
    assert session.value("6 * 7") == "42"
    session.run("import atexit; atexit.register(print, 'bye')")
    answers, errors, status = session.finish()
    assert (answers, status) == ([], 0), errors
    assert "bye" in errors and "Traceback" not in errors


def test_files_that_run_out_later_cost_the_worker_and_come_back_with_restart(start: Callable[..., Session]) -> None:
    session = start("worker", env={"JSON_REPL_SNAPSHOTS": "off"})
    session.run("x = 1")
    limits = resource.prlimit(session.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(session.pid, resource.RLIMIT_NOFILE, (14, limits[1]))
    assert session.run("import os; os._exit(1)")["reason"] == "crash"
    _assert_fell_back(session.run("6 * 7"), "42")
    resource.prlimit(session.pid, resource.RLIMIT_NOFILE, limits)
    session.ask("restart")
    answer = session.run("6 * 8")
    assert (answer["result"], answer["backend"]) == ("48", "worker")


@pytest.mark.parametrize("how", ["by setting", "by request"])
def test_a_fallback_that_is_forbidden_is_an_error_and_the_code_does_not_run(
    start: Callable[..., Session], tmp_path: Path, how: str
) -> None:
    env = {"JSON_REPL_PYTHON": str(tmp_path / "missing")}
    params = {}
    if how == "by setting":
        env["JSON_REPL_FALLBACK"] = "never"
    else:
        params["fallback"] = "never"
    session = start("worker", env=env)
    for _ in range(2):
        answer = session.run(f"open({str(tmp_path / 'ran')!r}, 'w')", **params)
        assert (answer["status"], answer["error"]["ename"]) == ("error", "WorkerUnavailable")
        assert answer["fallback"]["reason"] == "worker_unavailable" and str(tmp_path / "missing") in answer["stderr"]
    assert not (tmp_path / "ran").exists()
    if how == "by request":
        _assert_fell_back(session.run("6 * 7"), "42")
