"""Parent side: what a request shows, from the messages that its code sends: Jupyter's display_data and its kin."""

from __future__ import annotations

import json

from json_repl.core import log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Fit = Callable[[str, dict[str, Any]], None]

_METHODS = ("display_data", "update_display_data", "clear_output")


class Outputs:
    """The messages of one request, and what they come to."""

    def __init__(self) -> None:
        self.listing: list[dict[str, Any]] = []  # e.g. [{"data": {...}, "metadata": {}, ...}]
        self._count = 0
        self._rest = bytearray()
        self._clears = False  # when something new is shown

    def feed(self, data: bytes, fit: Fit = lambda place, content: None) -> list[tuple[str, dict[str, Any]]]:
        """Take bytes of the stream `DISPLAY`; returns the messages that are whole now, each a method and its content.

        `fit` takes out of a bundle what is too large; it gets the name of its place, too.
        """
        self._rest += data
        *lines, rest = self._rest.split(b"\n")
        self._rest = bytearray(rest)
        found = []
        for line in lines:
            content = self.parse(line)
            method = content.pop("method", None) if content is not None else None
            if content is None or method not in _METHODS:
                log.debug("something was shown that cannot be read")
                continue
            if "data" in content:
                fit(f"outputs/{self._count}/", content)
                self._count += 1
            self._apply(method, content)
            found.append((method, content))
        return found

    @staticmethod
    def parse(line: bytes | bytearray) -> dict[str, Any] | None:
        """A message, or the bundle of a value; None where it is none, as user code can write here."""
        try:
            content = json.loads(line)
        except ValueError:
            return None
        if not isinstance(content, dict):
            return None
        if not all(isinstance(content.get(key, {}), dict) for key in ("data", "metadata", "transient")):
            return None
        if "data" in content:
            content = {"metadata": {}, "transient": {}, **content}
        return content

    @staticmethod
    def to_bytes(value: object) -> bytes:
        """One entry of a bundle, as ``output/read`` gives it: text as it is, what is no text as JSON."""
        return (value if isinstance(value, str) else json.dumps(value)).encode("utf-8", "replace")

    def _apply(self, method: str, content: dict[str, Any]) -> None:
        if method == "clear_output":
            self._clears = bool(content.get("wait"))
            if not self._clears:
                self.listing.clear()
            return
        if self._clears:
            self._clears = False
            self.listing.clear()
        id = content["transient"].get("display_id")
        same = [shown for shown in self.listing if id is not None and shown["transient"].get("display_id") == id]
        for shown in same:
            shown.update(data=content["data"], metadata=content["metadata"])
        if method == "display_data" or not same:  # or an update of what an earlier request has shown
            self.listing.append({"output_type": method, **content})
