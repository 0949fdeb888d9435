"""Logs a card's clocks, temperature and power five times a second, in a thread.

By NVML's Python module where it is installed, else by ``nvidia-smi``; where neither is there, the
log says so. A card that is hot or short of power runs slower, and a profile should show it.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from shutil import which
from typing import Any

from .card import Clocks

PERIOD_S = 0.2
KEPT_S = 5.0
"""Rows that say the same as the last are kept this far apart."""
SAME = (0.0, 30.0, 30.0, 1.0, 50.0)
"""Steps below which a column has not changed: time, MHz, MHz, degrees, W."""
QUERY = ("clocks.sm", "clocks.mem", "temperature.gpu", "power.draw")

Row = tuple[float, ...]
Read = Callable[[], tuple[float, float, float, float]]


class ClockLog:
    """Logs from its making until ``close``."""

    def __init__(self, uuid: str | None = None) -> None:
        self._begin_s = time.monotonic()
        self._rows: list[Row] = []
        self._stop = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self.source, target = self._reader(uuid)
        self._thread = threading.Thread(target=target, daemon=True) if target else None
        if self._thread is not None:
            self._thread.start()

    def rows(self) -> Clocks:
        """What was logged so far, thinned."""
        return Clocks(rows=tuple(thinned(self._rows)), source=self.source)

    def close(self) -> None:
        """Stop."""
        self._stop.set()
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
        if self._thread is not None:
            self._thread.join(timeout=2.0)
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()

    def _reader(self, uuid: str | None) -> tuple[str, Callable[[], None] | None]:
        read = nvml_reader(uuid)
        if read is not None:
            return "pynvml", lambda: self._poll(read)
        if which("nvidia-smi"):
            return "nvidia-smi", lambda: self._follow(uuid)
        return "not logged: neither pynvml nor nvidia-smi is there", None

    def _add(self, values: tuple[float, ...]) -> None:
        self._rows.append((round(time.monotonic() - self._begin_s, 2), *values))

    def _poll(self, read: Read) -> None:
        while not self._stop.wait(PERIOD_S):
            with suppress(Exception):  # of the driver: a reading less
                self._add(read())

    def _follow(self, uuid: str | None) -> None:
        for values in smi_rows(self._start_smi(uuid)):
            self._add(values)

    def _start_smi(self, uuid: str | None) -> subprocess.Popen[str]:
        command = ["nvidia-smi", f"--query-gpu={','.join(QUERY)}", "-lms", "200"]
        command += ["--format=csv,noheader,nounits", *(["-i", uuid] if uuid else [])]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        return self._process


def smi_rows(process: subprocess.Popen[str]) -> Iterator[tuple[float, ...]]:
    """The numbers of each line; lines with anything else (``[N/A]``) are passed over."""
    for line in process.stdout or ():
        try:
            yield tuple(float(cell) for cell in line.split(","))
        except ValueError:
            continue


def nvml_reader(uuid: str | None) -> Read | None:
    """Reads one row by NVML; None where it is not installed or does not answer."""
    try:
        nvml = import_module("pynvml")
        nvml.nvmlInit()
        handle = _handle(nvml, uuid)
        nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)
    except Exception:  # no module, no driver library, no permission: there is another way
        return None

    def read() -> tuple[float, float, float, float]:
        return (
            float(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)),
            float(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM)),
            float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
            round(nvml.nvmlDeviceGetPowerUsage(handle) / 1e3, 1),
        )

    return read


def nvml_facts(uuid: str | None) -> dict[str, Any]:
    """Driver, power limit, largest clocks and PCIe, as far as NVML tells them."""
    try:
        nvml = import_module("pynvml")
        nvml.nvmlInit()
        handle = _handle(nvml, uuid)
    except Exception:  # as above; what is not known is left out
        return {}
    ask: dict[str, Callable[[], Any]] = {
        "driver": nvml.nvmlSystemGetDriverVersion,
        "power_limit_w": lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1e3,
        "sm_max_mhz": lambda: nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM),
        "memory_max_mhz": lambda: nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_MEM),
        "pcie_generation": lambda: nvml.nvmlDeviceGetMaxPcieLinkGeneration(handle),
        "pcie_width": lambda: nvml.nvmlDeviceGetMaxPcieLinkWidth(handle),
    }
    return {name: value for name, get in ask.items() if (value := _ask(get)) is not None}


def thinned(rows: list[Row]) -> list[Row]:
    """Rows that differ from the last one kept, and one in five seconds."""
    kept: list[Row] = []
    for row in rows:
        if not kept or row[0] - kept[-1][0] >= KEPT_S or _differs(row, kept[-1]):
            kept.append(row)
    return kept


def _differs(row: Row, last: Row) -> bool:
    pairs = zip(row[1:], last[1:], SAME[1:], strict=True)
    return any(abs(value - before) > same for value, before, same in pairs)


def _handle(nvml: Any, uuid: str | None) -> Any:
    """By its UUID, else the first card."""
    if uuid is not None and (found := _ask(lambda: nvml.nvmlDeviceGetHandleByUUID(uuid))):
        return found
    return nvml.nvmlDeviceGetHandleByIndex(0)


def _ask(get: Callable[[], Any]) -> Any:
    try:
        value = get()
    except Exception:  # virtual machines hide some of them
        return None
    return value.decode() if isinstance(value, bytes) else value
