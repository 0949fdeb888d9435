"""Where a start-up log contradicts itself, its card or what the user gives.

A pool that no start-up could have had is refused; what is given against the log is planned as given
and named in a note.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .engines import LATEST, engine_of_release, load_engine
from .gpus import GIB, GPUSpec, load_gpu
from .model_spec import ModelSpec
from .models import load_model
from .startup_log import StartupLog


def check_pool(log: StartupLog, pool_bytes: int | None, gpu: GPUSpec) -> None:
    """Whether a server can have started with that KV pool.

    Raises:
        ValueError: it is not above 0, or larger than the card.
    """
    if pool_bytes is None:
        return
    if pool_bytes <= 0:
        raise ValueError(
            f"{log.path} logs a KV pool of {pool_bytes / GIB:.2f} GiB, which must be > 0: that "
            "start-up failed and teaches nothing."
        )
    if pool_bytes > gpu.total_memory_bytes:
        raise ValueError(
            f"{log.path} logs a KV pool of {pool_bytes / GIB:.2f} GiB, which must be <= the "
            f"{gpu.total_memory_bytes / GIB:.2f} GiB of {gpu.name}."
        )


def given_against_log(
    log: StartupLog, *, gpu: str | None, model: str | None, flags: Mapping[str, Any]
) -> list[str]:
    """A note for each value of the user's that the log has otherwise."""
    pairs: list[tuple[str, Any, Any]] = []
    pairs += [("model", *_models(log, model)), ("gpu", *_gpus(log, gpu))]
    pairs += [(name, value, log.flags.get(name)) for name, value in flags.items()]
    if flags.get("engine") is not None and log.release is not None:
        pairs.append(("engine", load_engine(flags["engine"]).name, _stands_for(log.release)))
    return [
        f"{name}(={given!r}) is given, the log says {said!r}: what is given is planned."
        for name, given, said in pairs
        if given is not None and said is not None and given != said
    ]


def release_note(release: str | None) -> str | None:
    """Which version is taken for the log's, where it is not the log's own."""
    if release is None:
        return f"The log does not say its version; {LATEST} is taken."
    stands = _stands_for(release)
    if stands is None:
        return f"The log's version {release} is no release number; {LATEST} is taken."
    if release.removeprefix("v").split(".")[:2] == stands.removeprefix("vllm==").split("."):
        return None
    return f"The log is of vLLM {release}, for which kvsim has no defaults: {stands} stands for it."


def nothing_learned(requested_bytes: int, weight_bytes: int, pool_bytes: int) -> str:
    """Why no overhead can be learned where none is left."""
    left = requested_bytes - weight_bytes - pool_bytes
    return (
        f"Nothing is learned: the {requested_bytes / GIB:.2f} GiB requested less the predicted "
        f"{weight_bytes / GIB:.2f} GiB of weights and the logged pool of {pool_bytes / GIB:.2f} "
        f"GiB leave {left / GIB:.2f} GiB; the model or a flag is not the log's."
    )


def _stands_for(release: str) -> str | None:
    try:
        return engine_of_release(release).name
    except ValueError:
        return None


def _models(log: StartupLog, given: str | None) -> tuple[str | None, str | None]:
    """Both by name; None for a logged one that is not in the catalogue."""
    if given is None or log.model is None:
        return None, None
    try:
        said: ModelSpec = load_model(log.model)
    except ValueError:
        return None, None
    return load_model(given).name, said.name


def _gpus(log: StartupLog, given: str | None) -> tuple[str | None, str | None]:
    if given is None or log.gpu is None:
        return None, None
    return load_gpu(given).name, load_gpu(log.gpu).name
