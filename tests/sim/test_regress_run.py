"""A suite replayed beside its baselines, and baselines written anew."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from kvsim.sim.regress import replay
from kvsim.sim.regress.baseline import SCHEMA
from kvsim.sim.regress.run import run_suite, selected
from kvsim.sim.regress.suite import read_suite
from kvsim.sim.regress.update import update_baselines
from kvsim.traces.intake import Intake, Taken, take_in
from support.suites import CLOCK, HEAD, TEXT, edit, ran, updated, write_suite

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
ENGINE = f"""{HEAD}
[[conformance]]
name = "vllm"
steps = "steps/*"
traces = "{(GOLDEN / "traces").as_posix()}"
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A suite of two cases."""
    return write_suite(tmp_path)


@pytest.fixture
def baselines(tmp_path: Path, suite: Path) -> Path:
    """Its baselines."""
    folder = tmp_path / "baselines"
    updated(suite, folder)
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    """Names and contents."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_nothing_changed_passes(suite: Path, baselines: Path) -> None:
    found = ran(suite, baselines)
    assert not found.failed
    assert [(case.case, case.verdict) for case in found.cases] == [
        *(("chat", "same"), ("drawn", "same")),
    ]
    assert all(case.num_metrics > 40 for case in found.cases)


def test_a_baseline_says_what_it_was_made_of(baselines: Path) -> None:
    chat = json.loads((baselines / "chat.json").read_text())
    assert list(chat) == ["schema", "case", "server", "digests", "metrics"]
    assert chat["schema"] == SCHEMA
    assert chat["server"] == {
        "async_scheduling": True,
        "enable_prefix_caching": True,
        "engine": "vllm==0.33",
        "gpu": "a100",
        "max_model_len": 2048,
        "model": "llama-3.1-8b",
        "num_gpu_blocks_override": 200,
        "step_cost": CLOCK,
    }
    assert set(chat["digests"]) == {"trace", "cost", "budget"}
    assert chat["metrics"]["num_finished"] == 30


@pytest.mark.parametrize(
    ("metric", "factor", "verdict"),
    [
        ("ttft_s.p95", 0.999, "regressed"),
        ("ttft_s.p95", 1.001, "improved"),
        ("num_steps", 2, "regressed"),
    ],
)
def test_another_value_in_the_baseline_is_found(
    suite: Path, baselines: Path, metric: str, factor: float, verdict: str
) -> None:
    old = json.loads((baselines / "chat.json").read_text())["metrics"][metric]
    edit(baselines / "chat.json", metrics={metric: old * factor})
    found = ran(suite, baselines)
    assert [case.verdict for case in found.cases] == [verdict, "same"]
    assert found.failed is (verdict == "regressed")
    assert [change.metric for change in found.cases[0].changes] == [metric]


def test_a_slower_clock_is_worse_and_explained(suite: Path, baselines: Path) -> None:
    other = CLOCK.replace("0.006", "0.007")
    suite.write_text(suite.read_text().replace(CLOCK, other))
    for name in ("chat", "drawn"):
        edit(baselines / f"{name}.json", server={"step_cost": other})
    found = ran(suite, baselines)
    assert found.num_failed == 2
    changes = {change.metric: change.verdict for change in found.cases[0].changes}
    assert changes["tpot_s.p50"] == changes["output_tokens_per_s"] == "worse"
    assert found.cases[0].notes == ("the step times are not the baseline's",)


def test_processes_give_the_same(suite: Path, baselines: Path, tmp_path: Path) -> None:
    edit(baselines / "chat.json", metrics={"num_steps": 1})
    alone, beside = ran(suite, baselines), ran(suite, baselines, jobs=2)
    assert alone == beside
    updated(suite, tmp_path / "beside", jobs=2)
    updated(suite, tmp_path / "alone")
    assert files_of(tmp_path / "beside") == files_of(tmp_path / "alone")


def test_progress_is_told(suite: Path, baselines: Path) -> None:
    told: list[tuple[str, int, int]] = []
    ran(suite, baselines, report=lambda *what: told.append(what))
    assert told == [("cases", 1, 2), ("cases", 2, 2)]


