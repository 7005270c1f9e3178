"""Options, their environment variables, exit statuses, and what becomes of stdin, stdout and stderr."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
from harness import BOUND, FRONT_DOOR, HOME, Session

from json_repl import __version__

Start = Callable[..., Session]


def command(*args: str, lines: list[Any] | None = None, **env: str) -> tuple[list[Any], str, int]:
    """Run it to its end: the lines on stdout, stderr, and the exit status."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("JSON_REPL_")}
    environ.pop("USE_SUBPROCESS_WORKER", None)
    given = "".join(json.dumps(line) + "\n" for line in lines or [])
    done = subprocess.run(
        [sys.executable, str(FRONT_DOOR), *args],
        input=given.encode(),
        capture_output=True,
        env={**environ, **env},
        timeout=BOUND,
        check=False,
    )
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr.decode(), done.returncode


@pytest.mark.parametrize("package", ["jinja2", "markdown_it", "nh3", "pygments"])
def test_view_says_what_to_install_where_its_libraries_are_missing(package: str) -> None:
    script = f"import sys, runpy; sys.modules[{package!r}] = None; sys.argv[1:] = ['view']; "
    script += f"runpy.run_path({str(FRONT_DOOR)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", script], input=b"", capture_output=True, timeout=BOUND, check=False)
    stderr = done.stderr.decode()
    assert (done.returncode, done.stdout, stderr.count("\n")) == (1, b"", 1)
    setup = ConfigParser(interpolation=None)
    setup.read(HOME / "setup.cfg")
    extra = setup["options.extras_require"]["view"].split("\n")
    needed = {line.split()[0] for line in extra if line}
    assert needed and needed <= set(re.findall(r"[\w-]+", stderr))


# -- options and their variables --------------------------------------------------------------------------------------


def text_of(*args: str) -> str:
    """What a run prints that ends well."""
    return subprocess.run(
        [sys.executable, str(FRONT_DOOR), *args],
        capture_output=True,
        check=True,
        timeout=BOUND,
        stdin=subprocess.DEVNULL,
    ).stdout.decode()


def test_version_and_help_are_printed() -> None:
    assert __version__ in text_of("--version")
    help_text = text_of("--help")
    assert help_text == text_of("-h")
    options = ["--worker", "--local", "--timeout", "--fallback", "--ready", "--python", "--fail-fast", "--check", "-e"]
    for option in [*options, "--version", "--help"]:
        assert option in help_text
    for variable in ("USE_SUBPROCESS_WORKER", "JSON_REPL_TIMEOUT", "JSON_REPL_PYTHON", "DEBUG_REPL"):
        assert f"[{variable}]" in "".join(help_text.split())


@pytest.mark.parametrize(
    ("args", "env", "backend"),
    [
        ((), {}, "local"),
        (("--worker",), {}, "worker"),
        (("--local",), {"USE_SUBPROCESS_WORKER": "1"}, "local"),
        (("--worker",), {"USE_SUBPROCESS_WORKER": "0"}, "worker"),
        *(((), {"USE_SUBPROCESS_WORKER": word}, "worker") for word in ("1", "true", "yes", "on", "TRUE", " On ")),
        *(((), {"USE_SUBPROCESS_WORKER": word}, "local") for word in ("0", "false", "no", "off", "")),
    ],
)
def test_the_backend_is_chosen_by_option_then_by_variable(
    args: tuple[str, ...], env: dict[str, str], backend: str
) -> None:
    (answer,), stderr, status = command(*args, lines=[{"code": "6 * 7"}], JSON_REPL_READY="off", **env)
    assert (answer["backend"], answer["result"], stderr, status) == (backend, "42", "", 0)


@pytest.mark.parametrize(
    ("args", "env"),
    [
        (["--timeout", "0.2"], {}),
        ([], {"JSON_REPL_TIMEOUT": "0.2"}),
        (["--timeout", "0.2"], {"JSON_REPL_TIMEOUT": "900"}),
    ],
)
def test_a_time_limit_for_all_requests(backend: str, args: list[str], env: dict[str, str]) -> None:
    lines = [{"code": "while True: pass"}, {"code": "1", "timeout": 0}]
    answers, _, _ = command(f"--{backend}", "--ready", "off", *args, lines=lines, **env)
    assert [answer["reason"] for answer in answers] == ["timeout", None]


