"""Which modules a quantisation names: the role and the layers of a name such as
``model.layers.3.self_attn*``.

A role's share in 16 bits is ``excluded layers that have the role / layers that have it``; a name
without a layer number stands for all layers. Norms, biases, gates and convolutions are in 16 bits
anyway, so excluding them changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

RoleLayers = Mapping[str, frozenset[int]]
"""Role -> numbers of the layers that have it."""
# How each role is spelled in the names of modules; the first match wins.
ROLE_WORDS = {
    "shared_experts": ("shared_expert", "share_expert"),
    "experts": ("experts", "block_sparse_moe"),
    "attention": ("attn", "attention"),
    "mlp": ("mlp", "feed_forward", "ffn"),
    "lm_head": ("lm_head",),
}
SMALL = re.compile(
    r"(norm|layernorm|bias|gate|router|conv1d|indexers_proj|weights_proj|embed_tokens)\*?$"
)
OUTSIDE = re.compile(r"vision|visual|audio|mtp|projector|patch_merge|indexer")
LAYER = re.compile(r"layers\.(\d+)(.*)$", re.S)


def roles_of(module: str) -> tuple[str, ...]:
    """Roles that a module name stands for; Nemotron-H calls every kind of block ``mixer``."""
    name = module.lower()
    found = next((r for r, words in ROLE_WORDS.items() if any(w in name for w in words)), None)
    if found is not None:
        return (found,)
    return ("attention", "mlp") if "mixer" in name else ()


def layer_of(module: str) -> int | None:
    """Its layer number, or None."""
    match = LAYER.search(module)
    return int(match[1]) if match else None


def wide_shares(names: Iterable[str], role_layers: RoleLayers | None) -> dict[str, float]:
    """Share of each role's layers that these names leave in 16 bits."""
    layers: dict[str, set[int]] = {}
    whole: set[str] = set()
    for name in names:
        if SMALL.search(name) or OUTSIDE.search(name):
            continue
        number = layer_of(name)
        if number is not None:
            for role in _roles_in_layer(name, role_layers):
                layers.setdefault(role, set()).add(number)
        elif "*" in name or name.startswith("re:"):
            whole |= set(roles_of(name))
    shares = {role: _share(found, role_layers, role) for role, found in layers.items()}
    return {**shares, **dict.fromkeys(whole, 1.0)}


def _roles_in_layer(name: str, role_layers: RoleLayers | None) -> tuple[str, ...]:
    """``model.layers.78*`` is every role of that layer."""
    match = LAYER.search(name)
    rest = match[2] if match else ""
    return tuple(role_layers or ()) if rest.strip(".*") == "" else roles_of(rest)


def _share(found: set[int], role_layers: RoleLayers | None, role: str) -> float:
    of_role = (role_layers or {}).get(role, frozenset())
    return len(found & of_role) / len(of_role) if of_role else 0.0
