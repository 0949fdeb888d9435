"""Writes the figures of the README and of docs/reproduce.md: what stands between marks.

    .venv/bin/python tests/benchmarks/readme.py                 write them
    .venv/bin/python tests/benchmarks/readme.py --reproduce     and the published results: minutes
    .venv/bin/python tests/benchmarks/readme.py --check         compare all but these

``tests/test_readme.py`` runs the comparison, so a figure that is out of date fails the tests.
Those of docs/accuracy.md are written by ``accuracy.py`` beside this file.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))  # support/, as pytest has it

from support.marks import SHARED, stale_blocks, write_block  # noqa: E402  # by the line above

PAGES = (ROOT / "README.md", ROOT / "docs" / "reproduce.md")
"""Each block stands in one of them."""
PLAN = ["plan", "--gpu", "a100", "--block-size", "16"]
PICTURES = ("where-the-bytes-go.png", "memory-map.png")


def plan_block() -> str:
    """What the main command prints."""
    from typer.testing import CliRunner

    from kvsim.cli import app

    with tempfile.TemporaryDirectory() as folder:
        shown = CliRunner().invoke(app, [*PLAN, "--out", f"{folder}/report"]).stdout
    lines = [line.rstrip() for line in shown.replace(f"{folder}/", "").splitlines()]
    return "\n".join(["```text", f"$ kvsim {' '.join(PLAN)}", *lines, "```"])


def knowledge_block() -> str:
    """How much is known by name."""
    from kvsim.calibration.gpus import known_gpus
    from kvsim.calibration.models import known_models
    from kvsim.traces import FORMATS

    formats = ", ".join(f"`{name}`" for name in FORMATS)
    return (
        f"{len(known_models())} models, {len(known_gpus())} GPUs, trace formats {formats}; any "
        "other model by its Hugging Face `config.json`, any other GPU by a JSON file."
    )


def reproduced_block() -> str:
    """Every published result, full set: some minutes."""
    from kvsim.sim.reproduce.run import chosen, reproduce
    from kvsim.sim.reproduce.setup import Setting
    from support.reproduced import table

    traces = SHARED / "traces"
    setting = Setting(full=True, traces=traces if traces.is_dir() else None)
    return table(reproduce(chosen((), full=True), setting=setting).claims)


BLOCKS: dict[str, Callable[[], str]] = {
    "plan": plan_block,
    "knowledge": knowledge_block,
}


def main() -> int:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--reproduce", action="store_true", help="the published results, too")
    arguments = parser.parse_args()
    if arguments.check:
        stale = stale_blocks(BLOCKS, PAGES)
        print(f"out of date: {', '.join(stale)}" if stale else "up to date")
        return bool(stale)
    for name, make in BLOCKS.items():
        write_block(name, make(), PAGES)
    if arguments.reproduce:
        write_block("reproduced", reproduced_block(), PAGES)
    _draw_pictures()
    return 0


def _draw_pictures() -> None:
    from typer.testing import CliRunner

    from kvsim.cli import app

    with tempfile.TemporaryDirectory() as folder:
        CliRunner().invoke(app, [*PLAN, "--out", folder])
        for picture in PICTURES:
            (ROOT / "docs" / picture).write_bytes((Path(folder) / picture).read_bytes())


if __name__ == "__main__":
    sys.exit(main())
