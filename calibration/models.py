"""Models by name or by file: ``load_model("llama-3.1-8b")``, ``load_model("path/config.json")``.

The catalogue holds compact Hugging Face configurations, each with its source, and is read by the
same code as a user's file: the fields of the real ``config.json`` that decide shapes and weights
(those that aiconfigurator-core ships are copied from there, and a test compares the two). An entry
with a ``base`` is that entry's configuration with some fields replaced: a quantised checkpoint.
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

__all__ = ["KVLayers", "ModelSpec", "WeightGroup", "eagle_head", "known_models", "load_model"]

DRAFT_VOCABULARY = 32_000
"""Tokens that the published EAGLE-3 heads draft among."""
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


def eagle_head(target: ModelSpec, method: str) -> ModelSpec:
    """A draft head of the target's shape, for a target whose own head is not known.

    Raises:
        ValueError: the target has no plain attention layer to take the shape from.
    """
    from .huggingface import spec_from_config

    shapes = [g for g in target.layers if g.kind not in ("mla", "recurrent") and not g.shared_kv]
    if not shapes:
        raise ValueError(f"method(={method!r}) needs a model: {target.name} keeps a latent KV.")
    config = {
        "model_type": "llama",
        "num_hidden_layers": 1,
        "hidden_size": target.hidden_size,
        "intermediate_size": target.intermediate_size or 4 * target.hidden_size,
        "num_attention_heads": target.num_heads,
        "num_key_value_heads": shapes[0].num_kv_heads,
        "head_dim": shapes[0].head_dim,
        "vocab_size": target.vocab_size,
        "max_position_embeddings": target.max_position_embeddings,
        **({"draft_vocab_size": DRAFT_VOCABULARY} if method == "eagle3" else {"draft_head": True}),
    }
    name, source = f"{method} head", f"assumed: one layer of the shape of {target.name}"
    return spec_from_config(config, name=name, source=source, where=name)


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
    config = entry["config"]
    if "base" in entry:
        config = {**_catalogue()[entry["base"]]["config"], **config}
    spec = spec_from_config(config, name=name, source=source, where=f"catalogue {name}")
    return replace(
        spec,
        hub_id=entry.get("hub_id"),
        multimodal=entry.get("multimodal", spec.multimodal),
        tower_parameters=entry.get("tower_parameters", spec.tower_parameters),
    )


def _shortened(name: str) -> list[str]:
    """``meta-llama/Meta-Llama-3.1-8B-Instruct`` -> the same without vendor, start and ending."""
    hub_name = name.rsplit("/", 1)[-1]
    forms = [hub_name, NEUTRAL_STARTS.sub("", hub_name)]
    while (shorter := NEUTRAL_ENDINGS.sub("", forms[-1])) != forms[-1]:
        forms.append(shorter)
    return forms
