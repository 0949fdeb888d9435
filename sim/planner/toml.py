"""The recommendation as a suite of one case: the chosen flags, and the traffic of one replica.

``kvsim regress update`` makes a baseline of it, so that what was planned is what is guarded.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from ...traces.intake import Intake
from ..deployment import Deployment
from ..load import FLAG_DEFAULTS
from ..regress.keys import BYTES_PER_GIB, KEYS, UNITS
from ..regress.suite import SCHEMA
from ..serve_command import serve_command
from .decision import Decision
from .option import Option

NAME = "recommended"
FLAGS = (
    "tensor_parallel_size",
    "block_size",
    "gpu_memory_utilization",
    "max_num_seqs",
    "max_num_batched_tokens",
    "max_model_len",
    "kv_cache_dtype",
    "enable_prefix_caching",
)
"""Written as they were resolved, whatever they are; the others where they are not the default."""


def recommendation(decision: Decision, folder: str | Path) -> str:
    """The text of a suite that stands in a folder.

    Args:
        decision: one that is met.
        folder: where the file will be: paths are written as seen from there.

    Raises:
        ValueError: nothing was chosen.
    """
    if decision.chosen is None:
        raise ValueError("decision has chosen nothing: there is no server to write down.")
    options = {**_work(decision.work), **_hardware(decision.chosen), **_flags(decision.chosen)}
    placed = {key: _seen_from(Path(folder), key, value) for key, value in options.items()}
    lines = [
        f"# {decision.chosen.title}, one of {decision.chosen.num_replicas}: {decision.slo}.",
        f"# {serve_command(decision.chosen.server).removeprefix('# ')}",
        f"schema = {_toml(SCHEMA)}",
        "",
        "[[case]]",
        f"name = {_toml(NAME)}",
        *(f"{key} = {_toml(value)}" for key, value in placed.items()),
    ]
    return "\n".join(lines) + "\n"


def _work(work: Mapping[str, Any]) -> dict[str, Any]:
    """What arrives, where it is not the default."""
    default = {field.name: field.default for field in fields(Intake)}
    given = {n: v for n, v in work.items() if v is not None and v != default.get(n)}
    found = {UNITS.get(name, name): value for name, value in given.items()}
    if "trace" in found:
        paths = list(found["trace"])
        found["trace"] = paths[0] if len(paths) == 1 else [paths]
    return found


def _hardware(option: Option) -> dict[str, Any]:
    return {name: value for name, value in option.spec.hardware.items() if value is not None}


def _flags(option: Option) -> dict[str, Any]:
    flags = option.server.deployment
    found = {name: getattr(flags, name) for name in FLAGS}
    own = {f.name: f.default for f in fields(Deployment) if f.default is not MISSING}
    for name, value in option.spec.flags.items():
        if name in found or value is None or value == {**own, **FLAG_DEFAULTS}.get(name, 0.0):
            continue
        if name == "non_kv_memory_bytes":
            found["non_kv_memory"] = value / BYTES_PER_GIB
        elif name in KEYS:
            found[name] = value
    return found


def _seen_from(folder: Path, key: str, value: Any) -> Any:
    """Paths as the suite's reader looks for them: from its folder on."""
    if isinstance(value, list):
        return [_seen_from(folder, key, entry) for entry in value]
    text = str(value)
    if key in ("trace", "tokenizer", "profile") or (
        key in ("gpu", "model") and text.endswith(".json")
    ):
        return _relative(text, folder)
    name, colon, path = text.partition(":")
    if key == "step_cost" and name == "measured" and colon:
        return f"{name}:{_relative(path, folder)}"
    return value


def _relative(path: str, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def _toml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_toml(entry) for entry in value)}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)