class TestRefused:
    """What cannot be compared is not compared."""

    @staticmethod
    def refusal(suite: Path, baselines: Path) -> str:
        with pytest.raises(ValueError, match=r"baseline|case") as caught:
            ran(suite, baselines)
        message = str(caught.value)
        assert "\n" not in message
        return message

    def test_missing(self, suite: Path, baselines: Path) -> None:
        (baselines / "chat.json").unlink()
        assert self.refusal(suite, baselines) == (
            f"baseline(={str(baselines / 'chat.json')!r}) of case 'chat' is missing: make it with "
            f"kvsim regress update {suite} --baseline {baselines}"
        )

    def test_all_missing(self, suite: Path, tmp_path: Path) -> None:
        assert "is missing (and 1 other): make" in self.refusal(suite, tmp_path / "none")

    def test_another_schema(self, suite: Path, baselines: Path) -> None:
        edit(baselines / "drawn.json", schema="kvsim-baseline/9")
        assert "has schema 'kvsim-baseline/9'" in self.refusal(suite, baselines)

    def test_another_trace(self, suite: Path, baselines: Path) -> None:
        write_suite(suite.parent, seed=1)
        message = self.refusal(suite, baselines)
        assert "of case 'chat' is not compared: its trace was another one (digest " in message
        assert f"then kvsim regress update {suite} --baseline {baselines}" in message

    def test_the_trace_under_another_name_is_the_same(self, suite: Path, baselines: Path) -> None:
        traces = suite.parent / "traces"
        text = gzip.decompress((traces / "chat.jsonl.gz").read_bytes())
        (traces / "renamed.jsonl").write_bytes(text)
        suite.write_text(TEXT.replace("chat.jsonl.gz", "renamed.jsonl"))
        assert not ran(suite, baselines).failed

    @pytest.mark.parametrize(
        ("line", "why"),
        [
            ("block_size = 8", "its block_size was the default and is 8 now"),
            ('scheduler = "orca"', "its async_scheduling was true and is the default now"),
            ("concurrency = 3", "its concurrency was the default and is 3 now"),
            ('gpu = "h100-sxm"', 'its gpu was "a100" and is "h100-sxm" now'),
            ("num_gpu_blocks_override = 201", "its num_gpu_blocks_override was 200 and is 201 now"),
            ('engine = "vllm==0.11"', 'its engine was "vllm==0.33" and is "vllm==0.11" now'),
        ],
    )
    def test_another_server(self, suite: Path, baselines: Path, line: str, why: str) -> None:
        suite.write_text(TEXT.replace('trace = "', f'{line}\ntrace = "'))
        assert f"is not compared: {why}" in self.refusal(suite, baselines)

    def test_a_default_said_aloud_is_the_same_server(self, suite: Path, baselines: Path) -> None:
        suite.write_text(TEXT.replace('trace = "', 'block_size = 16\ntrace = "'))
        assert not ran(suite, baselines).failed

    @pytest.mark.parametrize(
        ("line", "why"),
        [
            ("block_size = 0", r"block_size(=0) must be > 0."),
            ('allocator = "pagd"', "allocator(='pagd') is unknown; near: paged"),
            ('gpu = "h1"', "gpu(='h1') is unknown"),
        ],
    )
    def test_a_case_that_cannot_run(
        self, suite: Path, baselines: Path, line: str, why: str
    ) -> None:
        suite.write_text(TEXT.replace('trace = "', f'{line}\ntrace = "'))
        message = self.refusal(suite, baselines)
        assert message.startswith(f"{suite}, line 8, case 'chat': ")
        assert why in message

    def test_a_trace_that_is_not_there(self, suite: Path, baselines: Path) -> None:
        suite.write_text(TEXT.replace("chat.jsonl.gz", "no.jsonl.gz"))
        assert "no.jsonl.gz" in self.refusal(suite, baselines)

    def test_lengths_without_times(self, suite: Path, baselines: Path) -> None:
        suite.write_text(TEXT.replace("rate = 10\n", ""))
        assert "case 'drawn': the trace has no times" in self.refusal(suite, baselines)

    def test_no_processes(self, suite: Path, baselines: Path) -> None:
        with pytest.raises(ValueError, match=r"jobs\(=0\) must be > 0"):
            ran(suite, baselines, jobs=0)


