"""Record what vLLM's scheduler decides, for `kvsim conform`: every step, and the trace behind it.

    KVSIM_RECORD=recording PYTHONPATH=. vllm serve MODEL \
        --scheduler-cls step_recorder.RecordingAsyncScheduler
    kvsim conform recording/steps.jsonl

`RecordingAsyncScheduler` records asynchronous scheduling (vLLM's default), `RecordingScheduler`
goes with `--no-async-scheduling`. Written for vLLM 0.33 (V1). Both files are written when the
engine shuts down, or after KVSIM_RECORD_STEPS steps (default 100000).

The clock is virtual, since decisions are compared and not times: a batch takes STEP_NS, an empty
one nothing, and an idle engine's clock stands still. An arrival is stamped with the clock at which
it joins the queue. Where a schedule() at that clock has gone before (asynchronous scheduling fills
its queue with two of them), it is held until the batch ends, as no clock could tell it from the
others; an abort is held alike. No token and no request id is written: requests are numbered, and so
are the hashes of their blocks.

Limits: one engine core; no speculative decoding, LoRA limits, multimodal inputs, KV connectors,
structured outputs or streaming sessions. With asynchronous scheduling the recording ends before
the first request that stops short of its max_tokens: use `ignore_eos`, or lock step.
"""

import atexit
import hashlib
import json
import os
from collections import deque
from pathlib import Path

from vllm import __version__
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler

STEP_NS = 1000
FLAGS = ("max_num_seqs", "max_num_active_seqs", "policy", "watermark")
FLAGS += ("long_prefill_token_threshold", "prefill_schedule_interval")


