"""Parent side: the command line. Imported only when there are arguments, as click takes longer than Python itself."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

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


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
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
def _command(**given: Any) -> dict[str, Any]:
    """Run Python code that comes as JSON, one request per line on stdin; one answer per line goes to stdout.

    \b
    echo '{"code": "print(6*7)"}' | json-repl-session --ready off | jq -rj .stdout

    Each option has an environment variable, named in brackets; the option goes first.
    """
    if given["code"] is not None and given["ready"] is None:
        given["ready"] = "off"
    return given


def parse(arguments: list[str]) -> dict[str, Any]:
    """The settings that the arguments give, None where they give none. Exits for --help, --version and mistakes."""
    try:
        given = _command.main(arguments, prog_name="json-repl-session", standalone_mode=False)
    except click.ClickException as error:
        log.say(f"{error.format_message()} (see --help)")
        sys.exit(error.exit_code)
    if not isinstance(given, dict):  # --help or --version, which have printed what was asked for
        sys.exit(given or 0)
    return given
