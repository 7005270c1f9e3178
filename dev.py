#!/usr/bin/env python3
"""Every task of this project is one command: python3 dev.py TASK [arguments].

A task makes or refreshes its virtual environment, .venv/<major.minor>, when it has to. Nothing outside this
checkout is touched, and the exit status is the task's.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv" / "{}.{}".format(*sys.version_info)
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "installed"  # "<fingerprint> <extra> <extra> ..."


def demo(*_: str) -> int:
    """run examples/demo.jsonl in a session with a worker, showing each request and its answer"""
    install()
    env = {**os.environ, "USE_SUBPROCESS_WORKER": "1"}
    command = [VENV / "bin" / "json-repl-session"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", env=env) as session:
        assert session.stdin and session.stdout
        for line in (ROOT / "examples" / "demo.jsonl").read_text("utf-8").splitlines():
            print(line, file=session.stdin, flush=True)
            show(json.loads(line), next_answer(session.stdout))
    return session.returncode


def test(*args: str) -> int:
    """run the tests; arguments go to pytest"""
    install("test", "view", "complete", "libraries")
    return python("-m", "pytest", *args)


def lint(*_: str) -> int:
    """ruff: rules and format"""
    install("dev")
    return python("-m", "ruff", "check") or python("-m", "ruff", "format", "--check")


def types(*_: str) -> int:
    """mypy, strict"""
    install("dev", "test", "view")
    return python("-m", "mypy")


def check(*_: str) -> int:
    """lint, types and test: what a change has to pass"""
    return int(any([lint(), types(), test()]))  # a list: every one runs, whatever another says


def bench(*args: str) -> int:
    """measure against the floors and ipykernel; --help lists the arguments"""
    install("bench")
    return python("-m", "benchmarks.run", *args)


def looks(*_: str) -> int:
    """compare completion and inspection with ipykernel's"""
    install("bench", "complete")
    return python("-m", "benchmarks.looks")


def docs(*_: str) -> int:
    """write docs/protocol.md from what the methods declare"""
    install()
    (ROOT / "docs").mkdir(exist_ok=True)
    described = subprocess.run([PYTHON, "-m", "json_repl.parent.describe"], cwd=ROOT, stdout=subprocess.PIPE)
    if described.returncode == 0:
        (ROOT / "docs" / "protocol.md").write_bytes(described.stdout)
    return described.returncode


def install(*extras: str) -> None:
    """Make the venv hold the project and these extras, without a call of pip where it does already."""
    present = installed()
    if present is None:
        if not importlib.util.find_spec("ensurepip"):
            sys.exit(f"dev.py: this Python cannot make a venv: install python{VENV.name}-venv (Debian's name for it).")
        must(sys.executable, "-m", "venv", "--clear", str(VENV))
    if present is None or not present.issuperset(extras):
        wanted = sorted({*(present or ()), *extras})
        print(f"dev.py: installing the project into {VENV.relative_to(ROOT)} ...", file=sys.stderr)
        # By the environment and not by an argument: the pip that pip starts to build the project must see it too.
        os.environ.update(PIP_NO_CACHE_DIR="1", PIP_DISABLE_PIP_VERSION_CHECK="1")
        project = f".[{','.join(wanted)}]" if wanted else "."
        must(str(PYTHON), "-m", "pip", "install", "--quiet", "--editable", project)
        STAMP.write_text(" ".join([fingerprint(), *wanted]))


def installed() -> set[str] | None:
    """The extras in the venv; None where there is no venv, or one made from other requirements."""
    try:
        seal, *extras = STAMP.read_text().split()
    except FileNotFoundError:
        return None
    return set(extras) if seal == fingerprint() else None


def fingerprint() -> str:
    """Changes with the requirements, the interpreter, and the place of the checkout, which scripts in the venv name."""
    parts = [sys.version, sys.base_prefix, str(ROOT)]
    parts += [(ROOT / name).read_text("utf-8") for name in ("setup.cfg", "pyproject.toml")]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def python(*args: str) -> int:
    return subprocess.call([PYTHON, *args], cwd=ROOT)


def must(*command: str) -> None:
    if subprocess.call(command, cwd=ROOT):
        sys.exit(f"dev.py: this failed, see above: {' '.join(command)}")


def next_answer(lines: Iterable[str]) -> dict[str, Any]:
    """The next message that is not a notification."""
    for message in map(json.loads, lines):
        if "method" not in message:
            return dict(message)
    sys.exit("dev.py: the session ended without an answer.")


def show(request: dict[str, Any], answer: dict[str, Any]) -> None:
    """One request and its answer, as in a terminal; of an answer that is no execution, the whole."""
    if "code" not in request:
        print(f"\n--- {json.dumps(request)}\n{json.dumps(answer, indent=2)}")
        return
    print("\n>>>", request["code"].replace("\n", "\n... "))
    print(answer["stdout"] + answer["stderr"], end="")
    if answer["result"] is not None:
        print(answer["result"])
    if answer["status"] != "ok":
        print(f"[{answer['reason']}; the session's state is {answer['session_state']['state']}]")


TASKS = {task.__name__: task for task in (demo, test, lint, types, check, bench, looks, docs)}

if __name__ == "__main__":
    name, *arguments = sys.argv[1:] or ["help"]
    if name not in TASKS:
        print(__doc__, *(f"  {task:6} {function.__doc__}" for task, function in TASKS.items()), sep="\n")
        sys.exit(name not in ("help", "-h", "--help"))
    sys.exit(TASKS[name](*arguments))
