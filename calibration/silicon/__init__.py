"""Operator times measured on real cards: the tables that ``aiconfigurator-core`` ships.

``tables`` is the one place that reads that package's files; ``gemm``, ``decode``, ``prefill``,
``moe``, ``latent``, ``recurrent`` and ``comm`` interpolate one operator each; ``layers`` knows
which operators a model's layers run, and ``cost`` adds them up to a :class:`StepCost`.
"""

from .cost import SiliconCost
from .systems import SYSTEMS, covers

__all__ = ["SYSTEMS", "SiliconCost", "covers"]
