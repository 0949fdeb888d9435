"""Fits the beam survival model again, and shows what it and others predict of the paper's Fig. 15.

    .venv/bin/python tests/benchmarks/beam_fit.py

Each model has one parameter, fitted to Alpaca at width 2 alone. The others, for comparison:

    one rate        slots as in ``sim/beams.py``, but h the same in every step
    drop            any slot with probability h; the new beam forks any that was kept
    Moran           with probability h one beam, any, gives way to a fork of any other
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))  # support/, as pytest has it

from support.sharing import (  # noqa: E402
    FIG_15,
    Parents,
    alone,
    beam_saving,
    fitted,
    lengths,
    parallel_saving,
    table_blocks,
)

WIDTHS = (2, 4, 6)
ALPACA_REQUESTS, SHAREGPT_REQUESTS = 2_000, 150
Model = Callable[[int, float, int], Parents]
"""(width, parameter, index of the request) -> the parents of each step."""


def one_rate(width: int, h: float, index: int) -> Parents:
    draw = Random(index).random

    def parents() -> list[int]:
        kept, old = 0, [0]
        for slot in range(1, width):
            kept = slot if draw() >= h * slot / (width - 1) else kept
            old.append(kept)
        return old

    return parents


def drop(width: int, h: float, index: int, *, fading: bool = False) -> Parents:
    random, steps = Random(index), count(1)

    def parents() -> list[int]:
        rate = min(0.95, h / next(steps)) if fading else h
        kept: list[int] = []
        while not kept:
            kept = [slot for slot in range(width) if random.random() >= rate]
        return [slot if slot in kept else random.choice(kept) for slot in range(width)]

    return parents


def fading_drop(width: int, c: float, index: int) -> Parents:
    return drop(width, c, index, fading=True)


def moran(width: int, h: float, index: int) -> Parents:
    random = Random(index)

    def parents() -> list[int]:
        old = list(range(width))
        if random.random() < h:
            dropped, forked = random.sample(old, 2)
            old[dropped] = forked
        return old

    return parents


def saving(model: Model, parameter: float, preset: str, width: int, num_requests: int) -> float:
    """Per cent of blocks saved, over so many requests."""
    held = total = 0
    for index, (prompt, output) in enumerate(lengths(preset, num_requests)):
        held += table_blocks(prompt, output, width, model(width, parameter, index))
        total += width * alone(prompt, output)
    return 100 * (1 - held / total)


def fit(model: Model, most: float) -> float:
    """The parameter with which width 2 saves what the paper's Alpaca does."""
    low, high = 0.0, most
    for _ in range(8):
        middle = (low + high) / 2
        if saving(model, middle, "alpaca", 2, ALPACA_REQUESTS) < FIG_15["beam"][2]:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def line(name: str, parameter: float | None, alpaca: list[float], sharegpt: list[float]) -> str:
    shown = "" if parameter is None else f"{parameter:.3g}"
    figures = "".join(f"{figure:8.2f}" for figure in (*alpaca, *sharegpt))
    return f"{name:24}{shown:>9}{figures}"


def main() -> None:
    title = "".join(f"{f'width {width}':>8}" for width in (*WIDTHS, *WIDTHS))
    print(f"{'per cent of blocks':24}{'':9}{'Alpaca':>24}{'ShareGPT':>24}")
    print(f"{'':24}{'fitted':>9}{title}")
    print(line("the paper", None, list(FIG_15["beam"].values()), []), " 44.3 to 66.3")
    ours = [
        [100 * beam_saving(preset, width, num_requests=n) for width in WIDTHS]
        for preset, n in (("alpaca", 20_000), ("sharegpt", 4_000))
    ]
    print(line("sim/beams.py", fitted(num_requests=20_000), *ours), flush=True)
    models: dict[str, tuple[Model, float]] = {
        "one rate": (one_rate, 1.0),
        "drop, one rate": (drop, 0.9),
        "drop, c / t": (fading_drop, 30.0),
        "Moran, one rate": (moran, 1.0),
    }
    for name, (model, most) in models.items():
        parameter = fit(model, most)
        found = [
            [saving(model, parameter, preset, width, n) for width in WIDTHS]
            for preset, n in (("alpaca", ALPACA_REQUESTS), ("sharegpt", SHAREGPT_REQUESTS))
        ]
        print(line(name, parameter, *found), flush=True)
    print("\nParallel sampling, the prompt's step counted / left out")
    print(line("the paper", None, list(FIG_15["parallel"].values()), []), " 16.2 to 30.5")
    for counted in (True, False):
        samples = [
            [
                100 * parallel_saving(preset, n, count_prompt_step=counted, num_requests=20_000)
                for n in WIDTHS
            ]
            for preset in ("alpaca", "sharegpt")
        ]
        print(line("counted" if counted else "left out", None, *samples))


if __name__ == "__main__":
    main()
