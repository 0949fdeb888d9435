"""Virtual-contiguous KV cache: contiguous addresses, physical pages mapped on demand (vAttention).

Prabhu et al., vAttention (ASPLOS 2025). Every request owns ``max_model_len`` tokens of virtual
addresses, which cost nothing; as its tokens come, physical pages are mapped behind them. What is
taken from the pool at once is a page for each tensor (keys and values of every layer): room for
``block_size`` tokens of one request. So memory is held as with paged blocks of that size, but

- no two sequences have an address in common, so nothing is shared and there is no prefix cache;
  samples and beams have pages of their own, mapped as those of the first of their group are, and
  what they have in common is copied;
- the attention kernel sees contiguous tensors and needs no block table;
- no block is set aside as the null block: all whole pages that the pool has room for are used, and
  what is left beside them is of use to nobody.

Charged: memory. Not charged: the time to map a page, about 40 us with CUDA's calls, which
vAttention hides behind the step before; nor saved: what its deferred reclamation, which leaves
pages mapped until somebody else needs them, saves of it.
"""

from __future__ import annotations

import numpy as np

from ..group import Folded, Group, sequences
from ..request import Request
from .base import Usage
from .layout import KINDS, Layout, TokensOf, tokens_there
from .paged import PagedAllocator


class VirtualAllocator(PagedAllocator):
    """Pages of ``page_tokens`` tokens out of ``pool_slots`` slots.

    Args:
        pool_slots: tokens that the pool's bytes hold.
        page_bytes: of one page.
        kv_row_bytes: of one token in one tensor of one layer.
        watermark: share of the pages kept free when a request is admitted beside others.
        reserve_full_isl: admit only if all known tokens would fit now (a test, not a reservation).

    Raises:
        ValueError: a page that holds no token, a pool without a page, a watermark outside [0, 1).
    """

    def __init__(
        self,
        *,
        pool_slots: int,
        page_bytes: int,
        kv_row_bytes: int,
        watermark: float = 0.0,
        reserve_full_isl: bool = True,
    ) -> None:
        if not 1 <= kv_row_bytes <= page_bytes:
            raise ValueError(
                f"kv_row_bytes(={kv_row_bytes}) must be in [1, page_bytes(={page_bytes})]."
            )
        self.num_pages = pool_slots * kv_row_bytes // page_bytes
        if self.num_pages < 1:
            raise ValueError(
                f"page_bytes(={page_bytes}) is more than the pool has in one tensor "
                f"({pool_slots * kv_row_bytes} bytes)."
            )
        super().__init__(
            num_gpu_blocks=self.num_pages + 1,  # a null block that no memory is behind
            block_size=page_bytes // kv_row_bytes,
            watermark=watermark,
            reserve_full_isl=reserve_full_isl,
        )
        self.pool_slots = pool_slots
        self._paged_slots = self.num_pages * self.block_size
        self._left_over = pool_slots - self._paged_slots

    def why_never(self, request: Request) -> str:
        needed = sum(self.blocks_for(one.kv_tokens) for one in sequences(request))
        if needed <= self.num_pages:
            return ""
        return f"needs more than all {self.num_pages} pages of the pool"

    def can_admit(self, request: Request, tokens: int, *, others_run: bool) -> bool:
        group = request.group
        if group is None:
            return super().can_admit(request, tokens, others_run=others_run)
        free = self.num_free - (self.watermark_blocks if others_run else 0)
        if group.folded is not None:
            return group.folded.num_blocks + group.folded.num_more <= free
        gate = request.known if self.reserve_full_isl else tokens
        return self.blocks_for(gate) * group.width <= free

    def admit(self, request: Request, tokens: int) -> None:
        group = request.group
        if group is None or group.folded is None:
            for one in sequences(request):
                super().admit(one, tokens)
            return
        group.folded = None
        for one, known in zip(group.members, group.kept, strict=True):
            super().admit(one, known)

    def extend(self, request: Request, tokens: int) -> bool:
        group = request.group
        if group is None or (group.forked and not group.recovering):
            return super().extend(request, tokens)
        if group.recovering:
            return True
        pages = (self.blocks_for(tokens) - len(request.blocks)) * group.width
        if pages > self.num_free:
            return False
        return all([super(VirtualAllocator, self).extend(one, tokens) for one in group.members])

    def fork(self, group: Group) -> None:
        self._copy_prompt(group)

    def reorder(self, group: Group, parents: list[int], tokens: int) -> None:
        self._copy_moved(parents, tokens)

    def fold(self, group: Group) -> None:
        prompt = group.members[0].prompt_tokens
        own = [known - 1 for known in group.kept]
        pages = sum(map(self.blocks_for, own))
        more = sum(map(self.blocks_for, group.kept)) - pages
        computed = prompt + sum(tokens - prompt for tokens in own)
        group.folded = Folded(((),) * group.width, pages, more, computed)
        for one in group.members:
            self.release(one)

    def recovered(self, group: Group) -> None:
        self._copy_prompt(group)

    def usage(self, *, blocked: bool) -> Usage:
        held = self._paged_slots - self.num_free * self.block_size
        return Usage(held, self._internal_slots, self._left_over)

    def layout(
        self, tokens_of: TokensOf, *, blocked: bool, view_slots: int | None = None
    ) -> Layout:
        there = tokens_there(tokens_of, self.block_size)
        pages = super().layout(there, blocked=blocked, view_slots=view_slots)
        if not self._left_over:
            return pages
        waste = np.zeros((len(KINDS), 1), dtype=np.int64)
        waste[KINDS.index("external")] = self._left_over
        return Layout(
            starts=np.append(pages.starts, self._paged_slots),
            slots=np.concatenate([pages.slots, waste], axis=1),
            owners=np.append(pages.owners, -1),
            holders=pages.holders,
        )

    def check(self) -> None:
        super().check()
        held = sum(len(request.blocks) for request in self._holders)
        pages = held + self.num_free
        assert pages == self.num_pages, f"{held} held + {self.num_free} free != {self.num_pages}"
        slots = pages * self.block_size + self._left_over
        assert slots == self.pool_slots, f"{slots} slots accounted for, of {self.pool_slots}"
