"""Our kernel beside others on the same batches in the same run.

    decode   bytes of keys and values / time, of the copy rate
    prefill  visible FLOPs / time, of the matmul rate

Both count useful work only, so that one scale holds for all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Patch

from ...calibration.measure.cases import CASES, OURS
from .. import words
from ..calibration_data import Calibration
from ..calibration_goals import CONTIGUOUS
from ..calibration_points import Point
from ..calibration_words import batch_words, origin
from ..picture import Picture
from ..sheet import Sheet
from ..style import (
    CATEGORY_COLOURS,
    FONT_PT,
    GRID,
    INK,
    MEASURE,
    QUIET,
    legend,
    new_figure,
    quiet,
)
from .series import beside_bar, tera

BAR, GAP = 0.2, 0.5
"""Height of a bar, and of what separates two cases."""
KNOWN_COLOURS = {OURS: CATEGORY_COLOURS["token_states"], CONTIGUOUS: MEASURE}
OTHER_COLOURS = (
    CATEGORY_COLOURS["reserved"],
    CATEGORY_COLOURS["cached"],
    CATEGORY_COLOURS["external"],
    CATEGORY_COLOURS["internal"],
    QUIET,
    GRID,
)
NAMES = {
    OURS: "kvsim, paged",
    CONTIGUOUS: "kvsim, contiguous",
    "sdpa": "torch SDPA, contiguous",
    "sdpa_cudnn": "cuDNN SDPA, contiguous",
    "flex": "FlexAttention, contiguous",
    "flex_paged": "FlexAttention, paged",
    "xformers_splitk": "xformers split-K, paged",
}
Cases = Mapping[str, Mapping[str, Point]]


def baselines(calibration: Calibration) -> Picture | None:
    """A group of bars per case, our kernel first."""
    cases = cases_of(calibration)
    shares = {
        case: {name: share_of_ceiling(calibration, p) for name, p in found.items()}
        for case, found in cases.items()
    }
    if not cases or any(x is None for found in shares.values() for x in found.values()):
        return None
    bars = sum(len(found) for found in cases.values())
    figure = new_figure(1.3 + bars * 0.2 + len(cases) * 0.36)
    axes = figure.subplots()
    names = names_of(cases)
    colours = _colours(names)
    starts, y = [], 0.0
    for case, found in cases.items():
        starts.append(y)
        for name in (name for name in names if name in found):
            share = shares[case][name]
            assert share is not None, "it was looked at above"
            axes.barh(y, share * 100, BAR * 0.86, color=colours[name])
            beside_bar(axes, share * 100, y, words.seconds(found[name].seconds))
            y += BAR
        y += GAP - BAR
    quiet(axes)
    titles = [f"{case}: {batch_words(next(iter(found.values())))}" for case, found in cases.items()]
    _titles(axes, titles, starts)
    most = max(share or 0.0 for found in shares.values() for share in found.values())
    axes.set_xlim(0, max(100.0, most * 100) * 1.16)
    axes.set_ylim(y - GAP + BAR, -0.42)
    axes.set_xlabel("of the copy rate (decode) or the matmul rate (prefill), %")
    handles = [Patch(color=colours[name], label=NAMES.get(name, name)) for name in names]
    legend(figure, list(handles), columns=2)
    return Picture(
        name="baselines",
        title="Our kernel beside others",
        caption=f"The same batches in the same run, {origin(calibration.profile).adjective}; "
        "longer is faster, the figure at each bar is the time. Contiguous caches need no block "
        "table: they bound what a paged kernel can reach.",
        alt="Times: "
        + "; ".join(
            f"{case}: "
            + ", ".join(
                f"{NAMES.get(name, name)} {words.seconds(found[name].seconds)}" for name in found
            )
            for case, found in cases.items()
        )
        + ".",
        figure=figure,
        sheet=baselines_sheet(calibration),
    )


def cases_of(calibration: Calibration) -> dict[str, dict[str, Point]]:
    """Case -> name of the kernel -> its point, in the order of ``measure.cases``."""
    cases: dict[str, dict[str, Point]] = {case.name: {} for case in CASES}
    for point in calibration.of("baselines", roles=("baseline",)):
        cases.setdefault(point.x["case"], {}).setdefault(point.x["name"], point)
    return {case: found for case, found in cases.items() if found}


def names_of(cases: Cases) -> list[str]:
    """Ours, the known others, then any other."""
    seen = sorted({name for found in cases.values() for name in found})
    return [
        *(name for name in NAMES if name in seen),
        *(name for name in seen if name not in NAMES),
    ]


def share_of_ceiling(calibration: Calibration, point: Point) -> float | None:
    """Of the copy rate for decodes, of the matmul rate for prefills."""
    if "chunks" in point.x:
        rate = calibration.matmul_flops_per_s
        return point.flops_per_s / rate if rate else None
    rate = calibration.ceiling("copy")
    return point.bytes_per_s / rate if rate else None


def baselines_sheet(calibration: Calibration) -> Sheet:
    """A row per case and kernel; the last column is above 1 where ours is faster."""
    cases = cases_of(calibration)
    rows = [
        _row(calibration, case, name, found)
        for case, found in cases.items()
        for name in names_of(cases)
        if name in found
    ]
    return Sheet(
        title="Our kernel beside others",
        columns=(
            "case",
            "kernel",
            "batch",
            f"time, {origin(calibration.profile).adjective}",
            "rate",
            "of the ceiling",
            "time over ours",
        ),
        rows=tuple(rows),
        text_columns=(0, 1, 2),
    )


def _row(
    calibration: Calibration, case: str, name: str, found: Mapping[str, Point]
) -> tuple[str, ...]:
    point, ours = found[name], found.get(OURS)
    share = share_of_ceiling(calibration, point)
    prefill = "chunks" in point.x
    rate, unit = (point.flops_per_s, "TFLOP/s") if prefill else (point.bytes_per_s, "TB/s")
    return (
        case,
        NAMES.get(name, name),
        batch_words(point),
        words.seconds(point.seconds),
        f"{tera(rate)} {unit}",
        words.NONE if share is None else words.share(share),
        words.NONE if ours is None else words.times(point.seconds / ours.seconds),
    )


def _colours(names: Sequence[str]) -> dict[str, str]:
    others = [name for name in names if name not in KNOWN_COLOURS]
    more = {name: OTHER_COLOURS[i % len(OTHER_COLOURS)] for i, name in enumerate(others)}
    return KNOWN_COLOURS | more


def _titles(axes: Axes, titles: Sequence[str], starts: Sequence[float]) -> None:
    """The name of each case above its first bar."""
    axes.set_yticks([])
    for title, start in zip(titles, starts, strict=True):
        axes.annotate(
            title,
            (0, start - BAR * 0.62),
            xycoords=("axes fraction", "data"),
            va="bottom",
            color=INK,
            size=FONT_PT - 0.5,
        )
