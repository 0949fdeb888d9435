"""Where tests find material that is not in the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True)  # the slow sweeps draw new examples
settings.load_profile("repeatable")

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


def shared_file(name: str) -> Path:
    """A file beside the project; skips where it is absent, fails under KVSIM_REQUIRE_SHARED=1."""
    path = SHARED / name
    if path.exists():
        return path
    reason = f"needs {name} of the shared folder beside the project"
    if os.environ.get("KVSIM_REQUIRE_SHARED") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(name="shared_file")
def shared_file_fixture() -> object:
    """The function of that name."""
    return shared_file
