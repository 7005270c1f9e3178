"""Both sides: values as MIME bundles, and `display()`. Imported when something is first shown that is not plain text.

    value --_repr_mimebundle_, _repr_html_, _repr_png_, ...--> {"text/plain": "...", "image/png": "<base64>"}
    display(value) --a line of JSON--> the stream of all output, between what is printed before and after

The methods of a value are those that IPython's formatters ask for, and the messages are those of Jupyter's protocol:
https://ipython.readthedocs.io/en/stable/config/integrating.html and
https://jupyter-client.readthedocs.io/en/stable/messaging.html#display-data.
"""

from __future__ import annotations

import sys
from binascii import b2a_base64
from os import urandom

from json_repl.core import forks
from json_repl.core.imports import ours

with ours():
    from json import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Bundle = tuple[dict[str, Any], dict[str, Any]]  # data, and metadata, by MIME type

METHODS = {
    "text/html": "_repr_html_",
    "text/markdown": "_repr_markdown_",
    "text/latex": "_repr_latex_",
    "image/svg+xml": "_repr_svg_",
    "image/png": "_repr_png_",
    "image/jpeg": "_repr_jpeg_",
    "application/pdf": "_repr_pdf_",
    "application/json": "_repr_json_",
    "application/javascript": "_repr_javascript_",
}
_SAME = {"image/jpeg": "image/png"}  # not asked for where the other was had
_CANARY = "_ipython_canary_method_should_not_exist_"  # who has this attribute has every one
_LARGEST_NUMBER = 1.7976931348623157e308

# What shows a type that does not know how to, by its full name, e.g. {"matplotlib.figure.Figure": to_png}.
printers: dict[str, Callable[[Any], dict[str, Any]]] = {}

_mro_of = type.__dict__["__mro__"].__get__


def bundle_of(value: object, plain: str | None = None) -> Bundle:
    """All that `value` has to show, as IPython would have it; `plain` is its repr, if that is known.

    A method that raises costs its own format, and is told on stderr.
    """
    data: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    for cls in _mro_of(type(value)):
        printer = printers.get(f"{cls.__module__}.{cls.__qualname__}")
        if printer is not None:
            data.update(_call(value, printer, value) or {})
    _add(data, metadata, None, _ask(value, "_repr_mimebundle_", include=None, exclude=None))
    for mime, name in METHODS.items():
        if mime not in data and _SAME.get(mime) not in data:
            _add(data, metadata, mime, _ask(value, name))
    data.setdefault("text/plain", repr(value) if plain is None else plain)
    return data, metadata


def _ask(value: object, name: str, **options: object) -> object:
    if isinstance(value, type) or _has(value, _CANARY):
        return None
    method = getattr(value, name, None) if _has(value, name) else None
    return _call(value, method, **options) if callable(method) else None


def _has(value: object, name: str) -> bool:
    try:
        return getattr(value, name, None) is not None
    except Exception:  # a property, or a __getattr__, of user code
        return False


def _call(value: object, method: Callable[..., Any], *args: object, **options: object) -> Any:
    try:
        return method(*args, **options)
    except NotImplementedError:
        return None
    except Exception as error:
        name = getattr(method, "__name__", "its printer")
        print(f"{type(value).__name__}: {name} raised {type(error).__name__}: {error}", file=sys.stderr)
        return None


def _add(data: dict[str, Any], metadata: dict[str, Any], mime: str | None, found: Any) -> None:
    """Take what a method has returned: a value, or a bundle where `mime` is None, or either with its metadata."""
    more: Any = None
    if isinstance(found, tuple) and len(found) == 2:
        found, more = found
    if mime is not None:
        found = None if found is None else {mime: found}
        more = {mime: more} if more else None
    if isinstance(found, dict):
        data.update({key: value for key, value in found.items() if value is not None})
    if isinstance(more, dict):
        metadata.update(more)


def to_json(content: dict[str, Any]) -> str:
    """One line of JSON: images as base64, numbers that JSON has not as null, what else it has not as its repr."""
    try:
        line = dumps(content, ensure_ascii=False, allow_nan=False, default=_plainly)
    except (ValueError, TypeError):  # a number that is none, or a key that is no text
        line = dumps(_cleaned(content), ensure_ascii=False, allow_nan=False, default=_plainly)
    return line if line.isascii() else line.encode("utf-8", "replace").decode()  # without half characters


