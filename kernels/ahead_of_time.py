"""Compiles a kernel for a GPU that is not here, and reads what the compiler says of it.

No GPU and no driver is needed: Triton carries NVIDIA's assembler and ``cuobjdump``. What a program
takes of a multiprocessor decides how many run at once; spilled registers, byte-wise copies or
scalar arithmetic where matrix instructions were meant show here, long before a benchmark.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from .launch import SYSTEM_SHARED_BYTES

WARP = 32
REGISTERS_PER_SM = 65536
REGISTER_GRAIN = 256
"""Registers are given to a warp in such portions."""
MAX_WARPS_PER_SM = {80: 64, 86: 48, 89: 48, 90: 64, 100: 64, 120: 48}
SHARED_PER_SM_BYTES = {
    80: 164 << 10,
    86: 100 << 10,
    89: 100 << 10,
    90: 228 << 10,
    100: 228 << 10,
    120: 100 << 10,
}
"""CUDA programming guide, table of technical specifications per compute capability."""
ALIGNED = ("stride", "words")
"""Integers that are multiples of 16 at run time, in all but odd shapes."""
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One compiled kernel."""

    compute_capability: int
    """80, 89, 90 ..."""
    num_warps: int
    registers: int
    """Of a thread."""
    shared_bytes: int
    stack_bytes: int
    """Of a thread: what does not fit registers."""
    spills: int
    """Instructions that read or write a thread's own memory."""
    instructions: Mapping[str, int]
    """How often each of ``WATCHED`` is in the machine code."""

    @property
    def programs_per_sm(self) -> int:
        """How many run at once on a multiprocessor: by registers, shared memory and warps."""
        return programs_per_sm(
            self.compute_capability, self.num_warps, self.registers, self.shared_bytes
        )


WATCHED = {
    "copy 16 bytes": r"\bLDGSTS\.\S*\.128\b",
    "copy 8 bytes": r"\bLDGSTS\.\S*\.64\b",
    "copy 4 bytes": r"\bLDGSTS\.E(\.\w*BYPASS)?\b(?!\S*\.(64|128))",
    "matrix": r"\b(HMMA|QMMA|IMMA)\b",
    "warp group matrix": r"\b(HGMMA|QGMMA)\b",
    "tensor memory matrix": r"\b(UTCHMMA|UTCQMMA|UTCIMMA)\b",
    "load 1 byte shared": r"\bLDS\.[US]8\b",
    "load 16 bytes": r"\bLDG\.\S*\.128\b",
}
_SPILL = re.compile(r"\b(LDL|STL)\b")


def compiled_report(
    kernel: Any,
    *,
    types: Mapping[str, str],
    constants: Mapping[str, Any],
    compute_capability: int,
    num_warps: int,
    num_stages: int,
) -> Report:
    """Compile ``kernel`` for ``sm_<compute_capability>``.

    Args:
        kernel: a Triton function, not an interpreted one.
        types: of every argument that is no constant, ``*bf16``, ``i32``, ``fp32`` ...; pointers and
            strides are taken as multiples of 16, as they are at run time.
        constants: the others.
        compute_capability: of the GPU.
        num_warps: of a program.
        num_stages: of the software pipeline.

    Raises:
        CompilationError: the target cannot do it (an fp8 format, for example).
    """
    names = kernel.arg_names
    signature = {name: types.get(name, "constexpr") for name in names}
    aligned = [
        name
        for name in types
        if types[name].startswith("*") or any(part in name for part in ALIGNED)
    ]
    source = ASTSource(
        fn=kernel,
        signature=signature,
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in aligned},
    )
    target = GPUTarget("cuda", compute_capability, WARP)
    options = {"num_warps": num_warps, "num_stages": num_stages}
    made = triton.compile(source, target=target, options=options)
    usage, code = _disassembled(made.asm["cubin"])
    return Report(
        compute_capability=compute_capability,
        num_warps=made.metadata.num_warps,
        registers=_number("REG", usage),
        shared_bytes=made.metadata.shared,
        stack_bytes=_number("STACK", usage),
        spills=len(_SPILL.findall(code)),
        instructions={name: len(re.findall(what, code)) for name, what in WATCHED.items()},
    )


def programs_per_sm(
    compute_capability: int, num_warps: int, registers: int, shared_bytes: int
) -> int:
    """Programs that fit one multiprocessor; 0 where not even one does."""
    per_warp = -(-registers * WARP // REGISTER_GRAIN) * REGISTER_GRAIN
    by_registers = REGISTERS_PER_SM // (per_warp * num_warps)
    by_warps = MAX_WARPS_PER_SM[compute_capability] // num_warps
    whole = SHARED_PER_SM_BYTES[compute_capability]
    by_shared = whole // (shared_bytes + SYSTEM_SHARED_BYTES)
    return min(by_registers, by_warps, by_shared)


def _disassembled(cubin: bytes) -> tuple[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        return _tool("-res-usage", path), _tool("--dump-sass", path)


def _tool(option: str, path: Path) -> str:
    command = [str(TOOLS / "cuobjdump"), option, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _number(name: str, text: str) -> int:
    found = re.search(rf"\b{name}:(\d+)", text)
    if found is None:
        raise ValueError(f"cuobjdump says nothing of {name}: {text.strip()[-200:]}")
    return int(found[1])
