"""Swap against recompute as figure, tables and sentences; what a run moved."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from kvsim.calibration.gpus import load_gpu
from kvsim.calibration.models import load_model
from kvsim.calibration.step_cost import Batch
from kvsim.reports import swap_sheets
from kvsim.reports.figures.swap_crossover import swap_crossover
from kvsim.reports.moved_words import (
    Moved,
    copies_sentence,
    facts,
    sharing_rows,
    swap_rows,
    swaps_sentence,
)
from kvsim.reports.picture import Picture
from kvsim.reports.swap_figure import swap_picture
from kvsim.reports.swap_report import swap_report
from kvsim.sim.crossover import Crossover
from kvsim.sim.plan import Plan
from kvsim.sim.swap_cost import crossover_on
from support.more_of_a_plan import with_more

OPT, A100 = load_model("opt-13b"), load_gpu("a100-40gb")
BY_SIZE, BY_LENGTH = range(2)
MOVED = Moved(
    num_copied_blocks=12,
    copied_bytes=24 << 20,
    sharing_saved=0.0853,
    num_swaps=3,
    swapped_out_bytes=2 << 30,
    swapped_in_bytes=1 << 30,
    transfer_s=0.25,
    makespan_s=10.0,
)


def crossed(tokens: int = 512, decodes: int = 32, **flags: object) -> Crossover:
    batch = Batch(decodes, decodes * 512) if decodes else None
    given = {"step_cost": "datasheet", **flags}
    return crossover_on(OPT, A100, given, tokens=tokens, batch=batch)


def lines(picture: Picture, panel: int) -> dict[str, list[tuple[float, float]]]:
    """The curves of a panel; marks and uprights left out."""
    curves = [one for one in picture.figure.axes[panel].lines if len(one.get_xdata()) > 2]
    names = ["alone", "recompute", "swap"] if len(curves) == 3 else ["recompute", "swap"]
    points = [
        list(zip(*(map(float, axis) for axis in one.get_data()), strict=True)) for one in curves
    ]
    return dict(zip(names, points, strict=True))


def test_the_curves_are_the_costs() -> None:
    found = crossed()
    picture = swap_picture(found)
    drawn = lines(picture, BY_SIZE)
    assert drawn["swap"] == [(one.block_size, one.swap_s) for one in found.by_block_size]
    assert drawn["recompute"] == [(one.block_size, one.recompute_s) for one in found.by_block_size]
    assert {y for _, y in drawn["alone"]} == {found.chosen.recompute_alone_s}
    drawn = lines(picture, BY_LENGTH)
    assert drawn["swap"] == [(one.tokens, one.swap_s) for one in found.by_length]
    assert drawn["recompute"] == [(one.tokens, one.recompute_s) for one in found.by_length]


def test_the_chosen_point_is_marked_in_both_panels() -> None:
    found = crossed()
    for axes, at in zip(swap_picture(found).figure.axes, (16, 512), strict=True):
        marks = [one for one in axes.lines if one.get_marker() == "o"]
        assert [list(one.get_xdata()) for one in marks] == [[at], [at]]
        values = [float(np.asarray(one.get_ydata())[0]) for one in marks]
        assert values == [found.chosen.swap_s, found.chosen.recompute_s]
        upright = next(one for one in axes.lines if len(set(one.get_xdata())) == 1)
        assert set(upright.get_xdata()) == {at}


def test_without_a_batch_there_is_one_recompute() -> None:
    picture = swap_picture(crossed(decodes=0))
    assert set(lines(picture, BY_SIZE)) == {"recompute", "swap"}
    assert "by the steps that it takes alone" in picture.caption
    words = [text.get_text() for text in picture.figure.legends[0].get_texts()]
    assert words == ["swap, out and in again", "recompute alone", "error band of each source"]


def test_the_tables_hold_the_costs() -> None:
    found = crossed()
    sizes, lengths = swap_sheets.size_sheet(found), swap_sheets.length_sheet(found)
    assert [row[0] for row in sizes.rows[3:6]] == ["8", "16 (chosen)", "32"]
    chosen = sizes.rows[4]
    assert chosen[1:] == (
        "22.7 ms",
        "22.7 ms",
        "45.4 ms",
        "48.9 ms",
        "66.7 ms",
        "swap",
        "417 tokens",
    )
    assert sizes.rows[0][-2:] == ("recompute", "never")
    assert [row[0] for row in lengths.rows] == [
        "16",
        "32",
        "64",
        "128",
        "256",
        "512",
        "1,024",
        "2,048",
    ]
    assert lengths.rows[5][1:] == chosen[1:-1]
    odd = swap_sheets.length_sheet(crossed(tokens=300))
    assert "300" in [row[0] for row in odd.rows]


def test_what_follows_is_said() -> None:
    first, second = swap_sheets.conclusions(crossed())
    assert first == (
        "512 tokens in blocks of 16: swap is cheaper (45.4 ms swap, 48.9 ms recompute beside 32 "
        "decodes of 512 tokens); recompute takes 1.08x."
    )
    assert second == (
        "At that length a swap is cheaper from blocks of 16 on; in blocks of 16 a swap is cheaper "
        "from 417 tokens on."
    )
    first, second = swap_sheets.conclusions(crossed(tokens=64, block_size=1))
    assert "recompute is cheaper" in first
    assert second.startswith("At that length in no block size up to 256 is a swap cheaper;")
    assert second.endswith("up to 2,048 tokens recompute is cheaper, or is again.")


def test_the_sources_stand_beside(plan: Plan) -> None:
    swap, recompute = swap_sheets.sources(crossed())
    assert swap.startswith("Swap: datasheet, because step times are datasheet; 80 transfers for a ")
    assert "2.30 us for each transfer and 25.0 GB/s; expected within 0.80-" in swap
    assert recompute.startswith("Recompute: datasheet; expected within 0.80-1.35 of the figure (")
    found = crossed()
    gathered = replace(found, moves=replace(found.moves, method="gathered"))
    assert "blocks gathered by a kernel into one transfer" in swap_sheets.sources(gathered)[0]


def test_the_report_is_whole_at_100_columns() -> None:
    out = StringIO()
    report = swap_report(OPT, A100, crossed())
    for table in report.tables:
        Console(file=out, width=100, force_terminal=False).print(table)
    assert "…" not in out.getvalue()
    assert report.heading[:2] == (
        "Model opt-13b on NVIDIA A100 SXM 40 GB.",
        "Preempting a request of 512 tokens, recomputed beside 32 decodes of 512 tokens.",
    )


def test_a_plan_has_the_figure(plan: Plan) -> None:
    picture = swap_crossover(plan)
    assert picture is not None
    assert plan.crossover is not None
    backlog = plan.chosen.backlog
    assert backlog is not None
    assert plan.crossover.batch.num_decodes == round(backlog.mean_running)
    assert plan.crossover.block_size == 16
    lengths = plan.trace.prompt_tokens + plan.trace.output_tokens
    assert plan.trace.prompt_tokens.min() < plan.crossover.tokens < lengths.max()
    assert "preemptions swapped" not in picture.caption
    assert swap_crossover(with_more(plan, crossover=None)) is None
    assert plan.to_json()["crossover"] == plan.crossover.to_json()


def test_a_run_that_moved_nothing_says_nothing(plan: Plan) -> None:
    nothing = Moved.of(plan.chosen.summary.to_json())
    assert (sharing_rows(nothing), swap_rows(nothing), facts(nothing)) == ([], [], {})
    assert copies_sentence(nothing) == swaps_sentence(nothing) == ""


def test_a_run_that_moved_blocks_says_how_many() -> None:
    assert sharing_rows(MOVED) == [
        ("blocks saved, of those without sharing", "8.5 %", "-", "-"),
        ("copied before a write", "12 blocks, 24.0 MiB", "-", "-"),
    ]
    assert facts(MOVED) == {
        "blocks saved, of those without sharing": "8.5 %",
        "copied before a write": "12 blocks, 24.0 MiB",
        "preemptions by swap": "3",
        "swapped out": "2.00 GiB",
        "swapped in": "1.00 GiB",
        "time of copies and swaps": "250 ms",
    }
    assert swap_rows(MOVED)[-1][2] == "2.5 %", "of the makespan"
    assert copies_sentence(MOVED) == (
        "Copied before a write: 12 blocks (24.0 MiB) that others held as well."
    )
    assert swaps_sentence(MOVED) == (
        "Over the trace 3 preemptions swapped 2.00 GiB out and 1.00 GiB back; copies and swaps "
        "took 250 ms."
    )


def test_contiguous_copies_have_no_blocks() -> None:
    moved = Moved(copied_bytes=1 << 20)
    assert copies_sentence(moved) == "1.00 MiB were copied for sequences that begin alike."
    assert sharing_rows(moved) == [("copied before a write", "1.00 MiB", "-", "-")]


@pytest.mark.parametrize("summary", [{}, {"num_swaps": None}])
def test_a_summary_of_an_older_kvsim_has_none_of_it(summary: dict[str, object]) -> None:
    assert Moved.of(summary) == Moved()
