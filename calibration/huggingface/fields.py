"""Typed reading of one ``config.json``: every wrong value becomes one sentence with its field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TEXT_CONFIGS = ("text_config", "llm_config", "language_config")
INHERITED = ("quantization_config", "tie_word_embeddings", "torch_dtype", "dtype")
# What the families' configuration classes assume where the file is silent.
FAMILY_DEFAULTS: dict[str, dict[str, Any]] = {
    "gemma3_text": {
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "vocab_size": 262_208,
        "max_position_embeddings": 131_072,
        "sliding_window": 4096,
    },
    "gemma2": {"sliding_window": 4096, "head_dim": 256},
    "gemma": {"head_dim": 256},
    "llama4_text": {"attention_chunk_size": 8192, "num_key_value_heads": 8, "head_dim": 128},
    "gpt_oss": {"sliding_window": 128},
    "mixtral": {"num_local_experts": 8, "num_experts_per_tok": 2},
    "opt": {"vocab_size": 50_272, "max_position_embeddings": 2048},
}


class Fields:
    """The text model's part of a configuration, aliases tried in order."""

    def __init__(self, raw: Mapping[str, Any], where: str) -> None:
        self.where = where
        self.raw = _text_part(raw, where)
        self.family = str(self.raw.get("model_type") or raw.get("model_type") or "")
        for name, value in FAMILY_DEFAULTS.get(self.family, {}).items():
            self.raw.setdefault(name, value)

    def has(self, *names: str) -> bool:
        """Whether one of these is present and not null."""
        return any(self.raw.get(name) is not None for name in names)

    def value(self, *names: str) -> Any:
        """The first of these that is present and not null, else None."""
        return next((self.raw[name] for name in names if self.raw.get(name) is not None), None)

    def count(self, *names: str, default: int | None = None, least: int = 0) -> int:
        """A whole number.

        Raises:
            ValueError: missing without a default, not a whole number, or below ``least``.
        """
        name = next((n for n in names if self.raw.get(n) is not None), None)
        if name is None:
            if default is None:
                raise ValueError(f"{self.where} has no {names[0]}.")
            return default
        value = self.raw[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{self.where}: {name}(={value!r}) must be a whole number >= {least}.")
        return value

    def positive(self, *names: str, default: int | None = None) -> int:
        """A whole number > 0 (same errors as :meth:`count`)."""
        return self.count(*names, default=default, least=1)

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false.

        Raises:
            ValueError: neither.
        """
        value = self.raw.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise ValueError(f"{self.where}: {name}(={value!r}) must be true or false.")
        return value

    def text(self, name: str) -> str | None:
        """A string, or None where the field is absent.

        Raises:
            ValueError: not a string.
        """
        value = self.raw.get(name)
        if value is not None and not isinstance(value, str):
            raise ValueError(f"{self.where}: {name}(={value!r}) must be a string.")
        return value

    def inner(self, name: str) -> Fields | None:
        """The fields of a nested object, or None where it is absent.

        Raises:
            ValueError: not an object.
        """
        value = self.raw.get(name)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise ValueError(f"{self.where}: {name}(={value!r}) must be an object.")
        return Fields(value, f"{self.where}: {name}")

    def entries(self, name: str, length: int | None = None) -> list[Any] | None:
        """A list with one entry per layer, or None where the field is absent.

        Raises:
            ValueError: not a list, or of another length.
        """
        value = self.raw.get(name)
        if value is None:
            return None
        if not isinstance(value, list):
            raise ValueError(f"{self.where}: {name}(={value!r}) must be a list.")
        if length is not None and len(value) < length:
            raise ValueError(
                f"{self.where}: {name} has {len(value)} entries, num_hidden_layers(={length}) wants"
                f" {length}."
            )
        return value if length is None else value[:length]


def _text_part(raw: Mapping[str, Any], where: str) -> dict[str, Any]:
    for name in TEXT_CONFIGS:
        nested = raw.get(name)
        if nested is None:
            continue
        if not isinstance(nested, Mapping):
            raise ValueError(f"{where}: {name}(={nested!r}) must be an object.")
        outer = {key: raw[key] for key in INHERITED if key in raw and key not in nested}
        return {**nested, **outer}
    return dict(raw)
