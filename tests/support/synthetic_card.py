"""An invented GPU, whose times come from an event model that knows nothing of the fitted forms.

Programs start in launch order whenever a slot is free (greedy list scheduling); each waits
``start_s`` for its first tile, then works at ``min(program rate, card rate / programs at work)``.
Waves, tails and the saturation of the memory emerge. A second launch merges what split sequences
left, one round after another through a sequence's items. Matrix products take the quickest of a few
output tiles, in waves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from kvsim.calibration.profile.values import Hardware
from kvsim.kernels.split import split, target_items

HEAD_DIM = 128
TILE_TOKENS = 64
QUERY_TOKENS = 32
MERGED_AT_ONCE = 16

Runs = Iterable[tuple[float, int]]
"""``(work, how many programs)`` in launch order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """The invented GPU: what a measurement cannot see."""

    num_sms: int = 132
    decode_per_sm: int = 4
    launch_s: float = 2.2e-6
    start_s: float = 1.4e-6
    read_bytes_per_s: float = 4.0e12
    copy_bytes_per_s: float = 4.1e12
    program_bytes_per_s: float = 1.2e10
    flops_per_s: float = 5.2e14
    program_flops_per_s: float = 4.6e12
    matmul_flops_per_s: float = 7.8e14
    merge_step_s: float = 6e-7
    overlap: float = 0.15

    @property
    def decode_slots(self) -> int:
        """Decode programs at once."""
        return self.num_sms * self.decode_per_sm

    def hardware(self) -> Hardware:
        """As a driver would tell it."""
        return Hardware(
            gpu="invented",
            name="Invented 132",
            compute_capability="9.0",
            num_sms=self.num_sms,
            l2_bytes=60 << 20,
            total_memory_bytes=140 << 30,
        )

    # ------------------------------------------------------------------ noiseless times

    def decode_s(self, heads: tuple[int, int], seq_lens: Sequence[int], kv_bytes: int = 2) -> float:
        """Decode attention of one layer and its merge."""
        token_bytes = 2 * HEAD_DIM * kv_bytes
        cut = split(
            seq_lens,
            target=target_items(self.decode_slots, heads[1]),
            tile_tokens=TILE_TOKENS,
        )
        runs: list[tuple[float, int]] = []
        for length, items, tiles in zip(seq_lens, cut.items, cut.tiles_per_item, strict=True):
            whole = tiles * TILE_TOKENS
            if items > 1:
                runs.append((float(whole * token_bytes), (items - 1) * heads[1]))
            if items:
                runs.append((float((length - (items - 1) * whole) * token_bytes), heads[1]))
        attention = events_s(
            runs,
            slots=self.decode_slots,
            rate=self.read_bytes_per_s,
            program_rate=self.program_bytes_per_s,
            start_s=self.start_s,
        )
        return attention + self._merge_s(heads[0], cut.items) + 2 * self.launch_s

    def _merge_s(self, heads: int, items: Sequence[int]) -> float:
        partials = sum(n for n in items if n > 1) * heads * HEAD_DIM * 4 * 2
        rounds = -(-max(items) // MERGED_AT_ONCE) if partials else 0
        return partials / self.read_bytes_per_s + rounds * self.merge_step_s

    def prefill_s(self, heads: tuple[int, int], chunks: Sequence[tuple[int, int]]) -> float:
        """Attention of chunks of one layer, from the last tile on."""
        rows = QUERY_TOKENS * heads[0] // heads[1]
        runs = []
        for new, past in chunks:
            for first in range(0, new, QUERY_TOKENS):
                seen = past + min(first + QUERY_TOKENS, new)
                keys = -(-seen // TILE_TOKENS) * TILE_TOKENS
                runs.append((4.0 * rows * keys * HEAD_DIM, heads[1]))
        attention = events_s(
            runs[::-1],
            slots=self.num_sms,
            rate=self.flops_per_s,
            program_rate=self.program_flops_per_s,
            start_s=2 * self.start_s,
        )
        return attention + self.launch_s

    def matmul_s(self, m: int, n: int, k: int) -> float:
        """The quickest of a few output tiles, each in waves of which the last may overlap."""
        moved = 2 * (m * k + n * k + m * n) / self.read_bytes_per_s
        times = []
        for rows, columns, use in ((16, 64, 0.3), (64, 64, 0.6), (128, 128, 0.9), (128, 256, 1.0)):
            tiles = -(-m // rows) * -(-n // columns)
            for parts in (1, 2, 4):  # split-K: more programs, and their sums added up
                waves = tiles * parts / self.num_sms
                whole = 0.3 * waves + 0.7 * -(-tiles * parts // self.num_sms)
                one = 2 * rows * columns * k / parts / (self.matmul_flops_per_s * use)
                added = (parts - 1) * (2e-6 + 8 * m * n / self.read_bytes_per_s)
                times.append(max(whole * one * self.num_sms, moved) + 0.1 * moved + added)
        return min(times) + 2 * self.launch_s


def events_s(runs: Runs, *, slots: int, rate: float, program_rate: float, start_s: float) -> float:
    """When the last program ends.

    Programs at work all go at one speed, so each ends when the work done *by one program since the
    beginning* reaches a mark: one clock for all, and alike programs share an event.
    """
    waiting = [(work, count) for work, count in runs if count][::-1]
    starting: list[tuple[float, float, int]] = []
    working: list[tuple[float, int]] = []
    now, done, active, free = 0.0, 0.0, 0, slots
    while waiting or starting or working:
        while waiting and free:
            work, count = waiting.pop()
            taken = min(count, free)
            heappush(starting, (now + start_s, work, taken))
            free -= taken
            if count > taken:
                waiting.append((work, count - taken))
        speed = min(program_rate, rate / active) if active else program_rate
        end = now + (working[0][0] - done) / speed if working else float("inf")
        if starting and starting[0][0] <= end:
            ready, work, count = heappop(starting)
            done += (ready - now) * speed * bool(active)
            now = ready
            heappush(working, (done + work, count))
            active += count
        else:
            done, now = working[0][0], end
            while working and working[0][0] <= done:
                count = heappop(working)[1]
                active -= count
                free += count
    return now
