"""From samples to entries, and from entries to Markdown, JSON, and a comparison with an earlier run."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from statistics import median

from benchmarks.rows import PEER, Goal, Row

Samples = dict[str, list[float]]  # {"local": [0.000051, 0.000049], "F": [0.000024, 0.000023]}


@dataclass(frozen=True)
class Entry:
    """One system in one row."""

    row: str
    system: str
    unit: str
    samples: int
    median: float
    p99: float
    floor: str | None  # its name; None for a floor itself
    to_floor: float | None  # median / the floor's median
    faster_than_peer: float | None  # the peer's median / median
    goals: list[str]


@dataclass(frozen=True)
class Report:
    about: dict[str, str]  # {"python": "3.11.7", "ipykernel": "7.1.0"}
    entries: list[Entry]
    failures: list[str]  # ["100,000 lines printed: worker: 99,000 of 100,000 lines are in the answer"]


def entries(row: Row, samples: Samples) -> Iterator[Entry]:
    medians = {system: median(values) for system, values in samples.items()}
    for system, values in samples.items():
        floor = row.contenders.get(system)
        yield Entry(
            row=row.name,
            system=system,
            unit=row.unit,
            samples=len(values),
            median=medians[system],
            p99=percentile(values, 99),
            floor=floor,
            to_floor=medians[system] / medians[floor] if floor in medians else None,
            faster_than_peer=medians[PEER] / medians[system] if PEER in medians and floor and system != PEER else None,
            goals=[judge(goal, medians) for goal in row.goals if goal.system == system],
        )


def percentile(values: list[float], percent: int) -> float:
    """Nearest rank: a value that was measured, the largest where there are few."""
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def judge(goal: Goal, medians: dict[str, float]) -> str:
    """'<= 3 F: reached', '>= 30 x ipykernel: NOT reached', with the aim in brackets once it is reached too."""
    text = f">= {goal.must:g} x ipykernel" if goal.against == PEER else f"<= {goal.must:g} {goal.against}"
    if goal.against not in medians:
        return f"{text}: not measured"
    ratio = medians[goal.system] / medians[goal.against]

    def reached(limit: float) -> bool:
        return 1 / ratio >= limit if goal.against == PEER else ratio <= limit

    if not reached(goal.must):
        return f"{text}: NOT reached"
    return f"{text}: reached" + (f" (aim {goal.aim:g} too)" if goal.aim != goal.must and reached(goal.aim) else "")


def markdown(report: Report) -> str:
    lines = [f"- {key}: {value}" for key, value in report.about.items()]
    lines += ["", f"| row | system | median | p99 | to its floor | against {PEER} | goals |", "|---" * 7 + "|"]
    for entry in report.entries:
        floor = f"{entry.to_floor:.2f} {entry.floor}" if entry.to_floor else ""
        better = "less" if entry.unit == "MiB" else "faster"
        peer = f"{entry.faster_than_peer:.1f} x {better}" if entry.faster_than_peer else ""
        times = f"{quantity(entry.median, entry.unit)} | {quantity(entry.p99, entry.unit)}"
        lines.append(f"| {entry.row} | {entry.system} | {times} | {floor} | {peer} | {'; '.join(entry.goals)} |")
    if report.failures:
        lines += ["", "Not measured:", *(f"- {failure}" for failure in report.failures)]
    return "\n".join(lines)


def quantity(value: float, unit: str) -> str:
    if unit == "rate":
        return f"{1 / value:,.0f}/s"
    if unit != "s":
        return f"{value:.1f} {unit}"
    for scale, name in ((1, "s"), (1e3, "ms")):
        if value * scale >= 1:
            return f"{value * scale:.2f} {name}"
    return f"{value * 1e6:.1f} us"


def dump(report: Report) -> str:
    return json.dumps(asdict(report), indent=1) + "\n"


def load(text: str) -> Report:
    stored = json.loads(text)
    return Report(stored["about"], [Entry(**entry) for entry in stored["entries"]], stored["failures"])


def compare(old: Report, new: Report, tolerance: float) -> tuple[str, bool]:
    """A table of the ratios to the floor then and now, and whether one of ours is worse by more than the tolerance."""
    lines = ["", "| row | system | floor | before | now | change |", "|---" * 6 + "|"]
    before = {(entry.row, entry.system): entry.to_floor for entry in old.entries}
    any_worse = False
    for entry in new.entries:
        was = before.get((entry.row, entry.system))
        if was is None or entry.to_floor is None:
            continue
        worse = entry.system != PEER and entry.to_floor > was * tolerance
        any_worse = any_worse or worse
        change = f"{entry.to_floor / was - 1:+.0%}{' WORSE' if worse else ''}"
        lines.append(f"| {entry.row} | {entry.system} | {entry.floor} | {was:.2f} | {entry.to_floor:.2f} | {change} |")
    return "\n".join(lines), any_worse
