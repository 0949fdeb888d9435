"""Which eager steps are run before anybody waits, so that nothing is compiled afterwards.

The planning kernels are compiled anew for every power of two of rows, and for counts of 1 and
multiples of 16; chunks behind decodes also for whether their lengths begin at 16 bytes, which
four decodes do and one does not.
"""

from __future__ import annotations

from collections.abc import Iterator

from .graph_buckets import BUCKETS

MOST_CHUNKS = 9
"""Of one step; more are rare, and compile when they come."""
DECODES_BEFORE_CHUNKS = (0, 1, 4)


def warm_steps(
    *, max_num_seqs: int, max_num_batched_tokens: int, max_model_len: int
) -> Iterator[tuple[int, list[int]]]:
    """Decodes, and lengths of the chunks, of each."""
    most = min(max_num_seqs, max_num_batched_tokens)
    counts = {1, 2, 3, 5, most, *BUCKETS, *(bucket + 1 for bucket in BUCKETS)}
    for count in sorted(counts):
        if count <= most:
            yield count, []
    for decodes in DECODES_BEFORE_CHUNKS:
        for chunks in range(1, 1 + min(most - decodes, MOST_CHUNKS)):
            length = min((max_num_batched_tokens - decodes) // chunks, max_model_len)
            if length > 1:
                yield decodes, [length] * chunks
