"""Shared by the calibration tests: the configurations that another package ships."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shipped_configs() -> Path:
    """The folder of real ``config.json`` files in aiconfigurator-core."""
    spec = find_spec("aiconfigurator_core")
    if spec is None or spec.origin is None:
        pytest.skip("aiconfigurator-core is not installed: no shipped config.json files")
    return Path(spec.origin).parent / "model_configs"
