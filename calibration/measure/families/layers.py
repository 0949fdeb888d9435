"""A model's decode layers as an engine runs them: what a captured graph holds, launch by launch.

    norm, qkv, rope + write, attention, merge, o, add, norm, gate_up, silu_mul, down, add

One layer's weights stand for all (they are larger than any L2); every layer reads KV of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ....kernels.kv_write import write_kv
from ....kernels.paged_decode import paged_decode, plan_decode_for
from ..bench import Bench
from .attention import paged_kv
from .elementwise import NORM_EPSILON, rope_of
from .probes import silu_mul

NODES_A_LAYER = 12


class DecodeLayers:
    """Operands of a step of ``batch`` decodes; a call runs the step."""

    def __init__(self, x: Mapping[str, Any], bench: Bench) -> None:
        self._x = x
        batch, hidden, width = x["batch"], x["hidden_size"], x["intermediate_size"]
        heads, kv_heads, dim, dtype = x["heads"], x["kv_heads"], x["head_dim"], x["dtype"]
        lengths = [x["context_tokens"]] * batch
        self._kv = paged_kv({**x, "kind": "paged", "kv_dtype": dtype}, bench, lengths)
        self._hidden = bench.normal(batch, hidden, dtype=dtype)
        self._norm = bench.normal(hidden, dtype=dtype)
        shapes = {
            "qkv": ((heads + 2 * kv_heads) * dim, hidden),
            "o": (hidden, heads * dim),
            "gate_up": (2 * width, hidden),
            "down": (hidden, width),
        }
        weights = {name: bench.normal(n, k, dtype=dtype) for name, (n, k) in shapes.items()}
        self._weights = {
            name: weight.mul_(weight.shape[1] ** -0.5) for name, weight in weights.items()
        }
        self._gated = torch.empty(batch, width, dtype=self._hidden.dtype, device=bench.device)
        self._seq_lens = bench.ints(lengths)
        query = self._hidden.new_empty(batch, heads, dim)
        self._work = plan_decode_for(query, self._kv.keys, self._seq_lens)
        self._rope = rope_of(x, bench, batch)
        self._one = torch.ones(kv_heads, device=bench.device)
        block = (lengths[0] - 1) // x["block_size"]
        last = [table[:, block].long() * x["block_size"] for table in self._kv.tables]
        self._slots = [first + (lengths[0] - 1) % x["block_size"] for first in last]

    @property
    def nodes(self) -> int:
        """Kernels of a step."""
        return int(NODES_A_LAYER * self._x["layers"])

    def __call__(self) -> torch.Tensor:
        """One step."""
        hidden = self._hidden
        for layer in range(self._x["layers"]):
            hidden = hidden + self._attention(self._normed(hidden), layer % len(self._slots))
            silu_mul(self._product("gate_up", self._normed(hidden)), self._gated)
            hidden = hidden + self._product("down", self._gated)
        return hidden

    def _attention(self, hidden: torch.Tensor, turn: int) -> torch.Tensor:
        heads, kv_heads, dim = self._x["heads"], self._x["kv_heads"], self._x["head_dim"]
        qkv = self._product("qkv", hidden).view(len(hidden), heads + 2 * kv_heads, dim)
        query, key = qkv[:, :heads], qkv[:, heads : heads + kv_heads]
        value = qkv[:, heads + kv_heads :]
        write_kv(
            key,
            value,
            self._kv.keys,
            self._kv.values,
            self._slots[turn],
            rope=self._rope,
            query=query,
            k_scale=self._one,
            v_scale=self._one,
        )
        table = self._kv.tables[turn]
        out = query.new_empty(query.shape)
        paged_decode(
            query, self._kv.keys, self._kv.values, table, self._seq_lens, work=self._work, out=out
        )
        return self._product("o", out.view(len(hidden), -1))

    def _normed(self, hidden: torch.Tensor) -> torch.Tensor:
        shape = (self._x["hidden_size"],)
        return torch.nn.functional.rms_norm(hidden, shape, self._norm, NORM_EPSILON)

    def _product(self, name: str, rows: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(rows, self._weights[name])
