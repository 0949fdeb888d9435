"""The workflow and the pre-commit hook in docs/examples, run step by step in a small repository.

Shell steps run as a runner runs them, with this environment's kvsim on the path. Not run, but
looked at: actions (``uses``), and the step that installs, whose place this environment takes.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from support.suites import edit, updated, write_suite

EXAMPLES = Path(__file__).resolve().parents[1] / "docs" / "examples"
ACTIONS = {"actions/checkout", "actions/setup-python", "actions/upload-artifact"}


def load(name: str) -> dict[Any, Any]:
    """A YAML file of the examples."""
    found: dict[Any, Any] = yaml.safe_load((EXAMPLES / name).read_text(encoding="utf-8"))
    return found


WORKFLOW = load("kvsim-regression.yml")
JOB = WORKFLOW["jobs"]["regression"]
STEPS: list[dict[str, Any]] = JOB["steps"]
INSTALL = re.compile(r'^python -m pip install "kvsim==\d+\.\d+\.\d+"$')


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A checkout: a suite with its baselines."""
    folder = tmp_path / "repository" / "regression"
    updated(write_suite(folder), folder / "baselines")
    return folder.parent


@dataclass
class Ran:
    """What a job did."""

    failed: bool = False
    steps: list[str] = field(default_factory=list)
    uploaded: list[str] = field(default_factory=list)
    output: str = ""
    summary: str = ""


def environment(repository: Path) -> dict[str, str]:
    """What a runner sets, with this kvsim in front."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    job = {name: str(value) for name, value in JOB["env"].items()}
    return {"PATH": path, "GITHUB_STEP_SUMMARY": str(repository.parent / "summary.md"), **job}


def play(repository: Path) -> Ran:
    """Run a job's steps in order: after a failure only those that always run."""
    ran = Ran()
    variables = environment(repository)
    for step in STEPS:
        if ran.failed and step.get("if") != "always()":
            continue
        if "run" not in step:
            if "upload-artifact" in step["uses"]:
                folder = repository / step["with"]["path"]
                ran.uploaded += sorted(path.name for path in folder.glob("*"))
            continue
        if "pip install" in step["run"]:
            continue
        ran.steps.append(step["name"])
        script = repository.parent / "step.sh"
        script.write_text(step["run"])
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
            cwd=repository,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
        )
        ran.output += done.stdout + done.stderr
        ran.failed |= done.returncode != 0
    summary = Path(variables["GITHUB_STEP_SUMMARY"])
    ran.summary = summary.read_text() if summary.exists() else ""
    return ran


def test_a_pull_request_without_a_change_passes(repository: Path) -> None:
    ran = play(repository)
    assert not ran.failed, ran.output
    assert ran.steps == ["Replay the suite and compare", "Show the differences in the summary"]
    assert "Passed. 2 cases: 2 unchanged." in ran.output
    assert "::" not in ran.output
    assert ran.summary.startswith("### kvsim regression: passed")
    assert ran.uploaded == ["junit.xml", "summary.md"]


def test_a_regression_fails_and_is_annotated(repository: Path) -> None:
    edit(repository / "regression" / "baselines" / "chat.json", metrics={"num_preemptions": 0})
    ran = play(repository)
    assert ran.failed
    (line,) = [line for line in ran.output.splitlines() if line.startswith("::")]
    assert re.match(
        r"::error file=regression/SUITE\.toml,line=\d+,title=chat regressed::"
        r"num_preemptions: worse, 0 to ",
        line,
    )
    number = int(re.findall(r"line=(\d+)", line)[0])
    text = (repository / "regression" / "SUITE.toml").read_text().splitlines()
    assert text[number - 1 : number + 1] == ["[[case]]", 'name = "chat"']
    assert ran.steps[-1] == "Show the differences in the summary"
    assert "| chat | num\\_preemptions | 0 |" in ran.summary
    assert ran.uploaded == ["junit.xml", "summary.md"]
    root = ElementTree.parse(repository / "regression-report" / "junit.xml").getroot()
    assert (root.get("tests"), root.get("failures")) == ("2", "1")


def test_a_baseline_of_another_trace_fails_with_the_reason(repository: Path) -> None:
    write_suite(repository / "regression", seed=1)
    ran = play(repository)
    assert ran.failed
    assert "::error file=regression/SUITE.toml,title=kvsim regress::baseline(=" in ran.output
    assert "its trace was another one" in ran.output
    assert ran.summary == ""
    assert ran.uploaded == []


def test_the_workflow_runs_where_it_should() -> None:
    triggers = WORKFLOW[True]  # YAML 1.1: `on` is true
    assert "pull_request" in triggers
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert JOB["timeout-minutes"] <= 60
    for name in ("SUITE", "BASELINES"):
        assert any(f"${name}" in step.get("run", "") for step in STEPS), name


def test_actions_are_pinned_and_installing_comes_first() -> None:
    used = [step["uses"].partition("@") for step in STEPS if "uses" in step]
    assert {name for name, _, _ in used} == ACTIONS
    assert all(re.fullmatch(r"v\d+", version) for _, _, version in used)
    assert all(set(step) <= {"name", "uses", "with", "run", "if"} for step in STEPS)
    kinds = ["uses" if "uses" in step else "run" for step in STEPS]
    assert kinds == ["uses", "uses", "run", "run", "run", "uses"]
    installs = [step["run"] for step in STEPS if "pip install" in step.get("run", "")]
    assert len(installs) == 1
    assert INSTALL.match(installs[0])
    assert STEPS[2]["run"] == installs[0]
    uncached = [step for step in STEPS if "cache" in step.get("with", {})]
    assert uncached == []


class TestPreCommit:
    """The same before a push."""

    HOOKS = load("pre-commit-config.yaml")["repos"]

    def entry(self) -> dict[str, Any]:
        (repo,) = self.HOOKS
        assert repo["repo"] == "local"
        (hook,) = repo["hooks"]
        found: dict[str, Any] = hook
        return found

    def outcome(self, repository: Path) -> subprocess.CompletedProcess[str]:
        words = shlex.split(self.entry()["entry"])
        return subprocess.run(
            words,
            cwd=repository,
            env=environment(repository),
            capture_output=True,
            text=True,
            check=False,
        )

    def test_its_command_passes_and_fails(self, repository: Path) -> None:
        assert self.outcome(repository).returncode == 0
        path = repository / "regression" / "baselines" / "chat.json"
        metrics = json.loads(path.read_text())["metrics"]
        edit(path, metrics={"ttft_s.p95": metrics["ttft_s.p95"] / 2})
        done = self.outcome(repository)
        assert done.returncode == 1
        assert "ttft_s.p95" in done.stdout

    def test_it_has_what_pre_commit_needs(self) -> None:
        hook = self.entry()
        assert {"id", "name", "entry", "language"} <= set(hook)
        assert hook["language"] == "system"
        assert hook["pass_filenames"] is False
        for path in ("regression/SUITE.toml", "regression/traces/chat.jsonl.gz"):
            assert re.search(hook["files"], path)
        assert not re.search(hook["files"], "src/regression.py")
