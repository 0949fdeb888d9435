"""Writes the figures of docs/accuracy.md: every block between ``begin:`` and ``end:`` marks.

    .venv/bin/python tests/benchmarks/accuracy.py               write them: a minute or two
    .venv/bin/python tests/benchmarks/accuracy.py --only steps  one of them
    .venv/bin/python tests/benchmarks/accuracy.py --check       compare them
    .venv/bin/python tests/benchmarks/accuracy.py --speed TRACE PREFIX_TRACE    and how fast it is

``tests/test_accuracy.py`` runs the comparison, so a figure that is out of date fails the tests.
Blocks that need recordings which are not part of the repository are left alone without them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))  # support/, as pytest has it

from support.accuracy import exact, laws, memory, papers, summary, times, toy  # noqa: E402
from support.marks import SHARED, stale_blocks, write_block  # noqa: E402  # both by that line

PAGE = ROOT / "docs" / "accuracy.md"
SPEED = "speed"
"""Written on request only: seconds of one machine."""
BLOCKS: dict[str, Callable[[], str]] = {
    "claims": summary.block,
    "conformance": exact.conformance_block,
    "transformers": exact.transformers_block,
    "queues": laws.queues_block,
    "paper": exact.paper_block,
    "reproduced-count": papers.reproduced_block,
    "startups": memory.startups_block,
    "capacity": memory.capacity_block,
    "derived": times.derived_block,
    "kernels": times.kernels_block,
    "steps": times.steps_block,
    "groundtruth": toy.groundtruth_block,
}
SLOW: dict[str, Callable[[], str]] = {"planner": laws.planner_block}
RECORDED: dict[str, Callable[[], str]] = {
    "served": summary.served_block,
    "measured": times.measured_block,
}
"""They need the recordings; and so does, slowly, the next."""
RECORDED_SLOW: dict[str, Callable[[], str]] = {"large": exact.large_block}


def blocks() -> dict[str, Callable[[], str]]:
    """Those that this machine can make."""
    return BLOCKS | SLOW | (RECORDED | RECORDED_SLOW if SHARED.is_dir() else {})


def main() -> int:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--only", action="append", choices=list(blocks()), help="several times")
    parser.add_argument("--speed", nargs=2, metavar=("TRACE", "PREFIX_TRACE"), default=None)
    arguments = parser.parse_args()
    made = {name: make for name, make in blocks().items() if name in (arguments.only or blocks())}
    if arguments.check:
        stale = stale_blocks(made, [PAGE])
        print(f"out of date: {', '.join(stale)}" if stale else "up to date")
        return bool(stale)
    for name, make in made.items():
        write_block(name, make(), [PAGE])
    if arguments.speed:
        sys.path.insert(0, str(Path(__file__).parent))
        from speed import table

        write_block(SPEED, "\n".join(table(*arguments.speed)), [PAGE])
    return 0


if __name__ == "__main__":
    sys.exit(main())
