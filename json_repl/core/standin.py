"""Both sides: ``IPython.display`` for user code where IPython is not installed: ``display``, ``HTML``, ``Image`` ...

Code that is meant for notebooks imports these all the time. Where IPython is installed, it is used instead.
"""

from __future__ import annotations

import os
from base64 import b64decode
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# As of an IPython that runs in no notebook. Who looks at the version, as matplotlib does, works around old ones.
_OF_THE_PACKAGE = {"__version__": "9.0.0", "version_info": (9, 0, 0, ""), "get_ipython": lambda: None}
_SIGNATURES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}
_WEBP = (b"RIFF", b"WEBP")


def contents(name: str, functions: dict[str, object]) -> dict[str, object]:
    """What the module of this name holds."""
    if name == "IPython":
        return {**_OF_THE_PACKAGE, **functions}
    if name == "IPython.core":
        return {}
    classes = {cls.__name__: cls for cls in (*_KINDS, Image, IFrame, DisplayObject)}
    return {**classes, **functions}


class DisplayObject:
    """Content of one kind, from text, a file or an address.

    Args:
        data: the content; what looks like an address of the web is taken for one.
        url, filename: where it is, instead.
    """

    mime = "text/plain"

    def __init__(
        self, data: Any = None, url: str | None = None, filename: Any = None, metadata: Any = None, **_: Any
    ) -> None:
        if url is None and isinstance(data, str) and data.startswith(("http://", "https://")):
            data, url = None, data
        if filename is not None:
            data = self._read(Path(filename))
        elif isinstance(data, Path):
            data = self._read(data)
        self.data, self.url, self.metadata = data, url, metadata or {}

    def _read(self, path: Path) -> Any:
        return path.read_text("utf-8")

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        if self.data is None:
            return {"text/plain": str(self.url)}, {}
        return {self.mime: self.data}, {self.mime: self.metadata} if self.metadata else {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} object>"


class HTML(DisplayObject):
    """HTML."""

    mime = "text/html"


class Markdown(DisplayObject):
    """Markdown."""

    mime = "text/markdown"


class Latex(DisplayObject):
    """LaTeX."""

    mime = "text/latex"


class Math(Latex):
    """A formula."""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        return {self.mime: "$\\displaystyle " + str(self.data).strip("$") + "$"}, {}


class SVG(DisplayObject):
    """An image of lines."""

    mime = "image/svg+xml"


class JSON(DisplayObject):
    """Data, as a tree."""

    mime = "application/json"


class Javascript(DisplayObject):
    """A script for whoever shows it."""

    mime = "application/javascript"


class Pretty(DisplayObject):
    """Plain text."""


class Code(DisplayObject):
    """Source code."""


class Image(DisplayObject):
    """A PNG, JPEG, GIF or WebP image: bytes, base64, a file's name, or an address."""

    def __init__(
        self,
        data: Any = None,
        url: str | None = None,
        filename: Any = None,
        format: str | None = None,
        embed: Any = None,
        width: int | None = None,
        height: int | None = None,
        **more: Any,
    ) -> None:
        if isinstance(data, str) and filename is None and os.path.isfile(data):
            data, filename = None, data
        super().__init__(data, url, filename, **more)
        if isinstance(self.data, str):
            self.data = b64decode(self.data)
        self.metadata.update({key: size for key, size in (("width", width), ("height", height)) if size is not None})
        self.mime = _kind_of(self.data or b"", format)

    def _read(self, path: Path) -> Any:
        return path.read_bytes()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        if self.data is None and self.url is not None:
            sizes = "".join(f' {name}="{size}"' for name, size in self.metadata.items())
            return {"text/html": f'<img src="{self.url}"{sizes}/>'}, {}
        return super()._repr_mimebundle_()


class IFrame:
    """A page within the page."""

    def __init__(self, src: str, width: object = "100%", height: object = 300, **_: Any) -> None:
        self.src, self.width, self.height = src, width, height

    def _repr_html_(self) -> str:
        return f'<iframe width="{self.width}" height="{self.height}" src="{self.src}" frameborder="0"></iframe>'


_KINDS = (HTML, Markdown, Latex, Math, SVG, JSON, Javascript, Pretty, Code)


def _kind_of(data: bytes, format: str | None) -> str:
    if format:
        return "image/" + {"jpg": "jpeg"}.get(format.lower(), format.lower())
    if data[:4] == _WEBP[0] and data[8:12] == _WEBP[1]:
        return "image/webp"
    return next((mime for start, mime in _SIGNATURES.items() if data.startswith(start)), "image/png")
