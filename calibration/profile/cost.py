"""Step cost from a calibration profile: the ``measured`` source.

    linear layers   the table of their (n, k) on this shard; else the roofline of all products
    small kernels   two norms and two residuals a layer and one norm, the others once a layer; the
                    embedding once; sampling by rows of logits; the host
    attention       the decode and prefill forms, see ``attention``
    all-reduce      the profile's line, else the card's tables or datasheet

A kernel that was not measured just so (another count of heads, a product of another shape) is
derived from the nearest one and flagged. What a profile cannot tell at all is an error: no other
source takes its place unseen. Profiles of another tool's kernel times (``imported``) go to
``kernel_profile``.
"""

from __future__ import annotations

from ..engine_defaults import BLOCK_SIZE, batch_defaults, capture_sizes
from ..gpus import GPUSpec
from ..kernel_profile import imported_cost
from ..model_spec import KVLayers, ModelSpec
from ..operator_cost import OperatorCost
from ..operators import Attention, Operators
from ..silicon.products import head_product, layer_products
from ..step_cost import Band
from .attention import FittedDecode, FittedMixed, block_sizes_of, nearest
from .band import with_band
from .doubts import HELD_OUT, Doubts
from .linear import Linears
from .small import Small, all_reduce, host_times
from .unfit import Unfit
from .values import AttentionKey, Profile

BAND = Band(low=0.95, high=1.06, source="assumed for kernels measured on the card itself")
KV_DTYPES = {
    "bfloat16": "bf16",
    "bf16": "bf16",
    "float16": "bf16",
    "fp16": "bf16",
    "half": "bf16",
    "float32": "fp32",
    "fp8": "fp8_e4m3",
    "fp8_e4m3": "fp8_e4m3",
    "fp8_e5m2": "fp8_e5m2",
    "int8": "int8",
    "int8_per_token_head": "int8",
}
"""As a profile names them; 16 bits are 16 bits to a kernel that reads them."""
OTHER_HEADS = "leave_heads_out"
OWN_KERNELS = "Attention was timed with kvsim's own kernels: a server's may be slower or faster."


def measured_cost(
    profile: Profile,
    *,
    model: ModelSpec,
    gpu: GPUSpec,
    kv_cache_dtype: str = "auto",
    tensor_parallel_size: int = 1,
    enforce_eager: bool = False,
    max_num_seqs: int | None = None,
    async_scheduling: bool = True,
    block_size: int = BLOCK_SIZE,
    exact: bool = False,
    name: str = "",
) -> OperatorCost:
    """The cost of a model on the card that the profile is of; that it is, ``find`` checks.

    Args:
        profile: of that card.
        block_size: tokens of a block; the nearest measured one is taken.
        exact: whether every kernel must have been measured in the very shape.
        name: of the profile, for error sentences.

    Raises:
        ValueError: unknown KV dtype, or a tensor-parallel size the heads do not allow.
        Unfit: what the profile lacks.
    """
    model.check_tensor_parallel(tensor_parallel_size)
    seats = batch_defaults(gpu)[1] if max_num_seqs is None else max_num_seqs
    if seats <= 0:
        raise ValueError(f"max_num_seqs(={seats}) must be > 0.")
    flags = {
        "model": model,
        "gpu": gpu,
        "kv_cache_dtype": model.resolve_kv_dtype(kv_cache_dtype),
        "tensor_parallel_size": tensor_parallel_size,
        "capture_sizes": () if enforce_eager else capture_sizes(seats),
        "async_scheduling": async_scheduling,
    }
    named = name or f"profile(={profile.id})"
    if profile.provenance == "imported":
        return imported_cost(profile, taken_from=origin(profile), name=named, **flags)  # type: ignore[arg-type]  # fields
    builder = _Builder(profile, model, tensor_parallel_size, named, exact=exact)
    cost = OperatorCost(
        **flags,  # type: ignore[arg-type]  # fields of it
        operators=builder.operators(gpu, str(flags["kv_cache_dtype"]), block_size),
        source="derived" if profile.provenance == "derived" else "measured",
        taken_from=origin(profile),
        band=BAND,
        near_band=BAND,
        host=host_times(profile),
        caveat=OWN_KERNELS,
        details={"profile": description(profile)},
    )
    return with_band(cost, what="the profile's fits")


def origin(profile: Profile) -> str:
    """``profile h200.2026-11-22.a1b2, measured 2026-11-22``, for people."""
    date = str(profile.run.get("started_utc", ""))[:10]
    source = profile.derived_from.get("from")
    scaled = f", scaled from {source}" if profile.provenance == "derived" and source else ""
    return f"profile {profile.id}, {' '.join(filter(None, (profile.provenance, date)))}{scaled}"


def description(profile: Profile) -> dict[str, object]:
    """What tells this profile from any other."""
    return {
        "id": profile.id,
        "provenance": profile.provenance,
        "started_utc": profile.run.get("started_utc"),
        "hardware": profile.hardware.name,
        "kernel_hash": profile.software.get("kernel_hash"),
        "samples_sha256": profile.samples_sha256,
    }


