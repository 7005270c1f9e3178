"""Both sides: whether this process is a child that user code has forked, which must not go on as the session."""

from __future__ import annotations

import os

by_us = False  # the fork that goes on now is ours: its child is a copy of the session's worker
in_child = False


def _note_child() -> None:
    global in_child
    in_child = in_child or not by_us


os.register_at_fork(after_in_child=_note_child)
