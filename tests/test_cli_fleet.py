"""``kvsim fleet`` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.command import run
from support.self_contained import check_self_contained

WORK = ("--workload", "sharegpt", "-n", "80", "--rate", "10")


def test_tables_and_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run("fleet", *WORK, "--pools", "a100:1,h200:2", "--out", str(out))
    assert result.exit_code == 0, result.output
    assert "1 x a100 and 2 x h200 behind round_robin" in result.output
    values = json.loads((out / "fleet.json").read_text())
    assert [one["gpu"] for one in values["replicas"]] == ["a100", "h200", "h200"]
    assert sum(one["num_requests"] for one in values["replicas"]) == 80
    page = (out / "report.html").read_text()
    check_self_contained(page)
    for name in ("fleet-over-time", "fleet-replicas", "fleet-shares", "fleet-latency"):
        assert (out / f"{name}.png").stat().st_size > 5_000
        assert f'id="{name}"' in page


@pytest.mark.slow
def test_the_same_bytes_again(tmp_path: Path) -> None:
    for name in ("one", "again"):
        run("fleet", *WORK, "--pools", "a100:1,h200:2", "--out", str(tmp_path / name))
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_json_of_prefill_and_decode() -> None:
    result = run(
        "fleet", *WORK, "--gpu", "h100-sxm", "--prefill", "1", "--decode", "a100:2", "--json"
    )
    assert result.exit_code == 0, result.output
    values = json.loads(result.output)
    assert [one["role"] for one in values["replicas"]] == ["prefill", "decode", "decode"]
    assert values["sent_bytes"] == values["received_bytes"] > 0
    assert values["num_transfers"] == 80


def test_summary_of_one_is_simulates(tmp_path: Path) -> None:
    run("simulate", *WORK, "--out", str(tmp_path / "one"))
    run("fleet", *WORK, "--router", "least_kv", "--out", str(tmp_path / "fleet"))
    one, fleet = ((tmp_path / name / "summary.json").read_bytes() for name in ("one", "fleet"))
    assert one == fleet


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--router", "robin"), "router(='robin') is unknown; near: round_robin."),
        (("--prefill", "1"), "prefill(='1') needs decode, too."),
        (
            ("--max-replicas", "2", "--replicas", "3", "--target-kv-usage", "0.5"),
            "replicas(=3) must be in min_replicas(=1) to max_replicas(=2).",
        ),
    ],
)
def test_wrong_input_is_one_sentence(options: tuple[str, ...], sentence: str) -> None:
    result = run("fleet", *WORK, *options)
    assert result.exit_code == 2
    assert result.output.strip() == f"Error: {sentence}"
