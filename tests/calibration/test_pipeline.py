"""Pipeline stages in the clock: rounds by hand, bubbles, spans that equal their steps."""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvsim.calibration import Batch, load_gpu, load_model
from kvsim.calibration.affine import AffineCost
from kvsim.calibration.costs import step_cost
from kvsim.calibration.datasheet import DatasheetCost
from kvsim.calibration.operator_cost import OperatorCost
from kvsim.calibration.pipeline import PipelinedCost
from kvsim.calibration.step_cost import StepCost

SOURCES = ("silicon", "datasheet")
MODELS = ("llama-3.1-8b", "gemma-3-27b", "llama-4-scout")
GPU = load_gpu("h100-sxm")
TOKENS = 2048


@cache
def cost(
    stages: int, source: str = "silicon", model: str = "llama-3.1-70b", ahead: bool = True
) -> StepCost:
    return step_cost(
        source,
        model=load_model(model),
        gpu=GPU,
        async_scheduling=ahead,
        pipeline_parallel_size=stages,
        max_num_batched_tokens=TOKENS,
    )


def pipelined(stages: int, source: str = "silicon", model: str = "llama-3.1-70b") -> PipelinedCost:
    made = cost(stages, source, model)
    assert isinstance(made, PipelinedCost)
    return made


def decodes(num: int, mean: int = 2000) -> Batch:
    return Batch(num, num * mean)


def transfer_ns(tokens: int, hidden: int = 8192) -> float:
    """10 us, then two 16-bit tensors over 0.7 of half the NVLink figure."""
    assert GPU.nvlink_bytes_per_s is not None
    return 10e3 + 4 * hidden * tokens / (0.7 * GPU.nvlink_bytes_per_s / 2) * 1e9


def bubble(stages: int, batch: Batch) -> float:
    """Share of the round in which the mean stage idles."""
    terms = {term.name: term.ns for term in cost(stages).terms(batch)}
    return terms["pipeline bubble"] / cost(stages).step_ns(batch)


@pytest.mark.parametrize("source", SOURCES)
def test_one_stage_is_the_whole(source: str) -> None:
    assert isinstance(cost(1, source), (OperatorCost, DatasheetCost))


def test_a_clock_of_the_server_is_not_divided() -> None:
    made = step_cost(
        "affine:0.01,0,0", model=load_model("llama-3.1-8b"), gpu=GPU, pipeline_parallel_size=2
    )
    assert made == AffineCost.parse("0.01,0,0")


