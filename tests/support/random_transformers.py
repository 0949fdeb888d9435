"""Random requests to transformers' continuous batching and to kvsim, compared step by step."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import NamedTuple

from support.real_transformers import Case, assert_same_steps

SEEDS = (*range(16), 1074)
"""1074: one comes back in the step in which others give way."""


class Alike(NamedTuple):
    """What was compared, and found to be the same."""

    num_cases: int
    num_steps: int


def random_case(seed: int) -> Case:
    draw = random.Random(seed)
    count = draw.randint(1, 14)
    heads = [[draw.randrange(64) for _ in range(draw.randint(1, 30))] for _ in range(3)]
    prompts = []
    for _ in range(count):
        head = draw.choice(heads)[: draw.randint(0, 30)] if draw.random() < 0.7 else []
        prompts.append(head + [draw.randrange(64) for _ in range(draw.randint(1, 25))])
    if draw.random() < 0.3:
        prompts = [draw.choice(prompts) for _ in prompts]
    outputs = [draw.randint(1, 30) for _ in range(count)]
    longest = max(len(prompt) + n for prompt, n in zip(prompts, outputs, strict=True))
    blocks = -(-longest // 4)
    return Case(
        prompts=prompts,
        outputs=outputs,
        arrivals=sorted(draw.choice([0, draw.randint(0, 30)]) for _ in range(count)),
        num_blocks=int(blocks * draw.choice([1, 1.2, 1.5, 2, 3, 5])) + draw.randint(0, 3),
        max_batch_tokens=draw.choice([3, 8, 16, 40, 200]),
        max_requests=draw.choice([1, 2, 3, 64]),
        sharing=draw.random() < 0.6,
        offload_blocks=draw.choice([0, 0, 5, 20, 1000]),
        prefill_first=draw.random() < 0.4,
        safety_margin=draw.choice([None, None, 0.0, 0.3, 0.05]),
        max_blocks_per_request=draw.choice([0, 0, 5, 1000]),
    )


def compare_random(seeds: Iterable[int]) -> Alike:
    """All of them; cases in which the library itself fails are not counted.

    Raises:
        AssertionError: a step differs.
    """
    num_cases = num_steps = 0
    for seed in seeds:
        case = random_case(seed)
        try:
            num_steps += len(assert_same_steps(case))
            num_cases += 1
        except ValueError as error:
            if not (case.offload_blocks and str(error).startswith("Cannot pop")):
                raise  # else: the library's host pool counted what it had freed twice, and failed
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
    return Alike(num_cases, num_steps)
