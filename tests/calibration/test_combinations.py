"""Several servers under the same flags: order, what does not fit, the longest context."""

from __future__ import annotations

from typing import Any

import pytest

from kvsim.calibration.combinations import Combination, load_combinations
from kvsim.calibration.demand import read_demands


def combined(
    models: tuple[str, ...] = ("llama-3.1-8b",),
    gpus: tuple[str, ...] = ("a100",),
    dtypes: tuple[str, ...] = ("auto",),
    sizes: tuple[int, ...] = (1,),
    demands: tuple[str, ...] = (),
    **flags: Any,
) -> tuple[Combination, ...]:
    flags |= {"kv_cache_dtype": dtypes, "tensor_parallel_size": sizes}
    hardware = {"model": models, "gpu": gpus, "price": None}
    return load_combinations(hardware, flags, read_demands(demands))


def test_every_combination_the_model_slowest() -> None:
    found = combined(("llama-3.1-8b", "qwen3-32b"), ("a100", "h200"), ("auto", "fp8"), (1, 2))
    names = [(c.model.name, c.gpu.name, c.kv_cache_dtype, c.tensor_parallel_size) for c in found]
    assert len(names) == len(set(names)) == 16
    assert names[:3] == [
        ("llama-3.1-8b", "a100", "auto", 1),
        ("llama-3.1-8b", "a100", "auto", 2),
        ("llama-3.1-8b", "a100", "fp8", 1),
    ]
    tokens = {
        name: c.budget.kv_cache_tokens for name, c in zip(names, found, strict=True) if c.budget
    }
    twice = 2 * tokens[names[0]]
    assert tokens[names[2]] == pytest.approx(twice, abs=32), "fp8 holds twice the tokens"


def test_what_does_not_fit_has_a_reason() -> None:
    found = combined(("llama-3.1-8b", "llama-3.1-70b"), sizes=(1, 3, 4))
    reasons = [one.reason for one in found]
    heads = "TP does not divide the heads"
    assert reasons == ["", heads, "", "weights do not fit", heads, ""]
    assert "tensor_parallel_size >= 2" in found[3].refusal
    assert found[3].longest_tokens == 0
    long = combined(gpus=("a100", "l4"), max_model_len=131_072)
    assert [one.reason for one in long] == ["", "max_model_len does not fit"]
    seats = combined(gpus=("a100", "l4"), max_num_seqs=4096, max_num_batched_tokens=4096)
    assert [one.reason for one in seats] == ["", "does not fit"]


def test_nothing_fits() -> None:
    with pytest.raises(ValueError, match=r"131\.4 GiB do not fit the 72\.9 GiB"):
        combined(("llama-3.1-70b", "llama-3.1-405b"))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"gpus": ("a100", "h100")}, r"gpu\(='h100'\) is unknown"),
        ({"models": ("llama-3.1-8b", "none")}, r"model\(='none'\) is unknown"),
        ({"dtypes": ("auto", "int3")}, r"kv_cache_dtype\(='int3'\) is unknown"),
        ({"sizes": (1, 0)}, r"tensor_parallel_size\(=0\) must be > 0"),
    ],
)
def test_a_wrong_name_is_an_error_beside_right_ones(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        combined(**wrong)


def test_longest_context_and_what_binds_it() -> None:
    model, pool = combined(("llama-3.1-8b", "qwen3-32b"))
    assert (model.longest_tokens, model.length_bound) == (131_072, "model")
    assert pool.budget is not None
    assert (pool.longest_tokens, pool.length_bound) == (pool.budget.max_model_len, "KV pool")
    assert pool.longest_tokens == pool.budget.usable_blocks * 16
    (flag,) = combined(max_model_len=4096)
    assert (flag.longest_tokens, flag.length_bound) == (4096, "max_model_len")


def test_answers_for_what_fits_and_for_what_does_not() -> None:
    large, small = combined(("llama-3.1-70b",), sizes=(1, 4), demands=("16x8192",))
    assert large.answers[0].need is None
    assert large.answers[0].here is not None
    assert large.answers[0].here.tensor_parallel_size == 4
    assert large.answers[0].to_json()["fits"] is False
    assert small.answers[0].need is not None
    assert small.answers[0].need.fits
    assert small.answers[0].elsewhere == large.answers[0].elsewhere
