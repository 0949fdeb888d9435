"""A trace of any length through one server, in memory that does not grow with it.

Requests are made as they arrive and forgotten as they leave; what happened is folded into sums and
sketches, and goes to a Parquet file where one is asked for. The engine is the one of ``simulate``.
"""

from .run import Streamed, simulate_stream

__all__ = ["Streamed", "simulate_stream"]
