"""What arrives: trace files, synthetic workloads and their statistics, all as a `Trace`."""

from .formats import ALIASES, FORMATS, CsvColumns
from .load import load_trace
from .trace import SkippedRow, Trace

__all__ = ["ALIASES", "FORMATS", "CsvColumns", "SkippedRow", "Trace", "load_trace"]
