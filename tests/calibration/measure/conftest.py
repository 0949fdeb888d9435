"""Operands are built on the CPU where there is no GPU: Triton's interpreter, before any kernel."""

from __future__ import annotations

import os

import pytest
import torch

from kvsim.calibration.model_spec import ModelSpec
from kvsim.calibration.models import load_model

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(scope="session")
def llama() -> ModelSpec:
    """The model that is measured by default."""
    return load_model("llama-3.1-8b")
