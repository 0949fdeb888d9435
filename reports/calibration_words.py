"""What a profile is, in words: where its numbers come from, what it says, what it lacks.

Only what ran on the card is called measured: every other provenance has its own word, which stands
in each figure's title and caption, in every table that holds times, and above the page.
"""

from __future__ import annotations

from typing import NamedTuple

from ..calibration.profile.values import FAMILIES, AttentionKey, Profile
from . import words
from .calibration_data import Calibration
from .calibration_points import Point

HASH_LETTERS = 12
MEASURED = "measured"


class Origin(NamedTuple):
    """How to speak of numbers of one provenance."""

    adjective: str
    """``copy 4.3 TB/s, measured``."""
    stamp: str
    """In front of a figure's title; empty where nothing needs to be said."""
    banner: str


ORIGINS = {
    MEASURED: Origin(MEASURED, "", ""),
    "synthetic": Origin(
        "synthetic",
        "SYNTHETIC, NO REAL CARD",
        "Synthetic: an invented GPU made these numbers. Nothing here was measured on a card.",
    ),
    "derived": Origin(
        "derived",
        "DERIVED, NOT MEASURED",
        "Derived: these coefficients were scaled from another card's. Nothing here was measured "
        "on this one.",
    ),
    "imported": Origin(
        "imported",
        "IMPORTED FROM ANOTHER TOOL",
        "Imported: another tool took these times. kvsim's own kernels did not run.",
    ),
}
FAMILY_TITLES = {
    "ceilings": "ceilings",
    "decode": "decode attention",
    "ragged": "ragged decode attention",
    "gemm": "linear layers",
    "prefill": "prefill attention",
    "mixed": "mixed batches",
    "elementwise": "element-wise kernels",
    "graph": "CUDA graphs",
    "host": "host",
    "memory": "memory",
    "kv_dtypes": "KV dtypes",
    "block_sizes": "block sizes",
    "block_copy": "block copies",
    "pcie": "PCIe",
    "all_reduce": "all-reduce",
    "baselines": "baselines",
    "gemm_roofline": "linear layers by roofline",
}


def origin(profile: Profile) -> Origin:
    """How to speak of this profile's numbers."""
    return ORIGINS[profile.provenance]


def card(profile: Profile) -> str:
    """``NVIDIA H200 (h200)``, with how many there are."""
    hardware = profile.hardware
    many = f"{hardware.count} x " if hardware.count > 1 else ""
    return f"{many}{hardware.name} ({hardware.gpu})"


def verdict(calibration: Calibration) -> str:
    """Card, provenance, date, kernel, what is missing: one or two sentences."""
    profile = calibration.profile
    digest = short_hash(profile)
    version = f", attention kernels {digest}" if digest else ""
    first = f"{card(profile)}: {origin(profile).adjective}{_date(profile)} for {profile.model}"
    return " ".join([f"{first}{version}.", *_absent(calibration)])


def short_hash(profile: Profile) -> str:
    """The kernel sources' digest, its first letters."""
    digest = profile.software.get("kernel_hash", "")
    return digest.removeprefix("sha256:")[:HASH_LETTERS]


def _date(profile: Profile) -> str:
    when = str(profile.run.get("started_utc", ""))[:10]
    if not when:
        return ""
    return f" on {when}" if profile.provenance == MEASURED else f", dated {when},"


def _absent(calibration: Calibration) -> list[str]:
    """Families without samples, and those that lack some."""
    lacking = missing_families(calibration.profile)
    held = {sample.family for sample in calibration.samples}
    none = [FAMILY_TITLES[name] for name in FAMILIES if name not in held]
    part = [FAMILY_TITLES[name] for name in FAMILIES if name in lacking and name in held]
    if not held:
        return ["It has no samples."]
    said = [f"Missing: {words.listing(none)}."] if none else []
    said += [f"In part: {words.listing(part)}."] if part else []
    return said or ["No family is missing."]


def missing_families(profile: Profile) -> set[str]:
    """Names in front of the reasons."""
    return {entry.partition(":")[0].strip() for entry in profile.missing}


def heading(calibration: Calibration) -> tuple[str, ...]:
    """The first lines in a terminal: the banner where there is one, then the verdict."""
    banner = origin(calibration.profile).banner
    return (*((banner,) if banner else ()), verdict(calibration), *runs(calibration))


def runs(calibration: Calibration) -> tuple[str, ...]:
    """How much was measured and how quiet it was."""
    timed = [p for p in calibration.points if p.sample.role != "anchor"]
    if not timed:
        return ()
    noisy = sum("noisy" in p.sample.flags for p in timed)
    drift = calibration.profile.run.get("drift_pct")
    drifted = "" if drift is None else f", drift {words.number(abs(float(drift)), digits=2)} %"
    return (f"{words.count(len(timed))} points, {words.count(noisy)} noisy{drifted}.",)


def kernel(key: AttentionKey, *, blocks: bool = True) -> str:
    """``32/8 heads of 128, bf16, blocks of 16``."""
    heads = f"{key.heads}/{key.kv_heads} heads of {key.head_dim}"
    if key.kind == "latent":
        heads = f"{key.heads} heads over a latent of {key.head_dim}"
    dtype = key.dtype if key.kv_dtype == key.dtype else f"{key.dtype} with KV in {key.kv_dtype}"
    in_blocks = blocks and key.kind != "contiguous"
    return f"{heads}, {dtype}" + (f", blocks of {key.block_size}" if in_blocks else "")


def batch_words(point: Point) -> str:
    """``64 x 4,096``; ``64 lognormal, 4,012 on average``; ``chunk of 512 after 4,096``."""
    parts = [_decodes(point)] if point.batch else []
    chunks = [(int(new), int(past)) for new, past in point.x.get("chunks", ())]
    if len(set(chunks)) == 1:
        (new, past), many = chunks[0], f"{len(chunks)} chunks" if len(chunks) > 1 else "chunk"
        parts.append(f"{many} of {words.count(new)}" + (f" after {words.count(past)}" * (past > 0)))
    elif chunks:
        parts.append(f"{len(chunks)} chunks, {words.count(sum(new for new, _ in chunks))} tokens")
    return " + ".join(parts)


def _decodes(point: Point) -> str:
    if len(point.lengths) == 1:
        return f"{words.count(point.batch)} x {words.count(point.context_tokens)}"
    shape = str(point.x.get("shape", "ragged")).replace("_", " ")
    mean = words.count(point.context_tokens)
    return f"{words.count(point.batch)} {shape}, {mean} on average"
