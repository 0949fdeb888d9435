"""Shell completion: commands, options and the values that kvsim knows by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

KVSIM = str(Path(sys.executable).parent / "kvsim")
CASES = {
    "kvsim pl": ["plan"],
    "kvsim trace ": ["stats", "cache-curve", "generate", "fetch"],
    "kvsim plan --block": ["--block-size"],
    "kvsim plan --gpu h100-": ["h100-nvl", "h100-pcie", "h100-sxm"],
    "kvsim memory --gpu a100,h20": ["a100,h20", "a100,h200"],
    "kvsim simulate --model qwen3-8": ["qwen3-8b"],
    "kvsim simulate --scheduler o": ["orca"],
    "kvsim simulate --allocator c": ["contiguous"],
    "kvsim simulate --page-size 2": ["256KiB", "2MiB"],
    "kvsim trace stats --trace-format bu": ["burstgpt"],
}


def completed(shell: str, typed: str) -> str:
    words = typed.split()
    position = len(words) if typed.endswith(" ") else len(words) - 1
    variables = {
        "_KVSIM_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(position),
        "_TYPER_COMPLETE_ARGS": typed,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    done = subprocess.run([KVSIM], capture_output=True, text=True, env=variables, check=True)
    assert not done.stderr
    return done.stdout


@pytest.mark.parametrize("typed", CASES)
def test_bash(typed: str) -> None:
    offered = completed("bash", typed).split()
    assert set(CASES[typed]) <= set(offered)
    beginning = "" if typed.endswith(" ") else typed.split()[-1]
    assert all(one.startswith(beginning) for one in offered)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells(shell: str) -> None:
    assert "plan" in completed(shell, "kvsim pl")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_that_a_shell_loads(shell: str) -> None:
    variables = {"_KVSIM_COMPLETE": f"source_{shell}"}
    done = subprocess.run([KVSIM], capture_output=True, text=True, env=variables, check=True)
    assert "_KVSIM_COMPLETE" in done.stdout
