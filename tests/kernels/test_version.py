"""The kernels' version: their code, not their words."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kvsim.kernels import version

FOLDER = Path(version.__file__).parent


@pytest.fixture(name="copied")
def copied_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kernels' sources where they may be changed."""
    for name in version.SOURCES:
        shutil.copy(FOLDER / name, tmp_path / name)
    monkeypatch.setattr(version, "__file__", str(tmp_path / "version.py"))
    return tmp_path


def fresh_hash() -> str:
    """Not the remembered one."""
    version.kernel_hash.cache_clear()
    found = version.kernel_hash()
    version.kernel_hash.cache_clear()
    return found


def change(path: Path, old: str, new: str) -> None:
    """Once, in a file that has it."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_words_do_not_count(copied: Path) -> None:
    before = fresh_hash()
    assert before.startswith("sha256:")
    assert len(before) == 7 + 64
    change(copied / "split.py", "Cut a batch of decodes", "Divide a batch of decodes")
    change(copied / "split.py", "ITEMS_PER_SLOT = 2", "ITEMS_PER_SLOT   =   2  # twice")
    assert fresh_hash() == before


def test_every_python_says_the_same() -> None:
    """What is hashed is text: no tree, no token of some version's grammar."""
    text = '''"""Words."""\n\n\ndef f(x):\n    """More."""\n    return f"{x - 1} # no"  # yes\n'''
    assert version._code(text) == 'deff(x):returnf"{x-1}#no"'


def test_code_counts(copied: Path) -> None:
    before = fresh_hash()
    change(copied / "split.py", "ITEMS_PER_SLOT = 2", "ITEMS_PER_SLOT = 3")
    assert fresh_hash() != before


def test_every_kernel_is_in_it() -> None:
    kernels = {
        path.name
        for path in FOLDER.glob("*.py")
        if "@triton.jit" in path.read_text(encoding="utf-8")
    }
    assert kernels <= set(version.SOURCES)