class TestConformance:
    """Step logs of the real scheduler need no baseline."""

    @pytest.fixture
    def engine(self, tmp_path: Path) -> Path:
        steps = tmp_path / "steps"
        steps.mkdir()
        for name in ("01_tiny", "02_alone_watermark"):
            data = (GOLDEN / "steps" / f"{name}.jsonl.gz").read_bytes()
            (steps / f"{name}.jsonl.gz").write_bytes(data)
        return write_suite(tmp_path, ENGINE)

    def test_logs_that_match_pass(self, engine: Path) -> None:
        found = ran(engine, engine.parent / "none")
        assert [one.name for one in found.conformed] == [
            "vllm-01_tiny",
            "vllm-02_alone_watermark",
        ]
        assert not found.failed

    @pytest.mark.parametrize("jobs", [1, 2])
    def test_a_step_that_differs_is_a_regression(self, engine: Path, jobs: int) -> None:
        path = engine.parent / "steps" / "01_tiny.jsonl.gz"
        lines = gzip.decompress(path.read_bytes()).decode().splitlines()
        step = json.loads(lines[5])
        lines[5] = json.dumps({**step, "free": step["free"] - 1})
        path.write_bytes(gzip.compress("\n".join(lines).encode()))
        found = ran(engine, engine.parent / "none", jobs=jobs)
        assert found.num_failed == 1
        assert found.conformed[0].message.startswith("step 4 differs in free:\n  recorded ")
        assert found.conformed[0].to_json()["verdict"] == "regressed"

    def test_a_log_that_is_none(self, engine: Path) -> None:
        (engine.parent / "steps" / "03.jsonl.gz").write_text("x")
        with pytest.raises(ValueError, match=r"03\.jsonl\.gz is no step log"):
            ran(engine, engine.parent / "none")


class TestSelection:
    """Parts of a suite."""

    @pytest.mark.parametrize(
        ("pattern", "names", "expected"),
        [
            (None, (), ["chat", "drawn"]),
            ("CHA", (), ["chat"]),
            (None, ("drawn",), ["drawn"]),
            ("cha", ("drawn",), ["chat", "drawn"]),
        ],
    )
    def test_by_text_and_by_name(
        self, suite: Path, pattern: str | None, names: tuple[str, ...], expected: list[str]
    ) -> None:
        chosen = selected(read_suite(suite), pattern=pattern, names=names)
        assert [case.name for case in chosen.cases] == expected

    def test_nothing_of_it(self, suite: Path) -> None:
        whole = read_suite(suite)
        with pytest.raises(ValueError, match=r"k\(='zzz'\) matches none of the suite's 2 cases"):
            selected(whole, pattern="zzz", names=())
        with pytest.raises(ValueError, match=r"case\(='chatt'\) is unknown; near: chat"):
            selected(whole, pattern=None, names=("chatt",))

    def test_the_others_baselines_are_not_needed_and_not_stale(
        self, suite: Path, baselines: Path
    ) -> None:
        whole = read_suite(suite)
        chosen = selected(whole, pattern="chat", names=())
        older = baselines / "older.json"
        older.write_bytes((baselines / "drawn.json").read_bytes())
        found = run_suite(chosen, baselines, whole=whole)
        assert [path.name for path in found.stale] == ["older.json"]
        done = update_baselines(chosen, baselines, whole=whole)
        assert [path.name for path in done.removed] == ["older.json"]
        assert (baselines / "drawn.json").exists()
        (baselines / "drawn.json").unlink()
        assert not run_suite(chosen, baselines, whole=whole).failed


