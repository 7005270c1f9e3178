"""A reader's side: a value by MIME type as HTML, the richest kind of it that a page without scripts can show.

What user code has made is not trusted: its HTML is cleaned of all that runs, loads or styles; images are data in the
page, SVG too, as in an ``<img>`` no script of it runs.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable

import nh3
from markdown_it import MarkdownIt
from markupsafe import Markup

from json_repl.view import texts
from json_repl.view.transcript import Json, compact, table, text

_TAGS = (nh3.ALLOWED_TAGS - {"area", "map"}) | {"tfoot"}
_TAG = re.compile("</?[a-zA-Z]")
_MOST_TAGS = 40_000  # in one piece of HTML: to read them takes seconds if each is inside the one before
_LINKS = ("http://", "https://", "mailto:")
_markdown = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


def show(bundle: Json) -> Markup:
    """The HTML of display data, e.g. ``{"data": {"text/plain": "1"}, "metadata": {}}``, and what of it is not shown."""
    data, metadata = table(bundle.get("data")), table(bundle.get("metadata"))
    shown, others = Markup(""), [mime for mime in data if mime not in RENDERERS]
    for mime, renderer in RENDERERS.items():
        if data.get(mime) is not None and not shown:
            shown = renderer(data[mime], {**table(metadata.get(mime)), "alt": text(data.get("text/plain"))})
            others += [] if shown else [mime]
    if others:
        shown += Markup('<p class="aside">not shown: {}</p>').format(", ".join(others))
    return shown


def is_rich(data: Json) -> bool:
    """Whether there is more of a value than its text."""
    return bool(data.keys() - {"text/plain"})


def _html(value: object, about: Json) -> Markup:
    given = text(value).encode("utf-8", "replace").decode()  # without halves of characters, which JSON can spell
    if len(_TAG.findall(given)) > _MOST_TAGS:
        return Markup("")
    cleaned = nh3.clean(given, tags=_TAGS, url_schemes={"http", "https", "mailto", "data"}, attribute_filter=_attribute)
    cleaned = cleaned.replace("<img>", "")  # of which nothing is left
    if 'src="data:image/' not in cleaned and not re.sub("<[^>]*>", "", cleaned).strip():
        return Markup("")  # a script would have drawn it all
    return Markup('<div class="html" tabindex="0">{}</div>').format(Markup(cleaned))


def _attribute(tag: str, name: str, value: str) -> str | None:
    if name == "src":
        return value if value.startswith("data:image/") else None
    if name in ("href", "cite"):
        return value if value.startswith(_LINKS) else None
    return value


def _from_markdown(value: object, about: Json) -> Markup:
    return _html(_markdown.render(text(value)), about) or texts.terminal(text(value))


def _json(value: object, about: Json) -> Markup:
    return texts.code(compact(value, indent=2), "json")


def _svg(value: object, about: Json) -> Markup:
    source = text(value)
    if "xmlns=" not in source:  # optional in HTML, but not in a file of its own
        source = source.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    return _img("image/svg+xml", base64.b64encode(source.encode("utf-8", "replace")).decode(), about)


def _image(mime: str) -> Callable[[object, Json], Markup]:
    def show_image(value: object, about: Json) -> Markup:
        data = "".join(text(value).split())
        try:
            base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError):
            return Markup("")
        return _img(mime, data, about)

    return show_image


def _img(mime: str, data: str, about: Json) -> Markup:
    sizes = Markup("")
    for name in ("width", "height"):
        if type(about.get(name)) in (int, float):
            sizes += Markup(' {}="{:.0f}"').format(name, about[name])
    return Markup('<img alt="{}" src="data:{};base64,{}"{}>').format(about["alt"][:200] or mime, mime, data, sizes)


RENDERERS: dict[str, Callable[[object, Json], Markup]] = {  # the first that there is, and that shows anything
    "text/html": _html,
    "image/svg+xml": _svg,
    **{
        mime: _image(mime) for mime in ("image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp")
    },
    "text/markdown": _from_markdown,
    "text/latex": lambda value, about: texts.code(text(value), "latex"),
    "application/json": _json,
    "text/plain": lambda value, about: texts.terminal(text(value)),
}
