"""Child side: reading, writing and editing one file, and listing one folder."""

from __future__ import annotations

import json
import os
import re
import stat
from contextlib import suppress
from typing import Any

from ._glob import translate
from ._paths import StrPath, expand, folder, missing


def read(path: StrPath, start: int | None = None, end: int | None = None, encoding: str = "utf-8") -> str:
    """Return the text of a file exactly as it is, line ends included.

    start, end: first and last line wanted, counted from 1, both included; an `end` past the last line is no error.
    Raises FileNotFoundError, IsADirectoryError, and ValueError for a binary file or a range outside of it.
    """
    text = load_text(path, encoding)
    if start is None and end is None:
        return text
    first, last = _line_range(path, text, start, end)
    return "".join(lines_of(text)[first - 1 : last])


def view(path: StrPath, start: int | None = None, end: int | None = None) -> str:
    """Return the lines of a file, or those from `start` to `end`, with their numbers; made for print().

    Raises what `read` raises.
    """
    text = load_text(path)
    first, last = _line_range(path, text, start, end)
    chosen = (line.rstrip("\r\n") for line in lines_of(text)[first - 1 : last])
    return "\n".join(f"{number:6}  {line}" for number, line in enumerate(chosen, first))


def exists(path: StrPath) -> bool:
    """Return whether there is a file or folder of this name; a link that leads nowhere counts as none."""
    return os.path.exists(expand(path))


def list_files(path: StrPath = ".", pattern: str = "*") -> list[str]:
    """Return what is in one folder, sorted: files, and folders with a "/" at their end.

    pattern: a glob that the name must match, such as "*.py". `tree` and `search_files` look into subfolders too.
    Raises FileNotFoundError or NotADirectoryError.
    """
    wanted = re.compile(translate(pattern), re.DOTALL).fullmatch
    shown = "" if expand(path) == "." else expand(path)
    with os.scandir(folder(path)) as entries:
        return sorted(
            os.path.join(shown, entry.name) + ("/" if entry.is_dir() else "") for entry in entries if wanted(entry.name)
        )


