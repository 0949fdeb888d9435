"""Writes the figures of the README and of docs/: every block between ``begin:`` and ``end:`` marks.

    .venv/bin/python tests/benchmarks/readme.py [--trace CSV] [--prefix-trace JSONL]   write them
    .venv/bin/python tests/benchmarks/readme.py --reproduce             and the published results
    .venv/bin/python tests/benchmarks/readme.py --check                 compare all but these two

``tests/test_readme.py`` runs the comparison, so a figure that is out of date fails the tests.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))  # support/, as pytest has it
SHARED = ROOT.parent / "shared"
PAGES = (ROOT / "README.md", ROOT / "docs" / "accuracy.md", ROOT / "docs" / "reproduce.md")
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


def paper_block() -> str:
    """The paper's figures beside the simulated ones."""
    from support.paper import FIG_2, FIG_13, orca, paged

    lines = [
        "| OPT-13B, ShareGPT lengths | requests at once | token states | reserved | internal "
        "| external |",
        "|---|---|---|---|---|---|",
    ]
    for reservation, shares in FIG_2.items():
        found = orca("sharegpt", reservation)
        share = found.pool_share
        ours = (share.token_states, share.reserved, share.internal, share.external)
        pairs = [f"{100 * x:.1f} % ({100 * y:.1f})" for x, y in zip(ours, shares, strict=True)]
        printed = FIG_13["sharegpt", reservation]
        running = f"{found.mean_running:.2f} ({printed:.2f})"
        lines.append(f"| Orca ({reservation}) | {running} | {' | '.join(pairs)} |")
    found = paged("sharegpt")
    states = f"{100 * found.pool_share.token_states:.1f} % (96.3)"
    lines.append(f"| paged, blocks of 16 | {found.mean_running:.1f} | {states} | | | 0 |")
    return "\n".join(lines)


def conformance_block() -> str:
    """How many recorded runs of the real scheduler are reproduced."""
    from kvsim.sim.conformance import first_difference, load_case

    folder = ROOT / "tests" / "golden"
    paths = sorted((folder / "steps").glob("*.jsonl.gz"))
    cases = [load_case(path) for path in paths]
    same = [case for case in cases if first_difference(case) is None]
    steps = sum(len(case.steps) for case in same)
    return (
        f"{len(same)} of {len(cases)} recorded runs in `tests/golden` match in every one of their "
        f"{steps:,} steps."
    )


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


