"""Both sides: figures of matplotlib, which are shown as images, by ``plt.show()`` or at the end of their request.

Imported when user code imports matplotlib. Who chooses another backend (``matplotlib.use``, MPLBACKEND) has that one.
"""

from __future__ import annotations

import io
import os
import sys
from importlib import import_module

from json_repl.core import display

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from json_repl.core.shown import Shown

BACKEND = "json_repl_matplotlib"  # the name of a module that only this process has
_modules = sys.modules


def teach(matplotlib: Any, shown: Shown) -> None:
    """Have figures shown where user code has chosen nothing else."""
    display.printers["matplotlib.figure.Figure"] = to_png
    if os.environ.get("MPLBACKEND"):
        return
    sys.modules[BACKEND] = _Backend(shown)
    dict.__setitem__(matplotlib.rcParams, "backend", f"module://{BACKEND}")
    shown.at_end.append(lambda: _modules[BACKEND].show() if "matplotlib.pyplot" in _modules else None)


def to_png(figure: Any) -> dict[str, Any]:
    """A figure as an image; nothing where nothing was drawn."""
    if not _is_drawn(figure):
        return {}
    file = io.BytesIO()
    figure.savefig(file, format="png", bbox_inches="tight")
    return {"image/png": file.getvalue()}


class _Backend(type(sys)):  # type: ignore[misc]
    """A module as matplotlib wants a backend to be; the classes are made when matplotlib asks for them."""

    def __init__(self, shown: Shown) -> None:
        super().__init__(BACKEND)
        self._shown = shown

    def __getattr__(self, name: str) -> Any:
        if name not in ("FigureCanvas", "FigureManager"):
            raise AttributeError(name)
        bases: Any = import_module("matplotlib.backend_bases")
        agg: Any = import_module("matplotlib.backends.backend_agg")
        backend = self

        class FigureManager(bases.FigureManagerBase):  # type: ignore[misc]
            """Of a figure that stands on no screen."""

            @classmethod
            def pyplot_show(cls, *args: object, **options: object) -> None:
                """What ``plt.show()`` does."""
                backend.show()

            def show(self) -> None:
                """What ``figure.show()`` does."""
                backend._shown.display.display(self.canvas.figure)

        class FigureCanvas(agg.FigureCanvasAgg):  # type: ignore[misc]
            """Draws into memory."""

            manager_class = FigureManager

        self.FigureCanvas, self.FigureManager = FigureCanvas, FigureManager
        return getattr(self, name)

    def show(self, *args: object, **options: object) -> None:
        """Show all open figures, in the order in which they were made, and close them."""
        pyplot: Any = _modules.get("matplotlib.pyplot")
        if pyplot is None or pyplot.get_backend() != f"module://{BACKEND}":
            return
        try:
            for number in pyplot.get_fignums():
                figure = pyplot.figure(number)
                if _is_drawn(figure):
                    self._shown.display.display(figure)
        finally:
            pyplot.close("all")


def _is_drawn(figure: Any) -> bool:
    return bool(figure.axes or figure.lines or figure.texts or figure.patches)
