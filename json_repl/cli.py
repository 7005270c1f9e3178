"""Parent side: the command line. Imported only when there are arguments, as click takes longer than Python itself."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, BinaryIO, TypeVar

import click

from json_repl import __version__
from json_repl.core import log
from json_repl.core.errors import SettingError
from json_repl.core.settings import TABLE, Setting

_F = TypeVar("_F", bound=Callable[..., Any])
_rows = {row.name: row for row in TABLE}


def _option(name: str, *declarations: str, **more: Any) -> Callable[[_F], _F]:
    row = _rows[name]
    if row.kind != "flag":
        more["callback"] = lambda context, parameter, text: None if text is None else _value(row, text)
    return click.option(*declarations, name, help=f"{row.doc} [{row.variable}]", default=None, **more)


def _value(row: Setting, text: str) -> object:
    try:
        return row.parse(text)
    except SettingError:
        raise click.BadParameter(f"it takes {row.values()}.") from None


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
    subcommand_metavar="[COMMAND ...]",
)
@_option("worker", "--worker/--local")
@_option("timeout", "--timeout", metavar="SECONDS")
@_option("fallback", "--fallback", metavar="auto|always|never")
@_option("ready", "--ready", metavar="json|plain|off")
@_option("python", "--python", metavar="PATH")
@_option("helpers", "--helpers", metavar="MODULES")
@_option("snapshots", "--snapshots", metavar="auto|always|off")
@_option("fail_fast", "--fail-fast", is_flag=True)
@_option("check", "--check", is_flag=True)
@_option("debug", "--debug", is_flag=True)
@click.option("-e", "code", metavar="CODE", help="Run one piece of code and print its answer; implies --ready off.")
@click.version_option(__version__, prog_name="json-repl-session")
@click.pass_context
def _command(context: click.Context, /, **given: Any) -> dict[str, Any]:
    """Run Python code that comes as JSON, one request per line on stdin; one answer per line goes to stdout.

    \b
    echo '{"code": "print(6*7)"}' | json-repl-session --ready off | jq -rj .stdout

    Each option has an environment variable, named in brackets; the option goes first.
    """
    if context.invoked_subcommand and any(value is not None for value in given.values()):
        raise click.UsageError(f"{context.invoked_subcommand} starts no session, so it takes none of its options.")
    if given["code"] is not None and given["ready"] is None:
        given["ready"] = "off"
    return given


@_command.command("view")
@click.argument("transcript", type=click.File("rb"), default="-")
@click.option(
    "-o", "--output", type=click.File("wb", lazy=True), default="-", help="Where to write it; by default stdout."
)
@click.option("--requests", type=click.File("rb"), help="The requests, if TRANSCRIPT holds only their answers.")
@click.option("--title", help="The page's title; by default the name of the file.")
def _view(transcript: BinaryIO, output: BinaryIO, requests: BinaryIO | None, title: str | None) -> None:
    """Make one HTML page of a transcript.

    It has the lines that went to a session, those that came back, or both as they went by.

    \b
    tee requests.jsonl | json-repl-session | tee answers.jsonl
    json-repl-session view --requests requests.jsonl answers.jsonl -o page.html
    """
    try:
        from json_repl.view.page import render
        from json_repl.view.transcript import read
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"view needs {error.name}: pip install jinja2 markdown-it-py nh3 pygments (the extra called view)"
        ) from None
    if output.name == "-" and sys.stdout.isatty():
        raise click.UsageError("the page is not for a terminal: say where to write it, by -o FILE.")
    files = [requests, transcript] if requests else [transcript]
    name = os.path.basename(transcript.name) if transcript.name != "<stdin>" else "A transcript"
    page = render(read(*files), title or name).encode("utf-8", "replace")
    output.write(page)  # which empties the file, that may be the transcript's


def parse(arguments: list[str]) -> dict[str, Any]:
    """The settings that the arguments give, None where they give none. Exits when there is no session to be started.

    So it does after a subcommand, --help and --version, and for mistakes.
    """
    try:
        given = _command.main(arguments, prog_name="json-repl-session", standalone_mode=False)
    except click.ClickException as error:
        log.say(f"{error.format_message()} (see --help)")
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(128 + signal.SIGINT)
    if not isinstance(given, dict):  # a subcommand, --help or --version, which have done what was asked for
        sys.exit(given or 0)
    return given
