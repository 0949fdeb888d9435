"""What speculative decoding takes of the memory: ``--speculative-config`` in bytes and slots.

With k = ``num_speculative_tokens``:

- weights of the drafter beside the model's: a model of its own (``draft_model``), a head on the
  target's hidden states (``eagle``, ``eagle3``; without ``model`` one of the target's shape is
  assumed), the checkpoint's multi-token-prediction layers (``mtp``), nothing (``ngram``)
- its layers join the target's KV layers and are grouped with them
- slots: a running request is scheduled with k drafts to verify, and a drafter writes k more ahead
  (``num_lookahead_tokens``), so ``min(tokens + k + lookahead, max_model_len)`` slots; lookahead is
  0 for ngram
- recurrent layers keep a state for each draft: 1 + k states per sequence

Only memory is planned; what is accepted and what it saves are not modelled. Source: vLLM
``config/speculative.py``, ``v1/core/kv_cache_manager.py allocate_slots``, V1 as of 2026.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .model_spec import KVLayers, ModelSpec, WeightGroup
from .models import eagle_head, load_model

METHODS = ("draft_model", "eagle", "eagle3", "mtp", "ngram")
EAGLE_METHODS = ("eagle", "eagle3")
KEYS = ("method", "model", "num_speculative_tokens", "draft_tensor_parallel_size")
NGRAM_KEYS = ("prompt_lookup_max", "prompt_lookup_min")
"""They take no memory."""
MOST_TOKENS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Speculation:
    """A drafter beside a target model.

    Raises:
        ValueError: a number of tokens or a tensor-parallel size that is not positive, or more than
            ``MOST_TOKENS`` tokens.
    """

    method: str
    num_speculative_tokens: int
    layers: tuple[KVLayers, ...] = ()
    """KV layers that the drafter adds."""
    weights: tuple[WeightGroup, ...] = ()
    drafter: str = ""
    """Name and source of what drafts."""
    tensor_parallel_size: int | None = None
    """Of the drafter; None: the target's."""
    draft: ModelSpec | None = None
    """The drafter where it is a checkpoint of its own."""

    def __post_init__(self) -> None:
        for name in ("num_speculative_tokens", "tensor_parallel_size"):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if value is not None and (not whole or value <= 0):
                raise ValueError(f"{name}(={value!r}) must be a whole number > 0.")
        if self.num_speculative_tokens > MOST_TOKENS:
            raise ValueError(
                f"num_speculative_tokens(={self.num_speculative_tokens}) must be <= {MOST_TOKENS}."
            )

    @property
    def num_lookahead_tokens(self) -> int:
        """Slots past the scheduled tokens, which the drafter writes."""
        return 0 if self.method == "ngram" else self.num_speculative_tokens

    @property
    def slots(self) -> int:
        """Slots of a running request beside its own tokens: drafts to verify, drafts ahead."""
        return self.num_speculative_tokens + self.num_lookahead_tokens

    def check_tensor_parallel(self, tensor_parallel_size: int) -> None:
        """Whether the drafter splits beside a target of that size.

        Raises:
            ValueError: its own size is neither 1 nor the target's, or its heads do not divide.
        """
        size = self.tensor_parallel_size or tensor_parallel_size
        if size not in (1, tensor_parallel_size):
            raise ValueError(
                f"draft_tensor_parallel_size(={size}) must be 1 or the target's "
                f"{tensor_parallel_size}."
            )
        if self.draft is not None:
            self.draft.check_tensor_parallel(size)

    def layers_beside(self, tensor_parallel_size: int) -> tuple[KVLayers, ...]:
        """Its layers as the target's GPUs see them: a drafter of one GPU splits no heads."""
        size = self.tensor_parallel_size or tensor_parallel_size
        copies = tensor_parallel_size // size
        return tuple(replace(g, num_kv_heads=g.num_kv_heads * copies) for g in self.layers)

    def weight_bytes_per_gpu(self, tensor_parallel_size: int) -> int:
        """The drafter's weights on one GPU."""
        size = self.tensor_parallel_size or tensor_parallel_size
        return sum(group.bytes_per_gpu(size) for group in self.weights)

    def note(self) -> str:
        """One sentence for the reader of a budget."""
        plural = "s" * (self.num_speculative_tokens > 1)
        what = f"{self.method}, {self.num_speculative_tokens} token{plural}"
        by = f" by {self.drafter}" if self.drafter else ""
        return (
            f"Speculative decoding ({what}{by}): a running request holds up to {self.slots} slots "
            "beside its own tokens; only its memory is planned, not what it saves."
        )


