"""Start-ups of real servers (``tests/calibration/startups.json``) beside what is predicted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from kvsim.calibration.engines import engine_of_release
from kvsim.calibration.gpus import GIB, load_gpu
from kvsim.calibration.huggingface import spec_from_config
from kvsim.calibration.memory import MemoryBudget, plan_memory
from kvsim.calibration.model_spec import ModelSpec
from kvsim.calibration.models import CATALOGUE_FILE

FILE = Path(__file__).resolve().parents[1] / "calibration" / "startups.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Startup:
    """One row: what the log says and what is predicted for its flags."""

    row: dict[str, Any]
    budget: MemoryBudget

    @property
    def use(self) -> str:
        """Settling, held out or anchor."""
        return str(self.row["use"])

    @property
    def holds_segment(self) -> bool:
        """Whether memory that was freed stayed reserved in that start."""
        return bool(self.row.get("held_segment"))

    @property
    def logged_gib(self) -> float:
        """The KV pool of the log."""
        return float(self.row["logged"]["kv_gib"])

    @property
    def error(self) -> float:
        """Predicted over logged KV pool, less one."""
        return self.budget.kv_cache_bytes / GIB / self.logged_gib - 1

    @property
    def share(self) -> float:
        """The same difference as a share of the requested memory."""
        return (self.budget.kv_cache_bytes / GIB - self.logged_gib) * GIB / self._requested

    @property
    def _requested(self) -> int:
        return self.budget.requested_bytes

    def line(self) -> str:
        """Lines of the budget in GiB, predicted/logged, and the error."""
        lines = {line.name: line.bytes / GIB for line in self.budget.lines}
        logged = self.row["logged"]
        pairs = {
            "weights": (lines["weights"], logged.get("weights_gib")),
            "peak": (lines["activation_peak"], logged.get("peak_gib")),
            "runtime": (lines["runtime"] + lines["nccl"], logged.get("non_torch_gib")),
            "graphs": (lines["cuda_graphs"], logged.get("graph_estimate_gib")),
            "KV": (lines["kv_cache"], logged["kv_gib"]),
        }
        cells = (
            f"{name} {found:.2f}/{'-' if said is None else format(said, '.2f')}"
            for name, (found, said) in pairs.items()
        )
        mark = " segment held" if self.holds_segment else ""
        return f"{self.use:8} {self.row['id']:40} {'  '.join(cells)}  {self.error:+.2%}{mark}"


@cache
def startups() -> tuple[Startup, ...]:
    """Every row, planned with its own flags."""
    return tuple(_startups())


def _startups() -> Iterator[Startup]:
    known = json.loads(FILE.read_text(encoding="utf-8"))
    for row in known["rows"]:
        gpu = load_gpu(row["gpu"])
        if "total_gib" in row:
            gpu = replace(gpu, total_memory_bytes=round(row["total_gib"] * GIB))
        budget = plan_memory(
            model=_model(row, known["models"]),
            gpu=gpu,
            engine=engine_of_release(row["release"]).name,
            **row["flags"],
        )
        yield Startup(row=row, budget=budget)


@cache
def _catalogue() -> dict[str, Any]:
    entries: dict[str, Any] = json.loads(CATALOGUE_FILE.read_text(encoding="utf-8"))
    return entries


def _model(row: dict[str, Any], models: dict[str, Any]) -> ModelSpec:
    """A model of the file or of the catalogue, quantised as the row says."""
    name, own = row["model"], models.get(row["model"], {})
    entry = _catalogue().get(own.get("base", name), {})
    config = {**(own.get("config") or entry["config"])}
    for field in ("vision_config", "quantization_config"):
        found = {**own, **row}.get(field)
        if found is not None:
            config[field] = found
    spec = spec_from_config(config, name=name, source="startups.json", where=name)
    return replace(
        spec,
        multimodal=entry.get("multimodal", spec.multimodal),
        tower_parameters=entry.get("tower_parameters", spec.tower_parameters),
    )