@pytest.mark.parametrize(
    ("args", "env", "first"),
    [
        ((), {}, b'{"jsonrpc":"2.0","method":"ready",'),
        (("--ready", "json"), {"JSON_REPL_READY": "off"}, b'{"jsonrpc":"2.0","method":"ready",'),
        (("--ready", "plain"), {}, b"__READY__"),
        ((), {"JSON_REPL_READY": "plain"}, b"__READY__"),
        (("--ready", "off"), {}, b'{"id":1,'),
    ],
)
def test_the_first_line_says_that_the_session_is_ready(
    start: Start, backend: str, args: tuple[str, ...], env: dict[str, str], first: bytes
) -> None:
    session = start(backend, command=[sys.executable, str(FRONT_DOOR), *args], env=env)
    session.send({"id": 1, "method": "ping"})
    line = session.read_line()
    assert line.startswith(first)
    if b"ready" in first:
        assert json.loads(line)["params"] == {"signal": "__READY__", "version": __version__}
    if first == b"__READY__":
        assert line == first


WRONG_ENV = {
    "USE_SUBPROCESS_WORKER": ["maybe", "2"],
    "DEBUG_REPL": ["x"],
    "JSON_REPL_TIMEOUT": ["-1", "nan", "inf", "soon"],
    "JSON_REPL_FALLBACK": ["sometimes"],
    "JSON_REPL_READY": ["loud"],
    "JSON_REPL_MAX_LINE": ["1e6", "-1", "big"],
    "JSON_REPL_HISTORY_SIZE": ["-1", "1.5"],
}


@pytest.mark.parametrize(("variable", "value"), [(key, value) for key, values in WRONG_ENV.items() for value in values])
def test_a_variable_that_cannot_be_used_ends_the_start_with_one_line_that_names_it(variable: str, value: str) -> None:
    answers, stderr, status = command(lines=[{"code": "1"}], **{variable: value})
    assert (answers, status) == ([], 2)
    assert stderr.count("\n") == 1 and variable in stderr and value in stderr and "takes" in stderr


@pytest.mark.parametrize(
    "args",
    [
        ["--timeout", "-1"], ["--timeout", "nan"], ["--timeout", "inf"], ["--timeout", "soon"], ["--timeout"],
        ["--fallback", "sometimes"], ["--ready", "loud"], ["--bogus"], ["extra"], ["--python"], ["-e"],
    ],
)  # fmt: skip
def test_an_option_that_cannot_be_used_ends_the_start_with_status_2(args: list[str]) -> None:
    answers, stderr, status = command(*args, lines=[{"code": "1"}])
    assert (answers, status) == ([], 2)
    assert "json-repl-session: " in stderr and "Traceback" not in stderr


@pytest.mark.parametrize("value", ["0", "1", "3", "9" * 30])
def test_the_history_holds_as_many_requests_as_the_variable_says(value: str) -> None:
    lines = [{"code": str(n)} for n in range(5)] + [{"method": "history"}]
    answers, stderr, status = command("--ready", "off", lines=lines, JSON_REPL_HISTORY_SIZE=value)
    assert [entry["code"] for entry in answers[-1]["entries"]] == [str(n) for n in range(5)][max(0, 5 - int(value)) :]
    assert (stderr, status) == ("", 0)


def test_the_largest_numbers_a_variable_takes_do_no_harm(backend: str) -> None:
    env = {"JSON_REPL_TIMEOUT": "1e300", "JSON_REPL_MAX_LINE": "9" * 30}
    answers, stderr, status = command(f"--{backend}", "--ready", "off", lines=[{"code": "42"}], **env)
    assert (answers[0]["result"], stderr, status) == ("42", "", 0)


def test_debugging_speaks_on_stderr_only() -> None:
    answers, stderr, status = command("--worker", lines=[{"code": "42"}], DEBUG_REPL="1")
    assert (len(answers), status) == (2, 0) and "debug" in stderr


