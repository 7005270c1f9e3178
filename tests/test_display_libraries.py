"""What the libraries that people plot and compute with show in a session, without the user doing anything for it."""

from __future__ import annotations

import base64
import importlib.util
from typing import Any

import pytest
from harness import Session

LIMIT = 60  # seconds: the first import of a library on a busy machine
PNG = b"\x89PNG\r\n\x1a\n"
FIGURE = "import matplotlib.pyplot as plt\nfigure, axes = plt.subplots()\n_ = axes.plot([1, 3, 2])\n"


def run(session: Session, code: str, *needs: str, **params: Any) -> Any:
    """The answer of code that must succeed; the test is skipped where what it needs is not installed."""
    for name in needs:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: what it shows in a session is not tested")
    answer = session.run(code, timeout=LIMIT, **params)
    assert answer["status"] == "ok", answer["stderr"]
    return answer


def is_png(text: str) -> bool:
    """Whether this is an image."""
    return base64.b64decode(text).startswith(PNG)


def images(answer: Any) -> list[bool]:
    """Of each thing that was shown, whether it is an image."""
    return [is_png(output["data"].get("image/png", "")) for output in answer["outputs"]]


VALUES = {
    "a frame of pandas": ("pandas", "import pandas; pandas.DataFrame({'a': [1, 2]})", "text/html", "<table"),
    "a frame of polars": ("polars", "import polars; polars.DataFrame({'a': [1, 2]})", "text/html", "<table"),
    "an image of PIL": ("PIL", "from PIL import Image; Image.new('RGB', (4, 4), 'red')", "image/png", "iVBOR"),
    "a chart of altair": ("altair", "import altair; altair.Chart().mark_bar()", "text/html", "vega"),
    "a figure of plotly": ("plotly", "import plotly.graph_objects as go; go.Figure()", "text/html", "plotly"),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_librarys_value_shows_itself(session: Session, name: str) -> None:
    library, code, mime, start = VALUES[name]
    answer = run(session, code, library)
    assert answer["data"]["text/plain"] == answer["result"] and start in answer["data"][mime]
    assert answer["outputs"] == []


def test_plotly_shows_its_data_and_opens_no_browser(session: Session) -> None:
    answer = run(session, "import plotly.graph_objects as go\ngo.Figure().show()\n", "plotly")
    assert "data" in answer["outputs"][0]["data"]["application/vnd.plotly.v1+json"]
    assert answer["data"] is None


def test_a_figure_is_shown_by_show_once_and_in_order(session: Session) -> None:
    code = FIGURE + "print('a')\nplt.show()\nprint('b')\nplt.get_fignums()"
    answer = run(session, code, "matplotlib", stream=True)
    assert images(answer) == [True] and answer["result"] == "[]"
    told = [found["params"] for found in session.notifications if found["method"] in ("stream", "display_data")]
    assert "".join(params.get("text", "<figure>") for params in told) == "a\n<figure>b\n"


def test_a_figure_that_nobody_shows_is_shown_at_the_end_of_its_request(session: Session) -> None:
    assert images(run(session, FIGURE + "print('before')", "matplotlib")) == [True]
    assert images(run(session, "1 + 1")) == []
    assert images(run(session, "_ = plt.plot([1]), plt.figure(), plt.plot([2])")) == [True, True]
    failed = session.run("_ = plt.plot([1]); 1 / 0", timeout=LIMIT)
    assert (failed["reason"], images(failed)) == ("exception", [True])


def test_a_figure_is_a_value_too_and_an_empty_one_is_not_shown(session: Session) -> None:
    answer = run(session, FIGURE + "plt.close('all')\nfigure", "matplotlib")
    assert is_png(answer["data"]["image/png"]) and answer["outputs"] == []
    assert images(run(session, "empty = plt.figure(); None")) == []


@pytest.mark.parametrize("how", ["import matplotlib; matplotlib.use('Agg')", "os.environ['MPLBACKEND'] = 'Agg'"])
def test_who_chooses_another_backend_has_it(session: Session, how: str) -> None:
    answer = run(session, f"import os\n{how}\n{FIGURE}plt.get_backend()", "matplotlib")
    assert (answer["result"].lower(), answer["outputs"]) == ("'agg'", [])


def test_a_large_figure_goes_by_reference(session: Session) -> None:
    answer = run(session, FIGURE, "matplotlib", max_output_bytes=1000)
    (output,) = answer["outputs"]
    reference = output["metadata"]["image/png"]["reference"]
    told = {"execution_id": answer["execution_id"], "stream": reference["stream"]}
    assert is_png(session.ask("output/read", **told)["text"])


def test_figures_go_on_after_a_crash(worker: Session) -> None:
    run(worker, FIGURE, "matplotlib")
    worker.keep("1")
    assert worker.run("import os; os._exit(9)")["session_state"]["state"] == "restored"
    assert images(run(worker, "_ = plt.plot([1, 2])")) == [True]


def test_none_of_them_is_imported_before_user_code_does(session: Session) -> None:
    names = ["matplotlib", "plotly", "IPython", "PIL", "pandas", "numpy", "polars", "altair"]
    session.run("class It:\n def _repr_html_(self): return 'x'")
    session.run("display(It()); It()")
    assert session.value(f"import sys; [name for name in {names} if name in sys.modules]") == "[]"
