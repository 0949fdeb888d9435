"""A regression run in the terminal, as Markdown, JUnit XML and GitHub annotations."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from kvsim.reports.regress_github import github_line, github_lines
from kvsim.reports.regress_junit import junit
from kvsim.reports.regress_markdown import MOST_ROWS, markdown
from kvsim.reports.regress_rows import both, change_sentence, headline
from kvsim.reports.regress_text import run_lines, run_sheet, update_lines, update_sheet
from kvsim.sim.conformance import Difference, Outcome
from kvsim.sim.metric_directions import METRICS
from kvsim.sim.regress.compare import Comparison, compare
from kvsim.sim.regress.run import Conformed, Regression
from kvsim.sim.regress.tolerance import NONE, read_tolerances
from kvsim.sim.regress.update import Update, Updated
from support.suites import baseline

SUITE = Path("suites/a,b:c.toml")
NASTY = "<b>|`x`\u202e&\"' 100%, a:b @someone"


def case(name: str = "chat", line: int | None = 7, **changes: tuple[float, float]) -> Comparison:
    """Metrics with their old and new values; two underscores are a dot."""
    named = {key.replace("__", "."): pair for key, pair in changes.items()}
    old, new = ({name: pair[side] for name, pair in named.items()} for side in (0, 1))
    digests = {"trace": "t" * 64, "cost": "other", "budget": "b" * 64}
    return compare(
        baseline(name, metrics=old),
        baseline(name, metrics=new, digests=digests),
        read_tolerances({"tpot_s": {"relative": 0.1}}),
        line=line,
    )


def log(name: str = "vllm-01", *, differs: bool) -> Conformed:
    """A step log that differs or not."""
    found = Difference(step=3, key="free", recorded=[1, 2], simulated="<&") if differs else None
    outcome = Outcome(name="01", num_steps=9, supported=True, difference=found)
    return Conformed(name=name, line=20, outcome=outcome)


WORSE = case(ttft_s__p95=(0.5, 0.6), tpot_s__p50=(0.02, 0.0201), requests_per_s=(4.0, 4.5))
BETTER = case("fast", 12, ttft_s__p95=(0.5, 0.4))
CLOSE = case("close", 15, tpot_s__p50=(0.02, 0.021))
SAME = case("same", 18, ttft_s__p95=(0.5, 0.5))


def regression(
    *cases: Comparison, logs: tuple[Conformed, ...] = (), stale: tuple[str, ...] = ()
) -> Regression:
    """What a run found."""
    paths = tuple(Path("b") / name for name in stale)
    return Regression(suite=SUITE, cases=cases, conformed=logs, stale=paths)


ALL = regression(
    *(WORSE, BETTER, CLOSE, SAME),
    logs=(log(differs=True), log("vllm-02", differs=False)),
    stale=("old.json",),
)
PASSED = regression(SAME, logs=(log(differs=False),))


class TestRows:
    """Numbers that can be told apart."""

    @pytest.mark.parametrize(
        ("metric", "old", "new", "texts"),
        [
            ("ttft_s.p95", 0.5, 0.6, ("500 ms", "600 ms")),
            ("ttft_s.p95", 0.9, 1.2, ("0.900 s", "1.20 s")),
            ("ttft_s.p95", 0.123456788, 0.123456789, ("123.456788 ms", "123.456789 ms")),
            ("ttft_s.p95", 0.0, 0.000012, ("0 us", "12.0 us")),
            ("ttft_s.p95", 0.0, 0.0, ("0 s", "0 s")),
            ("makespan_s", 1000.0, 1001.0, ("1,000 s", "1,001 s")),
            ("ttft_s.p95", None, 0.5, ("-", "500 ms")),
            ("num_steps", 12345, 12346, ("12,345", "12,346")),
            ("requests_per_s", 4.00001, 4.00002, ("4.00001", "4.00002")),
            ("pool_share.free", 0.5, 0.25, ("0.500", "0.250")),
            ("unknown", 1.5, 2.5, ("1.50", "2.50")),
        ],
    )
    def test_two_values(
        self, metric: str, old: float | None, new: float | None, texts: tuple[str, str]
    ) -> None:
        assert both(metric, old, new) == texts

    @pytest.mark.parametrize("metric", METRICS)
    def test_the_smallest_difference_shows(self, metric: str) -> None:
        for value in (0.0, 1e-9, 0.123456788, 99999.9999, 1234567.89):
            old, new = both(metric, value, value + 1e-9 * max(1.0, value))
            assert old != new

    def test_a_sentence(self) -> None:
        sentences = [change_sentence(change) for change in WORSE.changes]
        assert sentences == [
            "requests_per_s: improved, 4.00 to 4.50 (+12.5 %, tolerance 0).",
            "ttft_s.p95: worse, 500 ms to 600 ms (+20 %, tolerance 0).",
            "tpot_s.p50: within tolerance, 20.0 ms to 20.1 ms (+0.5 %, tolerance 10 %).",
        ]
        (change,) = case(num_preemptions=(0, 3)).changes
        assert change_sentence(change) == "num_preemptions: worse, 0 to 3 (+3, tolerance 0)."

    def test_a_headline(self) -> None:
        assert headline(ALL) == (
            "4 cases and 2 step logs: 2 regressed, 1 improved, 1 within tolerance, 2 unchanged."
        )
        assert headline(regression(SAME)) == "1 case: 1 unchanged."
        assert headline(regression(logs=(log(differs=False),))) == "1 step log: 1 unchanged."


class TestTerminal:
    """Only what changed."""

    def test_changes_fail_first(self) -> None:
        sheet = run_sheet(ALL)
        assert sheet is not None
        assert [row[:2] for row in sheet.rows] == [
            ("chat", "ttft_s.p95"),
            ("", "requests_per_s"),
            ("", "tpot_s.p50"),
            ("fast", "ttft_s.p95"),
            ("close", "tpot_s.p50"),
        ]
        assert sheet.rows[0][2:] == ("500 ms", "600 ms", "+20 %", "0", "worse")

    def test_many_changes_are_counted(self) -> None:
        moved = {name.replace(".", "__"): (1.0, 2.0) for name in METRICS}
        sheet = run_sheet(regression(case(**moved)))
        assert sheet is not None
        assert len(sheet.rows) == 9
        failing = len(case(**moved).failures) - 8
        more = len(METRICS) - 8
        assert sheet.rows[-1] == ("", f"and {more} more", "", "", "", "", f"{failing} of them fail")

    def test_lines(self) -> None:
        assert run_sheet(PASSED) is None
        assert run_lines(PASSED) == ["Passed. 1 case and 1 step log: 2 unchanged."]
        lines = run_lines(ALL)
        assert lines[0].startswith("vllm-01: step 3 differs in free:\n  recorded  [1, 2]")
        assert "Note: chat: the step times are not the baseline's." in lines
        assert not any("same" in line.partition(":")[0] for line in lines)
        assert any("1 baseline belongs to no case (old.json)" in line for line in lines)
        assert any("kvsim regress update keeps what has improved" in line for line in lines)
        assert lines[-1].startswith("Failed. 4 cases")

    def test_an_update(self) -> None:
        done = Update(
            suite=SUITE,
            cases=(
                *(_updated("a", "new"), _updated("b", "unchanged")),
                _updated("chat", "rewritten", comparison=WORSE),
                _updated("d", "rewritten", why="its gpu was 1 and is 2 now"),
            ),
            removed=(Path("b/old.json"),),
            written=False,
        )
        assert update_lines(done) == [
            "new: a.json",
            "rewritten: chat.json",
            "rewritten: d.json: its gpu was 1 and is 2 now",
            "removed: old.json: there is no such case",
            "Baselines: 1 new, 2 rewritten, 1 unchanged, 1 removed. Nothing was written "
            "(--dry-run).",
        ]
        sheet = update_sheet(done)
        assert sheet is not None
        assert [row[0] for row in sheet.rows] == ["chat", "", ""]


def _updated(
    name: str, action: str, *, why: str = "", comparison: Comparison | None = None
) -> Updated:
    path = Path("b") / f"{name}.json"
    return Updated(case=name, path=path, action=action, why=why, comparison=comparison)  # type: ignore[arg-type]


class TestMarkdown:
    """For a pull request."""

    def test_failures_on_top_the_rest_folded(self) -> None:
        text = markdown(ALL)
        assert text.startswith("### kvsim regression: failed\n\n4 cases")
        open_part, folded = text.split("<details>")
        assert "| chat | ttft\\_s.p95 | 500 ms | 600 ms | +20 % | 0 | worse |" in open_part
        assert "fast" not in open_part
        assert "| fast | ttft\\_s.p95 | 500 ms | 400 ms |" in folded
        assert "**vllm-01** replays the real scheduler no more:\n\n    step 3 differs" in open_part
        assert "vllm-02" not in text
        assert "same" not in text.replace("unchanged", "")

    def test_a_pass_is_short(self) -> None:
        assert markdown(PASSED) == (
            "### kvsim regression: passed\n\n1 case and 1 step log: 2 unchanged.\n"
        )

    def test_names_stay_text(self) -> None:
        row = next(
            line
            for line in markdown(regression(case(NASTY, ttft_s__p95=(1, 2)))).splitlines()
            if "worse" in line
        )
        assert len(re.findall(r"(?<!\\)\|", row)) == 8
        bare = re.sub(r"\\.", "", row)
        assert not set("<>`*&") & set(bare)
        assert "@someone" not in row

    def test_it_fits_a_comment(self) -> None:
        moved = {name.replace(".", "__"): (1.0, 2.0) for name in METRICS}
        cases = [case(f"{'long' * 20}-{number}", **moved) for number in range(40)]
        text = markdown(regression(*cases))
        assert len(text) < 65_536
        total = sum(len(one.failures) for one in cases)
        assert f"... and {total - MOST_ROWS} more" in text


class TestJunit:
    """A test case each."""

    def test_structure(self) -> None:
        root = ElementTree.fromstring(junit(ALL))
        assert root.tag == "testsuites"
        (suite,) = root
        assert suite.tag == "testsuite"
        counts = {"tests": "6", "failures": "2", "errors": "0", "skipped": "0"}
        for element in (root, suite):
            assert {key: element.get(key) for key in counts} == counts
        assert suite.get("name") == "a,b:c.toml"
        entries = {entry.get("name"): entry for entry in suite}
        assert list(entries) == ["chat", "fast", "close", "same", "vllm-01", "vllm-02"]
        failing = [name for name, entry in entries.items() if entry.find("failure") is not None]
        assert failing == ["chat", "vllm-01"]
        failure = entries["chat"].find("failure")
        assert failure is not None
        assert failure.get("message") == (
            "1 of 3 metrics fail; ttft_s.p95: worse, 500 ms to 600 ms (+20 %, tolerance 0)."
        )
        assert failure.text is not None
        assert "Note: the step times are not the baseline's." in failure.text
        step = entries["vllm-01"].find("failure")
        assert step is not None
        assert step.get("message") == "step 3 differs in free"
        assert step.text is not None
        assert step.text.endswith("simulated <&")
        assert entries["fast"].findtext("system-out", "").startswith("ttft_s.p95: improved")
        assert list(entries["same"]) == []
        assert {entry.get("classname") for entry in suite} == {
            *("a,b:c.toml.case", "a,b:c.toml.conformance"),
        }

    def test_names_are_escaped_and_valid(self) -> None:
        for name in (NASTY, "]]>", "\x00\x1b\ud800\uffff", "ä\U0001f600"):
            data = junit(regression(case(name, ttft_s__p95=(1, 2))))
            (entry,) = ElementTree.fromstring(data)[0]
            shown = entry.get("name")
            assert shown is not None
            expected = re.sub("[\x00-\x1f\ud800-\udfff\uffff]", "\ufffd", name)
            assert shown == expected

    def test_no_time_and_no_place(self) -> None:
        data = junit(ALL)
        assert data == junit(ALL)
        assert not re.search(rb"\b(time|timestamp|hostname)=", data)
        assert b"suites/" not in data


class TestGithub:
    """Annotations."""

    def test_levels_and_places(self) -> None:
        lines = list(github_lines(ALL))
        assert [line.split(" ")[0] for line in lines] == [
            *("::error", "::notice", "::error", "::warning"),
        ]
        assert lines[0].startswith(
            "::error file=suites/a%2Cb%3Ac.toml,line=7,title=chat regressed::ttft_s.p95: worse, "
            "500 ms to 600 ms (+20 %25, tolerance 0).%0A"
        )
        assert ",line=20,title=vllm-01 differs from the real scheduler::step 3" in lines[2]
        assert "line=" not in lines[3]
        assert not any("\n" in line or "\r" in line for line in lines)
        assert list(github_lines(PASSED)) == []

    def test_long_ones_are_cut(self) -> None:
        moved = {name.replace(".", "__"): (1.0, 2.0) for name in METRICS}
        (line,) = github_lines(regression(case(line=None, **moved)))
        assert line.endswith(f"%0AAnd {len(METRICS) - 10} more.")
        assert line.startswith("::error file=suites/a%2Cb%3Ac.toml,title=chat regressed::")

    def test_everything_is_escaped(self) -> None:
        line = github_line("error", "a%\r\nb::c", Path("x"), 1, "t%,:\r\n")
        assert line == "::error file=x,line=1,title=t%25%2C%3A%0D%0A::a%25%0D%0Ab::c"


def test_no_tolerance_is_the_default() -> None:
    assert NONE.of("ttft_s.p95").relative == 0
