"""One calibration from beginning to end: plan, measure, fit, write; the fit alone; an import.

The points measured so far lie in ``NAME.partial.jsonl`` beside the profile until all of them are
there; the same command goes on where it was left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..models import load_model
from ..profile.values import Profile
from .card import Card
from .opening import open_card
from .partial import Partial, partial_path
from .points import Limits, asked_families, make_plan, read_budget

Report = Callable[[str, int, int], None]
BUDGET = "480s"
MODEL = "llama-3.1-8b"


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """A profile on disk."""

    profile: Profile
    paths: tuple[Path, ...]
    why_ended: str = ""
    """Nothing where everything was measured; else ``interrupted``, ``budget`` or what broke."""
    partial: Path | None = None
    """Where the points lie that the same command goes on from."""

    @property
    def path(self) -> Path:
        """Of the profile itself."""
        return next(path for path in self.paths if path.suffix == ".json")

    def lines(self) -> list[str]:
        """What a terminal shows beside the profile's own tables."""
        run = self.profile.run
        by_reason: dict[str, list[str]] = {}
        for entry in self.profile.missing:
            what, _, reason = entry.partition(": ")
            by_reason.setdefault(reason, []).append(what)
        found = [f"Missing: {', '.join(what)}: {reason}." for reason, what in by_reason.items()]
        if self.why_ended:
            found.append(
                f"Ended early ({self.why_ended}): the same command goes on from {self.partial}."
            )
        if "clocks_source" in run and not run.get("clocks_log"):
            found.append(f"Clocks: {run['clocks_source']}.")
        return found


def calibrate(
    out: str,
    *,
    budget: str = BUDGET,
    model: str = MODEL,
    families: Sequence[str] = (),
    gpu: str | None = None,
    seed: int = 0,
    report: Report,
    card: Card | None = None,
) -> Calibrated:
    """Measure this machine's card and write its profile.

    Args:
        out: the profile's path.
        budget: ``480s`` or ``8m``.
        model: whose shapes are measured, by name or ``config.json``.
        families: those to measure; all where none are named.
        gpu: the card's name, where it is not recognised.
        seed: of the order, the ragged batches and the operands.
        report: told of the progress.
        card: another than this machine's, in tests.

    Raises:
        ValueError: no card, no framework, a card too small, a path that cannot be written, or a
            partial file of another run.
    """
    names, budget_s, spec = asked_families(families), read_budget(budget), load_model(model)
    path = _checked(out)
    opened = card or open_card(gpu, seed=seed)
    try:
        identity = opened.identity
        limits = Limits(
            free_memory_bytes=identity.free_memory_bytes,
            compute_capability=identity.compute_capability,
            count=identity.hardware.count,
        )
        plan = make_plan(spec, limits, families=names, seed=seed, budget_s=budget_s)
        return _measured(opened, plan, path, report)
    finally:
        opened.close()


def refit(path: str, out: str | None) -> Calibrated:
    """Do a profile's fit again from its samples, without a card.

    Raises:
        ValueError: the profile or its samples cannot be read, or it has none.
    """
    from ..profile.fit import refit as refitted
    from ..profile.store import read_profile, read_samples, write_profile

    target = _checked(out or path)
    profile, samples = read_profile(path), read_samples(path)
    if not samples:
        raise ValueError(f"profile(={path}) has no samples to fit again.")
    made = refitted(profile, samples)
    return Calibrated(profile=made, paths=tuple(write_profile(made, samples, target)))


def convert(
    folder: str, out: str, *, gpu: str | None, model: str, tensor_parallel_size: int
) -> Calibrated:
    """Write another tool's kernel times of a card as a profile.

    Raises:
        ValueError: no card named, or files that cannot be read.
    """
    from ..profile.imported import import_folder
    from ..profile.store import write_profile

    target = _checked(out)
    if gpu is None:
        raise ValueError("gpu must name the card that --from was measured on: --gpu NAME.")
    made = import_folder(folder, gpu=gpu, model=model, tensor_parallel_size=tensor_parallel_size)
    return Calibrated(profile=made, paths=tuple(write_profile(made, (), target)))


def _measured(card: Card, plan: Any, path: Path, report: Report) -> Calibrated:
    from ..profile.store import write_profile
    from .assemble import assemble, ordered
    from .session import header, measure

    partial = Partial(partial_path(path), header(card, plan))
    try:
        ended = measure(card, plan, partial, report)
        profile = assemble(card.identity, plan, partial, ended.why)
        paths = tuple(write_profile(profile, ordered(plan, partial), path))
        if ended.why:
            return Calibrated(
                profile=profile, paths=paths, why_ended=ended.why, partial=partial.path
            )
    finally:
        partial.close()
    partial.delete()
    return Calibrated(profile=profile, paths=paths)


def _checked(out: str) -> Path:
    """A path that a profile can be written to."""
    path = Path(out)
    if path.suffix != ".json":
        raise ValueError(f"out(={out!r}) must be named .json.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"out(={out!r}) cannot be written: {error.strerror}.") from error
    return path
