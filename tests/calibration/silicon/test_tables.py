"""The one reader of the package's files: what it finds, and what it says where it finds nothing."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from kvsim.calibration.gpus import load_gpu
from kvsim.calibration.silicon import SYSTEMS, TableMissing, tables, why_not

COLUMNS = ("m", "n", "k")


def test_rows_are_filtered_and_in_nanoseconds() -> None:
    where = {"gemm_dtype": "bfloat16", "n": 4096, "k": 4096}
    found = tables.rows("h100_sxm", "gemm", "gemm", ("m",), where)
    assert len(found["m"]) == len(set(found["m"].tolist())) > 50
    one = float(found["ns"][found["m"] == 1][0])
    assert 10e3 < one < 25e3  # 33.5 MB at 3.35 TB/s are 10 us


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_card_has_the_tables_of_a_dense_model(name: str) -> None:
    folder = SYSTEMS[name].folder
    for family, operator in (
        ("gemm", "gemm"),
        ("attention", "generation_attention"),
        ("attention", "context_attention"),
        ("comm", "custom_allreduce"),
    ):
        assert tables.source_of(folder, family, operator).startswith("aiconfigurator-core 0.12")
    assert why_not(load_gpu(name)) == ""


def test_the_newest_release_is_read() -> None:
    assert "vllm 0.24.0 on h100_sxm" in tables.source_of("h100_sxm", "gemm", "gemm")
    assert "vllm 0.14.0 on a100_sxm" in tables.source_of("a100_sxm", "gemm", "gemm")


def test_a_changed_layout_is_refused() -> None:
    table = pa.table({"m": [1], "latency": [0.1]})
    with pytest.raises(ValueError, match=r"gemm_perf.parquet .* has no column k: its layout has"):
        tables.select(table, Path("gemm_perf.parquet"), COLUMNS, {})
    for wrong in (0.0, float("nan"), -1.0):
        table = pa.table({"m": [1], "latency": [wrong]})
        with pytest.raises(ValueError, match="holds a latency that is not > 0"):
            tables.select(table, Path("gemm_perf.parquet"), ("m",), {})


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TableMissing, match="no mla_generation_module table of a100_sxm"):
        tables.rows("a100_sxm", "mla", "mla_generation_module", ("step",))
    assert why_not(load_gpu("l4")) == "there are no measured tables of l4"
    assert why_not(load_gpu("a30")) == "there are no measured tables of a30"
    monkeypatch.setattr("kvsim.calibration.silicon.systems.find_spec", lambda name: None)
    assert "aiconfigurator-core, which ships the measured" in why_not(load_gpu("h100-sxm"))
