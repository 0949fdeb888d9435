"""The small tables of a profile: graphs, the host, copies of blocks, all-reduce, memory, drift."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from statistics import median

from . import words
from .calibration_data import Calibration
from .calibration_points import Point
from .calibration_words import FAMILY_TITLES, batch_words, origin
from .sheet import Sheet

GRAPH_TITLES = {
    "empty_nodes": "empty kernels",
    "decode_layers": "decode layers",
    "capture": "capture",
}
MEMORY_TITLES = {
    "total": "total",
    "free_after_context": "free after the context",
    "context": "context",
    "after_matmul": "matmul workspace",
    "graphs": "CUDA graphs",
    "largest_allocation": "largest allocation",
}
HOST = ("prepare", "upload", "download")
Shape = tuple[str, int, int]
"""Of a graph: what, nodes, batch."""
MOMENTS = ("anchor:start", "anchor:middle", "anchor:end")
MOST_ANCHORS_SHOWN = 20


def small_sheets(calibration: Calibration) -> list[Sheet]:
    """Those that have rows, in the order of the page."""
    made = [build(calibration) for build in SMALL_SHEETS]
    return [sheet for sheet in made if sheet.rows]


def graph_sheet(calibration: Calibration) -> Sheet:
    """Replay beside launching one by one."""
    found: dict[Shape, dict[str, float]] = {}
    for point in calibration.of("graph"):
        x = point.x
        shape = (x["what"], int(x.get("nodes", 0)), int(x.get("batch", 0)))
        found.setdefault(shape, {})[x["mode"]] = point.seconds
    return Sheet(
        title="CUDA graphs",
        columns=("what", "nodes", "batch", _time(calibration, "replayed"), "launched", "gain"),
        rows=tuple(_graph_row(*shape, found[shape]) for shape in sorted(found, key=_graph_order)),
    )


def _graph_order(shape: Shape) -> tuple[int, int, int]:
    what, nodes, batch = shape
    return place(GRAPH_TITLES, what), nodes, batch


def _graph_row(what: str, nodes: int, batch: int, modes: dict[str, float]) -> tuple[str, ...]:
    graph, eager = modes.get("graph"), modes.get("eager")
    return (
        GRAPH_TITLES.get(what, what),
        words.count(nodes) if nodes else words.NONE,
        words.count(batch) if batch else words.NONE,
        words.NONE if graph is None else words.seconds(graph),
        words.NONE if eager is None else words.seconds(eager),
        words.NONE if graph is None or eager is None else words.times(eager / graph),
    )


def place(names: Iterable[str], name: str) -> int:
    """Where a name stands in its list; after all where it does not."""
    known = list(names)
    return known.index(name) if name in known else len(known)


def host_sheet(calibration: Calibration) -> Sheet:
    """What the host does for a step, by requests."""
    points = sorted(
        calibration.of("host"), key=lambda p: (place(HOST, p.x["what"]), p.x["requests"])
    )
    return Sheet(
        title="The host's work for a step",
        columns=("what", "requests", _time(calibration)),
        rows=tuple(
            (p.x["what"], words.count(p.x["requests"]), words.seconds(p.seconds)) for p in points
        ),
    )


def block_copy_sheet(calibration: Calibration) -> Sheet:
    """Copy-on-write: pairs of blocks on the card."""
    points = sorted(calibration.of("block_copy"), key=lambda p: (p.x["block_bytes"], p.x["pairs"]))
    return Sheet(
        title="Copies of blocks on the card",
        columns=("pairs", "block", _time(calibration), "GB/s, read and write"),
        rows=tuple(
            (
                words.count(p.x["pairs"]),
                words.size(p.x["block_bytes"]),
                words.seconds(p.seconds),
                _rate(p),
            )
            for p in points
        ),
    )


def all_reduce_sheet(calibration: Calibration) -> Sheet:
    """The sum over several GPUs."""
    points = sorted(calibration.of("all_reduce"), key=lambda p: (p.x["mode"], p.x["bytes"]))
    return Sheet(
        title="All-reduce",
        columns=("bytes", "GPUs", "mode", _time(calibration), "GB/s"),
        rows=tuple(
            (
                words.size(p.x["bytes"]),
                words.count(p.x["gpus"]),
                p.x["mode"],
                words.seconds(p.seconds),
                _rate(p),
            )
            for p in points
        ),
        text_columns=(0, 2),
    )


def elementwise_sheet(calibration: Calibration) -> Sheet:
    """The kernels between the products: one token, and the most that were timed."""
    by_op: dict[str, list[Point]] = {}
    for point in calibration.of("elementwise"):
        by_op.setdefault(point.x["op"], []).append(point)
    rows = []
    for op, points in sorted(by_op.items()):
        first, last = (f(points, key=lambda p: p.x["tokens"]) for f in (min, max))
        rows.append(
            (
                op.replace("_", " "),
                words.count(first.x["tokens"]),
                words.seconds(first.seconds),
                words.count(last.x["tokens"]),
                words.seconds(last.seconds),
                _rate(last),
            )
        )
    adjective = origin(calibration.profile).adjective
    return Sheet(
        title=f"Element-wise kernels, {adjective}",
        columns=("kernel", "fewest tokens", "time", "most tokens", "time then", "GB/s then"),
        rows=tuple(rows),
    )


def memory_sheet(calibration: Calibration) -> Sheet:
    """What of the card's memory a process finds."""
    found = [s for s in calibration.samples if s.family == "memory" and s.unit == "bytes" and s.t]
    found.sort(key=lambda s: place(MEMORY_TITLES, s.x["what"]))
    return Sheet(
        title="Memory of the card",
        columns=("what", origin(calibration.profile).adjective),
        rows=tuple(
            (MEMORY_TITLES.get(s.x["what"], s.x["what"]), words.gib(median(s.t))) for s in found
        ),
    )


