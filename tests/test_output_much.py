"""Output that is too much for an answer: its head and tail are there, and any part of it can be read."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import psutil
import pytest
from harness import Session, wait_until

NUMBERS = "".join(f"{n}\n" for n in range(50_000))
PRINT_NUMBERS = "for n in range(50_000): print(n)"
MIB = 1 << 20


def read(session: Session, answer: Any, **params: Any) -> Any:
    """A part of the output."""
    return session.ask("output/read", execution_id=answer["execution_id"], **params)


def read_all(session: Session, answer: Any, limit: int, **params: Any) -> str:
    """All of it, part by part."""
    texts, offset = [], 0
    while True:
        part = read(session, answer, offset=offset, limit=limit, **params)
        texts.append(part["text"])
        assert part["offset"] == offset and len(part["text"].encode()) == part["next_offset"] - offset
        if part["eof"]:
            assert part["next_offset"] == part["total_bytes"]
            return "".join(texts)
        assert part["next_offset"] > offset
        offset = part["next_offset"]


# -- the answer -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [0, 1, 2, 999, 1000, 288_889])
def test_an_answer_holds_head_and_tail_and_says_how_much_is_left_out(session: Session, most: int) -> None:
    answer = session.run(PRINT_NUMBERS, max_output_bytes=most)
    head, note, tail = answer["stdout"].partition(f"\n[... {len(NUMBERS) - most} bytes are left out here; ")
    assert answer["truncated"] is True and note
    sentence, _, tail = tail.partition(" ...]\n")
    assert sentence == "output/read gives them"
    assert len(head + tail) == most and abs(len(head) - len(tail)) <= 1
    assert NUMBERS.startswith(head) and NUMBERS.endswith(tail)
    assert read_all(session, answer, MIB) == NUMBERS


@pytest.mark.parametrize("most", [len(NUMBERS), len(NUMBERS) + 1, 1 << 40])
def test_what_fits_is_whole(session: Session, most: int) -> None:
    answer = session.run(PRINT_NUMBERS, max_output_bytes=most)
    assert (answer["stdout"], answer["truncated"]) == (NUMBERS, False)
    assert read(session, answer)["error"]["code"] == -32602


def test_an_answer_holds_a_mebibyte_where_nothing_is_said(session: Session) -> None:
    assert session.run(f"print('x' * {MIB - 1})")["truncated"] is False
    answer = session.run(f"print('x' * {MIB})")
    assert answer["truncated"] is True and MIB < len(answer["stdout"]) < MIB + 100


def test_each_stream_has_its_own_bound_and_the_traceback_is_beside_it(session: Session) -> None:
    answer = session.run("import sys; print('a'); print('e' * 5000, file=sys.stderr); 1 / 0", max_output_bytes=100)
    assert answer["stdout"] == "a\n" and answer["truncated"] is True
    assert answer["stderr"].endswith("".join(answer["error"]["traceback"]))
    assert read_all(session, answer, 700) == "a\n"
    assert read_all(session, answer, 700, stream="stderr") == "e" * 5000 + "\n"


@pytest.mark.parametrize("most", range(100, 108))
def test_no_character_is_split_where_something_is_left_out(session: Session, most: int) -> None:
    text = "aé€😀" * 1000
    answer = session.run(f"print({text!r}, end='')", max_output_bytes=most)
    head, _, tail = answer["stdout"].partition("\n[... ")
    missing, _, tail = tail.partition(" bytes are left out here; output/read gives them ...]\n")
    assert text.startswith(head) and text.endswith(tail) and head and tail
    assert len((head + tail).encode()) + int(missing) == len(text.encode())


# -- any part of it ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 7, 1000, MIB])
def test_parts_never_split_a_character_and_make_the_whole(session: Session, limit: int) -> None:
    text = "aé€😀" * 50
    answer = session.run(f"print({text!r}, end='')", max_output_bytes=20)
    assert read_all(session, answer, limit) == text


@pytest.mark.parametrize(
    ("offset", "limit"), [(0, 10), (1234, 17), (288_880, 10), (288_889, 5), (288_890, 5), (10**30, 5)]
)
def test_any_part_can_be_read(session: Session, offset: int, limit: int) -> None:
    answer = session.run(PRINT_NUMBERS, max_output_bytes=1000)
    part = read(session, answer, offset=offset, limit=limit)
    assert part["text"] == NUMBERS[offset : offset + limit]
    assert part["eof"] is (offset + limit >= len(NUMBERS))
    assert (part["total_bytes"], part["lost_bytes"]) == (len(NUMBERS), 0)


def test_output_can_be_read_while_the_code_runs(session: Session, tmp_path: Path) -> None:
    go = tmp_path / "go"
    begun = "import os, time\nos.write(1, 'begun é'.encode()[:-1])"
    code = f"{begun}\nwhile not os.path.exists({str(go)!r}): time.sleep(0.001)"
    answer = session.run(code + "\n_ = os.write(1, b'\\xa9!')", wait=0)
    part = wait_until(lambda: (part := read(session, answer))["total_bytes"] == 7 and part)
    assert (part["text"], part["next_offset"], part["eof"]) == ("begun ", 6, False)
    go.touch()
    last = session.ask("wait", execution_id=answer["execution_id"])
    assert last["stdout"] == "begun é!"
    assert read(session, answer)["error"]["code"] == -32602


def test_much_output_can_be_read_while_the_code_runs(session: Session, tmp_path: Path) -> None:
    go = tmp_path / "go"
    code = f"import os, time\n{PRINT_NUMBERS}\nwhile not os.path.exists({str(go)!r}): time.sleep(0.001)"
    session.send({"id": 1, "code": code, "stream": True, "max_output_bytes": 1000})
    while "49999" not in str(session.notifications[-1:]):
        session.ask("ping")
    execution_id = session.notifications[-1]["params"]["execution_id"]
    part = session.ask("output/read", execution_id=execution_id, offset=100)
    assert (part["text"], part["eof"]) == (NUMBERS[100:], False)
    go.touch()
    assert read_all(session, session.read(), 60_000) == NUMBERS


def test_that_of_earlier_requests_stays(session: Session) -> None:
    answers = [session.run(f"for n in range(3000): print({n}, n)", max_output_bytes=n) for n in range(5)]
    session.ask("reset")
    for number in (3, 0, 4, 2, 1):
        expected = "".join(f"{number} {n}\n" for n in range(3000))
        assert read_all(session, answers[number], 5000) == expected


@pytest.mark.parametrize("execution_id", ["e99", "", "e1"])
def test_there_is_nothing_to_read_of_what_is_unknown_or_was_whole(session: Session, execution_id: str) -> None:
    session.run("print('a')")
    assert session.ask("output/read", execution_id=execution_id)["error"]["code"] == -32602


def test_a_clone_has_its_own(worker: Session) -> None:
    answer = worker.run(PRINT_NUMBERS, max_output_bytes=1000)
    worker.clone("other")
    mine = worker.run("print('other' * 1000)", max_output_bytes=10, session_id="other")
    assert read(worker, mine, session_id="other")["text"] == "other" * 1000 + "\n"
    assert read(worker, answer)["text"] == NUMBERS


# -- memory and disk --------------------------------------------------------------------------------------------------

FLOODS = {
    "large strings": ("text = 'x' * 999_999\nfor n in range(300): print(text)", 300_000_000),
    "a child": ("import os; os.system('head -c 300000000 /dev/zero | tr \"\\\\0\" x'); None", 300_000_000),
    "both streams in turn": (
        "import sys\nfor n in range(300_000): print('x' * 49); print('y' * 49, file=sys.stderr)",
        15_000_000,
    ),
}


@pytest.mark.parametrize("name", FLOODS)
def test_the_memory_of_the_session_is_bounded(session: Session, name: str) -> None:
    code, size = FLOODS[name]
    process = psutil.Process(session.pid)
    for _ in range(2):
        session.run("print('x' * 3_000_000)")
    before = process.memory_info().rss
    answer = session.run(code, timeout=0)
    assert answer["truncated"] is True and answer["status"] == "ok"
    assert process.memory_info().rss - before < 25_000_000
    part = read(session, answer, offset=size - 10)
    assert (part["text"][-1], part["eof"], part["total_bytes"]) == ("\n" if name != "a child" else "x", True, size)


def small_files() -> None:
    """As if the disk was full: no file of this process may be larger."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


