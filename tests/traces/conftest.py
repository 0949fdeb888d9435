"""Where the shared trace collection is, and small files written by tests."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

SHARED_TRACES = Path(__file__).resolve().parents[2].parent / "shared" / "traces"


@pytest.fixture
def shared_traces() -> Path:
    """The folder of public traces; skips where it is absent, fails where it is required."""
    if SHARED_TRACES.is_dir():
        return SHARED_TRACES
    reason = "the trace collection ../shared/traces is not here"
    if os.environ.get("KVSIM_REQUIRE_SHARED") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    """Write a small file: write(name, text or bytes) -> path."""

    def write_file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_file
