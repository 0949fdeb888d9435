"""A case takes what ``kvsim simulate`` takes, and it means the same."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from kvsim.cli.planning import simulate
from kvsim.sim.regress.keys import BYTES_PER_GIB, KEYS, asked

NOT_OF_A_CASE = {"out", "exact_steps", "stream", "repeat", "as_json", "force"}
OUTPUTS = ("timeline", "metrics")


def test_every_option_of_simulate_is_known_and_no_other() -> None:
    options = {
        name
        for name in inspect.signature(simulate).parameters
        if name not in NOT_OF_A_CASE and not name.startswith(OUTPUTS)
    }
    assert set(KEYS) == options


def test_kinds_are_those_of_the_fields() -> None:
    assert KEYS["block_size"] is int
    assert KEYS["max_model_len"] is int
    assert KEYS["watermark"] is float
    assert KEYS["rate"] is float
    assert KEYS["hybrid_kv_cache"] is bool
    assert KEYS["scheduler"] is str


def test_options_are_sorted_and_units_turned() -> None:
    options = {"rate": 3, "think_time": 2.0, "turns": 2, "non_kv_memory": 1.5, "price": 2.0}
    found = asked({**options, "gpu": "h200", "block_size": 8}, Path("f"))
    assert found.intake.rate_per_s == 3
    assert found.intake.think_time_s == 2.0
    assert found.hardware == {"gpu": "h200", "model": "llama-3.1-8b", "price": 2.0}
    assert found.flags == {"non_kv_memory_bytes": 1.5 * BYTES_PER_GIB, "block_size": 8}


@pytest.mark.parametrize(
    ("key", "value", "placed"),
    [
        ("gpu", "card.json", "f/card.json"),
        ("gpu", "a100", "a100"),
        ("model", "m/config.json", "f/m/config.json"),
        ("profile", "p.json", "f/p.json"),
        ("step_cost", "measured:p.json", "measured:f/p.json"),
        ("step_cost", "affine:0.1,0,0", "affine:0.1,0,0"),
        ("step_cost", "measured", "measured"),
    ],
)
def test_files_are_looked_for_from_the_suite_on(key: str, value: str, placed: str) -> None:
    found = asked({key: value}, Path("f"))
    assert {**found.hardware, **found.flags}[key] == placed


def test_traces_and_tokenizers_are_files_too() -> None:
    found = asked({"trace": ("a.csv", "/b.csv"), "tokenizer": "t.json"}, Path("f"))
    assert found.intake.trace == ("f/a.csv", "/b.csv")
    assert found.intake.tokenizer == "f/t.json"