class _Builder:
    """The operators of one model from one profile."""

    def __init__(
        self, profile: Profile, model: ModelSpec, size: int, name: str, *, exact: bool
    ) -> None:
        self._profile, self._model, self._size = profile, model, size
        self._name, self._exact = name, exact
        self._dtype = "fp32" if model.dtype_bytes == 4 else "bf16"
        self._doubts = Doubts(profile)

    def operators(self, gpu: GPUSpec, kv_cache_dtype: str, block_size: int) -> Operators:
        """All of a step."""
        model, size = self._model, self._size
        self._check()
        linears = Linears(self._profile, self._dtype, name=self._name)
        small = Small(self._profile, model, size, name=self._name)
        attention = [self._attention(group, kv_cache_dtype, block_size) for group in model.layers]
        by_tokens = [
            linears.operator(product, exact=self._exact) for product in layer_products(model, size)
        ]
        by_tokens.append(small.elementwise())
        if size > 1:
            by_tokens.append(all_reduce(self._profile, model, gpu, size, kv_cache_dtype))
        head = linears.operator(head_product(model, size), exact=self._exact)
        return Operators(
            by_tokens=tuple(by_tokens),
            by_rows=(head, small.sampling()),
            attention=tuple(attention),
        )

    def _check(self) -> None:
        """Whether there are layers that no profile holds."""
        lacks = [("routed experts", self._model.num_experts > 0)]
        for group in self._model.layers:
            lacks.append(("recurrent layers", group.kind == "recurrent"))
            compressed = group.tokens_per_state > 1 or group.shared_kv or group.index_head_dim
            lacks.append(("compressed or sparse attention", bool(compressed)))
            uneven = group.kind not in ("mla", "recurrent") and group.head_dim_v != group.head_dim
            lacks.append(("attention whose keys and values differ in size", uneven))
        missing = next((what for what, is_so in lacks if is_so), None)
        if missing:
            raise Unfit(f"{self._name} has no kernels of {missing}, which {self._model.name} has.")

    def _attention(self, group: KVLayers, kv_cache_dtype: str, block_size: int) -> Attention:
        key = self._key(group, kv_cache_dtype, block_size)
        decode = nearest(self._profile.decode, key)
        prefill = nearest(self._profile.prefill, key)
        if decode is None or prefill is None:
            raise self._missing(key, "decode" if decode is None else "prefill")
        if self._exact and not (decode[1] and prefill[1]):
            raise self._missing(key, "prefill" if decode[1] else "decode")
        window = group.window_tokens or 0
        decoding = FittedDecode(
            decode[0],
            window=window,
            doubt=self._doubts.of(
                "ragged", "decode", split=_split(decode[1]), fitted=decode[0].uncertainty
            ),
            outside=not decode[1],
            by_block_size=block_sizes_of(self._profile.decode, key),
        )
        chunks = FittedMixed(
            prefill[0],
            decoding,
            window=window,
            doubt=self._doubts.of(
                "prefill", "mixed", split=_split(prefill[1]), fitted=prefill[0].uncertainty
            ),
            outside=not prefill[1],
        )
        source = f"profile {self._profile.id}: fitted"
        return Attention(
            label=_label(group.kind, window),
            count=group.num_layers,
            decode=decoding,
            mixed=chunks,
            window=window,
            decode_source=f"{source} decode kernel",
            mixed_source=f"{source} prefill and decode kernels",
            derived=not (decode[1] and prefill[1]),
        )

    def _key(self, group: KVLayers, kv_cache_dtype: str, block_size: int) -> AttentionKey:
        if kv_cache_dtype not in KV_DTYPES:
            raise Unfit(f"{self._name} has no attention over kv_cache_dtype {kv_cache_dtype}.")
        latent = group.kind == "mla"
        kv_dtype = KV_DTYPES[kv_cache_dtype]
        return AttentionKey(
            kind="latent" if latent else "paged",
            dtype=self._dtype,
            kv_dtype=self._dtype if kv_dtype == "bf16" else kv_dtype,
            heads=self._model.num_heads // self._size,
            kv_heads=1 if latent else group.heads_per_gpu(self._size),
            head_dim=group.kv_lora_rank + group.rope_dim if latent else group.head_dim,
            block_size=block_size,
        )

    def _missing(self, key: AttentionKey, phase: str) -> Unfit:
        heads = f"{key.heads} query and {key.kv_heads} KV heads of {key.head_dim}"
        kind = "latent " if key.kind == "latent" else ""
        return Unfit(
            f"{self._name} has no {kind}{phase} attention of {heads} in {key.dtype} over "
            f"{key.kv_dtype}, which {self._model.name} needs."
        )


def _split(exact: bool) -> str:
    """Which points tell how far off a kernel is: its own, or those of left-out heads."""
    return HELD_OUT if exact else OTHER_HEADS


def _label(kind: str, window: int) -> str:
    if kind == "mla":
        return "latent attention"
    return f"attention, window {window}" if window else "attention"