class TestUpdate:
    """Rewrites what changed, says so, touches nothing else."""

    def test_a_second_time_nothing_changes(self, suite: Path, baselines: Path) -> None:
        before = files_of(baselines)
        stamps = {path: path.stat().st_mtime_ns for path in baselines.iterdir()}
        done = updated(suite, baselines)
        assert [case.action for case in done.cases] == ["unchanged", "unchanged"]
        assert files_of(baselines) == before
        assert {path: path.stat().st_mtime_ns for path in baselines.iterdir()} == stamps

    def test_what_changed_is_rewritten_and_shown(self, suite: Path, baselines: Path) -> None:
        before = files_of(baselines)
        edit(baselines / "chat.json", metrics={"num_steps": 1, "num_preemptions": 9_999})
        done = updated(suite, baselines)
        assert [case.action for case in done.cases] == ["rewritten", "unchanged"]
        assert done.cases[0].comparison is not None
        verdicts = {c.metric: c.verdict for c in done.cases[0].comparison.changes}
        assert verdicts == {"num_steps": "changed", "num_preemptions": "improved"}
        assert files_of(baselines) == before

    def test_a_dry_run_writes_nothing(self, suite: Path, baselines: Path, tmp_path: Path) -> None:
        edit(baselines / "chat.json", metrics={"num_steps": 1})
        (baselines / "drawn.json").rename(baselines / "older.json")
        before = files_of(baselines)
        done = updated(suite, baselines, dry_run=True)
        assert [case.action for case in done.cases] == ["rewritten", "new"]
        assert [path.name for path in done.removed] == ["older.json"]
        assert not done.written
        assert files_of(baselines) == before
        updated(suite, tmp_path / "none", dry_run=True)
        assert not (tmp_path / "none").exists()

    def test_cases_that_are_gone_and_files_of_others(self, suite: Path, baselines: Path) -> None:
        (baselines / "README.md").write_text("ours")
        (baselines / "other.json").write_text('{"schema": "theirs/1"}')
        suite.write_text(TEXT.partition('[[case]]\nname = "drawn"')[0])
        done = updated(suite, baselines)
        assert [path.name for path in done.removed] == ["drawn.json"]
        assert sorted(files_of(baselines)) == ["README.md", "chat.json", "other.json"]

    @pytest.mark.parametrize("jobs", [1, 2])
    def test_nothing_is_written_where_a_case_fails(
        self, suite: Path, tmp_path: Path, jobs: int
    ) -> None:
        suite.write_text(TEXT.replace("rate = 10\n", ""))
        with pytest.raises(ValueError, match="case 'drawn': the trace has no times"):
            updated(suite, tmp_path / "b", jobs=jobs)
        assert files_of(tmp_path / "b") == {}

    def test_somebody_elses_file_is_refused(self, suite: Path, tmp_path: Path) -> None:
        folder = tmp_path / "b"
        folder.mkdir()
        (folder / "drawn.json").write_text("{}")
        with pytest.raises(ValueError, match="of case 'drawn' would replace a file that is no"):
            updated(suite, folder)
        assert files_of(folder) == {"drawn.json": b"{}"}

    def test_other_versions_and_conflicts_are_made_anew(self, suite: Path, baselines: Path) -> None:
        before = files_of(baselines)
        edit(baselines / "chat.json", schema="kvsim-baseline/0")
        text = (baselines / "drawn.json").read_text()
        (baselines / "drawn.json").write_text(f"<<<<<<< HEAD\n{text}")
        done = updated(suite, baselines)
        assert [case.action for case in done.cases] == ["rewritten", "rewritten"]
        assert done.cases[0].why.startswith("has schema 'kvsim-baseline/0'")
        assert done.cases[1].why.startswith("is not valid JSON")
        assert files_of(baselines) == before

    def test_another_server_is_a_reason(self, suite: Path, baselines: Path) -> None:
        suite.write_text(TEXT.replace('trace = "', 'block_size = 8\ntrace = "'))
        done = updated(suite, baselines)
        assert done.cases[0].action == "rewritten"
        assert done.cases[0].why == "its block_size was the default and is 8 now"
        assert not ran(suite, baselines).failed


def test_a_trace_is_read_once(suite: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    suite.write_text(TEXT.replace('trace = "', 'block_size = [8, 16]\ntrace = "'))
    read: list[Intake] = []

    def counted(intake: Intake) -> Taken:
        read.append(intake)
        return take_in(intake)

    monkeypatch.setattr(replay, "take_in", counted)
    updated(suite, tmp_path / "b")
    assert len(read) == 2
