"""The tables and the figure of ``kvsim memory`` for several servers and for N requests."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from matplotlib.colors import to_hex
from rich.console import Console

from kvsim.calibration.combinations import Combination, load_combinations
from kvsim.calibration.demand import read_demands
from kvsim.reports.capacity_figure import COLOURS, MARKS, capacity_picture
from kvsim.reports.capacity_sheets import (
    MOST_LINES,
    comparison_sheet,
    demand_facts,
    demand_sheet,
    drawn_of,
    held,
    labels,
    requests_sheet,
)
from kvsim.reports.memory_report import memory_json, memory_report, write_capacity_png
from kvsim.reports.style import fresh

WIDTH = 120


def combined(
    models: str, gpus: str = "a100", sizes: tuple[int, ...] = (1,), asked: str = "", **flags: Any
) -> tuple[Combination, ...]:
    flags = {"kv_cache_dtype": ("auto",), "tensor_parallel_size": sizes, **flags}
    hardware = {"model": models.split(","), "gpu": gpus.split(","), "price": None}
    return load_combinations(hardware, flags, read_demands([asked] if asked else []))


@pytest.fixture(scope="module")
def found() -> tuple[Combination, ...]:
    """Full, windowed and too large, on two cards."""
    return combined("llama-3.1-8b,gpt-oss-20b,llama-3.1-70b", "a100,l4", asked="64x8192,300x1000")


def printed(found: tuple[Combination, ...]) -> str:
    out = StringIO()
    for table in memory_report(found, [1000, 64_000]).tables:
        Console(file=out, width=WIDTH, force_terminal=False).print(table)
    text = out.getvalue()
    assert max(len(line) for line in text.splitlines()) <= WIDTH
    assert "…" not in text
    return text


def test_labels_name_what_differs(found: tuple[Combination, ...]) -> None:
    assert labels(found)[:2] == ["llama-3.1-8b, a100", "llama-3.1-8b, l4"]
    assert labels(combined("llama-3.1-8b", sizes=(1, 2))) == ["TP 1", "TP 2"]
    assert labels(found[:1]) == ["llama-3.1-8b"]


def test_a_row_for_each_and_a_reason_where_it_does_not_fit(found: tuple[Combination, ...]) -> None:
    rows = comparison_sheet(found).rows
    assert len(rows) == 6
    assert rows[0][4:] == ("14.96", "56.30", "461,232", "131,072", "131,072", "model")
    assert rows[1][-1] == "KV pool"
    assert rows[4][4:] == ("131.42", "-", "-", "-", "-", "weights do not fit")


def test_requests_of_lengths(found: tuple[Combination, ...]) -> None:
    rows = requests_sheet(found, [1000, 64_000, 200_000]).rows
    assert [row[0] for row in rows] == ["llama-3.1-8b"] * 2 + ["gpt-oss-20b"] * 2
    assert rows[0][4:] == ("457", "7", "-", "256"), "131,072 is the longest that is allowed"
    assert held(found[3], 1000) == "123 (217)", "as the engine counts, and in turn"
    assert held(found[4], 1000) == "-"


def test_demand_rows(found: tuple[Combination, ...]) -> None:
    rows = demand_sheet(found, 0).rows
    assert rows[0][4:] == ("64.00", "56.30", "none", "56", "no: KV pool", "2", "2")
    # 160 GiB of KV and 131 of weights: a quarter is the whole 72.9 GiB that is asked for
    assert rows[4][4:] == (*["-"] * 4, "no: weights do not fit", "-", "8")
    assert demand_sheet(found, 1).rows[0][-3] == "no: max_num_seqs"


def test_in_doubt() -> None:
    found = combined("llama-3.1-8b", sizes=(1, 2), asked="56x8192,57x8192")
    verdicts = [[row[-3] for row in demand_sheet(found, index).rows] for index in (0, 1)]
    assert verdicts == [["yes, in doubt", "yes"], ["no: KV pool, in doubt", "yes"]]


def test_facts_of_one() -> None:
    (one,) = combined("llama-3.1-8b", asked="64x8192")
    answer = one.answers[0]
    assert answer.need is not None
    facts = demand_facts(one, answer.need, answer)
    assert facts["KV of one request"] == "1.00 GiB, 512 blocks"
    assert facts["KV of all"] == "64.00 GiB; the pool has 56.30 GiB"
    assert facts["servers like this"] == "2 hold all (2 GPUs)"
    assert "h200 (4.00 USD/h)" in facts["fits on 1 GPU"]
    assert "a100 (2.60 USD/h)" in facts["fits on 2 GPUs"]


def test_tables_are_whole_at_120_columns(found: tuple[Combination, ...]) -> None:
    text = printed(found)
    assert "64 requests of 8,192 tokens at once" in text
    assert "weights do not fit" in text
    longest = combined("qwen3-coder-480b-a35b,llama-3.1-8b", "rtx-pro-6000", (1, 8), "1024x131072")
    assert "qwen3-coder-480b-a35b" in printed(longest)


def test_notes_say_what_is_refused_and_how_windows_count(found: tuple[Combination, ...]) -> None:
    notes = memory_report(found, [1000]).notes
    assert any(note.startswith("llama-3.1-70b, l4: Model weights of") for note in notes)
    assert any("admitted in turn" in note for note in notes)
    assert any("refuses to start without a --max-model-len" in note for note in notes)
    plain = memory_report(combined("llama-3.1-8b", "a100,h200"), [1000]).notes
    assert plain == ()


def test_many_refusals_are_cut(found: tuple[Combination, ...]) -> None:
    many = combined("llama-3.1-405b,llama-3.1-8b", "a100,h100-sxm,h200,a30,a40", (1, 2))
    notes = memory_report(many, [1000]).notes
    assert any("more do not fit; --json says why" in note for note in notes)


def test_json_is_one_object_or_a_list(found: tuple[Combination, ...]) -> None:
    one = memory_json(combined("llama-3.1-8b", asked="64x8192"), [1000])
    assert one["requests_of"] == one["steady_requests_of"] == {"1000": 457}
    assert one["for"][0]["kv_cache_bytes"] == 64 << 30
    assert one["for"][0]["smallest_tensor_parallel_size"] == 2
    several = memory_json(found, [1000])
    assert [values["refusal"] is None for values in several] == [True] * 4 + [False] * 2
    assert "budget" not in several[4]


def test_the_figure_draws_each_that_fits(found: tuple[Combination, ...]) -> None:
    with fresh():
        picture = capacity_picture(found)
    (axes,) = picture.figure.axes
    curves = [line for line in axes.lines if len(line.get_xdata()) > 100]
    assert [to_hex(line.get_color()) for line in curves] == [to_hex(c) for c in COLOURS[:4]]
    tokens, held = curves[0].get_data()
    assert (tokens[-1], held[-1]) == (131_072, 3)
    assert list(held) == sorted(held, reverse=True)
    texts = [text.get_text() for text in axes.texts]
    assert {"max_num_seqs 256", "the model's length 131,072", "64x8192", "300x1000"} <= set(texts)
    entries = [text.get_text() for text in picture.figure.legends[0].get_texts()]
    assert entries == [*labels(found)[:4], "asked for", "open: the pool ends it"]
    assert "gpt-oss-20b, l4 up to" in picture.alt


def test_more_lines_than_colours_are_left_out_and_said() -> None:
    many = combined("llama-3.1-8b", "a100,a40,l4,l40s,h200,h20,b200,a30,a100-40gb,b300")
    with fresh():
        picture = capacity_picture(many)
    assert "(8 of 10)" in picture.title
    assert MOST_LINES == len(COLOURS) == len(set(COLOURS)) == len(set(MARKS))


def test_one_with_windows_also_shows_the_engines_count() -> None:
    with fresh():
        picture = capacity_picture(combined("gpt-oss-20b"))
    entries = [text.get_text() for text in picture.figure.legends[0].get_texts()]
    assert entries == ["gpt-oss-20b", "admitted together"]


def test_the_same_input_gives_the_same_bytes(
    found: tuple[Combination, ...], tmp_path: Path
) -> None:
    paths = [write_capacity_png(found, str(tmp_path / name)) for name in ("a.png", "b.png")]
    first, second = (path.read_bytes() for path in paths)
    assert first == second
    assert first.startswith(b"\x89PNG")


@pytest.mark.parametrize("length", [1, 20, 300])
def test_short_lengths(length: int, tmp_path: Path) -> None:
    one = combined("llama-3.1-8b", max_model_len=length, block_size=1)
    assert write_capacity_png(one, str(tmp_path / "short.png")).exists()


@pytest.mark.parametrize("name", ["", "figure.svg", "folder/"])
def test_only_png(name: str, found: tuple[Combination, ...]) -> None:
    with pytest.raises(ValueError, match=r"out\(=.*\) must name a .png file"):
        write_capacity_png(found, name)


def test_what_is_drawn_has_every_model_and_card() -> None:
    models, cards = "llama-3.1-8b,qwen3-8b,mistral-7b,phi-4", "a100,h200,h100-sxm,l40s"
    many = combined(models, cards)
    drawn = drawn_of(many)
    assert len(drawn) == MOST_LINES
    assert {one.model.name for one in drawn} == set(models.split(","))
    assert {one.gpu.name for one in drawn} == set(cards.split(","))
    assert [one for one in many if one in drawn] == drawn, "in their order"
    assert "8 of 16 servers are drawn." in memory_report(many, [1000], drawn=True).notes
    assert "drawn" not in " ".join(memory_report(many, [1000]).notes)
    assert "drawn" not in " ".join(memory_report(many[:8], [1000], drawn=True).notes)


def test_lengths_that_one_server_does_not_allow() -> None:
    short = combined("qwen3-8b")
    assert "requests of 64,000 tokens -" in " ".join(printed(short).split())
    said = "Requests of 64,000 tokens pass the model's own length of 40,960 tokens."
    assert said in memory_report(short, [1000, 64_000]).notes
    capped = memory_report(combined("llama-3.1-8b", max_model_len=2048), [4000, 64_000])
    passed = "Requests of 4,000 and 64,000 tokens pass the max_model_len of 2,048 tokens."
    assert passed in capped.notes


def test_the_keys_of_an_indexer_are_printed() -> None:
    found = combined("deepseek-v3.2", "h200", sizes=(8,))
    assert "70,272 B and 8,052 B of indexer keys" in printed(found)
    budget = memory_json(found, [1000])
    assert budget["index_bytes_per_token"] == 61 * 132
    assert budget["block_bytes"] == budget["block_size"] * (70_272 + 8_052)
    assert "indexer" not in printed(combined("deepseek-v3", "h200", sizes=(8,)))
