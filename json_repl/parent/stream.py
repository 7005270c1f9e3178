"""Parent side: the notifications of one request while its code runs: output as it comes."""

from __future__ import annotations

from codecs import getincrementaldecoder

from json_repl.core import protocol
from json_repl.core.output import STREAMS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

NAMES = {stream: name for name, stream in STREAMS.items()}
_new_decoder = getincrementaldecoder("utf-8")


class Stream:
    """Tells a client what its request prints.

    Args:
        about: what every notification says, e.g. ``{"execution_id": "e3"}``.
        write: gets each line.
    """

    def __init__(self, about: dict[str, object], write: Callable[[bytes], None]) -> None:
        self._about = about
        self._write = write
        self._decoders = {stream: _new_decoder("replace") for stream in NAMES}  # a piece may end within a character

    def send(self, pieces: Iterable[tuple[int, bytes]]) -> None:
        """Tell pieces of output, in order; neighbours of one stream go together."""
        stream, parts = 0, list[bytes]()
        for piece_stream, data in pieces:
            if piece_stream != stream:
                self._send(stream, b"".join(parts))
                stream, parts = piece_stream, []
            parts.append(data)
        self._send(stream, b"".join(parts))

    def tell(self, method: str, content: dict[str, Any]) -> None:
        """Tell something that was shown, e.g. a ``display_data``."""
        self._write(protocol.notification(method, {**self._about, **content}))

    def end(self) -> None:
        """The request is over: what comes now is late. What is left is the start of a character that has not come."""
        for stream in NAMES:
            self._send(stream, b"", final=True)
        self._about = {**self._about, "late": True}

    def begin_again(self, attempt: int) -> None:
        """The code runs again, as its worker was taken away: what was told of it before is void."""
        self._decoders = {stream: _new_decoder("replace") for stream in NAMES}
        self._write(protocol.notification("retry", {**self._about, "attempt": attempt}))

    def _send(self, stream: int, data: bytes, *, final: bool = False) -> None:
        text = self._decoders[stream].decode(data, final) if stream else ""
        if text:
            self._write(protocol.notification("stream", {**self._about, "name": NAMES[stream], "text": text}))
