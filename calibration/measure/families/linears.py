"""Linear layers: ``out[m, n] = x[m, k] @ w[n, k].T``, weights past the L2, tokens as they come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ...profile.loads import DTYPE_BYTES
from ..bench import Bench, rotating
from ..card import Work


def prepare(x: Mapping[str, Any], bench: Bench) -> Work:
    """Weights in as many copies as rotate; the tokens stay, as a layer finds them in the L2."""
    m, n, k, dtype = x["m"], x["n"], x["k"], x["dtype"]
    num_sets = bench.num_sets(n * k * DTYPE_BYTES[dtype])
    weights = bench.pool(num_sets * n * k, dtype).view(num_sets, n, k)
    tokens = bench.normal(m, k, dtype=dtype)
    out = torch.empty(m, n, dtype=tokens.dtype, device=bench.device)
    call = rotating(lambda weight: torch.mm(tokens, weight.t(), out=out), list(weights))
    return Work(call=call, x=x, num_sets=num_sets)
