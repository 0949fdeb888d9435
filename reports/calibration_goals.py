"""What was aimed at, and whether it was reached: errors of the fits, speed of the kernels.

The errors are relative, of points that a fit has not seen: their median and 95th percentile. The
kernels' goals are those of ``measure.cases``; two of them are absolute figures, set for an H200,
and judged on that card alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..calibration.measure.cases import CASES, GOALS, OURS, Verdict, judge
from ..calibration.profile.values import Residual
from . import words
from .calibration_data import Calibration
from .calibration_points import Point

ERROR_GOALS_PCT = {"decode": (2.0, 6.0), "prefill": (3.0, 8.0), "gemm": (1.0, 3.0)}
"""Median and 95th percentile."""
GOAL_OF = {
    ("decode", "heldout"): "decode",
    ("ragged", "heldout"): "decode",
    ("kv_dtypes", "heldout"): "decode",
    ("block_sizes", "heldout"): "decode",
    ("prefill", "heldout"): "prefill",
    ("gemm", "heldout"): "gemm",
}
ABSOLUTE = ("seconds", "flops_per_s")
SET_FOR = "h200"
CONTIGUOUS = "contiguous"
PAGING_GOAL = next(goal.bound for goal in GOALS if goal.beside and goal.beside[1] == CONTIGUOUS)
"""Time that blocks may add, relative."""
FP8_GOAL = next(goal.bound for goal in GOALS if goal.quantity == "times_faster")
"""How many times as fast an FP8 cache should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """A goal in words, what was found, and the answer."""

    case: str
    aim: str
    found: str
    met: bool | None
    """None where it cannot be judged."""

    @property
    def answer(self) -> str:
        """``met``, ``missed``, or nothing to say."""
        return words.NONE if self.met is None else "met" if self.met else "missed"


def error_goal(residual: Residual) -> tuple[float, float] | None:
    """Median and P95 in per cent; None where none was set."""
    name = GOAL_OF.get((residual.family, residual.split))
    return ERROR_GOALS_PCT[name] if name else None


def aims(calibration: Calibration) -> list[Aim]:
    """Every goal of the kernels that the profile has samples for."""
    verdicts = judge(calibration.samples)
    h200 = calibration.profile.hardware.gpu.startswith(SET_FOR)
    return [_aim(one, h200=h200) for one in verdicts if one.value is not None]


def _aim(verdict: Verdict, *, h200: bool) -> Aim:
    goal, value = verdict.goal, verdict.value
    assert value is not None, "those without are left out"
    absolute = goal.quantity in ABSOLUTE
    return Aim(
        case=goal.case,
        aim=_said(goal.quantity, goal.bound, goal.beside, goal.case)
        + (" on an H200" if absolute else ""),
        found=_figure(goal.quantity, value),
        met=verdict.met if h200 or not absolute else None,
    )


def _said(quantity: str, bound: float, beside: tuple[str, str] | None, case: str) -> str:
    """``at least 90 % of the copy rate``."""
    other = ""
    if beside:
        where, name = beside
        other = f"the {name} kernel" if where == case else where
    return {
        "copy_share": f"at least {bound * 100:.0f} % of the copy rate",
        "seconds": f"at most {words.seconds(bound)}",
        "flops_per_s": f"at least {bound / 1e12:.0f} TFLOP/s",
        "times_faster": f"at least {bound:g}x as fast as {other}",
        "over": f"at most {bound * 100:.0f} % longer than {other}",
    }[quantity]


def _figure(quantity: str, value: float) -> str:
    return {
        "copy_share": lambda: words.share(value),
        "seconds": lambda: words.seconds(value),
        "flops_per_s": lambda: f"{words.number(value / 1e12)} TFLOP/s",
        "times_faster": lambda: f"{value:.2f}x",
        "over": lambda: f"{value * 100:+.1f} %",
    }[quantity]()


def paging_pairs(calibration: Calibration) -> list[tuple[str, Point, Point]]:
    """Case, our paged kernel and our contiguous one on the same batch in the same run."""
    beside = calibration.of("baselines", roles=("baseline",))
    flat = {p.x["case"]: p for p in beside if p.x["name"] == CONTIGUOUS}
    ours = {p.x["case"]: p for p in beside if p.x["name"] == OURS}
    order = [case.name for case in CASES]
    both = sorted(flat.keys() & ours.keys(), key=[*order, *sorted(flat)].index)
    return [(name, ours[name], flat[name]) for name in both]
