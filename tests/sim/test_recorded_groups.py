"""KV groups of a header, in kvsim's words and in vLLM's."""

from __future__ import annotations

from typing import Any

import pytest

from kvsim.sim.recorded_groups import is_known, kv_groups, kv_spec

FULL = ["FullAttentionSpec", None]
WINDOW = ["SlidingWindowSpec", 1024]
CHUNK = ["ChunkedLocalAttentionSpec", 8192]


@pytest.mark.parametrize(
    ("groups", "spec"),
    [
        ([FULL], "full"),
        ([["FullAttentionSpec", 512]], "full"),  # a window without the hybrid manager
        ([["MLAAttentionSpec", None]], "full"),
        ([WINDOW], "swa:1024"),
        ([CHUNK], "local:8192"),
        ([FULL, WINDOW, WINDOW], "hybrid:1,2,1024"),
        ([FULL, FULL, CHUNK], "hybrid_local:2,1,8192"),
        ([WINDOW, WINDOW], "hybrid:0,2,1024"),
    ],
)
def test_groups_of_vllm(groups: list[list[Any]], spec: str) -> None:
    assert kv_spec(groups) == spec
    assert is_known(spec)
    kinds = [group.kind for group in kv_groups(spec, 16)]
    assert len(kinds) == (0 if spec == "full" else len(groups))


@pytest.mark.parametrize(
    "groups",
    [
        [],
        [FULL, FULL],
        [["MambaSpec", None]],
        [FULL, ["MambaSpec", None]],
        [WINDOW, FULL],
        [FULL, WINDOW, CHUNK],
        [FULL, WINDOW, ["SlidingWindowSpec", 512]],
    ],
)
def test_groups_that_are_not_simulated(groups: list[list[Any]]) -> None:
    assert not is_known(kv_spec(groups))


def test_windows_and_chunks_have_their_span() -> None:
    full, window = kv_groups("hybrid:1,1,64", 16)
    assert (full.kind, window.kind, window.window_tokens) == ("full", "sliding_window", 64)
    (chunk,) = kv_groups("local:32", 16)
    assert (chunk.kind, chunk.window_tokens, chunk.block_size) == ("chunked_local", 32, 16)