def test_a_full_disk_costs_no_answer_and_is_told(start: Any, backend: str) -> None:
    session = start(backend, preexec_fn=small_files)
    for _ in range(2):
        answer = session.run(PRINT_NUMBERS, max_output_bytes=1000)
        assert (answer["status"], answer["truncated"]) == ("ok", True)
        head, _, tail = answer["stdout"].partition(f"\n[... {len(NUMBERS) - 1000} bytes are left out here; ")
        assert NUMBERS.startswith(head) and NUMBERS.endswith(tail.partition("\n")[2])
        assert tail.startswith("output/read gives what found room on the disk ...]\n")
        part = read(session, answer)
        assert part["eof"] is True and part["lost_bytes"] == len(NUMBERS) - len(part["text"]) > 0
        assert NUMBERS.startswith(part["text"]) and part["total_bytes"] == len(NUMBERS)
    _, log, status = session.finish()
    assert status == 0 and 1 <= log.count("output cannot be kept in a file") <= 2


def test_a_folder_for_files_that_is_not_there_costs_no_answer(start: Any, backend: str, tmp_path: Path) -> None:
    session = start(backend, env={"TMPDIR": str(tmp_path / "gone")}, preexec_fn=small_files)
    session.run("import os, tempfile; tempfile.tempdir = '/proc'")
    answer = session.run(PRINT_NUMBERS, max_output_bytes=1000)
    assert (answer["status"], answer["truncated"]) == ("ok", True)
    assert read(session, answer)["text"] == NUMBERS[: len(read(session, answer)["text"])]
