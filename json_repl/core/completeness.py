"""Both sides: whether code can be run as it stands, or more of it is to come, as an editor asks at the key Return."""

from __future__ import annotations

import codeop
import warnings

_DONT_IMPLY_DEDENT = 0x200
_STEP = "    "
_BRANCHES = ("else", "elif", "except", "finally")


def status(code: str, flags: int) -> tuple[str, str]:
    """ "complete", "incomplete" or "invalid"; and with what the next line should be indented.

    Args:
        flags: for the compiler: what `from __future__` has switched on.
    """
    lines = code.splitlines() or [""]
    last = lines[-1]
    compile_command = codeop.CommandCompiler()
    compile_command.compiler.flags |= flags
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if not code.strip():
                return "complete", ""
            whole = compile_command(code, "<is_complete>", "exec")
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError):
        return "invalid", ""
    if whole is None:
        return "incomplete", _indent_after(last)
    # A block may go on: it has ended where a line is empty, or stands at the margin.
    in_block = last[:1] in (" ", "\t") or _opens_block(last)
    return ("incomplete", _indent_after(last)) if in_block and not code.endswith("\n") else ("complete", "")


def _indent_after(line: str) -> str:
    indent = line[: len(line) - len(line.lstrip())]
    return indent + _STEP if _opens_block(line) else indent


def _opens_block(line: str) -> bool:
    return line.partition("#")[0].rstrip().endswith(":")