def _plainly(value: object) -> object:
    if isinstance(value, bytes):
        return b2a_base64(value, newline=False).decode()
    item = getattr(value, "item", None)  # a number of numpy's
    return item() if callable(item) else repr(value)


def _cleaned(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _cleaned(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_cleaned(item) for item in value]
    if isinstance(value, float) and not -_LARGEST_NUMBER <= value <= _LARGEST_NUMBER:
        return None
    return value


class Display:
    """What user code shows.

    Args:
        write: takes a message's line, its end included, and puts it among the output.
    """

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write

    def display(
        self,
        *objs: object,
        include: object = None,
        exclude: object = None,
        metadata: dict[str, Any] | None = None,
        transient: dict[str, Any] | None = None,
        display_id: Any = None,
        raw: bool = False,
        clear: bool = False,
        **more: Any,
    ) -> DisplayHandle | None:
        """Show values, each as all that it has to show; ``display_id=True`` gives a handle to update it by.

        Args:
            include, exclude: MIME types that are alone wanted, or not.
            raw: the values are MIME bundles themselves.
            clear: first take away what was shown until now.
        """
        if display_id is True:
            display_id = urandom(16).hex()
        transient = {**(transient or {}), **({"display_id": display_id} if display_id else {})}
        if clear:
            self.clear_output(wait=True)
        method = "update_display_data" if more.get("update") else "display_data"
        for value in objs:
            if not raw and self._shows_itself(value):
                continue
            data, about = (value, {}) if raw else bundle_of(value)
            chosen = _chosen(data, include, exclude)  # type: ignore[arg-type]
            self._send(method, {"data": chosen, "metadata": {**about, **(metadata or {})}, "transient": transient})
        return DisplayHandle(self, display_id) if display_id else None

    def update_display(self, obj: object, *, display_id: str, **options: Any) -> None:
        """Show a value in the place of what was shown under `display_id`."""
        self.display(obj, display_id=display_id, update=True, **options)

    def clear_output(self, wait: bool = False) -> None:
        """Take away what was shown; with `wait`, not before something new is."""
        self._send("clear_output", {"wait": bool(wait)})

    def show(self, value: object) -> None:
        """Show a value by its bundle, whatever else it would do to be shown."""
        data, metadata = bundle_of(value)
        self._send("display_data", {"data": data, "metadata": metadata, "transient": {}})

    def _send(self, method: str, content: dict[str, Any]) -> None:
        """Send one message of Jupyter's."""
        if forks.in_child:  # it has no answer of its own
            print(content.get("data", {}).get("text/plain", ""))
        else:
            self._write((to_json({"method": method, **content}) + "\n").encode())

    def bundle(self, value: object, plain: str) -> str | None:
        """What a value shows beside `plain`, its repr: ``{"data": ..., "metadata": ...}`` as JSON, or None."""
        data, metadata = bundle_of(value, plain)
        if len(data) == 1:
            self._shows_itself(value)
        return to_json({"data": data, "metadata": metadata}) if len(data) > 1 or metadata else None

    def _shows_itself(self, value: object) -> bool:
        if not _has(value, "_ipython_display_") or isinstance(value, type) or _has(value, _CANARY):
            return False
        value._ipython_display_()  # type: ignore[attr-defined]
        return True


def _chosen(data: dict[str, Any], include: Any, exclude: Any) -> dict[str, Any]:
    wanted = data if include is None else include
    return {mime: value for mime, value in data.items() if mime in wanted and mime not in (exclude or ())}


class DisplayHandle:
    """Something that was shown, and can be shown anew in its place."""

    def __init__(self, display: Display, display_id: str) -> None:
        self.display_id = display_id
        self._display = display

    def display(self, obj: object, **options: Any) -> None:
        """Show a value under this id."""
        self._display.display(obj, display_id=self.display_id, **options)

    def update(self, obj: object, **options: Any) -> None:
        """Show a value in the place of the last one."""
        self._display.update_display(obj, display_id=self.display_id, **options)

    def __repr__(self) -> str:
        return f"<DisplayHandle display_id={self.display_id}>"
