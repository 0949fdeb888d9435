"""Models by name or by file: ``load_model("llama-3.1-8b")``, ``load_model("path/config.json")``.

The catalogue holds compact Hugging Face configurations, each with its source, and is read by the
same code as a user's file.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from .model_spec import KVLayers, ModelSpec, WeightGroup
from .names import canonical, unknown_name

__all__ = ["KVLayers", "ModelSpec", "WeightGroup", "known_models", "load_model"]

CATALOGUE_FILE = Path(__file__).parent / "catalogue" / "models.json"
# Endings that do not change a model's shape; tried only when the full name is unknown.
NEUTRAL_ENDINGS = re.compile(r"[-_. ](instruct|chat|hf|it|base|v0\.\d|bf16|fp16|\d{4})$", re.I)
NEUTRAL_STARTS = re.compile(r"^(meta|hf|microsoft|google)[-_. ]", re.I)


def load_model(name_or_path: str) -> ModelSpec:
    """A catalogue name (case and separators forgiven), a Hugging Face id of one, or a path.

    Raises:
        ValueError: unknown name (near matches are listed), or a file that cannot be read.
    """
    from .huggingface import read_config  # only when asked: keeps the import of the package fast

    if name_or_path.endswith(".json"):
        return read_config(Path(name_or_path))
    names = _names()
    for candidate in (name_or_path, *_shortened(name_or_path)):
        if canonical(candidate) in names:
            return _catalogue_model(names[canonical(candidate)])
    if os.path.exists(name_or_path):
        return read_config(Path(name_or_path))
    raise unknown_name(name_or_path, _catalogue(), field="model")


def known_models() -> list[ModelSpec]:
    """Every model of the catalogue, by name."""
    return [_catalogue_model(name) for name in sorted(_catalogue())]


@cache
def _catalogue() -> dict[str, dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = json.loads(CATALOGUE_FILE.read_text(encoding="utf-8"))
    return entries


@cache
def _names() -> dict[str, str]:
    """Canonical names and aliases -> catalogue names."""
    names = {}
    for name, entry in _catalogue().items():
        hub_name = entry.get("hub_id", name).rsplit("/", 1)[-1]
        for alias in (hub_name, *entry.get("aliases", ()), name):
            names[canonical(alias)] = name
    return names


@cache
def _catalogue_model(name: str) -> ModelSpec:
    from .huggingface import spec_from_config

    entry = _catalogue()[name]
    source = f"catalogue: {entry['source']}"
    spec = spec_from_config(entry["config"], name=name, source=source, where=f"catalogue {name}")
    multimodal = entry.get("multimodal", spec.multimodal)
    return replace(
        spec,
        hub_id=entry.get("hub_id"),
        multimodal=multimodal,
        tower_parameters=entry.get("tower_parameters", spec.tower_parameters),
    )


def _shortened(name: str) -> list[str]:
    """``meta-llama/Meta-Llama-3.1-8B-Instruct`` -> the same without vendor, start and ending."""
    short = NEUTRAL_STARTS.sub("", name.rsplit("/", 1)[-1])
    forms = [short]
    while (shorter := NEUTRAL_ENDINGS.sub("", forms[-1])) != forms[-1]:
        forms.append(shorter)
    return forms
