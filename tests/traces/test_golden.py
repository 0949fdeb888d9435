"""Public traces load with exactly the published counts, statistics and prefix hits."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from kvsim.traces import load_trace, trace_stats

FILES = {
    "azure/AzureLLMInferenceTrace_conv.csv": "azure/AzureLLMInferenceTrace_conv.csv",
    "vidur/splitwise_conv.csv": "vidur/splitwise_conv.csv",
    "vidur/arxiv_summarization": "vidur/arxiv_summarization_*_v2.csv.gz",
    "etalon/bwb": "etalon/bwb_*_v2.csv.gz",
    "mooncake/conversation_trace.jsonl": "mooncake/conversation_trace.jsonl.gz",
}


@pytest.mark.parametrize("key", FILES)
def test_statistics_are_the_published_ones(shared_traces: Path, key: str) -> None:
    golden = json.loads((shared_traces / "GOLDEN.json").read_text())
    (path,) = shared_traces.glob(FILES[key])
    trace = load_trace(path)
    assert trace.skipped == ()
    assert trace.notes == ()
    assert trace_stats(trace) == golden[key]


def test_every_public_file_is_covered(shared_traces: Path) -> None:
    folders = ("azure", "vidur", "mooncake", "etalon")
    there = {path for folder in folders for path in (shared_traces / folder).iterdir()}
    covered = {path for pattern in FILES.values() for path in shared_traces.glob(pattern)}
    assert there == covered
    golden = json.loads((shared_traces / "GOLDEN.json").read_text())
    entries = {key for key in golden if not key.startswith("_")}
    assert entries == {*FILES, "kv-cache-tester"}  # the last one in test_weka


# formats of agents and retrieval: requests, input tokens and the README's words on them
OTHERS = {
    "tracelab/multi_session_example.csv": (8, 5308),
    "tracelab/multi_session_large.csv": (303, 1_150_397),
    "tracelab/session_workload_example.csv": (11, 535_277),
    "tracelab/sanitized_round_trace.jsonl": (19, 514_012),
    "dynamo/pi_request_trace.jsonl.gz": (17, 66_520),
    "dynamo/mooncake_trace_tiny.jsonl": (2, 16),
    "ragpulse/0_trace.jsonl.gz": (7106, 20_917_099),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_files_are_taken_whole(shared_traces: Path, name: str) -> None:
    trace = load_trace(shared_traces / name, strict=True)
    stats = trace_stats(trace)
    assert (stats["requests"], stats["sum_in"]) == OTHERS[name]
    assert trace.skipped == ()


def test_every_other_file_is_covered(shared_traces: Path) -> None:
    there = {
        str(path.relative_to(shared_traces))
        for folder in ("tracelab", "dynamo", "ragpulse")
        for path in (shared_traces / folder).iterdir()
    }
    sides = {name for name in there if name.startswith("ragpulse/") and name[9] != "0"}
    assert there == {*OTHERS, *sides}
    assert len(sides) == 5


def test_two_encodings_of_one_trace_are_equal(shared_traces: Path) -> None:
    azure = load_trace(shared_traces / "azure/AzureLLMInferenceTrace_conv.csv")
    vidur = load_trace(shared_traces / "vidur/splitwise_conv.csv")
    np.testing.assert_array_equal(azure.arrival_s, vidur.arrival_s)
    assert azure.digest == vidur.digest


def test_lengths_only_files_have_no_arrivals(shared_traces: Path) -> None:
    (path,) = shared_traces.glob(FILES["etalon/bwb"])
    assert load_trace(path).arrival_s is None


def test_mooncake_chains_form_a_tree(shared_traces: Path) -> None:
    trace = load_trace(shared_traces / FILES["mooncake/conversation_trace.jsonl"])
    assert trace.hash_offsets is not None
    assert trace.hash_block_size == 512
    np.testing.assert_array_equal(np.diff(trace.hash_offsets), -(-trace.prompt_tokens // 512))
    parents: dict[int, int] = {}
    for row in range(0, len(trace), 10):
        chain = trace.hash_chain(row).tolist()
        assert chain[0] == 0
        for parent, child in pairwise(chain):
            assert parents.setdefault(child, parent) == parent
