"""A reader's side: text and code as HTML, highlighted, with the colours that a terminal shows, and never too much."""

from __future__ import annotations

import re
from collections.abc import Iterator

from markupsafe import Markup, escape
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

MOST_CHARACTERS = 1_000_000  # of one text that the page shows; of a longer one its two ends
_MOST_HIGHLIGHTED = 100_000  # characters: beyond that it takes seconds
_MOST_AT_A_GLANCE = 22  # lines: of more, their number is told, as some have to be scrolled to
_NARROWEST = 40  # characters of a line that every screen has room for
_WIDEST = 160  # characters of a line that is scrolled to; where there are longer ones, lines are broken

_PLACE = re.compile(r'\s*File "|\s*[~^]+\s*$')

_formatter = HtmlFormatter(nowrap=True)

# Named, as they have no shape of their own: control characters, those that turn the direction of text, with which code
# can be made to read otherwise than it runs, and halves of a character, which JSON can spell and UTF-8 cannot.
_NAMED = (*range(9), *range(0xB, 0x20), 0x7F, *range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000))
VISIBLE = {number: f"⟨U+{number:04X}⟩" for number in _NAMED}


def terminal(text: str) -> Markup:
    """Text as a terminal would show it, in a ``<pre>``: its colours, and of a progress bar the last state."""
    shown = _without_overwritten(_cut(text))
    return _pre("text", text, _ESCAPES.sub("", shown), Markup("").join(_coloured(shown)))


def code(text: str, language: str) -> Markup:
    """Code in a ``<pre>``, highlighted as pygments does it, e.g. for the language "python"."""
    shown = _cut(text).translate(VISIBLE)
    if len(shown) > _MOST_HIGHLIGHTED:
        return _pre("code", text, shown, escape(shown))
    lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)
    return _pre("code", text, shown, Markup(highlight(shown, lexer, _formatter)))


def traceback(text: str) -> Markup:
    """A traceback in a ``<pre>``: its places apart from its code. (pygments' lexer for them can loop for ever.)"""
    if "\x1b" in text:
        return terminal(text)
    shown = _cut(text).translate(VISIBLE)
    place = Markup('<span class="place">{}</span>')
    lines = [place.format(line) if _PLACE.match(line) else escape(line) for line in shown.split("\n")]
    return _pre("traceback", text, shown, Markup("\n").join(lines))


def colours(style: str) -> str:
    """The style sheet of highlighted code, in one of pygments' styles."""
    return "\n".join(HtmlFormatter(style=style).get_token_style_defs([".code"]))  # type: ignore[no-untyped-call]


def _pre(kind: str, text: str, shown: str, inner: Markup) -> Markup:
    lines = shown.split("\n")
    widest, size = max(map(len, lines)), ""
    if len(lines) > _MOST_AT_A_GLANCE:
        size = f"{len(lines):,} lines"
    elif len(shown) > _MOST_AT_A_GLANCE * _WIDEST // 2:
        size = f"{len(text):,} characters"
    block = Markup('<pre class="{}"{}>\n{}</pre>').format(
        f"{kind} broken" if widest > _WIDEST else kind,
        Markup(' tabindex="0"') if size or _NARROWEST < widest <= _WIDEST else "",  # keys can scroll it then
        inner,
    )
    return block + Markup('<p class="aside">{}</p>').format(size) if size else block


def _cut(text: str) -> str:
    text = text.rstrip("\n")
    if len(text) <= MOST_CHARACTERS:
        return text
    half = MOST_CHARACTERS // 2
    return f"{text[:half]}\n\n[{len(text) - 2 * half:,} characters are not shown here]\n\n{text[-half:]}"


def _without_overwritten(text: str) -> str:
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join(next(filter(None, reversed(line.split("\r"))), "") if "\r" in line else line for line in lines)


# -- colours of a terminal ---------------------------------------------------------------------------------------------

# A sequence that sets colours; any other sequence, which is left out.
_ESCAPES = re.compile(r"\x1b\[([\d;:]*)m|\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-Z\\^-~])")
_STYLES = {
    1: "font-weight:700",
    2: "opacity:.7",
    3: "font-style:italic",
    4: "text-decoration:underline",
    9: "text-decoration:line-through",
}
_NAMED_COLOURS = {"color": "var(--ansi-{})", "background": "var(--ansi-ground-{})"}  # page.css has them
_WHITE_GROUND = "var(--ansi-ground-7)"
_ENDS = {22: (1, 2), 23: (3,), 24: (4,), 27: (7,), 29: (9,), 39: ("color",), 49: ("background",)}


def _coloured(text: str) -> Iterator[Markup]:
    on: dict[int | str, str] = {}  # e.g. {1: "font-weight:700", "color": "var(--ansi-1)"}
    place = 0
    for found in _ESCAPES.finditer(text):
        yield _span(text[place : found.start()], on)
        place = found.end()
        if found[1] is not None:
            _change(on, found[1])
    yield _span(text[place:], on)


def _span(text: str, on: dict[int | str, str]) -> Markup:
    inner = escape(text.translate(VISIBLE))
    if not on or not text:
        return inner
    ink, ground = on.get("color"), on.get("background")
    if 7 in on:
        ink, ground = ground or "var(--ground)", ink or "var(--ink)"
    elif ground and not ink:
        ink = _ink_on(ground)
    styles = [style for number, style in on.items() if number in _STYLES]
    styles += [f"color:{ink}"] if ink else []
    styles += [f"background:{ground}"] if ground else []
    return Markup('<span style="{}">{}</span>').format(";".join(styles), inner)


def _ink_on(ground: str) -> str:
    """Black or white, for text on a ground that names no colour for itself."""
    pale = ground == _WHITE_GROUND or (ground.startswith("rgb") and sum(map(int, re.findall(r"\d+", ground))) > 382)
    return "#000" if pale else "#fff"


def _change(on: dict[int | str, str], parameters: str) -> None:
    """Take in one sequence, e.g. "1;31": bold and red, or "38;5;208": the colour 208."""
    numbers = iter([int(number[:6] or 0) for number in re.split("[;:]", parameters)])
    for number in numbers:
        if number == 0:
            on.clear()
        elif number in _STYLES or number == 7:
            on[number] = _STYLES.get(number, "")
        elif number in _ENDS:
            for ended in _ENDS[number]:
                on.pop(ended, None)
        elif number in (38, 48):
            name = "color" if number == 38 else "background"
            on.update({name: colour} if (colour := _further_colour(numbers, name)) else {})
        elif 30 <= number <= 37 or 90 <= number <= 97:
            on["color"] = _NAMED_COLOURS["color"].format(number % 10 + 8 * (number >= 90))
        elif 40 <= number <= 47 or 100 <= number <= 107:
            on["background"] = _NAMED_COLOURS["background"].format(number % 10)


def _further_colour(numbers: Iterator[int], name: str) -> str:
    """The colour that "5;n" or "2;r;g;b" names, of text or of its ground; "" if it names none."""
    kind = next(numbers, 0)
    if kind == 2:
        return "rgb({},{},{})".format(*(min(next(numbers, 0), 255) for _ in range(3)))
    number = next(numbers, 0) if kind == 5 else 256
    if number < 16:
        return _NAMED_COLOURS[name].format(number if name == "color" else number % 8)
    if number < 232:
        red, green, blue = (number - 16) // 36, (number - 16) // 6 % 6, (number - 16) % 6
        return "rgb({},{},{})".format(*(40 * level + 55 if level else 0 for level in (red, green, blue)))
    return "rgb({0},{0},{0})".format(10 * number - 2312) if number < 256 else ""
