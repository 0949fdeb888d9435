"""Which modules a quantisation names: the role and the layers of a name such as
``model.layers.3.self_attn*``.

A role's share in 16 bits is ``excluded layers that have the role / layers that have it``; a name
without a layer number stands for all layers. In latent attention the output projection, more than
half of the parameters, is told from the other projections. Norms, biases, gates and convolutions
are in 16 bits anyway, so excluding them changes nothing.
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


def wide_shares(
    names: Iterable[str], role_layers: RoleLayers | None, output_share: float | None = None
) -> dict[str, float]:
    """Share of each role's parameters that these names leave in 16 bits.

    ``output_share`` is the output projection's part of the attention, None where it is not told
    from the rest.
    """
    layers: dict[str, dict[int, set[str]]] = {}
    everywhere: dict[str, set[str]] = {}
    for name in names:
        if SMALL.search(name) or OUTSIDE.search(name):
            continue
        number, part = layer_of(name), name.rsplit(".", 1)[-1].rstrip("*")
        if number is not None:
            for role in _roles_in_layer(name, role_layers):
                layers.setdefault(role, {}).setdefault(number, set()).add(part)
        elif "*" in name or name.startswith("re:"):
            for role in roles_of(name):
                everywhere.setdefault(role, set()).add(part)
    told = {"attention": output_share}
    shares = {
        role: _share(found, (role_layers or {}).get(role), told.get(role))
        for role, found in layers.items()
    }
    wide = {role: _part_of_layer(parts, told.get(role)) for role, parts in everywhere.items()}
    return {**shares, **wide}


def _roles_in_layer(name: str, role_layers: RoleLayers | None) -> tuple[str, ...]:
    """``model.layers.78*`` is every role of that layer."""
    match = LAYER.search(name)
    rest = match[2] if match else ""
    return tuple(role_layers or ()) if rest.strip(".*") == "" else roles_of(rest)


def _share(
    found: Mapping[int, set[str]], of_role: frozenset[int] | None, output_share: float | None
) -> float:
    if not of_role:
        return 0.0
    parts = (found[layer] for layer in found.keys() & of_role)
    return sum(_part_of_layer(names, output_share) for names in parts) / len(of_role)


def _part_of_layer(names: set[str], output_share: float | None) -> float:
    if output_share is None or any("_proj" not in name for name in names):
        return 1.0
    output = output_share if "o_proj" in names else 0.0
    return output + (1 - output_share if names - {"o_proj"} else 0.0)
