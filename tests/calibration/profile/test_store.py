"""Profiles on disk: equal bytes, nine digits, whole or not at all; what is damaged is named."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import pytest

from kvsim.calibration.profile.store import (
    nine_digits,
    read_profile,
    read_samples,
    samples_path,
    write_profile,
)
from kvsim.calibration.profile.values import (
    AttentionKey,
    DecodeFit,
    GemmTable,
    Hardware,
    LineFit,
    Profile,
    Residual,
    Sample,
)

KEY = AttentionKey(dtype="bf16", kv_dtype="bf16", heads=32, kv_heads=8, head_dim=128, block_size=16)
PROFILE = Profile(
    id="invented.1",
    provenance="synthetic",
    hardware=Hardware(
        gpu="invented",
        name="Invented 132",
        compute_capability="9.0",
        num_sms=132,
        l2_bytes=1 << 20,
        total_memory_bytes=1 << 30,
        more={"power_limit_w": 700.0},
    ),
    software={"kernel_hash": "sha256:0"},
    run={"seconds": 1.5, "clocks_log": [[0.0, 1980]]},
    model="llama-3.1-8b",
    ceilings={"copy_bytes_per_s": {"value": 4.0e12, "n": 20, "iqr": 1e9}},
    decode=(
        DecodeFit(
            key=KEY,
            t0_s=1 / 3 * 1e-5,
            read_bytes_per_s=4e12,
            program_bytes_per_s=1e10,
            p=2.5,
            item_s=1e-9,
            slots=528,
            tile_tokens=64,
            min_chunk_tokens=64,
            target_items=132,
            uncertainty={"t0_s": 0.01},
            seen={"batch": (1.0, 256.0)},
        ),
    ),
    gemm_tables=(GemmTable(n=8, k=4, dtype="bf16", m=(1, 2), t_s=(1e-6, 2e-6)),),
    lines=(LineFit(name="host prepare", t0_s=1e-5, unit_s=1e-6, bytes_per_s=inf),),
    residuals=(
        Residual(
            family="decode", split="fit", num_points=9, median_pct=1.0, p95_pct=2.0, worst_pct=3.0
        ),
    ),
    missing=("all_reduce: one GPU",),
)
SAMPLES = (
    Sample(family="host", x={"what": "prepare", "requests": 1}, t=(1 / 3, 2 / 3)),
    Sample(family="memory", x={"what": "total"}, t=(1e9,), unit="bytes", flags=("noisy",)),
)


@pytest.fixture(name="path")
def path_fixture(tmp_path: Path) -> Path:
    path = tmp_path / "invented.json"
    write_profile(PROFILE, SAMPLES, path)
    return path


def changed(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The file with its JSON changed."""
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))
    return path


def test_what_is_written_is_read(path: Path) -> None:
    found = read_profile(path)
    assert found.decode[0].t0_s == 3.33333333e-06
    assert found.decode[0].seen == {"batch": (1.0, 256.0)}
    assert found.lines[0].bytes_per_s == inf
    assert json.loads(path.read_text())["lines"][0]["bytes_per_s"] is None
    assert found.gemm_tables == PROFILE.gemm_tables
    assert found.residuals == PROFILE.residuals
    assert found.hardware == PROFILE.hardware
    samples = read_samples(path)
    assert samples[0].t == (0.333333333, 0.666666667)
    assert samples[1] == SAMPLES[1]


def test_equal_input_gives_equal_bytes(path: Path, tmp_path: Path) -> None:
    """Also from what was read, and whatever the order of a sample's keys is."""
    again = tmp_path / "again.json"
    turned = Sample(family="host", x={"requests": 1, "what": "prepare"}, t=SAMPLES[0].t)
    written = write_profile(read_profile(path), (turned, SAMPLES[1]), again)
    assert written == (again, samples_path(again))
    assert again.read_bytes() == path.read_bytes()
    packed = samples_path(again).read_bytes()
    assert packed == samples_path(path).read_bytes()
    assert packed[4:8] == bytes(4)  # gzip's time stamp
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "again.json",
        "again.samples.jsonl.gz",
        "invented.json",
        "invented.samples.jsonl.gz",
    ]


def test_a_profile_may_come_without_samples(tmp_path: Path) -> None:
    path = tmp_path / "bare.json"
    assert write_profile(PROFILE, (), path) == (path,)
    assert read_profile(path).samples_sha256 == ""
    assert read_samples(path) == ()


def test_names_may_hold_dots(tmp_path: Path) -> None:
    path = tmp_path / "h200.2026-11-22.json"
    write_profile(PROFILE, SAMPLES, path)
    assert samples_path(path).name == "h200.2026-11-22.samples.jsonl.gz"
    assert len(read_samples(path)) == 2


