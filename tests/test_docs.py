"""What the documents say is what the program does."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from harness import BOUND, HOME

from json_repl.core.settings import TABLE
from json_repl.parent.describe import page
from json_repl.parent.methods import METHODS

README = (HOME / "README.md").read_text()


def test_the_protocol_page_is_what_the_methods_declare() -> None:
    assert (HOME / "docs" / "protocol.md").read_text() == page(), "run: python3 dev.py docs"


@pytest.mark.parametrize("variable", [row.variable for row in TABLE])
def test_readme_names_every_setting(variable: str) -> None:
    assert f"`{variable}`" in README


def test_readme_names_every_option() -> None:
    helped = subprocess.run(
        [sys.executable, HOME / "json_repl_session.py", "--help"], capture_output=True, text=True, timeout=BOUND
    )
    options = set(re.findall(r"(?<![\w-])--[a-z-]+|(?<![\w-])-e\b", helped.stdout)) - {"--help", "--version"}
    assert options
    assert {option for option in options if option not in README} == set()


def test_readme_names_every_helper() -> None:
    import helpers

    assert {name for name in helpers.__all__ if f"`h.{name}`" not in README} <= {"add_modules", "CommandError"}


def test_readme_and_protocol_page_name_every_method() -> None:
    assert {name for name in METHODS if f"## `{name}`" not in page()} == set()


def _transcripts() -> list[tuple[str, list[str]]]:
    """The README's commands that feed the session, each with the lines that it shows for them."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *rest = part.rstrip("\n").split("\n")
            if "json-repl-session --" not in command:
                continue
            if "<<'EOF'" in command:
                end = rest.index("EOF")
                command, rest = "\n".join([command, *rest[: end + 1]]), rest[end + 1 :]
            found.append((command, [line for line in rest if line]))
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One for PATH: `json-repl-session` is a command in it."""
    script = tmp_path / "json-repl-session"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{HOME / "json_repl_session.py"}" "$@"\n')
    script.chmod(0o755)
    return tmp_path


@pytest.mark.skipif(shutil.which("jq") is None, reason="the transcripts pipe answers into jq, which is not installed")
@pytest.mark.parametrize(("command", "shown"), _transcripts())
def test_the_readmes_transcripts_show_what_happens(command: str, shown: list[str], folder: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", f'PATH="{folder}:$PATH"\n{command}\n'], capture_output=True, text=True, timeout=BOUND
    )
    printed = done.stdout.splitlines()
    assert len(printed) == len(shown), done.stderr
    for line, expected in zip(printed, shown):
        if expected.endswith(", ...}"):  # the fields that the README shows, of those that are there
            fields = json.loads(expected.removesuffix(", ...}") + "}")
            answer = json.loads(line)
            assert {key: answer[key] for key in fields} == fields
        else:
            assert line == expected


CLIENTS = (HOME / "docs" / "clients.md").read_text()


def _run_block(number: int, language: str, command: str, folder: Path) -> str:
    """What a block of docs/clients.md prints where `json-repl-session` is a command."""
    code = re.findall(rf"```{language}\n(.*?)```", CLIENTS, re.DOTALL)[number]
    (folder / "client").write_text(code)
    environ = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(HOME)}
    done = subprocess.run([command, "client"], cwd=folder, env=environ, capture_output=True, text=True, timeout=BOUND)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_python_client_of_the_docs_prints_what_they_say(folder: Path) -> None:
    printed = _run_block(0, "python", sys.executable, folder).splitlines()
    told = [line for line in printed if line.startswith("stdout ")]
    assert "".join(ast.literal_eval(line.removeprefix("stdout ")) for line in told) == "0\n1\n2\n"
    others = [line for line in printed if line not in told]
    assert others == ["42", "exception ZeroDivisionError", "interrupted", "'built'", "['7', '7']"]


def test_the_asyncio_client_of_the_docs_prints_what_they_say(folder: Path) -> None:
    assert _run_block(1, "python", sys.executable, folder) == "['0', '1', '4']\n"


@pytest.mark.skipif(shutil.which("jq") is None, reason="the client in bash needs jq, which is not installed")
def test_the_bash_client_of_the_docs_runs_code_in_one_session(folder: Path) -> None:
    assert _run_block(0, "bash", "bash", folder) == "42\n42\nx is 6\n"


@pytest.mark.skipif(shutil.which("node") is None, reason="the client in JavaScript needs node, which is not installed")
def test_the_node_client_of_the_docs_streams_interrupts_and_is_told_of_errors(folder: Path) -> None:
    (folder / "session.js").write_text(re.findall(r"```javascript\n(.*?)```", CLIENTS, re.DOTALL)[0])
    printed = _run_block(1, "javascript", "node", folder)
    assert printed == "42\n0\n1\n2\ninterrupted\nmethod_not_found\n"


def test_the_demo_script_is_answered_as_its_comments_say() -> None:
    lines = (HOME / "examples" / "demo.jsonl").read_bytes()
    done = subprocess.run(
        [sys.executable, HOME / "json_repl_session.py", "--worker", "--ready", "off"],
        input=lines,
        capture_output=True,
        timeout=BOUND,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(lines.splitlines())
    assert [answer["reason"] for answer in answers if answer.get("status") == "error"] == ["exception", "crash"]
    executed = [answer for answer in answers if "status" in answer]
    assert executed[1]["result"] == executed[-1]["result"] == "42"
