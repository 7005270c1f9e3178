"""Run the rows, every system in turn, block by block, so that a busy moment of the machine falls on all of them."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import sys
import time
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks import report, rows, state_rows
from benchmarks.report import Report, Samples
from benchmarks.rows import PEER, SYSTEMS, Row
from benchmarks.systems import System, within

ROWS = [*rows.ROWS, *state_rows.ROWS]
LIMIT = 60  # seconds for one system to start, and for one of its blocks


def main() -> int:
    options = parse()
    forget_python_settings()
    made = Report({**about(), "load before": load()}, [], [])
    for row in [ROWS[number - 1] for number in options.rows]:
        print(f"bench: {row.name} ...", file=sys.stderr)
        samples, failures = run(row, options.repeats or row.blocks)
        made.entries.extend(report.entries(row, samples))
        made.failures.extend(f"{row.name}: {system}: {reason}" for system, reason in failures.items())
    made.about["load after"] = load()
    print(report.markdown(made))
    if options.json:
        options.json.write_text(report.dump(made), "utf-8")
    worse = False
    if options.compare:
        table, worse = report.compare(options.compare, made, options.tolerance)
        print(table)
    return int(worse or any(PEER not in failure for failure in made.failures))


def run(row: Row, blocks: int) -> tuple[Samples, dict[str, str]]:
    """A B C A B C ...; a system that fails is out of the row, with the reason."""
    samples: Samples = {}
    failures: dict[str, str] = {}
    with ExitStack() as running:
        systems = {name: SYSTEMS[name]() for name in row.systems()}
        for system in systems.values():
            running.callback(system.close)
        for step in [start, *[measure] * blocks]:
            for name, system in systems.items():
                if name in failures:
                    continue
                try:
                    samples.setdefault(name, []).extend(step(row, system))
                except (OSError, EOFError, ValueError, RuntimeError, ImportError) as error:
                    failures[name] = str(error) or type(error).__name__
                    samples.pop(name)
    return samples, failures


def start(row: Row, system: System) -> list[float]:
    """Start and warm up; no samples."""
    with within(LIMIT, f"the start of {system.name}"):
        if row.running:
            system.start()
        if row.setup:
            system.round_trip(row.setup)
        row.measure(system)
    return []


def measure(row: Row, system: System) -> list[float]:
    with within(LIMIT, f"a block of {system.name}"):
        return [row.measure(system) for _ in range(row.samples_per_block)]


def forget_python_settings() -> None:
    """No system is measured unbuffered, or compiling its modules at every start, because this shell says so."""
    for name in [name for name in os.environ if name.startswith("PYTHON")]:
        del os.environ[name]


def parse() -> argparse.Namespace:
    numbers = range(1, len(ROWS) + 1)
    listing = "; ".join(f"{number}: {row.name}" for number, row in enumerate(ROWS, 1))
    parser = argparse.ArgumentParser(prog="python3 dev.py bench", description=__doc__, epilog=f"rows: {listing}")
    parser.add_argument("--rows", type=int, choices=numbers, default=numbers, nargs="+", metavar="N", help="only these")
    parser.add_argument("--repeats", type=int, metavar="N", help="blocks a row, instead of its own number")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    parser.add_argument(
        "--compare",
        type=lambda name: report.load(Path(name).read_text("utf-8")),
        metavar="FILE",
        help="compare with these results; the exit status is 1 if a ratio to the floor got worse",
    )
    parser.add_argument("--tolerance", type=float, default=1.25, metavar="X", help="what counts as worse (1.25)")
    return parser.parse_args()


def about() -> dict[str, str]:
    """What the numbers depend on."""
    facts = {"date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())}
    facts["python"] = platform.python_version()
    facts["system"] = f"{platform.system()} {platform.release()}"
    facts["processors"] = f"{os.cpu_count()} x {processor()}"
    for package in (PEER, "orjson"):
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = f"not installed: the comparisons with {package} are missing"
    return facts


def load() -> str:
    """How many processes wanted to run, over the last 1 and 5 minutes."""
    return "{:.1f}, {:.1f}".format(*os.getloadavg())


def processor() -> str:
    with contextlib.suppress(OSError):  # where there is no such file
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    sys.exit(main())
