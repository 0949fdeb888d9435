"""Bits per parameter of weight formats, their scales included.

    bits = value bits + scale bits / parameters per scale (+ zero-point bits / the same)

    fp8       8, per-tensor or per-channel scales (below 0.1 %, not counted)
    fp8 block 8 + 32 / (128 * 128), one fp32 scale per tile
    int8      8, per-channel scales (not counted)
    awq, gptq 4 + (16 + 4) / 128, an fp16 scale and a 4-bit zero point per group
    mxfp4     4 + 8 / 32, one E8M0 byte per 32
    mxfp8     8 + 8 / 32
    nvfp4     4 + 8 / 16, one FP8 scale per 16 (and one fp32 per tensor, not counted)

Sources: OCP Microscaling specification 1.0 (MX), NVIDIA's NVFP4 description, the AWQ and GPTQ
checkpoint layouts (group size 128), DeepSeek-V3's technical report (128 x 128 tiles).
"""

from __future__ import annotations

from dataclasses import dataclass

FULL_BITS = 16.0
FP8_BITS = 8.0
INT8_BITS = 8.0
GROUP_SIZE = 128
SCALE_BITS = 16
NVFP4_BITS = 4 + 8 / 16
MXFP4_BITS = 4 + 8 / 32
MXFP8_BITS = 8 + 8 / 32
LINEAR_ROLES = ("attention", "mlp", "experts", "shared_experts")
"""What a quantised checkpoint re-encodes; embedding, LM head, router and norms stay in 16 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFormat:
    """How the linear layers are stored under a name of vLLM's ``--quantization``."""

    bits: float
    experts_only_in_mixtures: bool = False
    """MXFP4 as gpt-oss has it: only the routed experts of a mixture are in four bits."""


def grouped_bits(bits: int, group_size: int | None, *, zero_points: bool = True) -> float:
    """Bits of integer weights with an fp16 scale (and a zero point) per group.

    ``group_size`` of None or below 1 is one group per channel: its scales are not counted.
    """
    if group_size is None or group_size < 1:
        return float(bits)
    return bits + (SCALE_BITS + (bits if zero_points else 0)) / group_size


WEIGHT_FORMATS = {
    "fp8": WeightFormat(bits=FP8_BITS),
    "int8": WeightFormat(bits=INT8_BITS),
    "awq": WeightFormat(bits=grouped_bits(4, GROUP_SIZE)),
    "gptq": WeightFormat(bits=grouped_bits(4, GROUP_SIZE)),
    "mxfp4": WeightFormat(bits=MXFP4_BITS, experts_only_in_mixtures=True),
    "nvfp4": WeightFormat(bits=NVFP4_BITS),
}
"""By the name that ``--quantization`` takes."""