def read_speculation(text: str | None, target: ModelSpec) -> Speculation | None:
    """vLLM's ``--speculative-config``: a JSON object of ``KEYS``; None where there is none.

    ``NGRAM_KEYS`` are read over.

    Raises:
        ValueError: no JSON object, an unknown key or method, a drafter that is unknown or does not
            go with the target.
    """
    if text is None:
        return None
    config = _parsed(text)
    draft = _draft(config)
    method = config.get("method") or _method_of(draft)
    if method not in METHODS:
        raise ValueError(
            f"speculative_config: method(={method!r}) must be one of {', '.join(METHODS)}."
        )
    tokens, size = config.get("num_speculative_tokens"), config.get("draft_tensor_parallel_size")
    if tokens is None:
        raise ValueError("speculative_config has no num_speculative_tokens.")
    if method == "mtp":
        return _mtp(target, tokens)
    if method == "ngram":
        return Speculation(method=method, num_speculative_tokens=tokens)
    if draft is None and method in EAGLE_METHODS:
        draft = eagle_head(target, method)
    if draft is None:
        raise ValueError(f"speculative_config has no model, which method(={method!r}) needs.")
    _check_pair(method, draft, target)
    return Speculation(
        method=method,
        num_speculative_tokens=tokens,
        layers=draft.layers,
        weights=draft.weights,
        drafter=f"{draft.name}, {draft.source}",
        tensor_parallel_size=size,
        draft=draft,
    )


def _parsed(text: str) -> Mapping[str, Any]:
    try:
        config = json.loads(text)
    except ValueError as error:
        raise ValueError(f"speculative_config is not valid JSON: {error}.") from None
    if not isinstance(config, dict):
        raise ValueError(f"speculative_config(={text}) must be a JSON object.")
    known = (*KEYS, *NGRAM_KEYS)
    unknown = sorted(config.keys() - set(known))
    if unknown:
        raise ValueError(
            f"speculative_config has {', '.join(unknown)}; known are {', '.join(known)}."
        )
    return config


def _draft(config: Mapping[str, Any]) -> ModelSpec | None:
    name = config.get("model")
    if name is None or config.get("method") in ("mtp", "ngram"):
        return None
    if not isinstance(name, str):
        raise ValueError(f"model(={name!r}) must be a name or a path.")
    return load_model(name)


def _method_of(draft: ModelSpec | None) -> str | None:
    """As the engine infers it where ``method`` is absent."""
    return None if draft is None else draft.draft_method or "draft_model"


def _mtp(target: ModelSpec, tokens: int) -> Speculation:
    if not target.mtp_layers:
        raise ValueError(f"method(='mtp'): {target.name} has no multi-token-prediction layers.")
    return Speculation(
        method="mtp",
        num_speculative_tokens=tokens,
        layers=target.mtp_layers,
        weights=target.mtp_weights,
        drafter=f"the multi-token-prediction layers of {target.name}",
    )


def _check_pair(method: str, draft: ModelSpec, target: ModelSpec) -> None:
    if (method in EAGLE_METHODS) != (draft.draft_method in EAGLE_METHODS):
        what = "a draft head" if draft.draft_method else "a model of its own"
        raise ValueError(f"model(={draft.name!r}) is {what}, not one for method(={method!r}).")
    if draft.draft_method is not None and method != draft.draft_method:
        raise ValueError(
            f"model(={draft.name!r}) is a head for {draft.draft_method}, not for "
            f"method(={method!r})."
        )
    if draft.target_hidden_size not in (0, target.hidden_size):
        raise ValueError(
            f"model(={draft.name!r}) must read hidden states of {target.name}: it is made for a "
            f"width of {draft.target_hidden_size}, not {target.hidden_size}."
        )
    if draft.vocab_size != target.vocab_size:
        raise ValueError(
            f"model(={draft.name!r}) must have the vocabulary of {target.name}: "
            f"{draft.vocab_size} tokens, not {target.vocab_size}."
        )
