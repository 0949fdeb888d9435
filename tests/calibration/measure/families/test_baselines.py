"""Other libraries: the same answer as plain attention where it runs on a CPU, else a reason."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
import torch

from kvsim.calibration.measure.bench import Bench
from kvsim.calibration.measure.families import baselines

X: dict[str, Any] = {
    "kind": "paged",
    "dtype": "fp32",
    "kv_dtype": "fp32",
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 16,
    "block_size": 4,
    "seq_lens": [[8, 2]],
    "case": "tiny",
}


@pytest.fixture
def bench() -> Bench:
    return Bench(torch.device("cpu"), l2_bytes=1 << 11)


def test_contiguous_keeps_the_cases_kind(bench: Bench) -> None:
    work = baselines.prepare({**X, "name": "contiguous"}, bench)
    assert work.x["kind"] == "paged", "the sample is told apart by its name"
    assert work.num_sets > 1


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_finds_its_pages(bench: Bench) -> None:
    uneven = {**X, "name": "flex_paged", "seq_lens": [[8, 1], [5, 1]]}
    work = baselines.prepare(uneven, bench)
    out = work.call()
    query, keys, values = work.call.args  # type: ignore[attr-defined]
    visited = work.call.keywords["block_mask"].to_dense()[:, 0, 0]  # type: ignore[attr-defined]
    assert visited.tolist() == [[1, 1, 0, 0], [0, 0, 1, 1]]
    # torch hands pages out from the last of its list: two to each sequence, in that order
    for row, (length, pages) in enumerate([(8, (1, 0)), (5, (3, 2))]):
        slots = torch.tensor([4 * pages[i // 4] + i % 4 for i in range(length)])
        k, v = (side[:, :, slots].repeat_interleave(2, 1) for side in (keys, values))
        plain = torch.nn.functional.scaled_dot_product_attention(query[row : row + 1], k, v)
        torch.testing.assert_close(out[row : row + 1], plain)  # type: ignore[index]


def test_torch_attends_to_contiguous_keys(bench: Bench) -> None:
    work = baselines.prepare({**X, "name": "sdpa"}, bench)
    out = work.call()
    assert isinstance(out, torch.Tensor)
    assert out.shape == (2, 4, 1, 16)
    with pytest.raises(ValueError, match="its causal mask starts at the first query"):
        baselines.prepare({**X, "name": "sdpa", "chunks": [[4, 4]]}, bench)


@pytest.mark.skipif(find_spec("xformers") is not None, reason="xformers is installed")
def test_a_library_that_is_not_installed_raises(bench: Bench) -> None:
    with pytest.raises(ImportError, match="xformers"):
        baselines.prepare({**X, "name": "xformers_splitk"}, bench)