# -- -e, --check, --fail-fast -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "args", "status"),
    [
        ("6 * 7", [], 0),
        ("6 * 7", ["--check"], 0),
        ("1 / 0", [], 0),
        ("1 / 0", ["--check"], 1),
        ("", [], 0),
        ("(", ["--check"], 1),
    ],
)
def test_one_piece_of_code_is_run_and_its_answer_printed(backend: str, code: str, args: list[str], status: int) -> None:
    answers, stderr, got = command(f"--{backend}", "-e", code, *args, lines=[{"code": "'not read'"}])
    (answer,) = answers
    assert (answer["result"], stderr, got) == ("42" if code == "6 * 7" else None, "", status)


def test_one_piece_of_code_leaves_stdin_to_whom_it_belongs(start: Start, backend: str) -> None:
    read, write = os.pipe()
    os.write(write, b'{"code": "1"}\n')
    code = "import time; time.sleep(0.1); 42"  # long enough for whoever wants to read
    session = start(backend, command=[sys.executable, str(FRONT_DOOR), "-e", code], stdin=read)
    assert [answer["result"] for answer in iter(session.read, None)] == ["42"]
    assert os.read(read, 100) == b'{"code": "1"}\n'
    os.close(read)
    os.close(write)


def test_the_ready_line_comes_first_where_it_is_asked_for_with_one_piece_of_code(backend: str) -> None:
    answers, _, _ = command(f"--{backend}", "-e", "6 * 7", "--ready", "json")
    assert [answer.get("method") or answer["result"] for answer in answers] == ["ready", "42"]


def test_code_in_bytes_that_are_no_utf_8_is_answered(backend: str) -> None:
    args = [sys.executable, str(FRONT_DOOR), f"--{backend}", "-e", b"'\xff'"]
    done = subprocess.run(args, capture_output=True, check=True, timeout=BOUND, stdin=subprocess.DEVNULL)
    assert json.loads(done.stdout)["execution_count"] == 1 and done.stderr == b""


FAILING = {
    "an exception": {"code": "1 / 0"},
    "a SyntaxError": {"code": "("},
    "SystemExit": {"code": "raise SystemExit(0)"},
    "an unknown method": {"method": "nope"},
    "wrong params": {"code": 5},
    "no request": [],
    "a notification": {"jsonrpc": "2.0", "method": "execute", "params": ["1 / 0"]},
    "in a batch": [{"code": "1"}, {"code": "1 / 0"}],
}


@pytest.mark.parametrize("failing", FAILING.values(), ids=FAILING.keys())
@pytest.mark.parametrize("by_variable", [False, True], ids=["option", "variable"])
def test_check_runs_all_and_tells_of_a_failure_by_the_exit_status(failing: Any, by_variable: bool) -> None:
    args, env = ([], {"JSON_REPL_CHECK": "1"}) if by_variable else (["--check"], {})
    lines = [{"code": "1"}, failing, {"code": "'last'", "id": "z"}]
    answers, _, status = command("--ready", "off", *args, lines=lines, **env)
    assert status == 1
    assert [answer["result"] for answer in answers if "id" in answer and answer["id"] == "z"] == ["'last'"]


def test_check_is_content_when_nothing_failed(backend: str) -> None:
    _, stderr, status = command(f"--{backend}", "--check", lines=[{"code": "1"}, {"method": "ping"}, {"code": "2"}])
    assert (stderr, status) == ("", 0)


@pytest.mark.parametrize("failing", FAILING.values(), ids=FAILING.keys())
def test_fail_fast_runs_what_came_before_a_failure_and_nothing_after_it(
    backend: str, tmp_path: Path, failing: Any
) -> None:
    log = tmp_path / "log"
    lines = [{"id": n, "code": f"open({str(log)!r}, 'a').write('{n}')"} for n in range(6)]
    lines.insert(3, failing)
    answers, _, status = command(f"--{backend}", "--ready", "off", "--fail-fast", lines=lines)
    assert (log.read_text(), status) == ("012", 1)
    errors = {answer["id"]: answer["error"] for answer in answers if isinstance(answer, dict) and "id" in answer}
    assert [errors[n] for n in range(3)] == [None] * 3
    assert [errors[n]["code"] for n in range(3, 6)] == [-32014] * 3


# -- --python ---------------------------------------------------------------------------------------------------------


