"""``kvsim regress`` as it is typed: exit codes, what is printed, what is written."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from support.command import loaded, run
from support.suites import HEAD, TEXT, edit, write_suite


@pytest.fixture(scope="module", name="made")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite and its baselines."""
    folder = tmp_path_factory.mktemp("suite")
    write_suite(folder)
    done = run("regress", "update", str(folder / "SUITE.toml"), "--baseline", str(folder / "b"))
    assert done.exit_code == 0, done.output
    assert done.stdout == "new: chat.json\nnew: drawn.json\nBaselines: 2 new.\n"
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to change, and to stand in."""
    shutil.copytree(made, tmp_path / "p")
    monkeypatch.chdir(tmp_path / "p")
    return tmp_path / "p"


COMPARE = ("regress", "run", "SUITE.toml", "--baseline", "b")
UPDATE = ("regress", "update", "SUITE.toml", "--baseline", "b")


def test_a_pass(place: Path) -> None:
    found = run(*COMPARE)
    assert (found.exit_code, found.stderr) == (0, "")
    assert found.stdout == "Passed. 2 cases: 2 unchanged.\n"


def test_a_regression_is_a_table_and_exit_code_1(place: Path) -> None:
    edit(place / "b" / "chat.json", metrics={"num_preemptions": 0, "num_steps": 1})
    found = run(*COMPARE)
    assert found.exit_code == 1
    lines = [" ".join(line.split()) for line in found.stdout.splitlines()]
    assert "case metric baseline now change tolerance verdict" in lines
    assert any(re.fullmatch(r"num_preemptions 0 \d+ \+\d+ 0 worse", line) for line in lines)
    assert any(re.fullmatch(r"chat num_steps 1 \S+ \S+ % 0 changed", line) for line in lines)
    assert lines[-1] == "Failed. 2 cases: 1 regressed, 1 unchanged."


def test_better_passes_unless_both(place: Path) -> None:
    edit(place / "b" / "chat.json", metrics={"num_preemptions": 9999})
    found = run(*COMPARE)
    assert found.exit_code == 0
    assert "improved" in found.stdout
    suite = place / "SUITE.toml"
    suite.write_text(f"{TEXT}\n[tolerance]\nboth = true\n")
    found = run(*COMPARE)
    assert found.exit_code == 1
    assert "improved, which fails too" in found.stdout


def test_a_tolerance_lets_it_pass(place: Path) -> None:
    old = json.loads((place / "b" / "chat.json").read_text())["metrics"]["ttft_s.p95"]
    edit(place / "b" / "chat.json", metrics={"ttft_s.p95": old * 0.985})
    assert run(*COMPARE).exit_code == 1
    for relative, code in ((0.02, 0), (0.01, 1)):
        table = f'\n[tolerance]\n"ttft_s.p95" = {{ relative = {relative} }}\n'
        (place / "SUITE.toml").write_text(TEXT + table)
        found = run(*COMPARE)
        assert found.exit_code == code
        assert ("within tolerance" in found.stdout) is (code == 0)


def test_json_and_nothing_else(place: Path) -> None:
    found = loaded(*COMPARE)
    assert list(found) == [
        *("schema", "suite", "verdict", "num_failed", "cases", "conformance", "stale_baselines"),
    ]
    assert (found["schema"], found["verdict"]) == ("kvsim-regression/1", "passed")
    edit(place / "b" / "chat.json", metrics={"num_steps": 1})
    result = run(*COMPARE, "--json")
    assert result.exit_code == 1
    (change,) = json.loads(result.stdout)["cases"][0]["changes"]
    assert (change["metric"], change["old"], change["verdict"]) == ("num_steps", 1, "changed")


def test_reports_are_written(place: Path) -> None:
    edit(place / "b" / "chat.json", metrics={"num_steps": 1})
    files = ("--markdown", "out/summary.md", "--junit", "out/deep/junit.xml")
    found = run(*COMPARE, *files, "--github")
    assert found.exit_code == 1
    assert "| chat | num\\_steps | 1 |" in (place / "out" / "summary.md").read_text()
    root = ElementTree.parse(place / "out" / "deep" / "junit.xml").getroot()
    assert root.get("failures") == "1"
    (line,) = [line for line in found.stdout.splitlines() if line.startswith("::")]
    assert line.startswith("::error file=SUITE.toml,line=8,title=chat regressed::num_steps: chan")
    assert sorted(path.name for path in (place / "out").rglob("*") if path.is_file()) == [
        *("junit.xml", "summary.md"),
    ]


def test_the_same_bytes_whatever_the_processes(place: Path) -> None:
    edit(place / "b" / "chat.json", metrics={"num_steps": 1})
    outputs = []
    for jobs in ("1", "2"):
        files = ("--markdown", f"{jobs}.md", "--junit", f"{jobs}.xml")
        result = run(*COMPARE, "--jobs", jobs, *files)
        pair = [(place / f"{jobs}.{end}").read_bytes() for end in ("md", "xml")]
        outputs.append((result.stdout, *pair))
    assert outputs[0] == outputs[1]


def test_a_part_of_the_suite(place: Path) -> None:
    (place / "b" / "drawn.json").unlink()
    assert run(*COMPARE).exit_code == 2
    for option in (("-k", "cha"), ("--case", "chat")):
        assert run(*COMPARE, *option).stdout == "Passed. 1 case: 1 unchanged.\n"


def test_update_shows_what_changes(place: Path) -> None:
    before = (place / "b" / "chat.json").read_bytes()
    edit(place / "b" / "chat.json", metrics={"num_steps": 1})
    edited = (place / "b" / "chat.json").read_bytes()
    shutil.copy(place / "b" / "drawn.json", place / "b" / "gone.json")
    for dry in (True, False):
        found = run(*UPDATE, *(["--dry-run"] if dry else []))
        assert found.exit_code == 0
        assert "num_steps" in found.stdout
        assert "rewritten: chat.json\nremoved: gone.json: there is no such case" in found.stdout
        assert "Baselines: 1 rewritten, 1 unchanged, 1 removed." in found.stdout
        assert ("Nothing was written" in found.stdout) is dry
        assert (place / "b" / "gone.json").exists() is dry
        assert (place / "b" / "chat.json").read_bytes() == (edited if dry else before)
    shown = loaded(*UPDATE)
    assert [case["action"] for case in shown["cases"]] == ["unchanged", "unchanged"]


WRONG = {
    "no suite": (["no.toml", "--baseline", "b"], "suite(='no.toml') cannot be read: No such"),
    "no baselines": (
        ["SUITE.toml", "--baseline", "none"],
        "baseline(='none/chat.json') of case 'chat' is missing (and 1 other): make it with kvsim "
        "regress update SUITE.toml --baseline none",
    ),
    "an unknown case": (
        ["SUITE.toml", "--baseline", "b", "--case", "chats"],
        "case(='chats') is unknown; near: chat",
    ),
    "no such part": (["SUITE.toml", "--baseline", "b", "-k", "zz"], "k(='zz') matches none"),
    "no processes": (["SUITE.toml", "--baseline", "b", "--jobs", "0"], "jobs(=0) must be > 0."),
    "JSON and annotations": (
        ["SUITE.toml", "--baseline", "b", "--json", "--github"],
        "github(=True) says nothing beside json",
    ),
    "a folder for a file": (["SUITE.toml", "--baseline", "b", "--junit", "b"], "must be a file"),
    "a file for a folder": (
        ["SUITE.toml", "--baseline", "b", "--markdown", "SUITE.toml/x.md"],
        "out(='SUITE.toml') cannot be written",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_one_sentence(place: Path, name: str) -> None:
    arguments, expected = WRONG[name]
    found = run("regress", "run", *arguments)
    assert found.exit_code == 2
    assert found.stdout == ""
    assert found.stderr.startswith("Error: ")
    assert expected in found.stderr
    assert found.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{HEAD}block_size 16\n", "Error: SUITE.toml, line 7: expected '=' after a key"),
        (f"{HEAD}block_size = \n", "Error: SUITE.toml, line 7, key block_size: invalid value."),
        (TEXT.replace("rate =", "rat ="), "Error: SUITE.toml, line 16, case 'drawn': key"),
    ],
)
def test_a_broken_suite_names_the_line(place: Path, text: str, expected: str) -> None:
    (place / "SUITE.toml").write_text(text)
    for command in (COMPARE, UPDATE):
        found = run(*command)
        assert found.exit_code == 2
        assert found.stderr.startswith(expected)
        assert found.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("member", "value", "expected"),
    [
        ("schema", "kvsim-baseline/7", "has schema 'kvsim-baseline/7'"),
        ("digests", {"trace": "0" * 64}, "its trace was another one (digest 000000000000, now "),
        ("server", {"block_size": 8}, "its block_size was 8 and is the default now"),
    ],
)
def test_a_baseline_of_something_else_is_refused(
    place: Path, member: str, value: object, expected: str
) -> None:
    edit(place / "b" / "chat.json", **{member: value})
    found = run(*COMPARE, "--github", "--junit", "j.xml")
    assert found.exit_code == 2
    assert expected in found.stderr
    assert found.stderr.count("\n") == 1
    assert found.stdout.startswith("::error file=SUITE.toml,title=kvsim regress::baseline(='b/cha")
    assert not (place / "j.xml").exists()


def test_a_foreign_file_is_not_written_over(place: Path) -> None:
    (place / "b" / "chat.json").write_text('{"name": "chat"}')
    found = run(*UPDATE)
    assert found.exit_code == 2
    assert "would replace a file that is no baseline of kvsim" in found.stderr
    assert (place / "b" / "chat.json").read_text() == '{"name": "chat"}'


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom kvsim.cli import app\n"
        "try: app(['regress', 'run', '--help'])\nexcept SystemExit: pass\n"
        "heavy = ('numpy', 'pandas', 'matplotlib', 'torch', 'kvsim.sim')\n"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
