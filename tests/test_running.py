"""Running code, the same in both backends."""

from __future__ import annotations

from harness import Session


def test_a_name_assigned_in_one_request_is_there_in_the_next(session: Session) -> None:
    session.run("x = 41")
    assert session.value("x + 1") == "42"