def test_nothing_is_left_of_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"profile\(='.*x.txt'\) must be named .json"):
        write_profile(PROFILE, SAMPLES, tmp_path / "x.txt")
    with pytest.raises(ValueError, match=r"cannot be written: No such file or directory"):
        write_profile(PROFILE, SAMPLES, tmp_path / "absent" / "x.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(ValueError, match=r"cannot be written: Is a directory"):
        write_profile(PROFILE, (), tmp_path / "folder.json")
    assert [p.name for p in tmp_path.iterdir()] == ["folder.json"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda raw: raw.pop("model"), r"is damaged: model is missing"),
        (lambda raw: raw.update(colour=1), r"is damaged: colour is no field that this kvsim knows"),
        (
            lambda raw: raw["decode"][0].pop("t0_s"),
            r"is damaged: decode\[0\].t0_s is missing",
        ),
        (
            lambda raw: raw["decode"][0].update(t0_s=-1.0),
            r"is damaged: decode\[0\].t0_s\(=-1.0\) must be > 0",
        ),
        (
            lambda raw: raw["decode"][0].update(t0_s=float("nan")),
            r"is damaged: decode\[0\].t0_s\(=nan\) must be > 0",
        ),
        (
            lambda raw: raw["decode"][0].update(merge_s=-1e-9),
            r"is damaged: decode\[0\].merge_s\(=-1e-09\) must be >= 0",
        ),
        (
            lambda raw: raw["decode"][0].update(slots=1.5),
            r"is damaged: decode\[0\].slots\(=1.5\) must be a whole number",
        ),
        (
            lambda raw: raw["decode"][0]["key"].update(heads="32"),
            r"is damaged: decode\[0\].key.heads\(='32'\) must be a whole number",
        ),
        (
            lambda raw: raw["gemm_tables"][0].update(t_s=[1e-6, True]),
            r"is damaged: gemm_tables\[0\].t_s\[1\]\(=True\) must be a number",
        ),
        (lambda raw: raw.update(lines={}), r"is damaged: lines must be a list"),
        (lambda raw: raw.update(hardware=3), r"is damaged: hardware must be an object"),
        (lambda raw: raw.update(ceilings=[1]), r"is damaged: ceilings must be an object"),
        (
            lambda raw: raw.update(provenance="guessed"),
            r"is damaged: provenance\(='guessed'\) is none of measured, imported",
        ),
        (
            lambda raw: raw.update(schema="kvsim-profile/2"),
            r"has schema kvsim-profile/2: this kvsim reads kvsim-profile/1; update kvsim",
        ),
        (lambda raw: raw.pop("schema"), r"has schema None"),
    ],
)
def test_damage_is_named(
    path: Path, change: Callable[[dict[str, Any]], object], sentence: str
) -> None:
    changed(path, change)
    with pytest.raises(ValueError, match=r"profile\(=.*invented.json\) " + sentence):
        read_profile(path)


def test_zero_where_a_form_has_no_such_term(path: Path) -> None:
    changed(path, lambda raw: raw["lines"][0].update(unit_s=0, bytes_per_token=0))
    assert read_profile(path).lines[0].unit_s == 0


def test_files_that_are_no_profile(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"absent\.json cannot be read: no such file"):
        read_profile(tmp_path / "absent.json")
    (tmp_path / "text.json").write_text("{")
    with pytest.raises(ValueError, match=r"text\.json is not valid JSON"):
        read_profile(tmp_path / "text.json")


def test_samples_of_another_profile(path: Path) -> None:
    file = samples_path(path)
    lines = gzip.decompress(file.read_bytes())
    file.write_bytes(gzip.compress(lines.replace(b"0.333333333", b"0.333333334")))
    with pytest.raises(
        ValueError, match=r"samples_sha256 is not that of invented\.samples\.jsonl\.gz"
    ):
        read_samples(path)
    file.write_bytes(gzip.compress(lines)[:-20])
    with pytest.raises(ValueError, match=r"invented\.samples\.jsonl\.gz: it is no whole gzip file"):
        read_samples(path)
    file.unlink()
    with pytest.raises(ValueError, match=r"samples\.jsonl\.gz: No such file or directory"):
        read_samples(path)


def test_samples_are_checked_too(path: Path) -> None:
    bad = (Sample(family="host", x={}, t=("slow",)),)  # type: ignore[arg-type]
    write_profile(PROFILE, bad, path)
    with pytest.raises(ValueError, match=r"line 1.t\[0\]\(='slow'\) must be a number"):
        read_samples(path)
    with pytest.raises(ValueError, match="cannot hold a number that is none"):
        write_profile(PROFILE, (Sample(family="host", x={}, t=(float("nan"),)),), path)


def test_nine_digits() -> None:
    assert nine_digits(1 / 3) == 0.333333333
    assert nine_digits(nine_digits(2e12 / 7)) == nine_digits(2e12 / 7)