def drift_sheet(calibration: Calibration) -> Sheet:
    """The same points at the start, in the middle and at the end of the run."""
    found: dict[str, tuple[Point, dict[str, float]]] = {}
    for point in calibration.points:
        moments = [flag for flag in point.sample.flags if flag in MOMENTS]
        if point.sample.role == "anchor" and moments:
            name = f"{point.sample.family} {sorted(point.x.items())}"
            found.setdefault(name, (point, {}))[1][moments[0]] = point.seconds
    rows = sorted(_drift_row(point, times) for point, times in found.values() if len(times) > 1)
    return Sheet(
        title="Drift: the same points again",
        columns=("point", *(_time(calibration, moment[7:]) for moment in MOMENTS), "last to first"),
        rows=tuple(rows[:MOST_ANCHORS_SHOWN]),
    )


def clocks_sheet(calibration: Calibration) -> Sheet:
    """What the driver told while the run went on: clocks, temperature, power."""
    run = calibration.profile.run
    series = zip(*run.get("clocks_log", ()), strict=True)
    columns = list(zip(run.get("clocks_columns", ()), series, strict=False))[1:]  # without time
    return Sheet(
        title="Clocks during the run",
        columns=("what", "lowest", "highest"),
        rows=tuple((name, words.number(min(x)), words.number(max(x))) for name, x in columns),
    )


def _drift_row(point: Point, times: dict[str, float]) -> tuple[str, ...]:
    taken = [times[moment] for moment in MOMENTS if moment in times]
    return (
        f"{FAMILY_TITLES[point.sample.family]} {_shape(point)}".strip(),
        *(words.seconds(times[m]) if m in times else words.NONE for m in MOMENTS),
        f"{(taken[-1] / taken[0] - 1) * 100:+.1f} %",
    )


def _shape(point: Point) -> str:
    if "heads" in point.x:
        return batch_words(point)
    x = point.x
    return str(x.get("layer") or x.get("op") or x.get("what") or "") + (
        f" {words.count(x['m'])}" if "m" in x else ""
    )


def _time(calibration: Calibration, word: str = "time") -> str:
    return f"{word}, {origin(calibration.profile).adjective}"


def _rate(point: Point) -> str:
    return words.number(point.bytes_per_s / 1e9) if point.moved_bytes else words.NONE


SMALL_SHEETS: tuple[Callable[[Calibration], Sheet], ...] = (
    graph_sheet,
    host_sheet,
    elementwise_sheet,
    block_copy_sheet,
    all_reduce_sheet,
    memory_sheet,
    drift_sheet,
    clocks_sheet,
)
