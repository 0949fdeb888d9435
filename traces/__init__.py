"""What arrives: trace files, synthetic workloads and their statistics, all as a `Trace`."""

from .arrivals import PROCESSES, arrival_times
from .catalogue import CATALOGUE, PublicTrace
from .fetch import fetch
from .formats import ALIASES, FORMATS, CsvColumns
from .formats.dynamo import measured_cached_tokens, recorded_workers
from .lengths import Lengths, empirical, fixed
from .load import load_trace
from .prefixes import PrefixGroups
from .presets import PRESETS, workload_preset
from .servegen import draw_servegen
from .sessions import Sessions
from .stats import trace_stats
from .trace import SkippedRow, Trace
from .workload import Arrivals, Workload, fixed_workload, synthesize
from .write import write_mooncake

__all__ = [
    "ALIASES",
    "CATALOGUE",
    "FORMATS",
    "PRESETS",
    "PROCESSES",
    "Arrivals",
    "CsvColumns",
    "Lengths",
    "PrefixGroups",
    "PublicTrace",
    "Sessions",
    "SkippedRow",
    "Trace",
    "Workload",
    "arrival_times",
    "draw_servegen",
    "empirical",
    "fetch",
    "fixed",
    "fixed_workload",
    "load_trace",
    "measured_cached_tokens",
    "recorded_workers",
    "synthesize",
    "trace_stats",
    "workload_preset",
    "write_mooncake",
]
