"""What was answered for is there after any loss of a worker: short runs of the ledger, each with a seed of its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from harness import Session
from ledger import Ledger

LARGE = 100 << 20  # bytes: such a session takes its snapshots when it finds the time
IN_A_BURST = 100  # requests


@pytest.mark.parametrize(
    ("snapshots", "large", "most_undone", "requests"),
    [
        pytest.param("always", 0, 0, 400, id="always"),
        # A signal from outside can come in the millisecond between an answer and the copy that is made after it.
        pytest.param("auto", 0, 1, 400, id="auto, small"),
        pytest.param("auto", LARGE, IN_A_BURST, 200, id="auto, large"),
    ],
)
def test_every_assignment_that_was_answered_for_and_not_named_as_undone_is_there(
    start: Callable[..., Session], snapshots: str, large: int, most_undone: int, requests: int
) -> None:
    session = start("worker", env={"JSON_REPL_SNAPSHOTS": snapshots})
    ledger = Ledger(session, seed=20, large=large, most_undone=most_undone)
    ledger.run(requests)
    assert ledger.counts["crash"] and ledger.counts["killed from outside"]
