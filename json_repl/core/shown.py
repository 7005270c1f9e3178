"""Both sides: what user code shows that is more than text. Costs nothing until something is.

Libraries that show things ask IPython, or a screen. When user code imports one, it is taught to ask us: nothing of
theirs is imported before.
"""

from __future__ import annotations

import sys

from json_repl.core import sources
from json_repl.core.imports import ours
from json_repl.core.output import DISPLAY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

    from json_repl.core.display import Display

# These have nothing to show but their repr.
PLAIN = frozenset(
    {int, str, float, bool, complex, bytes, bytearray, list, tuple, dict, set, frozenset, range, type, type(sys)}
    | {type(len), type(lambda: None)}
)
_type, _PLAIN, _Exception = type, PLAIN, Exception


class Shown:
    """What one namespace shows.

    Args:
        write: puts bytes among the output, as those of the stream `DISPLAY`.
    """

    def __init__(self, write: Callable[[int, bytes], None]) -> None:
        self._write = write
        self._display: Display | None = None
        self.at_end: list[Callable[[], object]] = []  # what shows at the end of a request what it has drawn
        self.functions = self._make_functions()  # those that are ready in a namespace
        for name, lesson in (
            ("matplotlib", self._teach_matplotlib),
            ("plotly.io._renderers", self._teach_plotly),
            ("IPython.core.display_functions", self._teach_ipython),
        ):
            sources.teach(name, lesson)
        sources.offer(("IPython", "IPython.core", "IPython.display", "IPython.core.display"), self._stand_in)

    @property
    def display(self) -> Display:
        """The functions that show."""
        if self._display is None:
            with ours():
                from json_repl.core.display import Display
            self._display = Display(lambda line: self._write(DISPLAY, line))
        return self._display

    def _make_functions(self) -> dict[str, object]:
        # Functions, and no methods: what `help(display)` tells is for users.

        def display(*objs: object, **options: Any) -> object:
            """Show values richly: display(value, ..., display_id=True) gives a handle to update it by."""
            return self.display.display(*objs, **options)

        def update_display(obj: object, *, display_id: str, **options: Any) -> None:
            """Show a value in the place of what was shown under `display_id`."""
            self.display.update_display(obj, display_id=display_id, **options)

        def clear_output(wait: bool = False) -> None:
            """Take away what this request has shown; with `wait`, not before something new is."""
            self.display.clear_output(wait)

        return {"display": display, "update_display": update_display, "clear_output": clear_output}

    def bundle(self, value: object, plain: str) -> str | None:
        """What a value shows beside `plain`, its repr: ``{"data": ..., "metadata": ...}`` as JSON, or None."""
        if _type(value) in _PLAIN:
            return None
        try:
            return self.display.bundle(value, plain)
        except _Exception:  # user code has spoiled what this takes, and has the repr
            return None

    def _teach_matplotlib(self, matplotlib: ModuleType) -> None:
        with ours():
            from json_repl.core import figures
        figures.teach(matplotlib, self)

    def _teach_plotly(self, module: Any) -> None:
        module.renderers.default = "plotly_mimetype"

        def show(fig: object, *args: object, **options: object) -> None:
            self.display.show(fig)

        module.show = show

    def _teach_ipython(self, module: Any) -> None:
        for name, function in self.functions.items():
            setattr(module, name, function)
        module.publish_display_data = self._publish

    def _publish(self, data: Any, metadata: Any = None, *, transient: Any = None, **options: Any) -> None:
        """As IPython's: show a bundle."""
        self.display.display(data, metadata=metadata, transient=transient, raw=True, update=options.get("update"))

    def _stand_in(self, name: str) -> dict[str, object]:
        with ours():
            from json_repl.core import standin
        return standin.contents(name, {**self.functions, "publish_display_data": self._publish})
