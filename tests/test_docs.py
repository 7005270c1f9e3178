"""What the documents say is what the program does."""

from __future__ import annotations

import json
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


@pytest.mark.skipif(shutil.which("jq") is None, reason="the transcripts pipe answers into jq, which is not installed")
@pytest.mark.parametrize(("command", "shown"), _transcripts())
def test_the_readmes_transcripts_show_what_happens(command: str, shown: list[str], tmp_path: Path) -> None:
    script = tmp_path / "json-repl-session"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{HOME / "json_repl_session.py"}" "$@"\n')
    script.chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", f'PATH="{tmp_path}:$PATH"\n{command}\n'], capture_output=True, text=True, timeout=BOUND
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
