"""Prefill here, decode there: times by hand, bytes to the last one."""

from __future__ import annotations

import numpy as np
import pytest

from kvsim.calibration.affine import AffineCost
from kvsim.sim.fleet.result import FleetResult
from kvsim.sim.fleet.run import simulate_fleet
from kvsim.sim.fleet.spec import Fleet, KVTransfer, Pool
from support.fleets import SmallServer, lengths, pool_of, server_of
from support.workloads import Columns

AT_ONCE = KVTransfer(bytes_per_s=1e15)
LINK = KVTransfer(bytes_per_s=1e6, latency_s=2e-3)


def split(
    trace: Columns,
    *,
    prefill: int = 1,
    decode: int = 1,
    server: SmallServer | None = None,
    link: KVTransfer = LINK,
) -> FleetResult:
    """A step takes 1 ms, a block weighs 1000 bytes."""
    there = server or server_of(AffineCost(base_s=1e-3))
    pools = (
        pool_of(there, prefill, "prefill", role="prefill"),
        pool_of(there, decode, "decode", role="decode"),
    )
    return simulate_fleet(Fleet(pools=pools, kv_transfer=link), trace, check=True)


def ms(found: FleetResult, name: str) -> list[float]:
    return [round(1e3 * time, 9) for time in found.result.requests[name].tolist()]


def test_two_prompts_by_hand() -> None:
    """Prefilled by 1 ms; 7 blocks take 2 + 7 ms each, one after the other; then a token a ms."""
    found = split(lengths(2, prompt=100, output=3))
    assert [round(1e3 * t, 9) for t in found.transfers["start_s"]] == [1, 10]
    assert [round(1e3 * t, 9) for t in found.transfers["end_s"]] == [10, 19]
    assert found.transfers["num_bytes"].tolist() == [7000, 7000]
    assert ms(found, "scheduled_s") == [0, 0]
    assert ms(found, "first_token_s") == [11, 20]
    assert ms(found, "finish_s") == [13, 22]
    assert found.sent_bytes == found.received_bytes == 14_000


@pytest.mark.parametrize(
    ("prefill", "decode", "ends"), [(2, 1, [10, 19]), (1, 2, [10, 19]), (2, 2, [10, 10])]
)
def test_a_link_is_taken_at_both_ends(prefill: int, decode: int, ends: list[float]) -> None:
    """One sender or one receiver serves one transfer after the other; pairs of their own do not."""
    found = split(lengths(2, prompt=100, output=3), prefill=prefill, decode=decode)
    assert [round(1e3 * t, 9) for t in found.transfers["end_s"]] == ends


def test_time_on_the_way_is_no_wait() -> None:
    """The queue at the decode replica is: its one seat is taken for 3 ms."""
    server = server_of(AffineCost(base_s=1e-3), max_num_seqs=1, max_num_batched_tokens=128)
    found = split(lengths(2, prompt=100, output=3), server=server, link=AT_ONCE)
    # prefill ends at 1 and 2 ms; decode runs 1-4 and 4-7 ms
    assert ms(found, "finish_s") == [4, 7]
    assert ms(found, "waited_s") == [0, 1 + 2]


def test_all_gpus_of_the_receiver_take_their_part() -> None:
    """Block bytes are one GPU's."""
    one = split(lengths(1, prompt=100, output=3))
    two = split(lengths(1, prompt=100, output=3), server=server_of(tensor_parallel_size=2))
    assert two.sent_bytes == 2 * one.sent_bytes


def test_what_decodes_computes_no_prompt() -> None:
    """Its steps have one token per request: the prompt costs nothing there."""
    cost = AffineCost(base_s=1e-3, per_scheduled_token_s=1e-3)
    found = split(lengths(1, prompt=100, output=3), server=server_of(cost))
    first, last = ms(found, "first_token_s")[0], ms(found, "finish_s")[0]
    assert ms(found, "scheduled_s") == [0]
    # 1 + 100 ms of prefill, 9 of transfer, then 2 ms for each of 3 tokens
    assert first == 101 + 9 + 2
    assert last == first + 2 * 2


def test_who_is_preempted_computes_again() -> None:
    """A decode pool of 12 blocks for two requests that end with 8 each: one has to go."""
    cost = AffineCost(base_s=1e-3, per_scheduled_token_s=1e-5)
    server = server_of(cost, num_gpu_blocks=13, max_model_len=160)
    found = split(lengths(2, prompt=90, output=38), server=server, link=AT_ONCE)
    requests = found.result.requests
    assert requests["num_preemptions"].sum() > 0
    assert requests["wasted_tokens"].sum() >= 90, "what came is lost"
    assert found.sent_bytes == found.received_bytes == 2 * 6 * 1000, "and does not come again"


@pytest.mark.parametrize(
    ("patience_ms", "sent", "tokens"),
    [(0.5, 0, 0), (5.0, 7000, 0), (11.5, 7000, 1)],
    ids=["prefilling", "on its way", "decoding"],
)
def test_who_gives_up(patience_ms: float, sent: int, tokens: int) -> None:
    """Before, while and after its KV crosses; what is on its way arrives and is dropped."""
    trace = lengths(1, prompt=100, output=50, cancel_s=np.array([patience_ms / 1e3]))
    found = split(trace)
    assert found.result.status.tolist() == ["cancelled"]
    assert found.sent_bytes == found.received_bytes == sent
    assert (found.result.requests["output_tokens"][0] > 0) == bool(tokens)


def test_prefix_hits_are_the_prefill_replicas() -> None:
    """Tokens that came over the link were computed, not found."""
    trace = lengths(
        2,
        prompt=100,
        output=3,
        arrival_s=np.array([0.0, 1.0]),
        prefix_row=np.array([-1, 0]),
        prefix_tokens=np.array([0, 96]),
    )
    found = split(trace, server=server_of(enable_prefix_caching=True))
    assert found.result.requests["cached_tokens"].tolist() == [0, 96]


def test_pools_that_cannot_hand_over() -> None:
    server = server_of()
    with pytest.raises(ValueError, match="must be all unified, or prefill and decode"):
        Fleet(pools=(pool_of(server, name="a"), pool_of(server, name="b", role="decode")))
    with pytest.raises(ValueError, match=r"block_size\(=a 16, b 32\) must be the same"):
        Fleet(
            pools=(
                Pool(name="a", server=server, role="prefill"),
                Pool(name="b", server=server_of(block_size=32), role="decode"),
            )
        )
    other = server_of(scheduler="orca")
    with pytest.raises(ValueError, match="need allocator paged and scheduler vllm"):
        Fleet(pools=tuple(Pool(name=r, server=other, role=r) for r in ("prefill", "decode")))
    with pytest.raises(ValueError, match=r"n\(=2\) must be 1 between prefill and decode"):
        split(lengths(1, num_samples=np.array([2])))
