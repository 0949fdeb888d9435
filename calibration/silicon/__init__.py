"""Operator times measured on real cards: the tables that ``aiconfigurator-core`` ships.

``tables`` is the one place that reads that package's files; ``gemm``, ``decode``, ``prefill``,
``moe``, ``latent``, ``recurrent`` and ``comm`` interpolate one operator each, ``mixed`` puts
prefills and decodes into a launch, and ``layers`` knows which operators a model's layers run.
"""

from .source import silicon_cost
from .systems import SYSTEMS, why_not
from .tables import TableMissing

__all__ = ["SYSTEMS", "TableMissing", "silicon_cost", "why_not"]