def write(path: StrPath, content: str | bytes, encoding: str = "utf-8") -> int:
    """Make `content` the whole content of a file, atomically, and return the number of bytes written.

    Folders that are missing are created. Whoever reads the file meanwhile sees all of the old or all of the new
    content; if this raises, the file is as it was. An existing file keeps its mode, and a link keeps pointing at it.
    Raises TypeError if `content` is neither str nor bytes, and OSError if `path` is a folder, a device or not writable.
    """
    data = _encoded(content, encoding)
    target, mode = _target(path)
    temporary = os.path.join(os.path.dirname(target), f".{os.urandom(8).hex()}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666 if mode is None else mode)
    try:
        with open(fd, "wb") as file:
            if mode is not None:
                os.fchmod(fd, mode)  # what the umask took from it when it was created
            file.write(data)
            file.flush()
            os.fsync(fd)
        os.replace(temporary, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    return len(data)


def append(path: StrPath, content: str | bytes, encoding: str = "utf-8") -> int:
    """Add `content` to the end of a file, and return the number of bytes added.

    The file, and folders that are missing, are created. Raises TypeError and OSError as `write` does.
    """
    data = _encoded(content, encoding)
    target, _ = _target(path)
    with open(target, "ab") as file:
        return file.write(data)


def replace(path: StrPath, old: str, new: str, count: int | None = 1) -> int:
    """Replace the exact text `old` by `new` in a file, and return the number of places changed.

    count: how often `old` must be there: once, unless told; None stands for any number but zero.
    Raises ValueError, with the line numbers, if `old` is there more or less often; then the file is as it was.
    """
    if not old:
        raise ValueError("the text to replace is empty: use h.insert to add lines")
    text = load_text(path)
    found = text.count(old)
    if not found:
        raise ValueError(f"{expand(path)!r}: no match for {_short(old)}{_nearly(text, old)}")
    if count not in (None, found):
        raise ValueError(
            f"{expand(path)!r}: {found} matches for {_short(old)}, at lines {_numbers(_lines_with(text, old))}, where "
            f"{count} was wanted: give more of the text around it, or count={found}"
        )
    write(path, text.replace(old, new))
    return found


def insert(path: StrPath, line: int, text: str) -> int:
    """Insert `text` so that it begins at line `line`, and return the number of lines inserted.

    line: from 1 to the number of lines + 1, which adds at the end. A line end that `text` lacks is added.
    Raises ValueError if there is no such line.
    """
    lines = lines_of(load_text(path))
    if not 1 <= line <= len(lines) + 1:
        end = len(lines) + 1
        raise ValueError(f"{expand(path)!r} has {len(lines)} lines: line must be from 1 to {end}, not {line}")
    line_end = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
    if line > 1 and not lines[line - 2].endswith("\n"):
        lines[line - 2] += line_end
    added = lines_of(text if text.endswith("\n") else text + line_end)
    write(path, "".join(lines[: line - 1] + added + lines[line - 1 :]))
    return len(added)


def json_read(path: StrPath) -> Any:
    """Return the value that a JSON file holds. Raises ValueError, with line and column, if it is not JSON."""
    try:
        return json.loads(load_text(path, "utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{expand(path)!r} is not JSON: {error}") from None


def json_write(path: StrPath, value: object, indent: int | None = 2) -> int:
    """Write `value` as JSON, atomically, and return the number of bytes written.

    indent: spaces a level; None puts everything on one line.
    Raises TypeError or ValueError for what JSON cannot hold, such as a set or NaN; then the file is as it was.
    """
    return write(path, json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n")


def load_text(path: StrPath, encoding: str = "utf-8") -> str:
    """The whole text of a file, its line ends as they are."""
    try:
        text = load(path).decode(encoding)
    except UnicodeDecodeError as error:
        reason = f"is not {encoding} text: byte {error.object[error.start]:#04x} at offset {error.start}"
        raise ValueError(f"{expand(path)!r} {reason}; give its encoding, or open(path, 'rb') it") from None
    if "\0" in text:
        raise ValueError(f"{expand(path)!r} is a binary file: read its bytes with open(path, 'rb')")
    return text


def load(path: StrPath) -> bytes:
    """The whole content of a file."""
    try:
        with open(expand(path), "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise missing(expand(path)) from None
    except IsADirectoryError:
        raise IsADirectoryError(f"{expand(path)!r} is a folder: use h.list_files") from None


def lines_of(text: str) -> list[str]:
    """Lines with their ends. Not by str.splitlines, which also splits where no editor does, as at a form feed."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _line_range(path: StrPath, text: str, start: int | None, end: int | None) -> tuple[int, int]:
    total = len(lines_of(text))
    first = 1 if start is None else start
    last = total if end is None else end
    if not 1 <= first <= max(total, 1):
        raise ValueError(f"{expand(path)!r} has {total} lines: start must be from 1 to {max(total, 1)}, not {start}")
    if end is not None and end < first:
        raise ValueError(f"the last line wanted, {end}, is before the first, {first}")
    return first, last


def _encoded(content: str | bytes, encoding: str) -> bytes:
    if isinstance(content, str):
        return content.encode(encoding)
    if isinstance(content, bytes):
        return content
    raise TypeError(f"a file takes str or bytes, not {type(content).__name__}: use str(...) or h.json_write")


def _target(path: StrPath) -> tuple[str, int | None]:
    """The file that `path` means, links followed and its folder made; and its mode, None for a new one."""
    target = os.path.realpath(expand(path))
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        return target, None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"{expand(path)!r} is a folder: give a file in it")
    if not stat.S_ISREG(mode):
        raise OSError(f"{expand(path)!r} is no regular file: use open() for a device or a pipe")
    return target, stat.S_IMODE(mode)


def _lines_with(text: str, part: str) -> list[int]:
    lines, line, at = [], 1, 0
    for match in re.finditer(re.escape(part), text):
        line += text.count("\n", at, match.start())
        at = match.start()
        lines.append(line)
    return lines


def _nearly(text: str, old: str) -> str:
    """Why `old` may not have matched, as the end of a sentence."""
    if "\r\n" in text and old.replace("\r\n", "\n") in text.replace("\r\n", "\n"):
        return ": the lines of this file end in \\r\\n"
    first_line = old.strip().partition("\n")[0].strip()
    similar = _lines_with(text, first_line) if first_line else []
    return f"; its first line is at lines {_numbers(similar)}: compare the rest and the spaces" if similar else ""


def _numbers(lines: list[int]) -> str:
    numbers = list(dict.fromkeys(lines))
    return ", ".join(map(str, numbers[:10])) + (", ..." if len(numbers) > 10 else "")


def _short(text: str) -> str:
    return repr(text) if len(text) <= 60 else repr(text[:57]) + "..."