@pytest.mark.parametrize("stages", [0, 81])
def test_stages_that_no_model_has(stages: int) -> None:
    for spec in ("datasheet", "affine:0.01,0,0"):
        with pytest.raises(ValueError, match=rf"pipeline_parallel_size\(={stages}\) must be"):
            step_cost(
                spec, model=load_model("llama-3.1-70b"), gpu=GPU, pipeline_parallel_size=stages
            )


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("stages", [2, 3, 4, 8])
def test_one_request_passes_all_stages(source: str, stages: int) -> None:
    """As long as the whole model takes, and the transfers."""
    whole = cost(1, source).step_ns(decodes(1))
    expected = whole + (stages - 1) * transfer_ns(1)
    assert cost(stages, source).step_ns(decodes(1)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("source", SOURCES)
def test_with_fewer_requests_than_stages_the_rest_idles(source: str) -> None:
    """A round is one request's way; a second and a third pass beside it."""
    made = pipelined(8, source)
    rounds = [made.step_ns(decodes(n)) for n in range(1, 8)]
    assert rounds == pytest.approx([rounds[0]] * 7, rel=1e-12)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("stages", [2, 4, 8])
def test_full_stages_by_hand(source: str, stages: int) -> None:
    """The last stage decides: its layers, LM head and sampling, a transfer, for each batch."""
    part = decodes(64)
    whole = cost(1, source)
    assert isinstance(whole, (OperatorCost, DatasheetCost))
    head = whole.head_ns(64)
    stage = (whole.step_ns(part) - head) / stages + head + transfer_ns(64)
    found = cost(stages, source).step_ns(decodes(64 * stages))
    assert found == pytest.approx(stages * stage, rel=1e-12)


def test_a_stage_waits_for_its_longest_sequence() -> None:
    """An A100 does not split sequences: on stages as on the whole."""
    whole, staged = (
        step_cost(
            "silicon",
            model=load_model("llama-3.1-8b"),
            gpu=load_gpu("a100"),
            pipeline_parallel_size=stages,
            max_num_batched_tokens=TOKENS,
        )
        for stages in (1, 2)
    )
    assert whole.uses_longest
    assert staged.uses_longest
    even = decodes(256, 1000)
    assert staged.step_ns(even._replace(longest_context_tokens=60_000)) > 1.3 * staged.step_ns(even)


def test_a_longer_stage_decides() -> None:
    """40 layers on 3 stages are 13, 14 and 13: one more than the last, whose LM head is small."""
    whole, made = cost(1, model="llama-2-13b"), cost(3, model="llama-2-13b")
    assert isinstance(whole, OperatorCost)
    longer = (whole.step_ns(decodes(1)) - whole.head_ns(1)) * 14 / 40 + transfer_ns(1, 5120)
    assert made.step_ns(decodes(3)) == pytest.approx(3 * longer, rel=1e-12)


@pytest.mark.parametrize("stages", [2, 4, 8])
def test_bubbles_shrink_as_requests_come(stages: int) -> None:
    found = [bubble(stages, decodes(n)) for n in range(1, stages + 1)]
    assert all(a > b for a, b in pairwise(found))
    assert found[0] == pytest.approx(1 - 1 / stages, abs=0.01)
    assert found[-1] < 0.12


@pytest.mark.parametrize("stages", [2, 4, 8])
def test_throughput_grows_to_that_of_full_stages(stages: int) -> None:
    """Tokens/s rise with the requests: nearly P times what the whole model does with N / P."""
    sizes = [stages * n for n in (1, 2, 4, 8, 16, 32, 64, 128)]
    rates = [n / cost(stages).step_s(decodes(n)) for n in sizes]
    stage = [n / cost(1).step_s(decodes(n // stages)) for n in sizes]
    assert all(a < b for a, b in pairwise(rates))
    shares = [rate / full for rate, full in zip(rates, stage, strict=True)]
    assert all(0.85 < share <= 1 for share in shares)


@pytest.mark.parametrize("source", SOURCES)
def test_a_chunk_holds_up_the_batches_behind_it(source: str) -> None:
    """The others wait: the round is the way of the batch with the chunk."""
    batch = Batch(32, 32 * 2000, ((1500, 0),))
    part = Batch(8, 8 * 2000, ((1500, 0),))
    expected = cost(1, source).step_ns(part) + 3 * transfer_ns(1508)
    assert cost(4, source).step_ns(batch) == pytest.approx(expected, rel=1e-12)


def cycle_ns(times: list[list[float]], rounds: int = 200) -> float:
    """Of a line in which batch i takes ``times[i][s]`` at stage s, first come first served."""
    free = [0.0] * len(times[0])  # when a stage has done with the batch before
    back = [0.0] * len(times)  # when a batch has passed the last stage
    moments = []
    for _ in range(rounds):
        for i, stages in enumerate(times):
            now = back[i]
            for s, time in enumerate(stages):
                now = free[s] = max(now, free[s]) + time
            back[i] = now
        moments.append(now)
    return (moments[-1] - moments[rounds // 2 - 1]) / (rounds - rounds // 2)


@pytest.mark.parametrize(
    "batch",
    [decodes(1), decodes(3), decodes(4), decodes(10), decodes(250), Batch(32, 64_000, ((900, 0),))],
    ids=["one", "three", "four", "ten", "many", "chunk"],
)
@pytest.mark.parametrize("stages", [2, 4, 7])
def test_a_round_is_the_cycle_of_a_line(stages: int, batch: Batch) -> None:
    """Stage by stage, batch by batch; the head on the last stage is all that sets them apart."""
    whole, made = cost(1), pipelined(stages)
    assert isinstance(whole, OperatorCost)
    layers = made.describe()["pipeline_layers"]
    assert isinstance(layers, list)
    times = []
    for part in made.batches(batch):
        head = whole.head_ns(part.num_decodes + len(part.chunks))
        one = [(whole.step_ns(part) - head) * held / 80 for held in layers]
        one[-1] += head
        times.append([one[0], *(ns + transfer_ns(part.num_tokens) for ns in one[1:])])
    assert made.step_ns(batch) == pytest.approx(cycle_ns(times), rel=0.01)


def test_chunks_for_all_stages_pass_in_a_row() -> None:
    """Four full batches take little more than one, which leaves three stages idle."""
    one, four = (Batch(chunks=((n * TOKENS, 0),)) for n in (1, 4))
    made = pipelined(4)
    assert made.step_ns(four) < 1.2 * made.step_ns(one)
    assert bubble(4, one) > 0.7
    assert bubble(4, four) < 0.1


def test_a_step_is_cut_into_batches() -> None:
    made = pipelined(4)
    assert made.batches(decodes(2, 10)) == (Batch(1, 10), Batch(1, 10))
    assert [part.num_decodes for part in made.batches(decodes(10))] == [3, 3, 2, 2]
    longest = made.batches(Batch(4, 400, (), 0, 250))
    assert [part.longest_context_tokens for part in longest] == [250, 0, 0, 0]
    assert made.batches(Batch(chunks=((5000, 100),))) == (
        Batch(chunks=((2048, 100),)),
        Batch(chunks=((2048, 2148),)),
        Batch(chunks=((904, 4196),)),
    )


BATCHES = st.builds(
    Batch,
    num_decodes=st.integers(0, 300),
    decode_context_tokens=st.integers(0, 400_000),
    chunks=st.lists(st.tuples(st.integers(1, 9000), st.integers(0, 9000)), max_size=5).map(tuple),
    num_padding_rows=st.integers(0, 20),
    longest_context_tokens=st.integers(0, 4000),
).map(lambda b: b if b.num_decodes else Batch(0, 0, b.chunks, b.num_padding_rows))


@given(stages=st.sampled_from((2, 3, 4, 8)), batch=BATCHES)
@settings(max_examples=150, deadline=None)
def test_batches_hold_the_whole_step(stages: int, batch: Batch) -> None:
    parts = pipelined(stages).batches(batch)
    assert len(parts) <= stages
    assert sum(part.num_tokens for part in parts) == batch.num_tokens
    assert sum(part.num_decodes for part in parts) == batch.num_decodes
    contexts = sum(part.decode_context_tokens for part in parts)
    assert contexts == pytest.approx(batch.decode_context_tokens, rel=1e-12)
    pieces = [chunk for part in parts for chunk in part.chunks]
    assert sum(new for new, _ in pieces) == sum(new for new, _ in batch.chunks)
    assert max(new + past for new, past in (*pieces, (0, 0))) == max(
        new + past for new, past in (*batch.chunks, (0, 0))
    )


@given(
    source=st.sampled_from(SOURCES),
    model=st.sampled_from(MODELS),
    ahead=st.booleans(),
    stages=st.integers(2, 8),
    num=st.integers(0, 300),
    mean=st.one_of(st.floats(0, 30_000), st.floats(1000, 1030), st.floats(8180, 8200)),
    padding=st.integers(0, 20),
    longer=st.one_of(st.none(), st.floats(1, 4)),
    k=st.integers(0, 150),
)
@settings(max_examples=150, deadline=None)
def test_span_is_the_sum_of_its_steps(
    source: str,
    model: str,
    ahead: bool,
    stages: int,
    num: int,
    mean: float,
    padding: int,
    longer: float | None,
    k: int,
) -> None:
    made = cost(stages, source, model, ahead)
    longest = 0 if longer is None else round(mean * longer)
    batch = Batch(num, round(num * mean), (), padding, longest)
    steps = []
    for j in range(k):
        at = batch.decode_context_tokens + j * num
        now = batch._replace(
            decode_context_tokens=at, longest_context_tokens=longest and longest + j
        )
        steps.append(made.step_ns(now))
    assert made.span_s(batch, k) == pytest.approx(math.fsum(steps) / 1e9, rel=1e-12)


@given(source=st.sampled_from(SOURCES), stages=st.sampled_from((2, 3, 8)), batch=BATCHES)
@settings(max_examples=80, deadline=None)
def test_terms_sum_to_the_step(source: str, stages: int, batch: Batch) -> None:
    """No bubble is negative: no stage works longer than the round."""
    made = cost(stages, source)
    terms = made.terms(batch)
    whole = made.step_ns(batch)
    assert math.fsum(term.ns for term in terms) == pytest.approx(whole, rel=1e-9)
    named = {term.name: term.ns for term in terms}
    assert len(named) == len(terms)
    assert named["pipeline bubble"] >= -1e-9 * whole
    assert named["pipeline transfers"] >= 0


def test_more_work_takes_no_less_time() -> None:
    """Of the roofline: measured kernels are not always in order."""
    made = cost(4, "datasheet", "llama-3.1-8b")
    rounds = [made.step_ns(decodes(4 * n)) for n in range(1, 100)]
    assert all(a <= b * (1 + 1e-12) for a, b in pairwise(rounds))


def test_what_determines_it_is_described() -> None:
    made, whole = pipelined(4), cost(1)
    assert (made.source, made.uses_longest) == (whole.source, whole.uses_longest)
    assert made.band.low < whole.band.low
    assert made.band.high > whole.band.high
    batch = decodes(64)
    assert made.band_of(batch).high >= made.band.high
    assert made.origin.endswith("on 4 pipeline stages")
    described = made.describe()
    assert described["pipeline_layers"] == [20] * 4
    assert described != cost(2).describe() != whole.describe()
    assert isinstance(whole, OperatorCost)
    quarter = whole.outside(
        num_seqs=16, num_tokens=TOKENS, context_tokens=16_384, longest_context=4096
    )
    assert quarter == made.outside(
        num_seqs=64, num_tokens=TOKENS, context_tokens=65_536, longest_context=4096
    )
    assert not pipelined(4, "datasheet").outside(
        num_seqs=1, num_tokens=1, context_tokens=1, longest_context=1
    )
