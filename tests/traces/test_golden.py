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
