"""Stack distances: which size of LRU cache each leading reference hits (Mattson et al., 1970).

Under LRU the cache of N blocks holds the N most recently touched ids. So an id hits in every cache
of at least its *stack distance*: its rank by recency as its request arrives. One pass finds all
distances; nothing is replayed per size. The rules are those of ``prefix_stats``: leading ids hit,
then all ids of the request are touched, deepest first, so that a parent is always more recent than
its children. A leading run ends with its first miss: where ids form no tree, a distance counts as
the largest up to it.

The rank is counted, not kept: every touch takes the next place of a long row; a place stays set
while its id has not been touched again; the rank is the number of set places from an id's own on.
Ids that were last touched together lie in descending places side by side, so a chain costs one
count for each earlier request that it goes back to.
"""

import numpy as np
from numpy.typing import NDArray

from .columns import Ints
from .id_tree import numbered
from .trace import Trace

_CHUNK = 4096  # places counted together


def stack_distances(trace: Trace) -> tuple[Ints, Ints, int]:
    """Distance and tokens of every leading reference to an id seen before; the number of ids.

    Raises ValueError where the trace has no hash ids.
    """
    if trace.hash_ids is None or trace.hash_offsets is None or trace.hash_block_size is None:
        raise ValueError(f"trace {trace.name!r} has no hash_ids.")
    ids, num_ids = numbered(trace.hash_ids)
    row = _Row(len(ids))
    place_of = np.full(num_ids, -1, dtype=np.int64)
    bounds = trace.hash_offsets.tolist()
    distances: list[Ints] = []
    leading = np.zeros(len(trace), dtype=np.int64)
    for index in range(len(trace)):
        chain = ids[bounds[index] : bounds[index + 1]]
        places = place_of[chain]
        known = _leading_known(places)
        if known:
            distances.append(row.ranks(places[:known]))
            leading[index] = known
        row.touch(chain, places, place_of)
    found = np.concatenate(distances) if distances else np.empty(0, dtype=np.int64)
    return found, _tokens(leading, trace.prompt_tokens, trace.hash_block_size), num_ids


def _leading_known(places: Ints) -> int:
    """How many leading ids have a place."""
    new = places < 0
    first = int(new.argmax()) if len(new) else 0
    return first if len(new) and new[first] else len(new)


def _tokens(leading: Ints, prompt_tokens: Ints, block_tokens: int) -> Ints:
    """Tokens of each leading block: a whole block, or what the prompt has of a last one."""
    row = np.repeat(np.arange(len(leading)), leading)
    depth = np.arange(len(row)) - np.repeat(np.cumsum(leading) - leading, leading)
    left = prompt_tokens[row] - depth * block_tokens
    return np.asarray(np.minimum(left, block_tokens), dtype=np.int64)


class _Row:
    """Places, one per touch; set while they are the last touch of their id."""

    def __init__(self, size: int) -> None:
        self._set: NDArray[np.bool_] = np.zeros(size, dtype=np.bool_)
        self._counts = np.zeros(size // _CHUNK + 1, dtype=np.int64)
        self._next = 0

    def ranks(self, places: Ints) -> Ints:
        """Rank of each place, never less than that of one before it."""
        starts = np.flatnonzero(places[1:] != places[:-1] - 1) + 1
        starts = np.concatenate(([0], starts))
        counted = np.array([self._count_from(place) for place in places[starts].tolist()])
        run = np.repeat(counted - starts, np.diff(np.append(starts, len(places))))
        return np.maximum.accumulate(run + np.arange(len(places)))

    def touch(self, chain: Ints, places: Ints, place_of: Ints) -> None:
        """Give the chain's ids the next places, deepest first; `places` are their old ones."""
        first, after = self._next, self._next + len(chain)
        self._next = after
        old, new = places[places >= 0], np.arange(after - 1, first - 1, -1)
        place_of[chain[::-1]] = new[::-1]
        last = place_of[chain] == new
        if not last.all():  # an id twice in a chain keeps its newest place, which is its shallowest
            old, new = np.unique(old), new[last]
        self._set[old] = False
        self._set[new] = True
        np.subtract.at(self._counts, old // _CHUNK, 1)
        np.add.at(self._counts, new // _CHUNK, 1)

    def _count_from(self, place: int) -> int:
        """Set places from this one on."""
        chunk = place // _CHUNK
        inside = int(np.count_nonzero(self._set[place : (chunk + 1) * _CHUNK]))
        return inside + int(self._counts[chunk + 1 :].sum())
