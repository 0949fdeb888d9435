"""The figures of a profile; each takes a calibration and gives a picture, or none without points.

Where numbers were not measured on the card, every title and caption says so: it is done here, for
all figures, so that none can forget it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from textwrap import wrap

from ..calibration_data import Calibration
from ..calibration_words import origin
from ..picture import Picture
from .bandwidth import bandwidth
from .baselines import baselines
from .block_sizes import block_sizes, kv_dtypes
from .fitted import fitted
from .gemm import gemm
from .paging import paging
from .residuals import residuals
from .roofline import roofline
from .transfers import transfers

Figure = Callable[[Calibration], Picture | None]
FIGURES: dict[str, tuple[Figure, str]] = {
    "roofline": (roofline, "kernels"),
    "decode-bandwidth": (bandwidth, "decode attention"),
    "block-sizes": (block_sizes, "one batch in blocks of several sizes"),
    "kv-dtypes": (kv_dtypes, "one batch in several KV dtypes"),
    "fitted": (fitted, "attention with a fit for it"),
    "residuals": (residuals, "attention with a fit for it, or linear layers"),
    "linear-layers": (gemm, "linear layers"),
    "baselines": (baselines, "baselines and ceilings"),
    "price-of-paging": (paging, "contiguous baselines"),
    "transfers": (transfers, "PCIe"),
}
"""Name -> function, and what it needs points of."""
TITLE_LETTERS = 42


def calibration_pictures(calibration: Calibration) -> list[Picture]:
    """Those that the profile has points for, in the order of the page."""
    made = [build(calibration) for build, _ in FIGURES.values()]
    return [stamped(picture, calibration) for picture in made if picture is not None]


def stamped(picture: Picture, calibration: Calibration) -> Picture:
    """The same with the provenance above its title and before its caption."""
    found = origin(calibration.profile)
    lines = wrap(picture.title, TITLE_LETTERS)
    if not found.stamp:
        return replace(picture, title="\n".join(lines))
    return replace(
        picture,
        title="\n".join([found.stamp, *lines]),
        caption=f"{found.banner} {picture.caption}",
        alt=f"{found.banner} {picture.alt}",
    )
