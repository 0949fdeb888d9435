"""The GPUs that kvsim knows, one row each, every figure with its source.

Marks: ``a`` read in the system files of aiconfigurator-core 0.12, ``l`` seen in a server's log,
``m`` datasheet, from memory. The columns are: generation, memory as the framework sees it,
bandwidth (GB/s), dense TFLOP/s in bf16, fp8 and int8, PCIe one direction and NVLink both directions
(GB/s), L2 (MB). Memory is written in GiB (2^30) or in bytes; the label on the box is in neither.
"""

from __future__ import annotations

from typing import NamedTuple

from .gpus import GIB, GPUSpec

MIB = 1 << 20
SOURCES = {
    "a": "aiconfigurator-core 0.12 system file",
    "l": "server log",
    "m": "datasheet, from memory",
}
PRICE_SOURCE = "midpoint of a May 2026 survey, specialty providers"


class Row(NamedTuple):
    """Units as in the module's docstring; ``None`` where the GPU has none."""

    title: str
    generation: str
    memory_bytes: float
    bandwidth: float
    bf16: float
    fp8: float | None
    int8: float | None
    pcie: float
    nvlink: float | None
    l2: float | None
    marks: str
    """Sources of memory, bandwidth, FLOP/s, links and L2, in this order."""
    price: float | None = None
    price_date: str | None = None
    price_source: str | None = None


