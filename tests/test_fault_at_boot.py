"""Every way in which a worker can fail before it is ready: its session has another one, and loses nothing by it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from harness import Session, impatient

LARGER_THAN_A_PIPE = 200_000  # bytes

# Python runs it at each start. It fails once in a worker, whenever the file is there.
SITE = """
import os, signal, sys, time
class Fault(BaseException): pass
if any(word.endswith("subprocess_worker.py") for word in sys.orig_argv):
    try:
        os.unlink({file!r})
    except FileNotFoundError:
        pass
    else:
        os.write(1, b"x" * {size})
        os.write(2, b"y" * {size})
        {fault}
"""
HOWS = {
    "exit": "os._exit(9)",
    "signal": "os.kill(os.getpid(), signal.SIGSEGV)",
    "kill": "os.kill(os.getpid(), signal.SIGKILL)",
    "exception": "raise Fault('fault')",
    "hang": "time.sleep(600)",
}


@pytest.mark.parametrize("snapshots", ["auto", "off"])
@pytest.mark.parametrize("size", [0, LARGER_THAN_A_PIPE], ids=["small", "large"])
@pytest.mark.parametrize("how", HOWS)
def test_a_fault_before_a_worker_is_ready_costs_no_request(
    start: Callable[..., Session], tmp_path: Path, how: str, size: int, snapshots: str
) -> None:
    fault = tmp_path / "fault"
    site = SITE.format(file=str(fault), size=size, fault=HOWS[how])
    (tmp_path / "sitecustomize.py").write_text(site)
    fault.touch()
    env = {"JSON_REPL_SNAPSHOTS": snapshots, "PYTHONPATH": str(tmp_path)}
    session = start("worker", **impatient(env, boot_seconds=2 if how == "hang" else 20))
    pad = "#" + "-" * size
    session.send({"id": "case", "code": f"x = 41; x\n{pad}"})
    case = session.read()
    assert not fault.exists()
    assert (case["id"], case["result"], case["backend"], case["attempts"]) == ("case", "41", "worker", 1)
    assert case["session_state"] == {"state": "kept", "epoch": 0, "undone": [], "lost_names": [], "warning": None}
    if snapshots == "auto":
        session.keep("0")
    fault.touch()
    session.send({"id": "crash", "code": f"import os; os._exit(3)\n{pad}"}, {"id": "next", "code": "'x' in globals()"})
    crash, following = session.read(), session.read()
    assert [crash["id"], crash["reason"], crash["error"]["exit_status"]] == ["crash", "crash", 3]
    state = crash["session_state"]
    lost = snapshots == "off"
    assert (state["state"], state["lost_names"]) == (("lost", ["x"]) if lost else ("restored", []))
    assert (following["id"], following["result"], following["backend"]) == ("next", str(not lost), "worker")
    assert (following["attempts"], following["session_state"]["state"]) == (1, "kept")
    assert fault.exists() == (not lost)
    answers, errors, status = session.finish()
    assert (answers, status, errors.count("warning: the worker ")) == ([], 0, 1 + lost)
