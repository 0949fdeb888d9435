"""Files of a real run: each form is recognised, what is not there stays away, bad lines named."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvsim.sim.store import parquet_bytes
from kvsim.sim.validation.measured import Histogram, Measured, Requests, Series
from kvsim.sim.validation.read import read_measured
from support.stored_runs import small_run

FOLDER = "measured/rtx-pro-6000-llama-3.1-8b"
TIMES = {
    "queued_ts": 10.0,
    "scheduled_ts": 10.5,
    "first_token_ts": 11.0,
    "last_token_ts": 13.0,
    "input_toks": 100,
    "output_toks": 5,
}
BENCH: dict[str, Any] = {
    "duration": 4.0,
    "input_lens": [10, 20, 30],
    "output_lens": [3, 2, 0],
    "ttfts": [0.5, 0.25, 0.0],
    "itls": [[0.1, 0.2], [0.4], []],
    "errors": ["", "", "timed out"],
    "start_times": [100.0, 101.0, 102.0],
}
SERIES = "t,running,waiting,kv_cache_pct,gen_throughput\n1,2,0,10,50\n2,4,1,20,100\n3,0,0,0,10\n"


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    def write(data: object, name: str = "x.json") -> Path:
        path = tmp_path / name
        if isinstance(data, bytes):
            path.write_bytes(data)
        else:
            path.write_text(data if isinstance(data, str) else json.dumps(data))
        return path

    return write


def requests_of(measured: Measured) -> Requests:
    assert measured.requests is not None
    return measured.requests


def series_of(measured: Measured) -> Series:
    assert measured.series is not None
    return measured.series


def lines(*records: dict[str, object]) -> str:
    return "".join(f"{json.dumps(record)}\n" for record in records)


def test_the_published_run_is_read(shared_file: Callable[[str], Path]) -> None:
    found = read_measured([shared_file(f"{FOLDER}/requests.jsonl.gz")])
    requests = requests_of(found)
    assert len(requests) == 300
    assert requests.makespan_s == pytest.approx(65.93, abs=0.005)
    assert requests.output_tokens.sum() == 195_753
    assert found.series is None


def test_server_times_of_a_request(written: Callable[..., Path]) -> None:
    later = {**TIMES, **{name: TIMES[name] + 2 for name in TIMES if name.endswith("_ts")}}
    requests = requests_of(read_measured([written(lines(TIMES, later))]))
    assert requests.arrival_s.tolist() == [0.0, 2.0]
    assert requests.ttft_s.tolist() == [1.0, 1.0]
    assert requests.waited_s.tolist() == [0.5, 0.5]
    assert requests.e2e_s.tolist() == [3.0, 3.0]
    assert requests.tpot_s.tolist() == [0.5, 0.5]
    assert requests.makespan_s == 5.0


def test_gzip_and_a_byte_order_mark_do_not_matter(written: Callable[..., Path]) -> None:
    data = gzip.compress(b"\xef\xbb\xbf" + lines(TIMES).encode())
    assert len(requests_of(read_measured([written(data, "x.jsonl.gz")]))) == 1


def test_a_schedule_that_was_not_recorded_is_unknown(written: Callable[..., Path]) -> None:
    client = {name: value for name, value in TIMES.items() if name != "scheduled_ts"}
    assert np.isnan(requests_of(read_measured([written(lines(client))])).waited_s).all()


def test_a_request_without_an_end_is_left_out_and_counted(written: Callable[..., Path]) -> None:
    found = read_measured([written(lines(TIMES, {**TIMES, "last_token_ts": None}))])
    assert len(requests_of(found)) == 1
    assert found.notes == ("x.json: 1 of 2 requests did not finish and are left out.",)


def test_own_columns_are_read_back(written: Callable[..., Path]) -> None:
    result, _ = small_run()
    columns = result.requests
    found = requests_of(read_measured([written(parquet_bytes(columns), "r.parquet")]))
    np.testing.assert_allclose(found.e2e_s, columns["finish_s"] - columns["arrival_s"])
    np.testing.assert_array_equal(found.waited_s, columns["waited_s"])
    record = {name: column[0].item() for name, column in columns.items()}
    one = requests_of(read_measured([written(lines(record))]))
    assert one.ttft_s[0] == pytest.approx(found.ttft_s[0])
    two = read_measured([written(lines(record, {**record, "status": "cancelled"}))])
    assert len(requests_of(two)) == 1


def test_a_benchmark_of_vllm(written: Callable[..., Path]) -> None:
    found = read_measured([written(BENCH)])
    requests = requests_of(found)
    assert requests.arrival_s.tolist() == [0.0, 1.0]
    assert requests.e2e_s == pytest.approx([0.8, 0.65])
    assert requests.tpot_s == pytest.approx([0.15, 0.4])
    assert requests.itl_s.tolist() == [0.1, 0.2, 0.4]
    assert np.isnan(requests.waited_s).all()
    assert "x.json: 1 of 3 requests failed and are left out." in found.notes
    assert found.totals == {}


def test_a_benchmark_without_a_clock_has_its_duration(written: Callable[..., Path]) -> None:
    old = {name: value for name, value in BENCH.items() if name != "start_times"}
    found = read_measured([written(old)])
    assert np.isnan(requests_of(found).makespan_s)
    assert found.totals == {
        "makespan_s": 4.0,
        "requests_per_s": 0.5,
        "output_tokens_per_s": 5 / 4,
    }


def test_a_series_over_time(written: Callable[..., Path]) -> None:
    series = series_of(read_measured([written(SERIES)]))
    assert series.running is not None
    assert series.kv_share is not None
    assert series.running.tolist() == [2, 4, 0]
    assert series.kv_share == pytest.approx([0.1, 0.2, 0.0])
    assert series.busy == slice(0, 2)


def test_fractions_and_wall_clocks_are_known_by_name(written: Callable[..., Path]) -> None:
    text = "timestamp,num_running,kv_cache_usage_perc\n1700000000,1,0.5\n1700000002,1,1\n"
    series = series_of(read_measured([written(text)]))
    assert series.time_s.tolist() == [0.0, 2.0]
    assert series.kv_share is not None
    assert series.kv_share.tolist() == [0.5, 1.0]
    assert series.waiting is None


def test_a_kv_usage_of_0_throughout_was_not_recorded(
    written: Callable[..., Path], shared_file: Callable[[str], Path]
) -> None:
    for path in (
        written("t,running,kv_cache_pct\n1,2,0.0\n2,1,0\n"),
        shared_file(f"{FOLDER}/timeseries.csv"),
    ):
        found = read_measured([path])
        assert series_of(found).kv_share is None
        assert any("it was not recorded" in note for note in found.notes)
    idle = series_of(read_measured([written("t,running,kv_cache_pct\n1,0,0\n")]))
    assert idle.kv_share is not None


def test_several_files_are_one_run(written: Callable[..., Path]) -> None:
    found = read_measured([written(lines(TIMES), "a.jsonl"), written(SERIES, "b.csv")])
    assert len(requests_of(found)) == 1
    assert len(series_of(found).time_s) == 3
    assert [source.split(":")[0] for source in found.sources] == ["a.jsonl", "b.csv"]


WRONG: dict[str, tuple[object, str]] = {
    "empty": ("", r"is empty"),
    "blank": (" \n", r"is empty"),
    "prose": ("once upon a time\n", r"in no format known here"),
    "a table of something": ("name,price\nx,1\n", r"in no format known here"),
    "not UTF-8": (b"\xff\xfe{}", r"is not UTF-8 text"),
    "damaged gzip": (b"\x1f\x8bxx", r"is a damaged gzip file"),
    "a broken line": (lines(TIMES) + "{oops\n", r"x\.json line 2 is not valid JSON"),
    "a list": (lines(TIMES) + "[1]\n", r"line 2 must be a JSON object"),
    "a stranger": (lines({"a": 1}, TIMES), r"line 1 is no request's times: it needs queued_ts"),
    "a field less": (lines(TIMES, {"queued_ts": 1}), r"line 2 lacks first_token_ts"),
    "a word": (lines({**TIMES, "queued_ts": "x"}), r"queued_ts\(='x'\) must be a number"),
    "no output": (lines({**TIMES, "output_toks": 0}), r"output_toks\(=0\) must be > 0"),
    "back in time": (lines({**TIMES, "last_token_ts": 1}), r"line 1: its times must not go back"),
    "late schedule": (lines({**TIMES, "scheduled_ts": 12}), r"must not go back"),
    "none finished": (lines({**TIMES, "last_token_ts": None}), r"no request that finished"),
    "another object": ({"duration": 1.0}, r"in no format known here"),
    "no detail": ({"request_throughput": 1.0}, r"holds no input_lens: run `vllm bench serve` with"),
    "lists apart": ({**BENCH, "itls": [[1.0]]}, r"itls has 1 entries and ttfts 3"),
    "all failed": ({**BENCH, "errors": ["x"] * 3}, r"no request that succeeded"),
    "a time below 0": ({**BENCH, "ttfts": [-1.0, 1, 1]}, r"ttfts must be times >= 0"),
    "gaps of words": ({**BENCH, "itls": [["x"], [1], []]}, r"itls\[0\] must be numbers"),
    "a header alone": ("t,running\n", r"holds no samples"),
    "a cell less": ("t,running\n1,2\n2\n", r"line 3 has 1 cells, its header 2"),
    "a cell of words": ("t,running\n1,many\n", r"line 2: running\(='many'\) must be a number"),
    "a negative": ("t,running\n1,-1\n", r"line 2: running\(='-1'\) must be >= 0"),
    "time goes back": ("t,running\n2,1\n1,1\n", r"line 3: its time must not go back"),
    "a gap in a column": ("t,running\n1,1\n2,\n", r"line 3: running\(=''\) must be a number"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_input_is_one_sentence(written: Callable[..., Path], wrong: str) -> None:
    data, sentence = WRONG[wrong]
    with pytest.raises(ValueError, match=sentence) as caught:
        read_measured([written(data)])
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_paths_that_are_no_files_and_files_that_say_the_same(
    written: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        read_measured([tmp_path / "none"])
    with pytest.raises(ValueError, match="is a folder: name a file of it"):
        read_measured([tmp_path])
    with pytest.raises(ValueError, match="0 files"):
        read_measured([])
    one, two = written(lines(TIMES), "a.jsonl"), written(lines(TIMES), "b.jsonl")
    with pytest.raises(ValueError, match=r"a\.jsonl and b\.jsonl both hold per-request times"):
        read_measured([one, two])
    with pytest.raises(ValueError, match="both hold samples over time"):
        read_measured([written(SERIES, "a.csv"), written(SERIES, "b.csv")])


def test_a_parquet_of_something_else_is_one_sentence(written: Callable[..., Path]) -> None:
    data = parquet_bytes({"x": np.arange(3)})
    with pytest.raises(ValueError, match=r"no requests\.parquet of kvsim"):
        read_measured([written(data, "x.parquet")])


def test_the_makespan_counts_from_the_first_arrival() -> None:
    num = 2
    found = Requests(
        arrival_s=np.array([6.0, 5.0]),
        ttft_s=np.ones(num),
        e2e_s=np.array([3.0, 2.0]),
        waited_s=np.zeros(num),
        prompt_tokens=np.ones(num, dtype=np.int64),
        output_tokens=np.array([2, 1]),
    )
    assert found.makespan_s == 4.0
    assert found.tpot_s[0] == 2.0
    assert np.isnan(found.tpot_s[1])
    with pytest.raises(ValueError, match="must have one length"):
        replace(found, ttft_s=np.ones(3))


def test_quantiles_of_a_histogram_are_straight_within_a_bucket() -> None:
    edges = np.array([1.0, 2.0, 4.0])
    found = Histogram(edges=edges, counts=np.array([2.0, 6.0, 2.0, 0.0]), total=20.0)
    middle = found.quantile(0.5)
    assert (middle.low, middle.high) == (1.0, 2.0)
    assert middle.value == pytest.approx(1.5)
    assert found.quantile(0.9).value == pytest.approx(3.0)
    assert found.quantile(0.1).value == pytest.approx(0.5)
    beyond = replace(found, counts=np.array([1.0, 0.0, 0.0, 9.0])).quantile(0.95)
    assert (beyond.value, beyond.low, beyond.high) == (4.0, 4.0, float("inf"))
    with pytest.raises(ValueError, match="must be > 0"):
        replace(found, counts=np.zeros(4)).quantile(0.5)
    for wrong in (np.ones(3), np.array([1.0, -1.0, 1.0, 1.0])):
        with pytest.raises(ValueError, match="counts of a histogram"):
            replace(found, counts=wrong)
    with pytest.raises(ValueError, match="must grow"):
        replace(found, edges=np.array([1.0, 1.0, 2.0]))
