"""A grid: the product of its tables; what is wrong in it is said with file, line and entry."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvsim.sim.slo import SLO
from kvsim.sim.sweep.grid import read_grid
from support.sweeps import GRID, grid_of, write_grid


def test_the_product(tmp_path: Path) -> None:
    text = GRID.replace('name = "chat"', 'name = "chat"\nseed = [0, 1]')
    cells = grid_of(tmp_path, text.replace("[defaults]", '[defaults]\ngpu = "l40s"')).cells
    assert [cell.name for cell in cells] == [
        f"paged-{size}, chat-{seed}, {rate}/s"
        for size in (8, 16)
        for seed in (0, 1)
        for rate in (4, 8)
    ]
    assert {cell.hardware["gpu"] for cell in cells} == {"l40s"}
    assert {cell.hardware["model"] for cell in cells} == {"llama-3.1-8b"}
    assert [cell.flags["block_size"] for cell in cells] == [8] * 4 + [16] * 4
    assert [cell.intake.seed for cell in cells] == [0, 0, 1, 1] * 2
    assert {cell.slo for cell in cells} == {None}


def test_a_files_path_is_from_the_grid_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers may stand in another folder than the command."""
    text = GRID.replace('workload = "sharegpt"\nnum_requests = 20', 'trace = "t/a.jsonl"')
    write_grid(tmp_path, text)
    monkeypatch.chdir(tmp_path)
    cell = read_grid("grid.toml").cells[0]
    assert cell.intake.trace == (str(tmp_path / "t" / "a.jsonl"),)


def test_rates_and_objectives(tmp_path: Path) -> None:
    own = GRID.replace("rates = [4, 8]\n", "").replace("num_requests = 20", "rate = 3.0")
    assert [(cell.rate_per_s, cell.search) for cell in grid_of(tmp_path, own).cells] == [
        (None, False)
    ] * 2
    limits = 'slo_ttft = 2\nslo_tpot = 0.05\nquantile = 0.9\nrates = "slo"'
    cells = grid_of(tmp_path, GRID.replace("rates = [4, 8]", limits)).cells
    assert [(cell.rate_per_s, cell.search) for cell in cells] == [(None, True)] * 2
    assert cells[0].slo == SLO(ttft_s=2, tpot_s=0.05, quantile=0.9)
    assert cells[0].name == "paged-8, chat, at the SLO"
    one = grid_of(tmp_path, GRID.replace("[4, 8]", "2.5")).cells
    assert [cell.rate_per_s for cell in one] == [2.5, 2.5]


WRONG = {
    "no TOML": ("[defaults]", "[defaults", "grid.toml, line 4: "),
    "another schema": ("grid/1", "grid/2", "must be 'kvsim-grid/1': this version of kvsim reads"),
    "an unknown table": ("[[trace]]", "[[traces]]", "line 12: key(='traces') is unknown; near: tr"),
    "an unknown flag": (
        "block_size",
        "block_sise",
        "line 10, deployment 'paged': key(='block_sise') is unknown; near: block_size.",
    ),
    "an unknown option of a trace": (
        "num_requests",
        "num_request",
        "line 15, trace 'chat': key(='num_request') is unknown; near: num_requests, max_requests.",
    ),
    "an unknown default": (
        "step_cost",
        "step_costs",
        "line 5: key(='step_costs') is unknown; near",
    ),
    "in the wrong table": (
        "num_requests = 20",
        "block_size = 8",
        "trace 'chat': key(='block_size') belongs to a [[deployment]].",
    ),
    "in the other wrong table": (
        "block_size = [8, 16]",
        "seed = 1",
        "deployment 'paged': key(='seed') belongs to a [[trace]].",
    ),
    "a value of another kind": ("[8, 16]", '["8"]', "block_size(='8') must be a whole number."),
    "an empty list": ("[8, 16]", "[]", "block_size(=[]) must hold a value."),
    "twice the same": ("[8, 16]", "[8, 8]", "name(='paged-8') must be one deployment's only."),
    "no name": ('name = "chat"\n', "", "name(=None) must be a line of text."),
    "no trace": (GRID[GRID.index("[[trace]]") :], "", "grid.toml holds no [[trace]]."),
    "no rate": ("[4, 8]", "[]", "rates(=[]) must hold a value."),
    "a rate of 0": ("[4, 8]", "[4, 0]", "rates(=0) must be > 0 requests a second."),
    "a word for a rate": ("[4, 8]", '["4"]', "rates(='4') must be a number."),
    "a search for nothing": (
        "[4, 8]",
        '"slo"',
        "rates(='slo') needs slo_ttft, slo_tpot or slo_e2e.",
    ),
    "no limit": ("rates", "quantile = 0.9\nrates", "slo has no limit: give slo_ttft"),
    "an impossible limit": ("rates", "slo_ttft = -1\nrates", "slo_ttft(=-1) must be > 0 s."),
    "two rates": (
        "num_requests = 20",
        "rate = 3.0",
        "trace 'chat': rate(=3) has no place beside rates: leave one out.",
    ),
    "clients and rates": (
        "num_requests = 20",
        "concurrency = 3",
        "trace 'chat': concurrency(=3) has no place beside rates: leave one out.",
    ),
    "a backlog at a rate": (
        "num_requests = 20",
        'arrival_process = "backlog"',
        "arrival_process(='backlog') has no place beside rates: leave one out.",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_grids(tmp_path: Path, name: str) -> None:
    old, new, expected = WRONG[name]
    assert old in GRID
    with pytest.raises(ValueError, match=r"^\S*grid\.toml\b") as told:
        grid_of(tmp_path, GRID.replace(old, new, 1))
    assert expected in str(told.value)
    assert "\n" not in str(told.value)


def test_no_such_file() -> None:
    with pytest.raises(ValueError, match=r"^grid\(='none\.toml'\) cannot be read: No such file"):
        read_grid("none.toml")
