"""What fits and what a step costs: models, GPUs, the memory budget and the step-cost sources.

``load_model`` and ``load_gpu`` give specifications, ``plan_memory`` turns them and a server's flags
into a :class:`MemoryBudget`, ``step_cost`` into a :class:`StepCost`. Every figure names its source.
"""

from .affine import AffineCost
from .costs import step_cost
from .datasheet import DatasheetCost
from .engine_defaults import batch_defaults
from .gpus import GPUSpec, known_gpus, load_gpu
from .memory import plan_memory
from .memory_budget import MemoryBudget, MemoryLine
from .models import KVLayers, ModelSpec, known_models, load_model
from .step_cost import Band, Batch, Line, StepCost

__all__ = [
    "AffineCost",
    "Band",
    "Batch",
    "DatasheetCost",
    "GPUSpec",
    "KVLayers",
    "Line",
    "MemoryBudget",
    "MemoryLine",
    "ModelSpec",
    "StepCost",
    "batch_defaults",
    "known_gpus",
    "known_models",
    "load_gpu",
    "load_model",
    "plan_memory",
    "step_cost",
]
