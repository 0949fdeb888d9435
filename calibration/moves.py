"""What moving KV blocks costs: copy-on-write on the GPU, swapping to host memory and back.

    copy   call + fragment * fragments + 2 bytes / memory rate        one launch, read and written
    swap   call + segment * segments + bytes / link rate              one direction over PCIe
    load   call + bytes / link rate                                   one piece

    fragments of a block   the tensors that it lies in: K and V of every layer (MLA: one a layer)
    segments of a swap     ``per_layer``: the fragments, one cudaMemcpyAsync each, as vLLM v0 swaps
                           ``gathered``: none; a kernel gathers the blocks into a buffer on the GPU,
                           which crosses in one piece

Every GPU of a tensor-parallel group moves its own shard over its own link, all at once: bytes are
those of one GPU. Coefficients are a calibration profile's lines (families ``pcie`` and
``block_copy``) where it has them, else the datasheet's bandwidths times the shares of
``efficiency``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .gpus import GPUSpec
from .kv_groups import KVGroup
from .model_spec import KVLayers, ModelSpec
from .names import unknown_name
from .step_cost import Band
from .ways import Way, datasheet_ways

if TYPE_CHECKING:
    from .profile.values import Profile

METHODS = ("per_layer", "gathered")
DATASHEET_BAND = Band(
    low=0.80,
    high=1.25,
    source="assumed for other cards than the one whose link was measured",
)
SEGMENT_BAND = Band(
    low=0.80, high=3.0, source="published times of one small transfer are 2.3 to 7 us"
)
MEASURED_BAND = Band(low=0.90, high=1.15, source="assumed for links measured on the machine itself")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockMoves:
    """What it costs to move blocks of one server.

    Raises:
        ValueError: a block of no bytes or no fragments, or an unknown method.
    """

    block_bytes: int
    """Of one block over all layers, on one GPU."""
    fragments_per_block: int
    """Tensors that a block lies in."""
    copying: Way
    """On the GPU."""
    swapping_out: Way
    """To host memory, in segments."""
    swapping_in: Way
    loading: Way
    """From host memory, in one piece."""
    method: str = "per_layer"
    band: Band = DATASHEET_BAND
    segment_band: Band = SEGMENT_BAND
    """Of what a swap pays for each segment."""
    why: str = ""
    """Why it is this source and not a measured one, as a clause."""

    def __post_init__(self) -> None:
        for name in ("block_bytes", "fragments_per_block"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}(={getattr(self, name)}) must be > 0.")
        if self.method not in METHODS:
            raise unknown_name(self.method, METHODS, field="method")

    @property
    def source(self) -> str:
        """``measured``, ``datasheet``, or both where only some of it was measured."""
        ways = (self.copying, self.swapping_out, self.swapping_in, self.loading)
        return " and ".join(sorted({way.source.partition(" ")[0] for way in ways}, reverse=True))

    @property
    def origin(self) -> str:
        """The source with what it was taken from, for people."""
        ways = (self.swapping_out, self.swapping_in, self.copying, self.loading)
        named = ", ".join(dict.fromkeys(way.source for way in ways))
        return f"{named} ({self.why})" if self.why else named

    @property
    def segments_per_block(self) -> int:
        """Transfers that a swapped block is cut in; 0 where blocks are gathered."""
        return self.fragments_per_block if self.method == "per_layer" else 0

    def copy_ns(self, num_blocks: int) -> float:
        """Copy-on-write of so many blocks in one launch, nanoseconds."""
        fragments = num_blocks * self.fragments_per_block
        return self.copying.ns(num_blocks * self.block_bytes, fragments)

    def copy_bytes_ns(self, num_bytes: float) -> float:
        """A copy on the GPU of bytes that lie in one piece, nanoseconds."""
        return self.copying.ns(num_bytes)

    def swap_ns(self, num_blocks: int, *, inward: bool = False) -> float:
        """So many blocks to host memory, or back from it, nanoseconds."""
        way = self.swapping_in if inward else self.swapping_out
        return way.ns(num_blocks * self.block_bytes, num_blocks * self.segments_per_block)

    def swap_out_and_in_ns(self, num_blocks: int) -> float:
        """There and back: what a preemption by swap costs in all, nanoseconds."""
        return self.swap_ns(num_blocks) + self.swap_ns(num_blocks, inward=True)

    def swap_band(self, num_blocks: int) -> Band:
        """Of so many blocks there and back: the two bands, weighted by what each is of the time."""
        segments = num_blocks * self.segments_per_block
        paid = segments * (self.swapping_out.segment_ns + self.swapping_in.segment_ns)
        if not paid:
            return self.band
        share = paid / self.swap_out_and_in_ns(num_blocks)
        low, high = (
            share * getattr(self.segment_band, end) + (1 - share) * getattr(self.band, end)
            for end in ("low", "high")
        )
        found = dict.fromkeys((self.segment_band.source, self.band.source))
        return Band(low=min(low, 1.0), high=max(high, 1.0), source="; ".join(found))

    def load_ns(self, num_bytes: float) -> float:
        """Bytes of one GPU from host memory in one piece, nanoseconds."""
        return self.loading.ns(num_bytes)

    def describe(self) -> dict[str, object]:
        """What determines the numbers, with their sources: goes into digests and reports."""
        return {
            "source": self.source,
            "why": self.why,
            "method": self.method,
            "block_bytes": self.block_bytes,
            "fragments_per_block": self.fragments_per_block,
            "copy": self.copying.describe(),
            "swap_out": self.swapping_out.describe(),
            "swap_in": self.swapping_in.describe(),
            "load": self.loading.describe(),
            "band": _plain(self.band),
            "segment_band": _plain(self.segment_band),
        }


def block_moves(
    *,
    model: ModelSpec,
    gpu: GPUSpec,
    block_bytes: int,
    kv_groups: Iterable[KVGroup] = (),
    profile: Profile | None = None,
    method: str = "per_layer",
    why: str = "",
) -> BlockMoves:
    """What moving the blocks of a server costs.

    Args:
        block_bytes: of one block over all layers that it holds, on one GPU.
        kv_groups: the layers with one block table each, of that GPU; by default all layers are one.
        profile: of the card and its machine, whose lines are taken as far as it has them.
        method: how blocks cross the link, see ``METHODS``.
        why: why there is no profile, as a clause.

    Raises:
        ValueError: ``block_bytes`` is not positive, or an unknown method.
    """
    if method not in METHODS:
        raise unknown_name(method, METHODS, field="method")
    ways = datasheet_ways(gpu, method)
    lines: dict[str, Way] = {}
    if profile is not None:
        from .profile.moves import measured_ways  # numpy, only where it is needed

        lines = measured_ways(profile, method)
        why = "" if lines else f"profile {profile.id} has no times of links or copies"
    taken = {**ways, **lines}
    swaps_measured = {"swapping_out", "swapping_in"} <= lines.keys()
    return BlockMoves(
        block_bytes=block_bytes,
        fragments_per_block=fragments_per_block(model.layers, kv_groups),
        copying=taken["copying"],
        swapping_out=taken["swapping_out"],
        swapping_in=taken["swapping_in"],
        loading=taken["loading"],
        method=method,
        band=MEASURED_BAND if ways.keys() <= lines.keys() else DATASHEET_BAND,
        segment_band=MEASURED_BAND if swaps_measured else SEGMENT_BAND,
        why=why,
    )


def profile_for(
    gpu: GPUSpec, step_cost_spec: str, path: str | None = None
) -> tuple[Profile | None, str]:
    """The profile that a server's step times come from; where there is none, why, as a clause.

    Args:
        step_cost_spec: ``auto``, ``measured:PROFILE.json``, ``datasheet`` ... (``costs``).
        path: of a profile that was named beside it.

    Raises:
        ValueError: a file that cannot be read, or a profile of another GPU or other kernels.
    """
    name, _, arguments = step_cost_spec.partition(":")
    file = path or (arguments if arguments.endswith(".json") else None)
    if file is None and (arguments or name not in ("auto", "measured")):
        return None, f"step times are {name}"
    from .profile.find import bundled_profile, check  # numpy, only where it is needed
    from .profile.store import read_profile
    from .profile.unfit import Unfit

    if file is not None:
        profile = read_profile(file)
        check(profile, gpu, name=f"profile(={file})")
        return profile, ""
    bundled = bundled_profile(gpu)
    if bundled is None:
        return None, f"kvsim ships no profile of {gpu.name}"
    profile = read_profile(bundled)
    try:
        check(profile, gpu, name=f"the profile {bundled.stem} that kvsim ships")
    except Unfit as error:
        return None, str(error).rstrip(".")
    return profile, ""


def fragments_per_block(layers: Iterable[KVLayers], kv_groups: Iterable[KVGroup] = ()) -> int:
    """Tensors that a block lies in: those of the largest group of layers, or of all layers."""
    held = [layer for layer in layers if layer.kind != "recurrent"]
    groups = [group.num_layers for group in kv_groups if group.kind != "recurrent"]
    tensors = max((_tensors(layer) for layer in held), default=1)
    if groups:
        return tensors * max(groups)
    return sum(_tensors(layer) * layer.num_layers for layer in held) or 1


def _plain(band: Band) -> dict[str, object]:
    return {"low": band.low, "high": band.high, "source": band.source}


def _tensors(layer: KVLayers) -> int:
    return 1 if layer.kind == "mla" or layer.shared_kv else 2
