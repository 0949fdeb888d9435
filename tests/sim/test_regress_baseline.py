"""Baselines: small sorted text, whole or not there, compared only with their own case."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvsim.sim.metric_directions import METRICS
from kvsim.sim.regress.baseline import (
    SCHEMA,
    baseline_path,
    read_baseline,
    stale_baselines,
    write_baseline,
)
from kvsim.sim.regress.metrics import flat_metrics
from support.suites import baseline, edit


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "chat.json"
    metrics = {"tpot_s.p95": None, "ttft_s.p95": 0.5, "num_steps": 7}
    write_baseline(path, baseline(metrics=metrics))
    assert read_baseline(path) == baseline(metrics=metrics)


def test_one_value_in_a_line_and_keys_sorted(tmp_path: Path) -> None:
    values = baseline(metrics={"b": 1.5, "a": None, "c": 2}, server={"z": True, "k": "v"})
    lines = values.to_bytes().decode().splitlines()
    assert lines == [
        *("{", f'  "schema": "{SCHEMA}",', '  "case": "chat",'),
        *('  "server": {', '    "k": "v",', '    "z": true', "  },"),
        '  "digests": {',
        *(
            f'    "{name}": "{name[0] * 64}"{mark}'
            for name, mark in (("budget", ","), ("cost", ","), ("trace", ""))
        ),
        "  },",
        *('  "metrics": {', '    "a": null,', '    "b": 1.5,', '    "c": 2', "  }", "}"),
    ]


def test_metrics_are_rounded_the_same_everywhere() -> None:
    found = flat_metrics(
        {
            "num_steps": 12345678901,
            "makespan_s": 1234.56789123456,
            "mean_running": 8.301227108080472,
            "pool_share": {"free": 2.2e-17, "external": -1e-17, "reserved": 0.00123456789123},
            "ttft_s": {"mean": None},
        }
    )
    assert list(found) == list(METRICS)
    assert found["num_steps"] == 12345678901
    assert found["makespan_s"] == 1234.56789
    assert found["mean_running"] == 8.30122711
    assert found["pool_share.reserved"] == 0.001234568
    assert json.dumps([found["pool_share.free"], found["pool_share.external"]]) == "[0.0, 0.0]"
    assert found["ttft_s.mean"] is None


def test_paths_are_safe_and_apart() -> None:
    folder = Path("b")
    assert baseline_path(folder, "chat-16_a+b=c.d") == folder / "chat-16_a+b=c.d.json"
    names = [
        "../etc/passwd",
        "..",
        "a/b",
        "a b",
        "a-b",
        "a\\b",
        "ä",
        "<script>",
        "x" * 300,
        "y" * 300,
    ]
    paths = [baseline_path(folder, name) for name in names]
    assert len(set(paths)) == len(names)
    for path in paths:
        assert path.parent == folder
        assert len(path.name) <= 120
        assert path.name.isascii()
        assert not path.name.startswith((".", "-"))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"case": "other"}, "it is the baseline of case 'other'"),
        (
            {"digests": {"trace": "u" * 64}},
            "its trace was another one (digest uuuuuuuuuuuu, now tttttttttttt)",
        ),
        ({"digests": {}}, "its trace was another one (digest None, now tttttttttttt)"),
        (
            {"server": {"gpu": "a100", "block_size": 32}},
            "its block_size was 32 and is 16 now",
        ),
        ({"server": {"gpu": "a100"}}, "its block_size was the default and is 16 now"),
        (
            {"server": {"gpu": "a100", "block_size": 16, "scheduler": "orca"}},
            'its scheduler was "orca" and is the default now',
        ),
    ],
)
def test_another_case_is_not_compared(changes: dict[str, object], why: str) -> None:
    assert baseline(**changes).why_not_comparable(baseline()) == why


def test_other_step_times_and_memory_are_compared() -> None:
    digests = {"trace": "t" * 64, "cost": "x", "budget": "y"}
    assert baseline(digests=digests).why_not_comparable(baseline()) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<<<<<<< HEAD\n", "is not valid JSON"),
        ("[]", "is no baseline of kvsim"),
        ('{"schema": 3}', "is no baseline of kvsim"),
        ('{"schema": "kvsim-plan/1"}', "is no baseline of kvsim"),
        ('{"schema": "kvsim-baseline/2"}', "has schema 'kvsim-baseline/2', this version of kvsim"),
        (f'{{"schema": "{SCHEMA}"}}', "is damaged: it needs case, server, digests and metrics"),
        (
            f'{{"schema": "{SCHEMA}", "case": "c", "server": 1, "digests": {{}}, "metrics": {{}}}}',
            "is damaged: it needs",
        ),
        (
            f'{{"schema": "{SCHEMA}", "case": "c", "server": {{}}, "digests": {{}}, '
            '"metrics": {"num_steps": "7"}}',
            r"is damaged: num_steps\(='7'\) is no number",
        ),
        (
            f'{{"schema": "{SCHEMA}", "case": "c", "server": {{}}, "digests": {{}}, '
            '"metrics": {"num_steps": true}}',
            r"is damaged: num_steps\(=True\) is no number",
        ),
    ],
)
def test_damaged_baselines_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_baseline(path)
    assert str(caught.value).startswith(f"baseline(={str(path)!r})")
    assert "\n" not in str(caught.value)


def test_stale_baselines_are_ours_and_of_no_case(tmp_path: Path) -> None:
    for case in ("chat", "gone", "older"):
        write_baseline(tmp_path / f"{case}.json", baseline(case))
    edit(tmp_path / "older.json", schema="kvsim-baseline/0")
    (tmp_path / "package.json").write_text("{}")
    (tmp_path / "README.md").write_text("")
    found = stale_baselines(tmp_path, ["chat"])
    assert [path.name for path in found] == ["gone.json", "older.json"]
    assert stale_baselines(tmp_path / "no", ["chat"]) == []
