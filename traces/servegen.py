"""ServeGen: clients described by distributions, from which requests are drawn.

The rates are counts per window, so a window of T seconds at rate r gets n = r T scale requests (a
fraction is rounded up with its own probability). Their gaps are n + 1 draws of the family, Gamma or
Weibull, with the window's CV, scaled to fill the window: the rate is met exactly, the CV but for
the spread of the sum. Prompt and output lengths are drawn independently of each other.

One random stream per client and window, SeedSequence([seed, N, start]): a window of the day is the
same whatever else is drawn. Source: Alibaba's ServeGen, arXiv 2505.09999.
"""

import math
from pathlib import Path

import numpy as np

from .columns import NS_PER_S, Floats, Ints
from .formats.servegen import Client, Window, client_files, read_client
from .trace import Trace

_LARGEST_SHAPE, _SMALLEST_SHAPE = 100.0, 0.05  # Weibull CVs of 0.01 and 1.4e4
_MOST_REQUESTS = 50_000_000


def is_servegen(path: str | Path) -> bool:
    """Whether a path is a directory of such clients."""
    return Path(path).is_dir() and bool(client_files(Path(path)))


def draw_servegen(
    directory: str | Path,
    *,
    seed: int = 0,
    start_s: float = 0.0,
    end_s: float = math.inf,
    scale_rate: float = 1.0,
    strict: bool = False,
) -> Trace:
    """Requests of all clients with start_s <= arrival < end_s, from the start of the day.

    Raises ValueError for a missing or damaged file, a number out of range, or no requests.
    """
    if seed < 0:
        raise ValueError(f"seed(={seed}) must be >= 0.")
    if not (scale_rate > 0 and math.isfinite(scale_rate)):
        raise ValueError(f"scale_rate(={scale_rate:g}) must be > 0.")
    folder = Path(directory)
    clients = [read_client(path, number) for number, path in client_files(folder)]
    if not clients:
        raise ValueError(f"{folder.name} holds no chunk-N-trace.csv.")
    skipped = tuple(skip for client in clients for skip in client.skipped)
    if strict and skipped:
        raise ValueError(f"{skipped[0]}.")
    draws = [
        _draw(client, window, seed, scale_rate)
        for client in clients
        for window in client.windows
        if window.start_s < end_s and window.end_s > start_s
    ]
    time_ns, prompt, output = (
        np.concatenate([draw[i] for draw in draws] or [np.empty(0, dtype=np.int64)])
        for i in range(3)
    )
    order = np.argsort(time_ns, kind="stable")
    arrival_s = time_ns[order] / NS_PER_S
    order = order[(arrival_s >= start_s) & (arrival_s < end_s)]
    if not len(order):
        span = f"start_s(={start_s}), end_s(={end_s})"
        raise ValueError(f"{folder.name} holds no requests in {span}.")
    scaled = "" if scale_rate == 1 else f", rates times {scale_rate:g}"
    return Trace(
        name=folder.name,
        prompt_tokens=prompt[order],
        output_tokens=output[order],
        arrival_s=time_ns[order] / NS_PER_S,
        skipped=skipped,
        notes=(
            f"{folder.name}: requests are drawn from the distributions of {len(clients)} clients, "
            f"seed {seed}{scaled}.",
        ),
    )


def _draw(client: Client, window: Window, seed: int, scale: float) -> tuple[Ints, Ints, Ints]:
    """Times (ns), prompt and output tokens of one window's requests."""
    rng = np.random.default_rng(
        np.random.SeedSequence([seed, client.number, round(window.start_s * NS_PER_S)])
    )
    span_s = window.end_s - window.start_s
    mean = window.rate_per_s * span_s * scale
    if mean > _MOST_REQUESTS:
        raise ValueError(f"scale_rate(={scale:g}) draws more than {_MOST_REQUESTS} in a window.")
    # a count that the division has made 5003.999...9 is 5004
    num = math.floor(round(mean, 6) + rng.random())
    gaps = _gaps(window, num + 1, rng)
    times_s = window.start_s + np.cumsum(gaps)[:-1] * (span_s / gaps.sum())
    prompt, output = client.lengths_at(window.start_s)
    return (
        # a last gap of next to nothing must not round into the next window
        np.minimum(times_s * NS_PER_S, round(window.end_s * NS_PER_S) - 1).astype(np.int64),
        rng.choice(prompt.tokens, num, p=prompt.probability),
        rng.choice(output.tokens, num, p=output.probability),
    )


def _gaps(window: Window, num: int, rng: np.random.Generator) -> Floats:
    """Gaps of any mean; a sum of 0 cannot be scaled, so the smallest gap is not 0."""
    if window.family == "Gamma":
        gaps = rng.gamma(window.cv**-2, 1.0, num)
    else:
        gaps = rng.weibull(_weibull_shape(window.cv), num)
    return np.maximum(gaps, np.finfo(np.float64).tiny)


def _weibull_shape(cv: float) -> float:
    """Shape k of a Weibull with this CV: 1 + CV^2 = G(1 + 2/k) / G(1 + 1/k)^2, falling in k."""
    low, high = math.log(_SMALLEST_SHAPE), math.log(_LARGEST_SHAPE)
    for _ in range(60):
        middle = (low + high) / 2
        k = math.exp(middle)
        log_ratio = math.lgamma(1 + 2 / k) - 2 * math.lgamma(1 + 1 / k)
        low, high = (middle, high) if log_ratio > math.log1p(cv * cv) else (low, middle)
    return math.exp(low)
