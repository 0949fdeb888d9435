"""What could be otherwise, from a word such as ``kv_cache_dtype=fp8`` or ``memory+20%``.

``NAME=VALUE`` sets a flag of ``kvsim simulate`` or the hardware; ``NAME+N%`` and ``NAME-N%`` change
what has no flag: the GPU's memory, the step times, the trace's lengths, the target rate. Several,
by commas, are one change.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ...calibration.gpus import load_gpu
from ...calibration.names import unknown_name
from ...traces import Trace
from ...traces.intake import Intake
from ..deployment import Deployment
from ..regress.keys import KEYS, check_value
from ..server import Server
from ..variants import with_clock
from .scenarios import AS_IT_CAME, Traffic
from .spec import ServerSpec

SHORT = {"host_tier": "kv_offloading_size"}
"""Other names of flags."""
RELATIVE = ("memory", "step_times", "outputs", "prompts", "rate")
"""What is changed by a share of itself."""
HARDWARE = ("gpu", "model", "quantization", "price")
_FLAGS = sorted(KEYS.keys() - {one.name for one in fields(Intake)} - {"rate", "think_time"})
_ALONE = ("block_size", "max_num_seqs", "max_num_batched_tokens", "gpu_memory_utilization")
"""Flags whose range depends on no other flag's value."""
_SHARE = re.compile(r"(?P<name>[a-z_0-9]+)(?P<sign>[+-])(?P<percent>\d+(?:\.\d+)?)%")
_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>GiB|TiB)?")
_ANSWERS = {"kv_cache_dtype", "quantization", "model"}
"""What also changes the tokens that come out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something otherwise; shares are relative to what is."""

    text: str
    """As it was asked for."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Flags and hardware."""
    memory: float = 1.0
    """Of the GPU."""
    step_times: float = 1.0
    traffic: Traffic = AS_IT_CAME
    rate: float = 1.0
    """The target."""

    @property
    def is_priced(self) -> bool:
        """Whether all it takes is known to cost nothing, or has the GPU's price."""
        host = any(name.startswith("kv_offloading") for name in self.settings)
        return self.memory == 1.0 and self.step_times == 1.0 and not host

    @property
    def is_ours(self) -> bool:
        """Whether it can be done: a share of the traffic or of the step times cannot."""
        return self.step_times == 1.0 and self.traffic == AS_IT_CAME and self.rate == 1.0

    @property
    def changes_answers(self) -> bool:
        """Whether the tokens that come out are others."""
        return bool(_ANSWERS & self.settings.keys())

    def spec(self, spec: ServerSpec) -> ServerSpec:
        """The server's names and flags with the change.

        Raises:
            ValueError: more memory where the pool's size is given.
        """
        given = dict(self.settings)
        if "gpu" in given:  # another card has its own price
            given.setdefault("price", None)
        changed = replace(
            spec,
            hardware={**spec.hardware, **{n: v for n, v in given.items() if n in HARDWARE}},
            flags={**spec.flags, **{n: v for n, v in given.items() if n not in HARDWARE}},
        )
        if self.memory == 1.0:
            return changed
        for name in ("num_gpu_blocks_override", "kv_cache_memory_bytes"):
            if changed.flags.get(name) is not None:
                raise ValueError(f"memory(={_percent(self.memory)}) has no effect beside {name}.")
        memory = self.memory * float(spec.hardware.get("memory_factor", 1.0))
        return replace(changed, hardware={**changed.hardware, "memory_factor": memory})

    def server(self, spec: ServerSpec, trace: Trace) -> Server:
        """The server with the change.

        Raises:
            ValueError: it does not fit, or flags that exclude each other.
        """
        return with_clock(self.spec(spec).server(trace), self.step_times)


