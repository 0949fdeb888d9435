"""What would disturb a timed step: garbage collection is put off, compilation is counted."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


class Compiles:
    """Counts what Triton compiles meanwhile."""

    def __init__(self) -> None:
        self._count = 0

    def taken(self) -> int:
        """Since this was last asked."""
        count, self._count = self._count, 0
        return count

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Within."""
        from triton import knobs

        before = knobs.runtime.jit_post_compile_hook

        def hook(*args: object, **kwargs: object) -> None:
            self._count += 1

        knobs.runtime.jit_post_compile_hook = hook
        try:
            yield
        finally:
            knobs.runtime.jit_post_compile_hook = before


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """What is there stays, and a pause in the middle of a step would be timed."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


@contextmanager
def one_thread() -> Iterator[None]:
    """Of a CPU the framework uses one thread: how many are free would be timed, too."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
