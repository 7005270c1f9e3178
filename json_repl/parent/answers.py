"""Parent side: how answers leave: line by line, those of a JSON-RPC batch together."""

from __future__ import annotations

from os import write
from select import POLLOUT, poll

from json_repl.core import log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Writer:
    """Writes lines to a file until nobody reads them any more: then `on_gone` is called."""

    def __init__(self, fd: int, on_gone: Callable[[], object]) -> None:
        self.fd = fd
        self.is_gone = False  # who reads
        self.has_failed = False  # because the file takes no more, e.g. for want of room on the disk
        self._on_gone = on_gone

    def write(self, line: bytes) -> None:
        """Write one line, its end included."""
        data = memoryview(line + b"\n")
        while data and not self.is_gone:
            try:
                data = data[write(self.fd, data) :]
            except BlockingIOError:  # somebody who shares the file has set it so
                waiting = poll()
                waiting.register(self.fd, POLLOUT)
                waiting.poll()
            except (BrokenPipeError, ConnectionResetError):
                self._on_gone()
            except OSError as error:
                log.warning(f"an answer cannot be written to stdout: {error.strerror}")
                self.has_failed = True
                self._on_gone()


class Batch:
    """Collects the answers of a batch, which leave together, in the order of the requests, once the last is there."""

    def __init__(self, size: int, write: Callable[[bytes], None]) -> None:
        self._missing = size
        self._lines: list[bytes | None] = [None] * size
        self._write = write

    def place(self, index: int) -> Callable[[bytes | None], None]:
        """What takes the answer of the request that stands there."""

        def add(line: bytes | None) -> None:
            self._lines[index] = line
            self._missing -= 1
            lines = [line for line in self._lines if line is not None]
            if not self._missing and lines:
                self._write(b"[" + b",".join(lines) + b"]")

        return add