# fmt: off
ROWS = {
    "a100": Row("NVIDIA A100 SXM 80 GB", "ampere", 85_094_825_984, 2039, 312, None, 624, 32, 600,
                40, "laaam", 1.30, "2026-05", PRICE_SOURCE),
    "a100-pcie": Row("NVIDIA A100 PCIe 80 GB", "ampere", 85_093_777_408, 1935, 312, None, 624, 32,
                     600, 40, "laaam"),
    "a100-40gb": Row("NVIDIA A100 SXM 40 GB", "ampere", 39.49 * GIB, 1555, 312, None, 624, 32, 600,
                     40, "lmmmm"),
    "a30": Row("NVIDIA A30", "ampere", 23.5 * GIB, 933, 165, None, 330, 32, 200, 24, "maaam"),
    "a40": Row("NVIDIA A40", "ampere", 44.4 * GIB, 696, 149.7, None, 299, 32, 112.5, 6, "mmmmm"),
    "a10g": Row("NVIDIA A10G", "ampere", 22.30 * GIB, 600, 70, None, 140, 32, None, 6, "lmmmm",
                1.006, "2026-06", "AWS g5.xlarge"),
    "rtx-3090": Row("NVIDIA RTX 3090", "ampere", 23.58 * GIB, 936, 71, None, 284, 32, 112, 6,
                    "lmmmm"),
    "rtx-a6000": Row("NVIDIA RTX A6000", "ampere", 50_899_648_512, 768, 154.8, None, 309.7, 32,
                     112.5, 6, "lmmmm"),
    "l4": Row("NVIDIA L4", "ada", 23_659_151_360, 300, 121, 242, 242, 32, None, 48, "laaam"),
    "l40s": Row("NVIDIA L40S", "ada", 44.4 * GIB, 864, 362, 733, 733, 32, None, 96, "maaam"),
    "rtx-4090": Row("NVIDIA RTX 4090", "ada", 25_250_627_584, 1008, 165, 330, 660, 32, None, 72,
                    "lmmmm"),
    "rtx-6000-ada": Row("NVIDIA RTX 6000 Ada", "ada", 47.4 * GIB, 960, 364, 728, 728, 32, None, 96,
                        "mmmmm"),
    "h100-sxm": Row("NVIDIA H100 SXM 80 GB", "hopper", 85_017_493_504, 3350, 989, 1979, 1979, 64,
                    900, 50, "laaam", 3.00, "2026-05", PRICE_SOURCE),
    "h100-pcie": Row("NVIDIA H100 PCIe 80 GB", "hopper", 79.18 * GIB, 2000, 756, 1513, 1513, 64,
                     600, 50, "maaam"),
    "h100-nvl": Row("NVIDIA H100 NVL 94 GB", "hopper", 93.1 * GIB, 3900, 835, 1671, 1671, 64, 600,
                    50, "mmmmm"),
    "h800": Row("NVIDIA H800 SXM 80 GB", "hopper", 79.18 * GIB, 3350, 990, 1979, 1979, 64, 400, 50,
                "mmmmm"),
    "h20": Row("NVIDIA H20 96 GB", "hopper", 95.1 * GIB, 4000, 148, 296, 296, 64, 900, 60, "mmmmm"),
    "h200": Row("NVIDIA H200 SXM 141 GB", "hopper", 139.80 * GIB, 4800, 989, 1979, 1979, 64, 900,
                50, "laaam", 4.00, "2026-05", PRICE_SOURCE),
    "b200": Row("NVIDIA B200 SXM 180 GB", "blackwell", 178.35 * GIB, 7700, 2250, 4500, 4500, 128,
                1800, 126, "laaam"),
    "b300": Row("NVIDIA B300 SXM", "blackwell", 267.0 * GIB, 7750, 2250, 4500, 153, 128, 1800, 126,
                "maaam"),
    "gb200": Row("NVIDIA GB200", "blackwell", 184.0 * GIB, 8000, 2500, 5000, 5000, 64, 1800, 126,
                 "maaam"),
    "gb300": Row("NVIDIA GB300", "blackwell", 276.0 * GIB, 8000, 2500, 5000, 165, 64, 1800, None,
                 "maaam"),
    "rtx-5090": Row("NVIDIA RTX 5090", "blackwell_rtx", 31.36 * GIB, 1792, 209, 419, 838, 64, None,
                    96, "lmmmm"),
    "rtx-pro-6000": Row("NVIDIA RTX PRO 6000 Blackwell Server", "blackwell_rtx", 94.97 * GIB, 1792,
                        468, 936, 936, 64, None, 128, "laaam"),
    "mi300x": Row("AMD MI300X", "cdna3", 191.69 * GIB, 5300, 1307, 2615, 2615, 64, 896, 32,
                  "lmmmm"),
    "mi325x": Row("AMD MI325X", "cdna3", 255.7 * GIB, 6000, 1307, 2615, 2615, 64, 896, 32, "mmmmm"),
}
# fmt: on
ALIASES = {
    "a100-sxm": "a100",
    "a100-80gb": "a100",
    "a100-sxm-80gb": "a100",
    "a100-pcie-80gb": "a100-pcie",
    "a100-sxm-40gb": "a100-40gb",
    "h100-sxm-80gb": "h100-sxm",
    "h200-sxm": "h200",
    "b200-sxm": "b200",
    "b300-sxm": "b300",
    "rtx-pro-6000-blackwell": "rtx-pro-6000",
}


def _spec(name: str, row: Row) -> GPUSpec:
    flops = {"bf16": row.bf16, "fp8": row.fp8, "int8": row.int8}
    fields = ("total_memory_bytes", "memory_bandwidth_bytes_per_s", "flops_per_s", "links", "l2")
    return GPUSpec(
        name=name,
        title=row.title,
        generation=row.generation,
        total_memory_bytes=int(row.memory_bytes),
        memory_bandwidth_bytes_per_s=row.bandwidth * 1e9,
        flops_per_s=tuple((k, v * 1e12) for k, v in flops.items() if v is not None),
        pcie_bytes_per_s=row.pcie * 1e9,
        nvlink_bytes_per_s=None if row.nvlink is None else row.nvlink * 1e9,
        l2_bytes=None if row.l2 is None else int(row.l2 * MIB),
        price_usd_per_hour=row.price,
        price_date=row.price_date,
        price_source=row.price_source,
        sources=tuple(
            (field, SOURCES[mark]) for field, mark in zip(fields, row.marks, strict=True)
        ),
    )


GPUS = {name: _spec(name, row) for name, row in ROWS.items()}
