"""Clocks: by NVML, by a program, by neither; rows that say nothing new are left out."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kvsim.calibration.measure import clocks
from kvsim.calibration.measure.clocks import ClockLog, nvml_facts, thinned


class Nvml(SimpleNamespace):
    """As much of pynvml as is used; a card of one watt more at each reading."""

    def __init__(self) -> None:
        super().__init__(NVML_CLOCK_SM="sm", NVML_CLOCK_MEM="mem", NVML_TEMPERATURE_GPU=0, w=300)

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        raise RuntimeError("hidden")

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return "card"

    def nvmlDeviceGetClockInfo(self, card: str, which: str) -> int:
        return {"sm": 1980, "mem": 3201}[which]

    def nvmlDeviceGetTemperature(self, card: str, which: int) -> int:
        return 41

    def nvmlDeviceGetPowerUsage(self, card: str) -> int:
        self.w += 100
        return 1000 * int(self.w)

    def nvmlSystemGetDriverVersion(self) -> bytes:
        return b"580.1"

    def nvmlDeviceGetEnforcedPowerLimit(self, card: str) -> int:
        return 700_000

    def nvmlDeviceGetMaxClockInfo(self, card: str, which: str) -> int:
        return self.nvmlDeviceGetClockInfo(card, which)

    def nvmlDeviceGetMaxPcieLinkGeneration(self, card: str) -> int:
        raise RuntimeError("not on a virtual machine")

    def nvmlDeviceGetMaxPcieLinkWidth(self, card: str) -> int:
        return 16


def wait_for_rows(log: ClockLog) -> Any:
    for _ in range(100):
        if log.rows().rows:
            break
        time.sleep(0.02)
    log.close()
    return log.rows()


def test_nvml_is_read_in_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Nvml())
    monkeypatch.setattr(clocks, "PERIOD_S", 0.01)
    found = wait_for_rows(ClockLog("GPU-1"))
    assert found.source == "pynvml"
    assert found.rows[0][1:4] == (1980.0, 3201.0, 41.0)
    assert found.rows[0][4] == 400.0
    assert found.columns == ("t_s", "sm_mhz", "memory_mhz", "temperature_c", "power_w")


def test_nvml_says_what_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Nvml())
    assert nvml_facts(None) == {
        "driver": "580.1",
        "power_limit_w": 700.0,
        "sm_max_mhz": 1980,
        "memory_max_mhz": 3201,
        "pcie_width": 16,
    }


def test_without_nvml_the_program_is_followed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\necho '1980, 3201, [N/A], 1'\necho '345, 2619, 30, 75.5'\nexec sleep 9\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = wait_for_rows(ClockLog("GPU-1"))
    assert found.source == "nvidia-smi"
    assert [row[1:] for row in found.rows] == [(345.0, 2619.0, 30.0, 75.5)]


def test_without_either_the_log_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setenv("PATH", "")
    log = ClockLog()
    log.close()
    assert log.rows().rows == ()
    assert log.rows().source == "not logged: neither pynvml nor nvidia-smi is there"
    assert nvml_facts(None) == {}


def test_rows_that_say_the_same_are_five_seconds_apart() -> None:
    same = [(t / 5, 1980.0, 3201.0, 40.0, 300.0) for t in range(51)]
    assert [row[0] for row in thinned(same)] == [0.0, 5.0, 10.0]
    slower = [*same[:10], (2.0, 1900.0, 3201.0, 40.0, 300.0), *same[11:20]]
    assert [row[0] for row in thinned(slower)] == [0.0, 2.0, 2.2]