class Recording:
    """Mixed in before one of vLLM's schedulers, which decides as before."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._folder = Path(os.environ.get("KVSIM_RECORD", "kvsim-recording"))
        self._folder.mkdir(parents=True)  # FileExistsError: nothing is overwritten
        self._most_steps = int(os.environ.get("KVSIM_RECORD_STEPS", "100000"))
        self._header = json.loads(json.dumps(self._describe()))  # what is no JSON fails now
        self._before, self._now, self._device_free, self._aborts = -1, 0, 0, 0
        self._decided = False  # a schedule() has happened at this clock
        self._line, self._lines, self._rows, self._held = {}, [], {}, []
        self._flying = deque()  # (line, end) of every batch that was scheduled and not processed
        manager, pool = self.kv_cache_manager, self.kv_cache_manager.block_pool
        self._allocate, manager.allocate_slots = manager.allocate_slots, self._allocate_slots
        self._evict, pool._maybe_evict_cached_block = pool._maybe_evict_cached_block, self._evicted
        atexit.register(self.close)

    def add_request(self, request):
        if self._must_wait():
            return self._held.append(lambda: self.add_request(request))
        self._tick()
        name = f"r{len(self._rows):06}"
        self._rows[request.request_id] = {"id": name, "at": self._now, "request": request}
        return super().add_request(request)

    def finish_requests(self, request_ids, *args, **kwargs):
        if self._must_wait():
            self._held.append(lambda: self.finish_requests(request_ids, *args, **kwargs))
            return []
        names = self.requests if request_ids is None else request_ids
        finished = []
        for name in [names] if isinstance(names, str) else list(names):  # one after the other
            if name in self.requests:
                self._tick()
                self._aborts += 1
                middle = self._now - STEP_NS // 2 + self._aborts
                self._rows[name]["left"] = max(self._before + 1, middle)
            finished += super().finish_requests([name], *args, **kwargs) or []
        return finished

    def schedule(self, *args, **kwargs):
        self._line = line = {"t": self._now, "ev": [], "pre": [], "hit": {}, "evict": 0}
        output = super().schedule(*args, **kwargs)
        tokens = output.total_num_scheduled_tokens
        start = max(self._now, self._device_free)
        self._device_free = start + STEP_NS * (tokens > 0)
        waiting = len(self.waiting) + len(getattr(self, "kv_holding_waiting", ()))
        line |= {"start": start, "dt": self._device_free - start, "ntok": tokens}
        line |= {"run": len(self.running), "wait": waiting, "free": self._free_blocks()}
        last = self._lines[-1] if self._lines else {}
        # an engine in which nothing fits asks again and again: once is enough
        repeated = all(last.get(key) == line[key] for key in ("t", "ntok", "ev"))
        if tokens or (line["ev"] and not repeated):
            self._lines.append(line)
        self._flying.append((line, self._device_free))
        self._decided = True
        return output

    def update_from_output(self, scheduler_output, *args, **kwargs):
        live = [name for name in scheduler_output.num_scheduled_tokens if name in self.requests]
        result = super().update_from_output(scheduler_output, *args, **kwargs)
        line, end = self._flying.popleft()
        if end > self._now:
            self._before, self._now, self._decided, self._aborts = self._now, end, False, 0
        ended = [self._rows[name] for name in live if name not in self.requests]
        unforeseen = any(self._unforeseen(row["request"]) for row in ended)
        if not unforeseen:
            line |= {"fin": [row["id"] for row in ended], "free_end": self._free_blocks()}
        held, self._held = self._held, []
        for action in held:
            action()
        if unforeseen or len(self._lines) >= self._most_steps:
            self.close()
        return result

    def shutdown(self):
        super().shutdown()
        self.close()

    def _must_wait(self):
        """Whether no clock could tell what happens now from the schedule() before it."""
        return self._decided and any(end > self._now for _, end in self._flying)

    def _tick(self):
        """An idle engine has decided at this clock: what comes now comes later."""
        if self._decided:
            self._before, self._now, self._decided = self._now, self._now + 1, False

    def _unforeseen(self, request):
        """Whether the batch in flight has a token for a request that has ended before it."""
        early = request.num_output_tokens < request.max_tokens
        full = request.num_tokens >= self.max_model_len
        return early and not full and isinstance(self, AsyncScheduler)

    def _free_blocks(self):
        return self.kv_cache_manager.block_pool.get_num_free_blocks()

    # -- what happens inside schedule() ---------------------------------------------------------

    def _allocate_slots(self, request, num_new_tokens, num_new_computed_tokens=0, *args, **kwargs):
        blocks = self._allocate(request, num_new_tokens, num_new_computed_tokens, *args, **kwargs)
        name, hit = self._rows[request.request_id]["id"], num_new_computed_tokens
        ids = [] if blocks is None else [list(group) for group in blocks.get_block_ids()]
        if blocks is None:
            self._line["ev"].append(["f", name, num_new_tokens])
        elif any(ids):
            listed = ids if len(ids) > 1 else ids[0]
            self._line["ev"].append(["a", name, num_new_tokens, hit, sum(map(len, ids)), listed])
            self._line["hit"] |= {name: hit} if hit else {}
        return blocks

    def _evicted(self, block):
        evicted = self._evict(block)
        self._line["evict"] += bool(evicted)
        return evicted

    def _preempt_request(self, request, *args, **kwargs):
        name = self._rows[request.request_id]["id"]
        self._line["ev"].append(["p", name])
        self._line["pre"].append(name)
        return super()._preempt_request(request, *args, **kwargs)

    def _update_after_schedule(self, scheduler_output):
        scheduled, context = [], 0
        for name, tokens in scheduler_output.num_scheduled_tokens.items():
            request = self.requests[name]
            computed = request.num_computed_tokens  # not yet advanced
            scheduled.append([self._rows[name]["id"], tokens, computed])
            known = request.num_tokens + request.num_output_placeholders
            context += known * (computed + 1 == known > request.num_prompt_tokens)  # a decode
        self._line |= {"sched": scheduled, "ctx": context}
        super()._update_after_schedule(scheduler_output)

    # -- the files ------------------------------------------------------------------------------

    def _describe(self):
        flags, groups = self.vllm_config.scheduler_config, self.kv_cache_config.kv_cache_groups
        return {
            **{name: getattr(flags, name) for name in FLAGS},
            **{"vllm": __version__, "trace": "trace.jsonl", "step_time_ns": [STEP_NS, 0, 0]},
            "async_scheduling": isinstance(self, AsyncScheduler),
            "num_blocks": self.kv_cache_config.num_blocks,
            "block_size": self.block_size,
            "max_num_batched_tokens": self.max_num_scheduled_tokens,
            "max_model_len": self.max_model_len,
            "chunked_prefill": flags.enable_chunked_prefill,
            "reserve_full_isl": flags.scheduler_reserve_full_isl,
            "prefix_caching": self.kv_cache_manager.enable_caching,
            "kv_groups": [_group(group.kv_cache_spec) for group in groups],
        }

    def _trace(self):
        """A row per request in order of arrival; `priority` is a rank, as times are not unique."""
        rows = [row for row in self._rows.values() if row.get("left", row["at"] + 1) > row["at"]]
        rank = {row["id"]: place for place, row in enumerate(sorted(rows, key=_urgency))}
        numbers = {}
        for row in rows:
            request, left = row["request"], row.get("left")
            prompt = request.num_prompt_tokens
            ended = left is None and request.request_id not in self.requests
            hashes = [numbers.setdefault(block, len(numbers)) for block in request.block_hashes]
            full = prompt // self.block_size
            yield {
                "id": row["id"],
                "arrival_s": row["at"] / 1e9,
                "prompt_tokens": prompt,
                "output_tokens": request.num_output_tokens if ended else request.max_tokens,
                "priority": rank[row["id"]],
                "block_size": self.block_size,
                "hash_ids": hashes[:full],
                "output_hash_ids": hashes[full:],
                **({} if left is None else {"cancel_s": (left - row["at"]) / 1e9}),
            }

    def close(self):
        """Write both files and record no more."""
        if not isinstance(self, Recording):
            return
        lines = [line for line in self._lines if "free_end" in line]  # not those in flight
        whole = not self.requests and len(lines) == len(self._lines)
        trace = "".join(json.dumps(row) + "\n" for row in self._trace())
        self._header["trace_sha256"] = hashlib.sha256(trace.encode()).hexdigest()
        summary = {"status": "ok" if whole else "cut", "steps": len(lines)}
        content = [{"header": self._header}, *lines, {"summary": summary}]
        (self._folder / "trace.jsonl").write_text(trace)
        (self._folder / "steps.jsonl").write_text("".join(json.dumps(x) + "\n" for x in content))
        self.kv_cache_manager.allocate_slots = self._allocate
        self.kv_cache_manager.block_pool._maybe_evict_cached_block = self._evict
        self.__class__ = type(self).__mro__[2]  # from here on vLLM's own


def _group(spec):
    window = getattr(spec, "sliding_window", None) or getattr(spec, "attention_chunk_size", None)
    return [type(spec).__name__, window]


def _urgency(row):
    request = row["request"]
    return request.priority, request.arrival_time, request.request_id


class RecordingScheduler(Recording, Scheduler):
    """For `--no-async-scheduling`."""


class RecordingAsyncScheduler(Recording, AsyncScheduler):
    """For asynchronous scheduling."""
