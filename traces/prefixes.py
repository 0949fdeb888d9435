"""Prefix-block ids of synthetic prompts: which prompts begin alike.

A prompt is a shared group prefix (P tokens) followed by its session's own stream of tokens; a later
turn's prompt repeats the whole stream so far. With blocks of B tokens, block i of a prompt is
- shared by its group where it lies within the prefix: i < P // B
- shared by its session's later turns where it is full
- the prompt's own where it is the last and partial.
Every block of every prompt has an id (ceil, as in the Mooncake files); ids are small whole numbers.
"""

from dataclasses import dataclass

import numpy as np

from .columns import Ids, Ints, offsets_of


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixGroups:
    """`num_groups` system prompts of `prefix_tokens` each, put before the drawn prompts.

    A session's group is drawn with weight 1/rank^zipf_exponent; 0 = all alike.
    """

    num_groups: int
    prefix_tokens: int
    zipf_exponent: float = 0.0

    def __post_init__(self) -> None:
        for name in ("num_groups", "prefix_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}(={getattr(self, name)}) must be > 0.")
        if not 0 <= self.zipf_exponent < np.inf:
            raise ValueError(f"zipf_exponent(={self.zipf_exponent}) must be >= 0.")

    def choose(self, n: int, rng: np.random.Generator) -> Ints:
        """(n,) group numbers from 0."""
        weights = np.arange(1, self.num_groups + 1, dtype=np.float64) ** -self.zipf_exponent
        return rng.choice(self.num_groups, n, p=weights / weights.sum()).astype(np.int64)


def prefix_chains(
    prompt_tokens: Ints, session: Ints, group: Ints, *, prefix_tokens: int, block_size: int
) -> tuple[Ids, Ints]:
    """Flat ids and offsets (n+1,) for prompts (n,), each with its session and prefix group (n,).

    Sessions and groups are numbered from 0; a session keeps its group.
    """
    counts = -(-prompt_tokens // block_size)
    num_full = prompt_tokens // block_size
    num_shared = prefix_tokens // block_size
    session_base, first_partial = _session_ranges(num_full, session, num_shared, group)
    offsets = offsets_of(counts)
    row = np.repeat(np.arange(len(counts)), counts)
    position = np.arange(offsets[-1]) - offsets[row]
    ids = session_base[session[row]] + position - num_shared
    shared = position < num_shared
    ids[shared] = (group[row] * num_shared + position)[shared]
    partial = position >= num_full[row]
    ids[partial] = first_partial + np.arange(int(partial.sum()))
    return ids.astype(np.uint64), offsets


def _session_ranges(
    num_full: Ints, session: Ints, num_shared: int, group: Ints
) -> tuple[Ints, int]:
    """First id of each session's own full blocks, and the first id behind all of them."""
    longest = np.zeros(int(session.max()) + 1, dtype=np.int64)
    np.maximum.at(longest, session, np.maximum(num_full - num_shared, 0))
    base = offsets_of(longest) + (int(group.max()) + 1) * num_shared
    return base[:-1], int(base[-1])
