"""How much of a GPU's peak its kernels reach, by generation: the constants of the roofline.

Fractions of the datasheet's peak. Sources: decode attention measured per kernel by
aiconfigurator-core (two-parameter fit ``t0 + bytes / (eta * peak)``: A100 0.79, H100 0.90, H200
0.87-0.90, B200 0.97, L40S 0.80, RTX PRO 6000 0.85; FP8 KV under FA3 0.84); weight reads at 0.8 of
peak (its empirical constant); dense GEMM at 0.6 to 0.7 of peak, which the published prompt times of
Llama-2-70B at TP2 imply (A100 0.66, H100 0.46 with all-reduces).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """Fractions of peak, and the floor of one attention kernel."""

    kv_read: float
    kv_read_fp8: float
    weight_read: float
    gemm: float
    prefill_attention: float
    attention_floor_s: float
    source: str


MEASURED = "measured kernels (aiconfigurator-core 0.12), weight reads and GEMM assumed"
ASSUMED = "assumed, no measured kernels"

EFFICIENCIES = {
    "ampere": Efficiency(
        kv_read=0.79,
        kv_read_fp8=0.70,
        weight_read=0.80,
        gemm=0.68,
        prefill_attention=0.60,
        attention_floor_s=14e-6,
        source=MEASURED,
    ),
    "ada": Efficiency(
        kv_read=0.80,
        kv_read_fp8=0.72,
        weight_read=0.80,
        gemm=0.60,
        prefill_attention=0.50,
        attention_floor_s=14e-6,
        source=MEASURED,
    ),
    "hopper": Efficiency(
        kv_read=0.90,
        kv_read_fp8=0.84,
        weight_read=0.80,
        gemm=0.65,
        prefill_attention=0.50,
        attention_floor_s=12e-6,
        source=MEASURED,
    ),
    "blackwell": Efficiency(
        kv_read=0.93,
        kv_read_fp8=0.85,
        weight_read=0.80,
        gemm=0.65,
        prefill_attention=0.50,
        attention_floor_s=11e-6,
        source=MEASURED,
    ),
    "blackwell_rtx": Efficiency(
        kv_read=0.85,
        kv_read_fp8=0.77,
        weight_read=0.80,
        gemm=0.62,
        prefill_attention=0.50,
        attention_floor_s=12e-6,
        source=MEASURED,
    ),
    "cdna3": Efficiency(
        kv_read=0.70,
        kv_read_fp8=0.60,
        weight_read=0.70,
        gemm=0.45,
        prefill_attention=0.35,
        attention_floor_s=20e-6,
        source=ASSUMED,
    ),
}
DEFAULT_EFFICIENCY = Efficiency(
    kv_read=0.75,
    kv_read_fp8=0.65,
    weight_read=0.75,
    gemm=0.55,
    prefill_attention=0.45,
    attention_floor_s=15e-6,
    source=ASSUMED,
)

OTHER_READ = 0.80
"""Element-wise kernels (norms, rotary, activation): aiconfigurator-core's constant."""
HOST_GAP_S = 0.4e-3
"""Between two steps under asynchronous scheduling: sampling, output copy, launch. What is left of
the 6.44 ms intercept of Llama-3.1-8B on an H100 after weights and attention floors."""
EAGER_LAUNCH_S = 0.15e-3
"""Per layer without CUDA graphs: launches that the GPU waits for (assumed)."""
ALL_REDUCE_LATENCY_S = {"nvlink": 8e-6, "pcie": 20e-6}
"""Per all-reduce of a small message (aiconfigurator-core: 10 us point to point)."""
LINK_USE = 0.70
"""Of the link's one-directional bandwidth, in an all-reduce of a large message (assumed)."""
PCIE_USE = 0.78
"""Of PCIe's one-directional bandwidth, in one large transfer: 50 of 64 GB/s, an H100 under vLLM's
KV offloading with blocks of 2 MB (vLLM blog, January 2026)."""
LINK_CALL_S = 10e-6
"""Per transfer to or from the host, however long (aiconfigurator-core: 10 us point to point)."""
PCIE_SEGMENT_S = 2.3e-6
"""Per cudaMemcpyAsync of a loop over small pieces: measured on an H20 (FlexKV, pull request 193).
Elsewhere 5.5 us (MI300X; vLLM, pull request 40549), 5 to 7 us (arXiv 2602.21548, section 5.2)."""
COPY_LAUNCH_S = 3e-6
"""Per copy on the GPU (aiconfigurator-core: memory-bound kernels at 0.8 of peak + 3 us)."""


def efficiency_of(generation: str) -> Efficiency:
    """The generation's constants, cautious ones for a generation that is not listed."""
    return EFFICIENCIES.get(generation, DEFAULT_EFFICIENCY)