def changes_of(texts: Sequence[str]) -> tuple[Change, ...]:
    """All that were asked for.

    Raises:
        ValueError: as :func:`change_of`, or one asked for twice.
    """
    found = tuple(map(change_of, texts))
    seen = [change.text for change in found]
    for text in seen:
        if seen.count(text) > 1:
            raise ValueError(f"what_if(={text!r}) must be given once.")
    return found


def change_of(text: str) -> Change:
    """Read ``block_size=64``, ``memory+20%``, ``gpu=h200,tensor_parallel_size=2``.

    Raises:
        ValueError: an unknown name, a value of another kind or out of range, a share where a value
            belongs, a name twice.
    """
    change = Change(text=text.strip())
    for part in text.split(","):
        change = _with(change, part.strip())
    return change


def _with(change: Change, part: str) -> Change:
    name, equals, value = part.partition("=")
    if equals:
        return _with_setting(change, name.strip(), value.strip())
    share = _SHARE.fullmatch(part)
    if share is None:
        raise ValueError(
            f"what_if(={part!r}) must be NAME=VALUE such as max_num_seqs=512, or a share such as "
            "memory+20%."
        )
    return _with_share(change, share["name"], share["sign"] + share["percent"])


def _with_setting(change: Change, name: str, text: str) -> Change:
    if name in RELATIVE:
        raise ValueError(f"{name}(={text!r}) must be a share of what it is, such as {name}+20%.")
    flag = SHORT.get(name, name)
    if flag not in _FLAGS:
        raise unknown_name(name, (*_FLAGS, *SHORT, *RELATIVE), field="what_if")
    if flag in change.settings:
        raise ValueError(f"{name}(={text!r}) must be given once in a change.")
    value = _value(name, flag, text)
    if flag == "non_kv_memory":
        flag, value = "non_kv_memory_bytes", round(float(value) * (1 << 30))
    return replace(change, settings={**change.settings, flag: value})


def _with_share(change: Change, name: str, percent: str) -> Change:
    if name not in RELATIVE:
        if SHORT.get(name, name) in _FLAGS:
            raise ValueError(
                f"{name}(={percent}%) must be a value, such as {name}=...: shares are for "
                f"{', '.join(RELATIVE)}."
            )
        raise unknown_name(name, (*_FLAGS, *SHORT, *RELATIVE), field="what_if")
    factor = 1 + float(percent) / 100
    if not factor > 0:
        raise ValueError(f"{name}(={percent}%) must leave more than nothing.")
    if name in ("outputs", "prompts"):
        return replace(change, traffic=replace(change.traffic, **{name: factor}))
    return replace(change, **{name: factor})  # type: ignore[arg-type]


def _value(name: str, flag: str, text: str) -> Any:
    """Of the flag's kind, in its range as far as that stands alone."""
    kind, value = KEYS[flag], text  # type: Any, Any
    switches = {"on": True, "true": True, "off": False, "false": False}
    if kind is bool:
        value = switches.get(text.lower(), text)
    elif kind is int and re.fullmatch(r"-?\d+", text):
        value = int(text)
    elif kind is float and (size := _SIZE.fullmatch(text)) is not None:
        value = float(size["number"]) * (1024 if size["unit"] == "TiB" else 1)
        if size["unit"] and not (flag.endswith("_size") or flag == "non_kv_memory"):
            raise ValueError(f"{name}(={text!r}) must be a number.")
    if kind is bool and not isinstance(value, bool):
        raise ValueError(f"{name}(={text!r}) must be on or off.")
    try:
        check_value(flag, value)
    except ValueError as error:
        raise ValueError(str(error).replace(f"{flag}(=", f"{name}(=", 1)) from None
    if flag in _ALONE:
        Deployment(max_model_len=1 << 40, **{flag: value})
    elif flag == "gpu":
        load_gpu(value)
    elif kind is int and value < 1 and not flag.endswith(("_tokens", "_threshold", "_seed")):
        raise ValueError(f"{name}(={value}) must be > 0.")
    return value


def _percent(factor: float) -> str:
    return f"{100 * (factor - 1):+g}%"