def other_pythons() -> list[str]:
    """Other interpreters of this machine that a worker can run in."""
    names = [f"python3.{minor}" for minor in range(10, 15) if minor != sys.version_info[1]]
    return [path for name in names if (path := shutil.which(name))]


@pytest.mark.parametrize("by_variable", [False, True], ids=["option", "variable"])
def test_the_worker_runs_in_the_interpreter_that_was_asked_for(tmp_path: Path, by_variable: bool) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True, timeout=BOUND)
    python = str(tmp_path / "bare" / "bin" / "python")
    args, env = ([], {"JSON_REPL_PYTHON": python}) if by_variable else (["--python", python], {})
    code = "import sys, importlib.util\nsys.executable, sys.prefix, importlib.util.find_spec('orjson')"
    lines = [{"code": code}, {"code": "h.exists('.')"}, {"method": "variables"}]
    answers, stderr, status = command("--worker", "--ready", "off", *args, lines=lines, **env)
    assert answers[0]["result"] == repr((python, str(tmp_path / "bare"), None))
    assert (answers[0]["backend"], answers[0]["fallback"], answers[1]["result"]) == ("worker", None, "True")
    assert ([row["name"] for row in answers[2]["variables"]], stderr, status) == (["sys", "importlib"], "", 0)


@pytest.mark.parametrize(
    "python", other_pythons() or [pytest.param("", marks=pytest.mark.skip("there is one Python here"))]
)
def test_the_worker_runs_in_another_version_of_python(python: str) -> None:
    code = "import sys; '%d.%d' % sys.version_info[:2]"
    if subprocess.run([python, "-c", ""], check=False, timeout=BOUND).returncode:
        pytest.skip("it does not start")
    lines = [{"code": code}, {"code": "x = 1"}, {"code": "print(x); 1 / 0"}]
    answers, stderr, _ = command("--worker", "--ready", "off", "--python", python, lines=lines)
    assert answers[0]["result"] == repr(Path(python).name.removeprefix("python")) and stderr == ""
    assert (answers[2]["stdout"], answers[2]["error"]["ename"]) == ("1\n", "ZeroDivisionError")


@pytest.mark.parametrize("python", ["/nonexistent/python", "/", str(FRONT_DOOR.parent / "setup.cfg"), "no-such-python"])
def test_without_an_interpreter_the_session_falls_back_and_says_so(python: str) -> None:
    lines = [{"code": "6 * 7"}, {"code": "_ + 1"}]
    answers, stderr, status = command("--worker", "--ready", "off", "--python", python, lines=lines)
    assert [(answer["result"], answer["backend"]) for answer in answers] == [("42", "local"), ("43", "local")]
    assert answers[0]["fallback"]["reason"] and python in answers[0]["fallback"]["message"]
    assert python in stderr and status == 0


@pytest.mark.parametrize("by_variable", [False, True], ids=["option", "variable"])
def test_without_an_interpreter_and_without_fallback_nothing_runs(tmp_path: Path, by_variable: bool) -> None:
    args, env = ([], {"JSON_REPL_FALLBACK": "never"}) if by_variable else (["--fallback", "never"], {})
    mark = tmp_path / "mark"
    lines = [{"code": f"open({str(mark)!r}, 'w')"}]
    answers, _, status = command(
        "--worker", "--ready", "off", "--check", "--python", "/nonexistent", *args, lines=lines, **env
    )
    assert (answers[0]["status"], answers[0]["result"], status) == ("error", None, 1)
    assert "/nonexistent" in answers[0]["stderr"] and not mark.exists()


# -- cwd and environment ----------------------------------------------------------------------------------------------


def test_the_session_has_its_callers_folder_and_environment(start: Start, backend: str, tmp_path: Path) -> None:
    session = start(backend, cwd=tmp_path, env={"MINE": "é", "JSON_REPL_READY": "off"})
    assert session.value("import os; os.getcwd(), os.environ['MINE']") == repr((str(tmp_path), "é"))
    session.run("os.environ['MINE'] = 'changed'; os.chdir('/')")
    assert (
        session.value("os.getcwd(), os.environ['MINE'], os.popen('pwd; echo $MINE').read()")
        == "('/', 'changed', '/\\nchanged\\n')"
    )
