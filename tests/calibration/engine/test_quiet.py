"""What would disturb a timed step."""

from __future__ import annotations

import gc

from triton import knobs

from kvsim.calibration.engine.quiet import Compiles, no_garbage_collection


def test_compilations_are_counted() -> None:
    compiles, before = Compiles(), knobs.runtime.jit_post_compile_hook
    with compiles.counted():
        hook = knobs.runtime.jit_post_compile_hook
        assert hook is not None
        hook(key="a", repr="b")
        hook(key="c", repr="d")
        assert (compiles.taken(), compiles.taken()) == (2, 0)
    assert knobs.runtime.jit_post_compile_hook is before


def test_garbage_is_not_collected_meanwhile() -> None:
    assert gc.isenabled()
    with no_garbage_collection():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert not gc.get_freeze_count()
