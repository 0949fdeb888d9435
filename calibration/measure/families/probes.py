"""Two small kernels that only a calibration needs: a pure read, and the gated activation.

read_sums   out_i = sum of 8,192 values        reads everything, writes one value of 8,192
silu_mul    out = silu(gate) * up              one pass, as engines fuse it
"""
# The bodies of Triton functions are another language:
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl

READ_VALUES = 8192
WIDTH = 1024


def read_sums(values: torch.Tensor, out: torch.Tensor) -> None:
    """Sum ``READ_VALUES`` values at a time into ``out``, fp32; what is left over is not read."""
    _read[(out.numel(),)](values, out, VALUES=READ_VALUES, num_warps=8)


def silu_mul(gate_up: torch.Tensor, out: torch.Tensor) -> None:
    """``gate_up[tokens, 2 width]``, gate first, into ``out[tokens, width]``."""
    tokens, width = out.shape
    grid = (tokens, triton.cdiv(width, WIDTH))
    _silu_mul[grid](gate_up, out, width, gate_up.stride(0), out.stride(0), WIDTH=WIDTH)


@triton.jit
def _read(values, out, VALUES: tl.constexpr):
    program = tl.program_id(0).to(tl.int64)
    read = tl.load(values + program * VALUES + tl.arange(0, VALUES))
    tl.store(out + program, tl.sum(read.to(tl.float32)))


@triton.jit
def _silu_mul(gate_up, out, width, in_stride, out_stride, WIDTH: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    lane = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    inside = lane < width
    gate = tl.load(gate_up + row * in_stride + lane, mask=inside).to(tl.float32)
    up = tl.load(gate_up + row * in_stride + width + lane, mask=inside).to(tl.float32)
    value = gate / (1.0 + tl.exp(-gate)) * up
    tl.store(out + row * out_stride + lane, value.to(out.dtype.element_ty), mask=inside)
