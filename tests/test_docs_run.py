"""Every command and every code block of the README and of the pages in docs/ runs.

A page is read from its top in a folder of its own, in which the repository's ``docs`` and ``tests``
can be seen. Public traces and a GPU are not there: small stand-ins under the same names, and an
invented card, take their place. Commands that install something are only looked at: ``.ci/run``
runs them.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from kvsim.calibration.measure import calibrate as measuring
from kvsim.traces.intake import Intake, take_in
from kvsim.traces.write import write_mooncake
from support.command import run
from support.fake_card import FakeCard
from support.pages import LANGUAGES, ROOT, Block, blocks, pages, parsed

INSTALLS = re.compile(r"^(python3 -m venv|pip install|apt-get install)\b")
FETCHES = re.compile(r"^kvsim trace fetch (?!list)")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a page's commands run."""
    monkeypatch.chdir(tmp_path)
    for name in ("docs", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    rows = [
        f"2023-11-16 18:{m:02d}:{s:02d}.5,{300 + 7 * s},{20 + s}"
        for m in range(3)
        for s in range(0, 60, 3)
    ]
    header = "TIMESTAMP,ContextTokens,GeneratedTokens"
    (tmp_path / "AzureLLMInferenceTrace_conv.csv").write_text("\n".join([header, *rows]) + "\n")
    shared = Intake(
        workload="sharegpt", num_requests=60, rate_per_s=4.0, prefix_groups=4, prefix_tokens=1024
    )
    write_mooncake(take_in(shared).trace, tmp_path / "conversation_trace.jsonl.gz")
    monkeypatch.setattr(measuring, "open_card", lambda gpu, seed: FakeCard())
    return tmp_path


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_every_block_runs(page: Path, place: Path) -> None:
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{block.page}:{block.line} has no language"
        if block.language in ("bash", "console"):
            run_commands(block)
        elif block.language == "python":
            code = compile("\n" * block.line + block.body, str(page), "exec", dont_inherit=True)
            exec(code, names)
        elif block.language != "text":
            assert parsed(block), f"{block.page}:{block.line}"
        if block.file is not None:
            target = place / block.file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.body)


def run_commands(block: Block) -> None:
    """Each as typed; the last one may be meant to fail."""
    assert block.commands, f"{block.page}:{block.line} has no command"
    for number, command in enumerate(block.commands, start=1):
        last = number == len(block.commands)
        expected = block.exit_code if last else 0
        code, output = outcome(command)
        assert code == expected, f"{block.page}:{block.line}: {command}\n{output}"


def outcome(command: str) -> tuple[int, str]:
    """Exit code and output of one command."""
    if INSTALLS.match(command) or FETCHES.match(command):
        return 0, ""
    words = shlex.split(command)
    if words[0] == "kvsim" and not set(words) & {"|", ">", "&&", ";"}:
        done = run(*words[1:])
        return done.exit_code, done.output
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    shell = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env={"PATH": path}, check=False
    )
    return shell.returncode, shell.stdout + shell.stderr


def test_fetched_names_are_public_traces() -> None:
    from kvsim.traces import CATALOGUE

    for page in pages():
        for block in blocks(page):
            for command in block.commands:
                if FETCHES.match(command):
                    assert shlex.split(command)[3] in CATALOGUE, command


def test_links_lead_somewhere() -> None:
    for page in pages():
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if target.startswith("https://"):
                continue
            path, _, anchor = target.partition("#")
            found = (page.parent / path).resolve() if path else page
            assert found.exists(), f"{page.name}: {target}"
            if anchor:
                assert anchor in anchors(found), f"{page.name}: {target}"


def anchors(page: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_no_page_names_a_path_of_this_machine() -> None:
    for page in pages():
        assert not re.search(
            r"(?<![\w.])/(home|root|tmp|work)/", page.read_text(encoding="utf-8")
        ), page.name
