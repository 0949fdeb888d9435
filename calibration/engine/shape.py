"""Shapes of dense Llama models: what an engine with random weights runs, and what it needs."""

from __future__ import annotations

from dataclasses import dataclass

from ..names import unknown_name

GIB = 1 << 30
DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
SPARE_BYTES = 3 * GIB
"""Beside weights and KV: runtime, activations, captured graphs."""
LEAST_KV_TOKENS = 16_384
"""A pool below this makes no load worth measuring."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaShape:
    """A dense decoder: RMS norm, rotary embedding, grouped queries, gated MLP.

    Raises:
        ValueError: a size below 1, heads that do not share KV heads evenly, an unknown dtype.
    """

    name: str
    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    dtype: str = "bfloat16"
    rope_theta: float = 500_000.0
    weight_std: float = 0.02
    tied: bool = False
    """The head is the embedding."""

    def __post_init__(self) -> None:
        for name in (
            "num_layers",
            "hidden_size",
            "intermediate_size",
            "num_heads",
            "num_kv_heads",
            "head_dim",
            "vocab_size",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}(={getattr(self, name)}) must be > 0.")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads(={self.num_heads}) must be a multiple of "
                f"num_kv_heads(={self.num_kv_heads})."
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim(={self.head_dim}) must be even: its lanes turn in pairs.")
        if self.dtype not in DTYPE_BYTES:
            raise unknown_name(self.dtype, DTYPE_BYTES, field="dtype")

    @property
    def qkv_size(self) -> int:
        """Values that a token's queries, keys and values have in one layer."""
        return (self.num_heads + 2 * self.num_kv_heads) * self.head_dim

    @property
    def num_weights(self) -> int:
        """Parameters."""
        attention = self.hidden_size * (self.qkv_size + self.num_heads * self.head_dim)
        mlp = 3 * self.hidden_size * self.intermediate_size
        layer = attention + mlp + 2 * self.hidden_size
        tables = (1 if self.tied else 2) * self.vocab_size * self.hidden_size
        return self.num_layers * layer + tables + self.hidden_size

    @property
    def weight_bytes(self) -> int:
        """Of all parameters."""
        return self.num_weights * DTYPE_BYTES[self.dtype]

    @property
    def kv_bytes_per_token(self) -> int:
        """Keys and values of all layers."""
        values = 2 * self.num_layers * self.num_kv_heads * self.head_dim
        return values * DTYPE_BYTES[self.dtype]

    def needed_bytes(self, kv_tokens: int) -> int:
        """GPU memory for the weights, so many tokens of KV, and what runs beside them."""
        return self.weight_bytes + kv_tokens * self.kv_bytes_per_token + SPARE_BYTES


def _llama(
    name: str,
    layers: int,
    hidden: int,
    mlp: int,
    heads: tuple[int, int, int],
    *,
    tied: bool = False,
) -> LlamaShape:
    return LlamaShape(
        name=name,
        num_layers=layers,
        hidden_size=hidden,
        intermediate_size=mlp,
        num_heads=heads[0],
        num_kv_heads=heads[1],
        head_dim=heads[2],
        vocab_size=128_256,
        tied=tied,
    )


SHAPES = {
    shape.name: shape
    for shape in (
        _llama("llama-3-8b", 32, 4096, 14_336, (32, 8, 128)),
        _llama("llama-3.2-3b", 28, 3072, 8192, (24, 8, 128), tied=True),
        _llama("llama-3.2-1b", 16, 2048, 8192, (32, 8, 64), tied=True),
    )
}
"""From large to small."""

TOY = LlamaShape(
    name="toy",
    num_layers=2,
    hidden_size=32,
    intermediate_size=64,
    num_heads=2,
    num_kv_heads=1,
    head_dim=16,
    vocab_size=512,
    dtype="float32",
    rope_theta=10_000.0,
    weight_std=0.2,
)
"""For a CPU: the weights are wide enough for every token to depend on all before it."""


def shape_named(name: str, *, field: str = "shape") -> LlamaShape:
    """A shape by its name.

    Raises:
        ValueError: there is none.
    """
    if name == TOY.name:
        return TOY
    if name not in SHAPES:
        raise unknown_name(name, [*SHAPES, TOY.name], field=field)
    return SHAPES[name]


def shape_that_fits(total_bytes: int, *, kv_tokens: int = LEAST_KV_TOKENS) -> LlamaShape | None:
    """The largest shape that a card of so much memory runs; None where it runs none."""
    fit = (shape for shape in SHAPES.values() if shape.needed_bytes(kv_tokens) <= total_bytes)
    return next(fit, None)


def check_fits(shape: LlamaShape, total_bytes: int, *, kv_tokens: int) -> None:
    """Refuse a shape, with a pool for so many tokens, that the card has too little memory for.

    Raises:
        ValueError: it has; the sentence names a smaller shape, or fewer tokens, that fit.
    """
    if shape.needed_bytes(kv_tokens) <= total_bytes:
        return
    needs = f"{shape.needed_bytes(kv_tokens) / GIB:.1f} GiB for {shape.name}"
    kv = f" and {kv_tokens} tokens of KV"
    left = (total_bytes - shape.needed_bytes(0)) // shape.kv_bytes_per_token
    smaller = shape_that_fits(total_bytes, kv_tokens=min(kv_tokens, LEAST_KV_TOKENS))
    if left >= LEAST_KV_TOKENS:
        advice = f"{left} tokens fit"
    elif smaller is None:
        advice = f"no shape fits, not even {next(reversed(SHAPES))}"
    else:
        advice = f"{smaller.name} fits"
    raise ValueError(f"gpu_memory(={total_bytes / GIB:.1f} GiB) must be >= {needs}{kv}: {advice}.")
