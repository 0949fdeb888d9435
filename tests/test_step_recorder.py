"""The recorder in docs/examples: what it writes conforms, whatever happens around the scheduler."""

from __future__ import annotations

import atexit
import gzip
import hashlib
import importlib.util
import json
import random
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from kvsim.sim.conformance import Outcome, compare_files, load_case
from support.fake_vllm import Decider, Request, Script, engine_arguments, modules, play, serve
from support.reference import (
    OUTPUT_IDS,
    ReferenceConfig,
    ReferenceRequest,
    config_of,
    requests_of,
)

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "docs" / "examples" / "step_recorder.py"


AT_EXIT: list[Any] = []
"""What an interpreter would do at its end."""


@pytest.fixture(name="recorder")
def _recorder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    for name, module in modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("KVSIM_RECORD", str(tmp_path / "recording"))
    monkeypatch.setattr(atexit, "register", AT_EXIT.append)
    spec = importlib.util.spec_from_file_location("step_recorder", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def scheduler_of(recorder: ModuleType, config: ReferenceConfig, **others: Any) -> Any:
    kind = "RecordingAsyncScheduler" if config.async_scheduling else "RecordingScheduler"
    return getattr(recorder, kind)(**engine_arguments(config), **others)


def outcome(tmp_path: Path) -> Outcome:
    return compare_files([tmp_path / "recording" / "steps.jsonl"])[0]


def summary(tmp_path: Path) -> dict[str, Any]:
    last = (tmp_path / "recording" / "steps.jsonl").read_text().splitlines()[-1]
    return json.loads(last)["summary"]


class Clients:
    """Random requests at random moments: bursts and pauses, shared prefixes, later turns."""

    def __init__(self, scheduler: Any, seed: int, *, num_requests: int = 40, **chances: float):
        self.scheduler = scheduler
        self.random = random.Random(seed)
        self.left = num_requests
        self.made: list[Request] = []
        self.abort = chances.get("abort", 0.0)
        self.stop = chances.get("stop", 0.0)
        self.unforeseen = chances.get("unforeseen", 0.0)
        self.pause = 0

    def __call__(self, moment: str) -> bool:
        draw = self.random
        self.give_up()
        if moment == "queue":
            self.pause -= 1
            while self.left and self.pause <= 0 and draw.random() < 0.6:
                self.left -= 1
                self.scheduler.add_request(self.request())
                self.give_up()
            if draw.random() < 0.1:
                self.pause = draw.randint(1, 60)
        return bool(self.left)

    def give_up(self) -> None:
        """Some clients do, at any moment."""
        if self.random.random() < self.abort and self.made:
            name = self.random.choice(self.made[-6:]).request_id
            self.scheduler.finish_requests([name], "aborted")

    def request(self) -> Request:
        draw, number = self.random, len(self.made)
        longest = self.scheduler.max_model_len
        outputs = draw.choice([1, 2, 5, 17, 40])
        prompt = self.prompt(number, longest)
        spec = ReferenceRequest(
            id=f"chat-{draw.random()}",
            arrival_ns=number,
            prompt=prompt,
            output_tokens=outputs,
            output_first_id=OUTPUT_IDS + (number << 22),
            priority=draw.randint(0, 2),
        )
        more = draw.randint(1, 30) if draw.random() < self.stop else 0
        request = Request(spec, max_tokens=outputs + more, arrival_time=100.0 + number / 8)
        if draw.random() < self.unforeseen and outputs > 2:
            request.stop_at = outputs - 2
        self.made.append(request)
        return request

    def prompt(self, number: int, longest: int) -> tuple[tuple[int, int], ...]:
        draw = self.random
        own = ((5 << 40) + (number << 20), draw.choice([1, 3, 15, 16, 33, 80]))
        kind = draw.random()
        if kind < 0.3 and self.made:
            before = draw.choice(self.made[-5:]).inner
            turn = (*before.spec.prompt, (before.spec.output_first_id, before.outputs), own)
            turn = tuple((first, count) for first, count in turn if count)
            if sum(count for _, count in turn) < longest:
                return turn
        if kind < 0.7:
            return ((draw.randint(1, 3) << 30, draw.choice([16, 37, 64])), own)
        return (own,)


CONFIGS = {
    "roomy": ReferenceConfig(num_blocks=500),
    "tight": ReferenceConfig(num_blocks=24, max_model_len=300, max_num_batched_tokens=64),
    "no-cache": ReferenceConfig(num_blocks=24, max_model_len=300, prefix_caching=False),
    "priority": ReferenceConfig(num_blocks=24, max_model_len=300, policy="priority"),
    "seats": ReferenceConfig(num_blocks=40, max_model_len=300, max_num_seqs=3, block_size=8),
    "watermark": ReferenceConfig(
        num_blocks=40, max_model_len=300, watermark=0.1, long_prefill_token_threshold=20
    ),
    "hybrid": ReferenceConfig(num_blocks=90, max_model_len=300, kv_spec="hybrid:1,2,32"),
    "window": ReferenceConfig(num_blocks=40, max_model_len=300, kv_spec="swa:48"),
}


MODES = {"sync": False, "async": True}
SERVED = [
    pytest.param(replace(config, async_scheduling=mode), id=f"{name}-{word}")
    for name, config in CONFIGS.items()
    for word, mode in MODES.items()
]


@pytest.mark.parametrize("config", SERVED)
@pytest.mark.parametrize("seed", range(2))
def test_random_service(
    recorder: ModuleType, tmp_path: Path, config: ReferenceConfig, seed: int
) -> None:
    scheduler = scheduler_of(recorder, config)
    serve(scheduler, Clients(scheduler, seed))
    scheduler.shutdown()
    done = outcome(tmp_path)
    assert not done.differs, str(done)
    assert summary(tmp_path)["status"] == "ok"
    assert done.num_steps > 50


@pytest.mark.parametrize("config", SERVED)
@pytest.mark.parametrize("seed", range(2))
def test_clients_that_give_up(
    recorder: ModuleType, tmp_path: Path, config: ReferenceConfig, seed: int
) -> None:
    scheduler = scheduler_of(recorder, config)
    clients = Clients(scheduler, seed, abort=0.08)
    serve(scheduler, clients)
    scheduler.shutdown()
    done = outcome(tmp_path)
    assert not done.differs, str(done)
    assert summary(tmp_path)["status"] == "ok"
    assert "cancel_s" in (tmp_path / "recording" / "trace.jsonl").read_text()


def test_many_who_give_up_in_a_short_step(
    recorder: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each abort has a moment of its own within its step."""
    monkeypatch.setattr(recorder, "STEP_NS", 40)
    scheduler = scheduler_of(recorder, CONFIGS["seats"])
    serve(scheduler, Clients(scheduler, 0, num_requests=120, abort=0.3))
    scheduler.shutdown()
    done = outcome(tmp_path)
    assert not done.differs, str(done)
    assert (tmp_path / "recording" / "trace.jsonl").read_text().count("cancel_s") > 20


def test_who_gives_up_before_any_schedule_was_never_there(
    recorder: ModuleType, tmp_path: Path
) -> None:
    scheduler = scheduler_of(recorder, CONFIGS["roomy"])
    clients = Clients(scheduler, 0)
    first, second = clients.request(), clients.request()
    scheduler.add_request(first)
    scheduler.add_request(second)
    scheduler.finish_requests(first.request_id, "aborted")
    serve(scheduler, lambda moment: False)
    scheduler.shutdown()
    (row,) = (tmp_path / "recording" / "trace.jsonl").read_text().splitlines()
    assert json.loads(row)["id"] == "r000001"
    assert not outcome(tmp_path).differs


def test_replies_that_stop_early_in_lock_step(recorder: ModuleType, tmp_path: Path) -> None:
    scheduler = scheduler_of(recorder, CONFIGS["tight"])
    serve(scheduler, Clients(scheduler, 1, stop=0.5))
    scheduler.shutdown()
    done = outcome(tmp_path)
    assert not done.differs, str(done)
    assert summary(tmp_path)["status"] == "ok"


@pytest.mark.parametrize("seed", range(3))
def test_replies_that_stop_early_cut_an_asynchronous_recording(
    recorder: ModuleType, tmp_path: Path, seed: int
) -> None:
    config = replace(CONFIGS["tight"], async_scheduling=True)
    scheduler = scheduler_of(recorder, config)
    serve(scheduler, Clients(scheduler, seed, unforeseen=0.5))
    done = outcome(tmp_path)
    assert not done.differs, str(done)
    assert summary(tmp_path)["status"] == "cut"
    assert done.num_steps > 5


# -- what the real scheduler did -----------------------------------------------------------------

GOLDEN = ROOT / "tests" / "golden"
LOGS = [
    *("01_tiny", "01_tiny_async", "02_tight", "02_tight_pc_async", "02_alone_watermark_async"),
    *("03_prefix_evict", "03_prefix_evict_async", "03_prefix_exact_async", "03_sessions_tight"),
    *("03_sessions_tight_async", "04_chunk512_async", "04_interval4", "04_nochunk"),
    *("05_block001_pc", "06_priority_async", "06_priority_budget", "06_ties_fcfs"),
    *("08_lencap_async", "08_oversize_prio", "08_outgrow", "09_hybrid_pc_async", "09_swa_pc"),
]


def lines_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def block_hashes(request: Request, size: int) -> list[bytes]:
    """Of all full blocks, each over the one before."""
    inner, hashes = request.inner, [b""]
    for index in range(inner.known // size):
        tokens = inner.tokens(index * size, (index + 1) * size)
        hashes.append(hashlib.sha256(hashes[-1] + repr(tokens).encode()).digest())
    return hashes[1:]


def record_golden(recorder: ModuleType, name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The header and the lines of a golden run that the recorder saw."""
    first, *lines, _ = lines_of(GOLDEN / "steps" / f"{name}.jsonl.gz")
    config = config_of(first["header"])
    scheduler = scheduler_of(recorder, config, decider=Script)
    requests = {}
    specs = requests_of(lines_of(GOLDEN / "traces" / f"{first['header']['trace']}.gz"))
    for spec in specs:
        requests[spec.id] = request = Request(spec, arrival_time=spec.arrival_ns / 1e9)
        if config.prefix_caching:
            request.hashes = lambda one: block_hashes(one, config.block_size)
    play(scheduler, lines, requests)
    scheduler.shutdown()
    return first["header"], lines


def test_the_example_is_such_a_recording(recorder: ModuleType, tmp_path: Path) -> None:
    record_golden(recorder, "03_prefix_exact_async")
    examples = SOURCE.parent / "recording"
    assert {path.name for path in examples.iterdir()} == {"steps.jsonl", "trace.jsonl"}
    for path in examples.iterdir():
        assert (tmp_path / "recording" / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize("name", LOGS)
def test_golden_decisions(recorder: ModuleType, tmp_path: Path, name: str) -> None:
    header, lines = record_golden(recorder, name)
    done = outcome(tmp_path)
    assert not done.differs, str(done)
    assert done.num_steps == len(lines)
    ours = load_case(tmp_path / "recording" / "steps.jsonl").header
    same = ours.keys() - {"trace", "trace_sha256", "step_time_ns", "kv_groups"}
    assert {key: ours[key] for key in same} == {key: header[key] for key in same}


# -- what it must not miss, leave behind or tell -------------------------------------------------


class Generous(Decider):
    """A scheduler with a bug: it admits one request more than there are seats."""

    def _schedule_waiting(self, cap: int, held: bool, now_ns: int) -> None:
        right = self.config
        self.config = replace(right, max_num_seqs=right.max_num_seqs + 1)
        super()._schedule_waiting(cap, held, now_ns)
        self.config = right


class Unfair(Decider):
    """A scheduler with a bug: it preempts the request that came first."""

    def _victim(self) -> Any:
        return self.running[0]


class Forgetful(Decider):
    """A scheduler with a bug: the prefix cache loses what is free whenever a request ends."""

    def deliver(self, output: Any) -> list[str]:
        finished = super().deliver(output)
        pool = self.cache.pool
        for block in [block for block in pool.free if finished and block in pool.key_of]:
            key = pool.key_of.pop(block)
            pool.blocks_of[key].remove(block)
            if not pool.blocks_of[key]:
                del pool.blocks_of[key]
        return finished


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize(
    ("decider", "config"),
    [(Generous, "seats"), (Unfair, "tight"), (Forgetful, "roomy")],
    ids=["generous", "unfair", "forgetful"],
)
def test_another_scheduler_differs(
    recorder: ModuleType, tmp_path: Path, decider: type[Decider], config: str, mode: bool
) -> None:
    arguments = replace(CONFIGS[config], async_scheduling=mode)
    scheduler = scheduler_of(recorder, arguments, decider=decider)
    serve(scheduler, Clients(scheduler, 0))
    scheduler.shutdown()
    assert outcome(tmp_path).difference is not None


def test_requests_between_two_schedules_wait_for_the_batch(recorder: ModuleType) -> None:
    """Asynchronous scheduling fills its queue with two batches at one clock."""
    scheduler = scheduler_of(recorder, replace(CONFIGS["roomy"], async_scheduling=True))
    clients = Clients(scheduler, 0)
    scheduler.add_request(clients.request())
    first = scheduler.schedule()
    late = clients.request()
    scheduler.add_request(late)
    scheduler.finish_requests([clients.made[0].request_id], "aborted")
    assert late.request_id not in scheduler.requests
    second = scheduler.schedule()
    assert late.request_id not in second.num_scheduled_tokens
    assert clients.made[0].request_id in scheduler.requests
    scheduler.update_from_output(first, None)
    assert set(scheduler.requests) == {late.request_id}
    assert late.request_id in scheduler.schedule().num_scheduled_tokens


@pytest.mark.parametrize(("policy", "mode"), [("fcfs", False), ("fcfs", True), ("priority", False)])
def test_an_engine_that_is_stuck(
    recorder: ModuleType, tmp_path: Path, policy: Any, mode: bool
) -> None:
    """The request at the head never fits; others come, overtake it if they may, it is aborted."""
    config = ReferenceConfig(num_blocks=10, policy=policy, async_scheduling=mode)
    scheduler = scheduler_of(recorder, config)
    calls = 0

    def add(prompt: int, priority: int) -> None:
        spec = ReferenceRequest(
            id=str(calls),
            arrival_ns=calls,
            prompt=((calls << 20, prompt),),
            output_tokens=3,
            output_first_id=calls << 40,
            priority=priority,
        )
        scheduler.add_request(Request(spec, arrival_time=float(calls)))

    def inputs(moment: str) -> bool:
        nonlocal calls
        calls += moment == "queue"
        if moment == "queue" and calls in (1, 10, 30, 51):
            add(200 if calls == 1 else 20, priority=int(calls == 1))
        if moment == "queue" and calls == 50:
            scheduler.finish_requests(["1"], "aborted")
        return calls < 52

    serve(scheduler, inputs)
    scheduler.shutdown()
    done = outcome(tmp_path)
    assert not done.differs, str(done)
    assert summary(tmp_path)["status"] == "ok"
    assert done.num_steps > 6


def test_it_stops_after_so_many_steps(
    recorder: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KVSIM_RECORD_STEPS", "30")
    scheduler = scheduler_of(recorder, replace(CONFIGS["tight"], async_scheduling=True))
    clients = Clients(scheduler, 0)
    serve(scheduler, clients)
    assert clients.left == 0, "the server goes on"
    assert type(scheduler) is sys.modules["vllm.v1.core.sched.async_scheduler"].AsyncScheduler
    scheduler.shutdown()
    done = outcome(tmp_path)
    assert not done.differs, str(done)
    assert 25 <= done.num_steps <= 30
    assert summary(tmp_path)["status"] == "cut"


def test_a_cut_recording_is_compared_so_far(recorder: ModuleType, tmp_path: Path) -> None:
    scheduler = scheduler_of(recorder, CONFIGS["tight"])
    with pytest.raises(AssertionError, match="does not come to an end"):
        serve(scheduler, Clients(scheduler, 0), most_steps=60)
    scheduler.close()
    assert summary(tmp_path)["status"] == "cut"
    assert not outcome(tmp_path).differs
    path = tmp_path / "recording" / "steps.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-1], lines[-1].replace("cut", "ok")]))
    difference = outcome(tmp_path).difference
    assert difference is not None
    assert difference.key == "number of steps"


def test_a_recording_without_a_step(recorder: ModuleType, tmp_path: Path) -> None:
    scheduler = scheduler_of(recorder, CONFIGS["roomy"])
    scheduler.add_request(Clients(scheduler, 0).request())
    scheduler.close()
    done = outcome(tmp_path)
    assert (done.num_steps, done.differs) == (0, False)


def test_nothing_private_is_written(recorder: ModuleType, tmp_path: Path) -> None:
    scheduler = scheduler_of(recorder, CONFIGS["roomy"])
    serve(scheduler, Clients(scheduler, 0))
    scheduler.shutdown()
    written = "".join(path.read_text() for path in (tmp_path / "recording").iterdir())
    assert "chat-" not in written, "a request's id"
    rows = (tmp_path / "recording" / "trace.jsonl").read_text().splitlines()
    ids = {number for row in rows for number in json.loads(row)["hash_ids"]}
    assert max(ids) < 2000, "numbers, not hashes or tokens"


def test_an_interpreter_that_ends_writes_it_too(recorder: ModuleType, tmp_path: Path) -> None:
    scheduler = scheduler_of(recorder, CONFIGS["roomy"])
    serve(scheduler, Clients(scheduler, 0))
    AT_EXIT[-1]()
    assert not outcome(tmp_path).differs
    AT_EXIT[-1]()


def test_nothing_is_overwritten(recorder: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "recording").mkdir()
    with pytest.raises(FileExistsError, match="recording"):
        scheduler_of(recorder, CONFIGS["roomy"])


def test_groups_that_kvsim_has_not_are_not_compared(recorder: ModuleType, tmp_path: Path) -> None:
    arguments = engine_arguments(CONFIGS["roomy"])
    mamba = type("MambaSpec", (), {})()
    arguments["kv_cache_config"].kv_cache_groups[0].kv_cache_spec = mamba
    recorder.RecordingScheduler(**arguments).close()
    assert not outcome(tmp_path).supported
