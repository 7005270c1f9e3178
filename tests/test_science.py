"""What computes with threads of its own goes on in every copy of a session: numpy's BLAS, models of scikit-learn."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from harness import Session

pytest.importorskip("numpy", reason="numpy is not installed: whether it computes in a restored session is not tested")
pytest.importorskip("sklearn", reason="scikit-learn is not installed: whether it computes in a restored session is not")

Start = Callable[..., Session]
# More threads than one each, though the machine may have one core; they sleep where they wait for each other.
ENV = {
    "JSON_REPL_SNAPSHOTS": "always",
    "OMP_NUM_THREADS": "2",
    "OPENBLAS_NUM_THREADS": "2",
    "OMP_WAIT_POLICY": "passive",
}
LIMIT = 25  # seconds: what hangs, hangs for ever

DATA = """
import os
import numpy as np
from threadpoolctl import threadpool_info
dice = np.random.default_rng(7)
big = dice.random((400, 400))
total = float((big @ big).sum())
points = np.vstack([dice.normal(place, 0.3, (1000, 4)) for place in (-3.0, 0.0, 3.0)])
kinds = np.repeat([0, 1, 2], 1000)
threads = max(pool["num_threads"] for pool in threadpool_info())
"""
CLASSES = {
    "a forest": ("sklearn.ensemble", "RandomForestClassifier(n_estimators=20, n_jobs=2, random_state=0)"),
    "boosting": ("sklearn.ensemble", "HistGradientBoostingClassifier(max_iter=5, random_state=0)"),
    "neighbours": ("sklearn.neighbors", "KNeighborsClassifier(n_jobs=2)"),
    "a linear model": ("sklearn.linear_model", "LogisticRegression()"),
    "a network": ("sklearn.neural_network", "MLPClassifier((50,), max_iter=20, random_state=0)"),
    "clusters": ("sklearn.cluster", "KMeans(3, n_init=2, random_state=0)"),
}
HANG = "import itertools; any(itertools.repeat(0))"
WAYS = {
    "a crash": [{"method": "execute", "code": "os._exit(9)"}],
    "a kill": [{"method": "execute", "code": "os.kill(os.getpid(), 9)"}],
    "a hang that is killed": [
        {"method": "execute", "code": "import itertools; any(itertools.repeat(0))", "timeout": 0.1}
    ],
    "a rollback": [{"method": "execute", "code": "del big, points"}, {"method": "rollback", "steps": 1}],
    "two crashes": [{"method": "execute", "code": "os._exit(9)"}] * 2,
}
COMPUTES = "abs(float((big @ big).sum()) - total) < 1e-3, np.linalg.svd(big[:100, :100])[1].shape, threads > 1"


def _start(start: Start) -> Session:
    session = start("worker", env=ENV)
    answer = session.keep(DATA, timeout=LIMIT)
    assert (answer["stderr"], answer["status"]) == ("", "ok")
    return session


@pytest.mark.parametrize("way", WAYS)
def test_numpy_computes_with_its_threads_after(start: Start, way: str) -> None:
    session = _start(start)
    for request in WAYS[way]:
        session.ask(**request)
    assert session.value(COMPUTES, timeout=LIMIT) == "(True, (100,), True)"
    session.keep("dice.random(3).round(6).tolist()", timeout=LIMIT)
    assert session.value(COMPUTES, timeout=LIMIT) == "(True, (100,), True)"


@pytest.mark.parametrize("what", CLASSES)
def test_a_fitted_model_predicts_and_is_fitted_again_in_every_copy_of_its_session(start: Start, what: str) -> None:
    session = _start(start)
    module, model = CLASSES[what]
    session.keep(
        f"from {module} import *\nmodel = {model}\n_ = model.fit(points, kinds)\nbefore = model.predict(points)",
        timeout=LIMIT,
    )
    # Alone in its process, and in the copy: predict, then fit once more, then the same in a new model.
    again = (
        f"same = bool((model.predict(points) == before).all()); _ = model.fit(points, kinds)\n"
        f"refitted = bool((model.predict(points) == before).all()); _ = {model}.fit(points, kinds)\nsame, refitted"
    )

    def check(**params: object) -> None:
        assert session.value(again, timeout=LIMIT, **params) == "(True, True)"

    check(dry_run=True)
    session.clone("branch")
    assert session.run("os._exit(9)")["session_state"]["state"] == "restored"
    check()
    check(session_id="branch")
    assert session.ask("rollback", to="e2")["state"] == "restored"
    check()


def test_state_that_a_model_holds_is_that_of_the_newest_answer(start: Start) -> None:
    session = _start(start)
    session.run("from sklearn.linear_model import SGDClassifier; model = SGDClassifier(random_state=0)", timeout=LIMIT)
    for _ in range(3):
        session.run("_ = model.partial_fit(points, kinds, classes=[0, 1, 2])", timeout=LIMIT)
    session.keep("weights = model.coef_.copy(), model.t_", timeout=LIMIT)
    assert session.run("model.partial_fit(points, kinds); os.abort()", timeout=LIMIT)["reason"] == "crash"
    assert (
        session.value("bool((model.coef_ == weights[0]).all()), model.t_ == weights[1]", timeout=LIMIT)
        == "(True, True)"
    )
