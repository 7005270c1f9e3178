"""Every method of the wire: what it takes, what it answers, and when."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Session, Shared, wait_until

from json_repl.parent.methods import METHODS

CONTROL = {"ping", "status", "describe", "interrupt", "wait", "output/read"}
ORDERED = {"execute", "variables", "history", "reset", "restart", "shutdown"}
ASIDE = {"complete", "inspect", "is_complete"}


def _kind(name: str) -> str:
    return "control" if name in CONTROL else "aside" if name in ASIDE else "ordered"


REQUIRED = {
    **{name: {"code": "1"} for name in ("execute", "complete", "inspect", "is_complete")},
    "wait": {"execution_id": "e1"},
    "output/read": {"execution_id": "e1"},
}


@pytest.fixture(scope="module", params=["local", "worker"])
def shared(request: pytest.FixtureRequest) -> Iterator[Shared]:
    """One session of each backend for all cases."""
    shared = Shared(request.param)
    shared.run("")
    yield shared
    shared.end()


# -- describe ---------------------------------------------------------------------------------------------------------


def test_describe_names_every_method_with_its_doc_params_and_result(shared: Shared) -> None:
    described = shared.ask("describe")
    assert (described["name"], described["protocol"]["jsonrpc"]) == ("json-repl-session", "2.0")
    methods = described["methods"]
    assert set(methods) >= CONTROL | ORDERED | ASIDE
    for name, method in methods.items():
        assert method["doc"] and method["result"], name
        assert method["kind"] == _kind(name) or name not in CONTROL | ORDERED | ASIDE
        for param in method["params"].values():
            assert param["doc"] and param["takes"] and isinstance(param["required"], bool)
    assert [name for name, param in methods["execute"]["params"].items() if param["required"]] == ["code"]


def test_describe_lists_the_errors_and_the_settings(shared: Shared) -> None:
    described = shared.ask("describe")
    codes = [error["code"] for error in described["errors"]]
    assert codes == [-32700, -32600, -32601, -32602, -32603, -32010, -32011, -32012, -32013, -32014, -32015, -32016]
    assert all(error["doc"] and error["reason"] for error in described["errors"])
    assert {"USE_SUBPROCESS_WORKER", "DEBUG_REPL"} <= set(described["settings"])


# -- params -----------------------------------------------------------------------------------------------------------

WRONG: dict[str, list[Any]] = {
    "string": [5, True, [], {}, 1.5],
    "boolean": [0, 1, "true", [], {}],
    "count": [-1, 1.5, 1.0, "1", True, []],
    "seconds": [-1, -0.1, "1", True, []],
    "id": [True, [], {}],
    "path": ["a", 5, True, {}, [[]], [1.5]],
}
CASES = [
    (method.name, param.name, value)
    for method in METHODS.values()
    for param in method.params.values()
    for value in WRONG[param.kind] + (["bogus"] if param.words else [])
]


@pytest.mark.parametrize(("method", "param", "value"), CASES)
def test_a_param_of_the_wrong_kind_is_named_in_the_error(shared: Shared, method: str, param: str, value: Any) -> None:
    code = REQUIRED.get(method, {})
    answer = shared.ask(method, **{**code, param: value})
    assert answer["error"]["code"] == -32602
    assert repr(param) in answer["error"]["message"] and method in answer["error"]["message"]


def test_a_number_beyond_all_floats_is_no_number_of_seconds(shared: Shared) -> None:
    (line,) = shared.exchange(b'{"code":"1","timeout":1E999}\n')
    assert b"-32602" in line


@pytest.mark.parametrize("method", sorted(CONTROL | ORDERED | ASIDE))
def test_an_unknown_param_is_refused_with_those_that_there_are(shared: Shared, method: str) -> None:
    code = REQUIRED.get(method, {})
    error = shared.ask(method, bogus=1, **code)["error"]
    assert error["code"] == -32602
    assert "'bogus'" in error["message"] and "session_id" in error["message"]


@pytest.mark.parametrize("method", sorted(CONTROL | ORDERED | ASIDE))
def test_an_unknown_session_is_an_error_of_its_own(shared: Shared, method: str) -> None:
    code = REQUIRED.get(method, {})
    assert shared.ask(method, session_id="nobody", **code)["error"]["code"] == -32011


@pytest.mark.parametrize(
    "params",
    [
        {"timeout": None, "silent": None, "store_history": None, "filename": None, "retries": None, "fallback": None},
        {"session_id": "default", "if_busy": "queue"},
        {"timeout": 0},
        {"timeout": 3_000_000},
        {"timeout": 1e300},
        {"timeout": 10**400},
        {"retries": 10**30},
    ],
)
def test_null_means_the_default_and_large_numbers_are_taken(shared: Shared, params: dict[str, Any]) -> None:
    assert shared.value("40 + 2", **params) == "42"


def test_a_request_with_wrong_params_runs_nothing(shared: Shared) -> None:
    shared.ask("execute", code="first = 'spoilt'", timeout=-1)
    assert shared.value("'fine'") == "'fine'"


# -- control methods while code runs ----------------------------------------------------------------------------------


@pytest.fixture(params=["python", "sleep"])
def busy(request: pytest.FixtureRequest, session: Session, tmp_path: Path) -> Session:
    """A session in the middle of request 7, in Python code or in a call that waits."""
    session.run("kept = 1")
    mark = tmp_path / "running"
    loop = "while True: pass" if request.param == "python" else "import time\nwhile True: time.sleep(60)"
    session.send({"id": 7, "code": f"open({str(mark)!r}, 'w').close()\n{loop}"})
    wait_until(mark.exists)
    return session


def test_control_methods_are_answered_while_code_runs(busy: Session) -> None:
    assert busy.ask("ping") == {"pong": True}
    assert "methods" in busy.ask("describe")
    status = busy.ask("status")
    assert status["state"] == "busy" and status["backend"] == busy.backend and status["pid"] == busy.pid
    busy.send({"id": 8, "code": "kept + 1"})
    assert busy.ask("status", id=1)["queued"] == 1
    interrupted = busy.ask("interrupt")
    running = status["running"]["execution_id"]
    assert interrupted == {"interrupted": True, "cancelled": False, "execution_id": running}
    ended, following = busy.read(), busy.read()
    assert (ended["id"], ended["reason"]) == (7, "interrupted")
    assert (following["id"], following["result"]) == (8, "2")


@pytest.mark.parametrize(
    "cancel",
    [
        {"method": "interrupt", "params": {}},
        {"method": "repl/interrupt", "params": {"execution_id": "e2"}},
        {"method": "$/cancelRequest", "params": {"id": 7}},
        {"method": "notifications/cancelled", "params": {"requestId": 7}},
    ],
    ids=lambda cancel: cancel["method"],
)
def test_a_notification_can_interrupt_what_runs(busy: Session, cancel: dict[str, Any]) -> None:
    busy.send({"jsonrpc": "2.0", **cancel})
    answer = busy.read()
    assert (answer["id"], answer["reason"], answer["error"]["ename"]) == (7, "interrupted", "KeyboardInterrupt")
    assert busy.value("kept") == "1"


def test_an_interrupt_for_something_else_touches_nothing(busy: Session) -> None:
    nothing = {"interrupted": False, "cancelled": False, "execution_id": "e1"}
    assert busy.ask("interrupt", execution_id="e1") == nothing
    assert busy.ask("interrupt", request_id="7")["interrupted"] is False
    assert busy.ask("status")["state"] == "busy"
    assert busy.ask("interrupt", request_id=7)["interrupted"] is True
    assert busy.read()["reason"] == "interrupted"


def test_bad_lines_are_answered_while_code_runs(busy: Session) -> None:
    busy.write(b"nonsense\n\xff\n[1]\n" + b"[" * 100_000 + b"\n")
    codes = [busy.read() for _ in range(4)]
    assert [(item[0] if isinstance(item, list) else item)["error"]["code"] for item in codes] == [
        -32700,
        -32700,
        -32600,
        -32700,
    ]
    assert busy.ask("interrupt")["interrupted"] is True
    assert busy.read()["reason"] == "interrupted"


def test_a_request_that_does_not_want_to_wait_is_told_that_the_session_is_busy(busy: Session) -> None:
    assert busy.run("1", if_busy="reject", id=9)["error"]["code"] == -32010
    busy.ask("interrupt")
    assert busy.read()["id"] == 7
    assert busy.value("40 + 2", if_busy="reject") == "42"


def test_an_interrupt_when_nothing_runs_is_answered_so_and_hits_nothing_later(shared: Shared) -> None:
    for _ in range(20):
        assert shared.ask("interrupt")["interrupted"] is False
        assert shared.value("sum(range(1000))") == "499500"


def test_status_of_an_idle_session(session: Session) -> None:
    session.run("1")
    status = session.ask("status")
    assert (status["state"], status["running"], status["queued"]) == ("idle", None, 0)
    assert (status["execution_count"], status["history_size"], status["backend"]) == (1, 1, session.backend)
    assert status["uptime_s"] >= 0 and re.fullmatch(r"\d+\.\d+\S*", status["version"])
    assert (status["worker"] is None) == (session.backend == "local")


# -- execute ----------------------------------------------------------------------------------------------------------

TEXT, WHOLE = str, int
FIELDS: dict[str, Any] = {
    "status": TEXT, "execution_count": WHOLE, "execution_id": TEXT, "stdout": TEXT, "stderr": TEXT, "outputs": list,
    "metadata": dict, "truncated": bool, "late_output": TEXT, "backend": TEXT, "attempts": WHOLE,
    "session_state": dict, "usage": dict,
    "success": bool, "language": TEXT, "session_mode": TEXT, "variable_count": WHOLE, "debug_info": dict,
    "timestamp": TEXT,
}  # fmt: skip
NULLABLE: dict[str, Any] = {
    "reason": TEXT, "result": TEXT, "data": dict, "error": dict, "changes": dict, "fallback": dict, "note": TEXT,
}  # fmt: skip
DEBUG_INFO = {
    "repl_process_active", "repl_ready", "execution", "helpers_loaded", "execution_mode", "elapsed_ms", "history_size",
}  # fmt: skip


@pytest.mark.parametrize("code", ["40 + 2", "x = 1", "1 / 0", "raise SystemExit(3)", "(", "print('a')", ""])
def test_every_field_of_a_result_is_there_and_of_its_type(shared: Shared, code: str) -> None:
    answer = shared.run(code)
    del answer["id"]
    assert set(answer) == {*FIELDS, *NULLABLE}
    for name, kind in FIELDS.items():
        assert isinstance(answer[name], kind), name
    for name, kind in NULLABLE.items():
        assert answer[name] is None or isinstance(answer[name], kind), name
    assert {"state", "epoch", "undone", "lost_names", "warning"} <= set(answer["session_state"])
    assert set(answer["usage"]) == {"elapsed_ms", "cpu_ms", "max_rss_bytes"} and answer["usage"]["max_rss_bytes"] > 0
    assert set(answer["debug_info"]) >= DEBUG_INFO
    assert answer["success"] is (answer["status"] == "ok") and answer["backend"] == shared.backend
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", answer["timestamp"])


def test_a_result_says_what_happened(shared: Shared) -> None:
    good, bad = shared.run("print('a'); 40 + 2"), shared.run("import sys; print('b', file=sys.stderr); 1 / 0")
    assert (good["status"], good["reason"], good["error"], good["result"], good["stdout"]) == (
        "ok",
        None,
        None,
        "42",
        "a\n",
    )
    assert good["data"] == {"text/plain": "42"}
    assert (bad["status"], bad["reason"], bad["result"], bad["data"]) == ("error", "exception", None, None)
    assert (bad["error"]["ename"], bad["error"]["evalue"]) == ("ZeroDivisionError", "division by zero")
    assert bad["stderr"].startswith("b\n") and bad["stderr"].endswith("".join(bad["error"]["traceback"]))


def test_the_count_grows_with_each_request_and_never_goes_back(session: Session) -> None:
    counts = [session.run(code)["execution_count"] for code in ("1", "1 / 0", "(", "")]
    assert counts == [1, 2, 3, 4]
    assert session.run("1", silent=True)["execution_count"] == 4
    assert session.run("1", store_history=False)["execution_count"] == 4
    session.ask("execute", code=5)
    session.ask("reset")
    assert session.run("1")["execution_count"] == 5
    session.ask("restart")
    assert session.run("1")["execution_count"] == 6
    assert session.ask("status")["execution_count"] == 6


def test_execution_ids_are_never_given_twice(session: Session) -> None:
    ids = [session.run("1", silent=bool(n % 2))["execution_id"] for n in range(6)]
    session.ask("reset")
    ids.append(session.run("1")["execution_id"])
    assert len(set(ids)) == 7


def test_a_silent_request_shows_no_value_but_its_output_and_its_error(shared: Shared) -> None:
    quiet = shared.run("print('a'); 40 + 2", silent=True)
    assert (quiet["result"], quiet["data"], quiet["stdout"]) == (None, None, "a\n")
    assert shared.run("1 / 0", silent=True)["error"]["ename"] == "ZeroDivisionError"


def test_tracebacks_show_the_file_name_of_their_own_request(shared: Shared) -> None:
    for name in ("a.py", "b.py"):
        assert f'File "{name}", line 1' in shared.run("1 / 0", filename=name)["stderr"]
    ids = [re.findall(r'File "(<python-input-\d+>)"', shared.run("1 / 0")["stderr"])[0] for _ in range(2)]
    assert ids[0] != ids[1]


def test_code_that_loses_its_worker_each_time_runs_four_times_at_most(worker: Session, tmp_path: Path) -> None:
    worker.run("1")
    runs = tmp_path / "runs"
    answer = worker.run(
        f"import os, signal\nopen({str(runs)!r}, 'a').write('x')\nos.kill(os.getpid(), signal.SIGKILL)", retries=50
    )
    assert (answer["status"], answer["reason"]) == ("error", "crash")
    assert len(runs.read_text()) <= 4 and answer["attempts"] == len(runs.read_text())


# -- variables --------------------------------------------------------------------------------------------------------


def test_variables_are_the_users_names_with_their_types(session: Session) -> None:
    assert session.ask("variables") == {"variables": [], "count": 0, "next_offset": None}
    session.run("x = 41; text = 'é'; import os; f = lambda: 1; _private = None; big = 'y' * 20000; 5")
    found = {row["name"]: row for row in session.ask("variables")["variables"]}
    assert list(found) == ["x", "text", "os", "f", "_private", "big"]
    assert (found["x"]["type"], found["x"]["repr"], found["text"]["repr"]) == ("int", "41", "'é'")
    assert (found["os"]["type"], found["os"]["repr"]) == ("module", "<module 'os'>")
    assert found["big"]["repr"] == "'" + "y" * 76 + "..."
    assert session.run("")["variable_count"] == 6


HOSTILE = {
    "repr": "class A:\n def __repr__(self): 1 / 0\nx = A()",
    "every access": "class A:\n def __getattribute__(self, name): raise SystemExit\nx = A()",
    "a class that lies": "class A:\n __class__ = property(lambda self: 1 / 0)\nx = A()",
    "a metaclass": "class M(type):\n __name__ = __module__ = property(lambda c: 1 / 0)\n"
    "class A(metaclass=M): pass\nx = A()",
    "a metaclass that hangs": "class M(type):\n def __getattribute__(c, n):\n  while True: pass\n"
    "class A(metaclass=M): pass\nx = A()",
    "a module that is no text": "class A: pass\nA.__module__ = A\nx = A()",
    "a module that is None": "class A: pass\nA.__module__ = None\nx = A()",
    "an int": "class I(int):\n def __repr__(self): 1 / 0\n bit_length = None\nx = I(5)",
    "a str": "class S(str):\n def __len__(self): 1 / 0\nx = S('a')",
    "bool and equality": "class A:\n __hash__ = None\n def __eq__(self, o): 1 / 0\n def __bool__(self): 1 / 0\nx = A()",
    "a name that raises": "class S(str):\n def __str__(self): 1 / 0\n def __format__(self, s): 1 / 0\n"
    "x = globals()[S('q')] = 1",
    "a name that hangs": "class S(str):\n def __str__(self):\n  while True: pass\nx = globals()[S('q')] = 1",
    "a name that is no text": "x = 1; globals()[5] = globals()[None] = globals()[(1,)] = 2",
    "a name with a surrogate": "x = globals()['\\udc80'] = 1",
    "a huge int": "x = 10 ** 5000",
    "a name of a megabyte": "x = globals()['n' * 1_000_000] = 1",
    "a deep list": "x = []\nfor _ in range(100_000): x = [x]",
    "ten thousand names": "x = 1; globals().update((f'n{n}', n) for n in range(10_000))",
}  # fmt: skip


@pytest.mark.parametrize("code", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_objects_are_told_without_running_their_code(session: Session, code: str) -> None:
    assert session.run(code)["status"] == "ok"
    found = session.ask("variables")
    assert "x" in [row["name"] for row in found["variables"]] and found["count"] == len(found["variables"])
    assert all(isinstance(row["name"], str) and isinstance(row["type"], str) for row in found["variables"])
    after = session.run("'x' in globals()")
    assert (after["result"], after["session_state"]["state"]) == ("True", "kept")


# -- reset, restart, shutdown -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["reset", "restart"])
def test_beginning_anew_empties_the_namespace_in_its_turn_and_raises_the_epoch(session: Session, method: str) -> None:
    session.send({"id": 1, "code": "x = 1"}, {"id": 2, "method": method}, {"id": 3, "code": "'x' in globals()"})
    first, anew, after = (session.read() for _ in range(3))
    assert anew["epoch"] == first["session_state"]["epoch"] + 1
    assert (after["result"], after["session_state"]["epoch"]) == ("False", anew["epoch"])
    assert session.ask("variables")["count"] == 0


@pytest.mark.parametrize("method", ["reset", "restart"])
def test_beginning_anew_is_possible_again_and_again(start: Callable[..., Session], backend: str, method: str) -> None:
    session = start(backend)
    epochs = []
    for n in range(5):
        session.run(f"x = {n}")
        epochs.append(session.ask(method)["epoch"])
    assert epochs == sorted(set(epochs))
    assert session.value("'x' in globals(), h is helpers") == "(False, True)"


def test_shutdown_ends_the_session_when_what_came_before_is_done(session: Session) -> None:
    later = [{"id": n, "code": "1"} for n in range(100)]
    session.send({"id": "a", "code": "x = 41"}, {"id": "b", "code": "x + 1"}, {"id": "c", "method": "shutdown"}, *later)
    answers = list(iter(session.read, None))
    assert [answer["id"] for answer in answers] == ["a", "b", "c", *range(100)]
    assert answers[1]["result"] == "42" and answers[2] == {"id": "c"}
    assert {answer["error"]["code"] for answer in answers[3:]} == {-32014}
    assert session.wait() == 0


def test_shutdown_does_not_wait_for_the_end_of_stdin(session: Session) -> None:
    assert session.ask("shutdown") == {}
    assert session.read() is None
    assert session.wait() == 0


@pytest.mark.skipif(not os.path.exists("/proc"), reason="counts files in /proc")
def test_no_file_stays_open_over_many_resets(session: Session) -> None:
    def files() -> int:
        session.run("1")
        return len(os.listdir(f"/proc/{session.pid}/fd"))

    for _ in range(3):
        session.ask("reset")
    before = files()
    for _ in range(10):
        session.ask("reset")
    assert files() <= before + 1
