"""Tenants: what files call them, and the numbers that a trace has for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.traces import Trace, load_trace
from kvsim.traces.tenants import tenant_numbers

Write = Callable[[str, str], Path]


def numbers(trace: Trace) -> list[int]:
    assert trace.tenant is not None
    found: list[int] = trace.tenant.tolist()
    return found


@pytest.mark.parametrize("key", ["tenant", "tenant_id", "user"])
def test_names_are_numbered_as_they_appear(write: Write, key: str) -> None:
    names = ['"zoe"', '"ann"', '"zoe"', "null"]
    rows = [
        f'{{"timestamp": {i}, "input_length": 9, "output_length": 2, "{key}": {name}}}'
        for i, name in enumerate(names)
    ]
    trace = load_trace(write("m.jsonl", "\n".join(rows)))
    assert numbers(trace) == [0, 1, 0, 2]
    assert "tenants are numbered as they appear: 3." in trace.notes


def test_numbers_stay_what_they_are(write: Write) -> None:
    rows = [
        f'{{"timestamp": {i}, "input_length": 9, "output_length": 2, "tenant": {tenant}}}'
        for i, tenant in enumerate([7, 3, 7])
    ]
    trace = load_trace(write("m.jsonl", "\n".join(rows)))
    assert numbers(trace) == [7, 3, 7]
    assert trace.notes == ()


def test_a_column_of_a_table(write: Write) -> None:
    text = "arrived_at,num_prefill_tokens,num_decode_tokens,Tenant\n0,10,3,b\n1,11,3,a\n2,12,3,b\n"
    assert numbers(load_trace(write("v.csv", text))) == [0, 1, 0]


def test_files_without_tenants_are_one_tenants(write: Write) -> None:
    one = '{"timestamp": 1, "input_length": 9, "output_length": 2, "user": "a"}\n'
    other = '{"timestamp": 0, "input_length": 9, "output_length": 2}\n' * 2
    trace = load_trace([write("a.jsonl", one), write("b.jsonl", other)])
    assert numbers(trace) == [0, 0, 1]
    assert load_trace(write("b.jsonl", other)).tenant is None


def test_a_tenant_that_is_no_name(write: Write) -> None:
    good = '{"timestamp": 0, "input_length": 9, "output_length": 2}\n'
    bad = '{"timestamp": 0, "input_length": 9, "output_length": 2, "tenant": [1]}\n'
    trace = load_trace(write("a.jsonl", good + bad))
    assert [str(row) for row in trace.skipped] == [
        "a.jsonl row 2: tenant(=[1]) must be a text or a whole number"
    ]


@given(st.lists(st.none() | st.integers(-3, 3) | st.sampled_from(["1", "x", "", "²"])))
def test_the_same_name_is_the_same_tenant(names: list[int | str | None]) -> None:
    found, given_out = tenant_numbers(names)
    assert (found >= 0).all()
    if given_out:
        assert sorted(set(found.tolist())) == list(range(len(set(names))))
        same = dict(zip(names, found.tolist(), strict=True))
        assert [same[name] for name in names] == found.tolist()
    else:
        assert found.tolist() == [int(name or 0) for name in names]
