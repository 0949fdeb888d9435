"""Block sharing without a clock: what the samples or beams of a request save.

Kwon et al., PagedAttention (SOSP 2023), Fig. 15. Under backlog every request runs through all its
steps, so a mean over time is a sum over the steps of all requests. At decode step t = 1 .. output -
1 a sequence holds prompt + t tokens (the first output token comes from the prompt's step); its last
block is its own as soon as it has written into it. Saved: blocks without sharing less blocks held,
over blocks without sharing. The prompt's step, in which all sequences hold the same blocks, can be
counted or not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from kvsim.sim.beams import BeamSurvival
from kvsim.traces import synthesize, workload_preset

BLOCK_SIZE = 16
FIG_15 = {  # per cent of blocks saved, Alpaca
    "parallel": {2: 6.09, 4: 8.53, 6: 9.79},
    "beam": {2: 37.56, 4: 53.13, 6: 55.16},
}
SHAREGPT = {"parallel": (16.2, 30.5), "beam": (44.0, 66.0)}
Parents = Callable[[], list[int]]


@cache
def lengths(preset: str, num_requests: int) -> list[tuple[int, int]]:
    """(prompt, output) of each request."""
    trace = synthesize(workload=workload_preset(preset), num_requests=num_requests, seed=1)
    return list(zip(trace.prompt_tokens.tolist(), trace.output_tokens.tolist(), strict=True))


def blocks(tokens: int) -> int:
    """That hold so many tokens."""
    return -(-tokens // BLOCK_SIZE)


def filled_until(tokens: int) -> int:
    """Sum of :func:`blocks` over 1 .. tokens."""
    full, rest = divmod(tokens, BLOCK_SIZE)
    return BLOCK_SIZE * full * (full + 1) // 2 + rest * (full + 1)


def alone(prompt: int, output: int) -> int:
    """Block-steps of one sequence that shares nothing, from the first decode step on."""
    return filled_until(prompt + output - 1) - filled_until(prompt)


def parallel_saving(preset: str, n: int, *, count_prompt_step: bool, num_requests: int) -> float:
    """Share saved by n samples that have the prompt's full blocks in common."""
    held = total = 0
    for prompt, output in lengths(preset, num_requests):
        own = alone(prompt, output)
        common = prompt // BLOCK_SIZE * (output - 1)
        held += n * (own - common) + common
        total += n * own
        if count_prompt_step:
            held += blocks(prompt)
            total += n * blocks(prompt)
    return 1 - held / total


def beam_saving(preset: str, width: int, *, num_requests: int) -> float:
    """Share saved by the beams of :class:`BeamSurvival`, decode steps only."""
    held = total = 0
    for index, (prompt, output) in enumerate(lengths(preset, num_requests)):
        parents = BeamSurvival(width=width, seed=0, index=index).parents
        held += beam_blocks(prompt, output, width, parents)
        total += width * alone(prompt, output)
    return 1 - held / total


def beam_blocks(prompt: int, output: int, width: int, parents: Parents) -> int:
    """Block-steps that beams hold whose forks never cross: parents are in order.

    ``common[i]``: tokens that slots i - 1 and i have in common. Any two slots have the least of
    what lies between them in common, so the blocks held are those of slot 0 and, for each other
    slot, those that it does not share with the slot before.
    """
    common = [prompt] * width
    held = 0
    for tokens in range(prompt + 1, prompt + output):
        old, before = parents(), common[:]
        for slot in range(1, width):
            begin, end = old[slot - 1], old[slot]
            common[slot] = min(before[begin + 1 : end + 1], default=tokens - 1)
        shared = sum(common[slot] // BLOCK_SIZE for slot in range(1, width))
        held += width * blocks(tokens) - shared
    return held


def table_blocks(prompt: int, output: int, width: int, parents: Parents) -> int:
    """The same for any forks, by keeping every beam's block table."""
    table = [[(block, -1) for block in range(blocks(prompt))] for _ in range(width)]
    held = 0
    for tokens in range(prompt + 1, prompt + output):
        table = [list(table[old]) for old in parents()]
        last = (tokens - 1) // BLOCK_SIZE
        for slot, row in enumerate(table):
            row[last:] = [(tokens, slot)]  # its own, copied if there was one
        held += len({block for row in table for block in row})
    return held


def width_2_saving(forgetting: float, preset: str, *, num_requests: int) -> float:
    """The expectation of :func:`beam_saving` at width 2, exactly.

    A block that was full at output token e is held twice at token t while slot 1 kept its beam in
    each step since: probability the product of 1 - min(1, forgetting / u), u = e + 1 .. t.
    """
    pairs = lengths(preset, num_requests)
    longest = max(output for _, output in pairs)
    steps = np.arange(1, longest + 1)
    keep = 1 - np.minimum(1.0, forgetting / steps)
    twice = {e: np.cumsum(np.concatenate([[1.0], np.cumprod(keep[e:])])) for e in steps}
    saved = 0.0
    total = 0
    for prompt, output in pairs:
        end = output - 1
        total += 2 * alone(prompt, output)
        saved += prompt // BLOCK_SIZE * end
        for full in range(BLOCK_SIZE - prompt % BLOCK_SIZE, end + 1, BLOCK_SIZE):
            saved += end - full + 1 - twice[full][end - full]
    return saved / total


def fitted(preset: str = "alpaca", *, num_requests: int) -> float:
    """The one parameter, from the paper's figure for Alpaca at width 2 alone."""
    low, high = 0.0, 100.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        if 100 * width_2_saving(middle, preset, num_requests=num_requests) < FIG_15["beam"][2]:
            low = middle
        else:
            high = middle
    return (low + high) / 2
