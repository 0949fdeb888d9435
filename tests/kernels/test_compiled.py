"""What the compiler makes of the kernels for GPUs that are not here: read off its own report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

GENERATIONS = (80, 89, 90, 100)
CAPABILITIES = (
    (10 * torch.cuda.get_device_capability()[0] + torch.cuda.get_device_capability()[1],)
    if torch.cuda.is_available()
    else GENERATIONS
)
"""All; on a card its own, which its Triton must serve."""
SHARED_OF_A_PROGRAM = {80: 163 << 10, 89: 99 << 10, 90: 227 << 10, 100: 227 << 10}
MATRIX = {
    80: "matrix",
    89: "matrix",
    90: "warp group matrix",
    100: "tensor memory matrix",
}
"""Instructions of a prefill: 128 rows are enough for those of a whole warp group."""
BYTE_WIDE = ("fp8_e4m3", "fp8_e5m2", "int8")


@cache
def running() -> dict[int, subprocess.Popen[str]]:
    """One compiling process for each generation, all at once."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_DEFAULT_FP_FUSION"] = "1"
    script = str(Path(__file__).with_name("compile_variants.py"))
    return {
        capability: subprocess.Popen(
            [sys.executable, script, str(capability)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for capability in CAPABILITIES
    }


@cache
def compiled(capability: int) -> dict[tuple[str, str], dict[str, Any]]:
    """Every variant's report by kernel and name."""
    process = running()[capability]
    out, errors = process.communicate()
    assert process.returncode == 0, errors[-2000:]
    lines = [json.loads(line) for line in out.splitlines()]
    return {(line["kernel"], line["variant"]): line for line in lines}


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_sixteen_bit_kernels(capability: int) -> None:
    """No register spilled, 16 bytes a copy, matrix instructions, and it fits the card."""
    for key, report in compiled(capability).items():
        if key[0] == "small" or key[1] in BYTE_WIDE:
            continue
        assert not report["refused"], key
        assert report["spills"] == report["stack_bytes"] == 0, key
        assert report["shared_bytes"] <= SHARED_OF_A_PROGRAM[capability], key
        assert report["programs_per_sm"] >= 1, key
        code = report["instructions"]
        assert code["copy 16 bytes"] >= 8, key
        assert code["copy 8 bytes"] == code["load 1 byte shared"] == 0, key
        kinds = ("matrix", "warp group matrix", "tensor memory matrix")
        assert sum(code[kind] for kind in kinds) > 0, key
        if key[0] == "prefill":
            assert code[MATRIX[capability]] > 0, key


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_the_launch_table_knows_what_fits(capability: int) -> None:
    """As many programs on a multiprocessor as the plan reckons with, or a round more.

    Larger blocks take a few registers more, and one program less fits then.
    """
    for key, report in compiled(capability).items():
        if report.get("planned") is None:
            continue
        found, planned = report["programs_per_sm"], report["planned"]
        assert -1 <= found - planned <= 1, (key, found, planned)
        if key in (("decode", "plain"), ("latent", "16 heads")):
            assert found >= planned, key


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_kernels_beside_attention(capability: int) -> None:
    """Nothing spilled; what moves blocks, keys or partial sums reads 16 bytes at a time."""
    for key, report in compiled(capability).items():
        if key[0] != "small" or report["refused"]:
            continue
        assert report["spills"] == report["stack_bytes"] == 0, key
        if not key[1].startswith("plan"):
            assert report["instructions"]["load 16 bytes"] >= 1, key


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_byte_wide_keys(capability: int) -> None:
    """e4m3 from Ada on; e5m2 and int8 everywhere; no value is read from shared memory byte by byte.

    What else they cost is printed (``pytest -s``).
    """
    for key, report in compiled(capability).items():
        if not key[1].endswith(BYTE_WIDE):
            continue
        too_old = key[1].endswith("fp8_e4m3") and capability < 89
        assert bool(report["refused"]) == too_old, key
        if too_old:
            assert "fp8e4nv" in report["refused"], key
            continue
        code = report["instructions"]
        assert code["load 1 byte shared"] == 0, key
        print(
            f"sm_{capability} {key[0]} {key[1]}: {report['registers']} registers, "
            f"{report['spills']} spills, {code['copy 16 bytes']} copies of 16 bytes, "
            f"{report['programs_per_sm']} programs on a multiprocessor"
        )