def measured_block() -> str:
    """The recorded run of a real server beside the simulated ones."""
    from support.measured import KERNELS, MEASURED, TRACE, figure, simulated_run

    specs = ("datasheet", "silicon", f"measured:{SHARED / KERNELS}")
    runs = [simulated_run(SHARED / TRACE, spec)[1] for spec in specs]
    lines = [
        "| | measured | `datasheet` | `silicon` | `measured:` that card's kernels |",
        "|---|---|---|---|---|",
    ]
    for name, measured in MEASURED.items():
        cells = []
        for summary in runs:
            ours = figure(summary, name)
            cells.append(f"{ours:.4g} ({100 * (ours / measured - 1):+.1f} %)")
        lines.append(f"| `{name}` | {measured:.4g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def steps_block() -> str:
    """Published step times beside ours."""
    from support.anchors import (
        INTERCEPT_MS,
        LOADED_TOKENS_PER_S,
        PROMPTS,
        SLOPE_MS,
        SPLITWISE_PROMPT_MS,
        decode_law,
        loaded_run,
        prompt_ms,
    )

    law, loaded = decode_law("silicon"), loaded_run("silicon").output_tokens_per_s
    pairs = [
        ("H100, Llama-3.1-8B, one stream: ms a token of context", SLOPE_MS, law.slope_ms),
        ("the same: ms without context", INTERCEPT_MS, law.intercept_ms),
        ("8 streams of 20k tokens: output tokens/s", LOADED_TOKENS_PER_S, loaded),
    ]
    for (gpu, size), published in SPLITWISE_PROMPT_MS.items():
        if size == 2:
            ours = dict(zip(PROMPTS, prompt_ms("silicon", gpu, size), strict=True))
            name = f"Llama-2-70B on 2 {gpu}, prompt of 2,048: ms (an early stack)"
            pairs.append((name, float(published[PROMPTS.index(2048)]), ours[2048]))
    lines = ["| | published | `silicon` | |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {said:.3g} | {ours:.3g} | {100 * (ours / said - 1):+.1f} % |"
        for name, said, ours in pairs
    ]
    return "\n".join(lines)


def startups_block() -> str:
    """Real start-ups that settled no constant beside the predicted KV pools."""
    from statistics import median

    from support.startups import startups

    held_out = [row for row in startups() if row.use == "held out"]
    errors = sorted(abs(row.error) for row in held_out if not row.holds_segment)
    kept = [row for row in held_out if row.holds_segment]
    most = max(abs(row.share) for row in kept)
    return (
        f"In {len(errors)} start-ups of real servers that settled no constant the KV pool "
        f"was met to {100 * median(errors):.1f} % in the median and {100 * errors[-1]:.1f} % at "
        f"worst; {len(kept)} more, of vLLM 0.29, kept freed memory back (up to {100 * most:.1f} % "
        "of the requested memory, and inside the band)."
    )


def derived_block() -> str:
    """Cards with tables, derived from another card, beside their own tables."""
    import numpy as np

    from kvsim.calibration.silicon.systems import SYSTEMS
    from support.left_out import INSIDE_A_GENERATION, missed, of_another_generation, together

    inside = together([missed(card) for card in INSIDE_A_GENERATION])
    across = together([missed(card, of_another_generation(card)) for card in SYSTEMS])
    near, far = (100 * np.median(np.abs(one.derived)) for one in (inside, across))
    sheet = sorted(100 * np.median(np.abs(one.datasheet)) for one in (inside, across))
    held = [100 * one.in_band.mean() for one in (inside, across)]
    return (
        f"Left out and derived from a card of their generation, {len(INSIDE_A_GENERATION)} cards "
        f"with tables are met to {near:.1f} % in the median ({len(SYSTEMS)} from another "
        f"generation: {far:.1f} %; the datasheet alone: {sheet[0]:.1f} to {sheet[1]:.1f} %); the "
        f"band holds {held[0]:.0f} % and {held[1]:.0f} % of their steps."
    )


def kernels_block() -> str:
    """What kvsim's kernels reached on the cards whose profiles are shipped."""
    from kvsim.calibration.profile.find import BUNDLED
    from kvsim.calibration.profile.store import read_profile, read_samples
    from kvsim.reports.calibration_data import calibration_of
    from kvsim.reports.calibration_goals import aims

    lines = ["| card | case | goal | reached | |", "|---|---|---|---|---|"]
    for path in sorted(BUNDLED.glob("*.json")):
        profile = read_profile(path)
        for aim in aims(calibration_of(profile, read_samples(path))):
            cells = (profile.hardware.name, aim.case, aim.aim, aim.found, aim.answer)
            lines.append(f"| {' | '.join(cells)} |")
    if len(lines) == 2:
        return "No profile is shipped yet: kvsim's kernels have not been timed on a card."
    return "\n".join(lines)


def groundtruth_block() -> str:
    """The recorded toy engine against the simulator: errors, and what a repeat differs by."""
    from kvsim.sim.groundtruth.asked import find_logs
    from kvsim.sim.groundtruth.truth import compare_logs

    folder = ROOT / "tests" / "fixtures" / "groundtruth"
    truths = compare_logs(find_logs([str(folder)]), fit=find_logs([str(folder / "fit")]))
    shown = {
        "output_tokens_per_s": "output tokens/s",
        "ttft_p95_s": "TTFT P95",
        "tpot_p95_s": "TPOT P95",
        "e2e_p95_s": "E2E P95",
        "kv_use": "KV in use",
        "num_preemptions": "preemptions",
    }
    lines = [f"| run | {' | '.join(shown.values())} |", "|---" * (1 + len(shown)) + "|"]
    for truth in truths:
        found = {one.name: one for one in truth.compared}
        cells = [
            f"{100 * found[name].error:+.1f} % ({100 * (found[name].noise or 0.0):.1f})"
            for name in shown
        ]
        lines.append(f"| {truth.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def reproduced_block() -> str:
    """Every published result, full set: some minutes."""
    from kvsim.sim.reproduce.run import chosen, reproduce
    from kvsim.sim.reproduce.setup import Setting
    from support.reproduced import table

    traces = SHARED / "traces"
    setting = Setting(full=True, traces=traces if traces.is_dir() else None)
    return table(reproduce(chosen((), full=True), setting=setting).claims)


def speed_block(trace: str, prefix_trace: str) -> str:
    """The benchmark's table."""
    sys.path.insert(0, str(Path(__file__).parent))
    from speed import table

    return "\n".join(table(trace, prefix_trace))


BLOCKS: dict[str, Callable[[], str]] = {
    "plan": plan_block,
    "paper": paper_block,
    "conformance": conformance_block,
    "knowledge": knowledge_block,
    "startups": startups_block,
    "steps": steps_block,
    "derived": derived_block,
    "kernels": kernels_block,
    "groundtruth": groundtruth_block,
}
if (SHARED / "measured").is_dir():  # the recording is not part of the repository
    BLOCKS["measured"] = measured_block


def page_with(name: str) -> Path:
    """The page that has a block."""
    for page in PAGES:
        if re.search(_pattern(name), page.read_text(encoding="utf-8"), re.DOTALL):
            return page
    raise ValueError(f"no page has a block {name!r}.")


def block_in(text: str, name: str) -> str:
    """What stands between a block's marks."""
    found = re.search(_pattern(name), text, re.DOTALL)
    assert found is not None, "page_with() has found it"
    return found.group(2).removesuffix("\n")


def write_block(name: str, content: str) -> None:
    """Replace a block's content in its page."""
    page = page_with(name)
    text = re.sub(
        _pattern(name),
        lambda m: f"{m.group(1)}{content}\n{m.group(3)}",
        page.read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
    page.write_text(text, encoding="utf-8")


def stale_blocks() -> list[str]:
    """Names of the blocks, the speed aside, whose figures are not today's."""
    texts = {name: page_with(name).read_text(encoding="utf-8") for name in BLOCKS}
    return [name for name, make in BLOCKS.items() if block_in(texts[name], name) != make()]


def _pattern(name: str) -> str:
    return rf"(<!-- begin: {name} -->\n)(.*?)(<!-- end: {name} -->)"


def main() -> int:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--trace", default="", help="the Azure conversation trace, for the speed")
    parser.add_argument("--prefix-trace", default="", help="the Mooncake conversation trace")
    parser.add_argument("--reproduce", action="store_true", help="the published results, too")
    arguments = parser.parse_args()
    if arguments.check:
        stale = stale_blocks()
        print(f"out of date: {', '.join(stale)}" if stale else "up to date")
        return bool(stale)
    for name, make in BLOCKS.items():
        write_block(name, make())
    if arguments.trace and arguments.prefix_trace:
        write_block("speed", speed_block(arguments.trace, arguments.prefix_trace))
    if arguments.reproduce:
        write_block("reproduced", reproduced_block())
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
