"""ServeGen: draws against the files' own means, and files that are none."""

from __future__ import annotations

import ast
import csv
import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvsim.traces import Trace, draw_servegen, load_trace
from kvsim.traces.intake import Intake, take_in

Rows = list[tuple[float, float, float, str]]  # window start (s), rate (1/s), CV, family
FOLDER = "servegen/deepseek-r1"


def own_rows(folder: Path, number: int) -> Rows:
    """A client's windows, as its file has them."""
    text = (folder / f"chunk-{number}-trace.csv").read_text()
    rows = csv.reader(text.splitlines())
    return [(float(row[0]), float(row[1]), float(row[2]), row[3]) for row in rows]


def own_mean(folder: Path, number: int, window: str, name: str) -> tuple[float, float]:
    """Mean and standard deviation of a client's lengths, by Python's own parser of literals."""
    path = folder / f"chunk-{number}-dataset.json"
    packed = Path(f"{path}.gz")
    text = path.read_text() if path.exists() else gzip.decompress(packed.read_bytes()).decode()
    lengths = ast.literal_eval(json.loads(text)[window][name])
    values, weights = np.array(list(lengths)), np.array(list(lengths.values()))
    mean = float(values @ weights / weights.sum())
    return mean, math.sqrt(float(values**2 @ weights / weights.sum()) - mean**2)


def test_counts_are_the_files_own(shared_traces: Path) -> None:
    folder = shared_traces / FOLDER
    trace = draw_servegen(folder, seed=1)
    assert trace.arrival_s is not None
    drawn = np.bincount((trace.arrival_s // 600).astype(np.int64), minlength=144)
    expected = np.zeros(144)
    for number in (3, 12, 13, 35, 48, 54):
        for start_s, rate, _, _ in own_rows(folder, number):
            expected[round(start_s / 600)] += rate * 600
    assert drawn.tolist() == np.rint(expected).tolist()
    assert trace.notes == (
        "deepseek-r1: requests are drawn from the distributions of 6 clients, seed 1.",
    )


def alone(folder: Path, number: int, tmp_path: Path) -> Path:
    """A folder with one of the clients."""
    for path in folder.glob(f"chunk-{number}-*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


@pytest.mark.parametrize("number", [35, 48])
def test_lengths_have_the_files_means(shared_traces: Path, tmp_path: Path, number: int) -> None:
    folder = shared_traces / FOLDER
    trace = draw_servegen(alone(folder, number, tmp_path), start_s=0, end_s=21600)
    for name, drawn in (("input", trace.prompt_tokens), ("output", trace.output_tokens)):
        mean, deviation = own_mean(folder, number, "0", f"{name}_tokens")
        assert abs(drawn.mean() - mean) < 4 * deviation / math.sqrt(len(trace))
    later = draw_servegen(tmp_path, start_s=21600, end_s=43200)
    mean, deviation = own_mean(folder, number, "21600", "input_tokens")
    assert abs(later.prompt_tokens.mean() - mean) < 4 * deviation / math.sqrt(len(later))


def cv_of(trace: Trace) -> float:
    assert trace.arrival_s is not None
    gaps = np.diff(trace.arrival_s)
    return float(gaps.std() / gaps.mean())


@pytest.mark.parametrize(("number", "window"), [(35, 0), (35, 2400), (12, 78000), (48, 1200)])
def test_gaps_have_the_windows_cv(
    shared_traces: Path, tmp_path: Path, number: int, window: int
) -> None:
    folder = shared_traces / FOLDER
    (cv,) = (cv for start_s, _, cv, _ in own_rows(folder, number) if start_s == window)
    trace = draw_servegen(
        alone(folder, number, tmp_path), start_s=window, end_s=window + 600, scale_rate=4
    )
    assert cv_of(trace) == pytest.approx(cv, rel=0.06)


@pytest.mark.parametrize("family", ["Gamma", "Weibull"])
@pytest.mark.parametrize("cv", [0.4, 1.0, 3.0])
def test_families_have_their_cv(tmp_path: Path, family: str, cv: float) -> None:
    clients(tmp_path, rows=f"0,100,{cv},{family},0,0\n600,0,0,,0,0\n")
    assert cv_of(draw_servegen(tmp_path, seed=2)) == pytest.approx(cv, rel=0.08)


def clients(
    folder: Path,
    rows: str = "0,2,1,Gamma,1,1\n600,1.5,1,Weibull,1,1\n",
    prompt: Any = "{10: 0.5, 20: 5e-1}",
    output: Any = "{7: 1.0}",
) -> Path:
    """One client with two windows of 1,200 and 900 requests."""
    (folder / "chunk-4-trace.csv").write_text(rows)
    lengths = {"input_tokens": prompt, "output_tokens": output, "reason_ratio": "{}"}
    (folder / "chunk-4-dataset.json").write_text(json.dumps({"0": lengths}))
    return folder


def test_a_window_is_the_same_whatever_else_is_drawn(tmp_path: Path) -> None:
    day = draw_servegen(clients(tmp_path), seed=5)
    assert len(day) == 2100
    part = draw_servegen(tmp_path, seed=5, start_s=300, end_s=900)
    assert part.digest == day.take(_within(day, 300, 900)).digest
    assert draw_servegen(tmp_path, seed=5).digest == day.digest
    assert draw_servegen(tmp_path, seed=6).digest != day.digest
    assert len(draw_servegen(tmp_path, scale_rate=0.5)) == 1050
    uneven = {len(draw_servegen(tmp_path, seed=s, scale_rate=0.5005)) for s in range(20)}
    assert uneven <= {1050, 1051, 1052}
    assert len(uneven) > 1


def _within(trace: Trace, start_s: float, end_s: float) -> Any:
    assert trace.arrival_s is not None
    return np.flatnonzero((trace.arrival_s >= start_s) & (trace.arrival_s < end_s))


@pytest.mark.parametrize("trace_format", ["auto", "servegen"])
def test_through_the_options(tmp_path: Path, trace_format: str) -> None:
    folder = (str(clients(tmp_path)),)
    taken = take_in(Intake(trace=folder, trace_format=trace_format, window="300:900", seed=5))
    expected = draw_servegen(tmp_path, seed=5, start_s=300, end_s=900)
    assert taken.trace.digest == expected.window(300, 900).digest
    assert taken.origin.endswith("drawn with seed 5")
    assert "requests are drawn" in taken.trace.notes[0]
    half = take_in(Intake(trace=folder, scale_rate=0.5, max_requests=1000))
    assert len(half.trace) == 1000
    assert "rates times 0.5" in half.trace.notes[0]


def test_options_that_do_not_fit(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    file.write_text('{"timestamp": 0, "input_length": 1, "output_length": 1}\n')
    with pytest.raises(ValueError, match=r"scale_rate\(=2\) is for ServeGen's distributions"):
        take_in(Intake(trace=(str(file),), scale_rate=2.0))
    with pytest.raises(ValueError, match="is not servegen: it must be a folder of chunk-N-trace"):
        take_in(Intake(trace=(str(file),), trace_format="servegen"))
    with pytest.raises(ValueError, match=r"needs the folder of chunk-N-trace\.csv files"):
        load_trace(file, trace_format="servegen")
    with pytest.raises(ValueError, match="draw_servegen draws requests from them"):
        load_trace(clients(tmp_path))
    for scale in (0.0, -1.0, math.inf):
        with pytest.raises(ValueError, match=r"scale_rate\(=.*\) must be > 0"):
            draw_servegen(tmp_path, scale_rate=scale)
    with pytest.raises(ValueError, match="draws more than 50000000 in a window"):
        draw_servegen(tmp_path, scale_rate=1e9)
    with pytest.raises(ValueError, match=r"seed\(=-1\) must be >= 0"):
        draw_servegen(tmp_path, seed=-1)
    with pytest.raises(ValueError, match=r"holds no requests in start_s\(=5000\)"):
        draw_servegen(tmp_path, start_s=5000)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ("__import__('os').getcwd()", "input_tokens must be the text of a dict"),
        ("{10: __import__('os')}", "input_tokens(=__import__('os')) is not a number"),
        ("{10: 1.0, 20}", "input_tokens must be pairs of value and probability"),
        ("{0: 1.0}", "input_tokens must be whole numbers of tokens > 0"),
        ("{1.5: 1.0}", "input_tokens must be whole numbers of tokens > 0"),
        ("{10: nan}", "input_tokens(=nan) must be finite"),
        ("{10: -1}", "input_tokens(=-1) must be >= 0"),
        ("{10: 0.0}", "input_tokens must have probabilities > 0"),
        ({"10": 1.0}, "input_tokens must be the text of a dict"),
        (None, "input_tokens must be the text of a dict"),
    ],
)
def test_lengths_are_data(tmp_path: Path, lengths: Any, message: str) -> None:
    with pytest.raises(ValueError, match=r"^chunk-4-dataset\.json window 0: ") as caught:
        draw_servegen(clients(tmp_path, prompt=lengths))
    assert str(caught.value) == f"chunk-4-dataset.json window 0: {message}."


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("600,x,1,Gamma,1,1", "rate(=x) is not a number"),
        ("600,-1,1,Gamma,1,1", "rate(=-1) must be >= 0"),
        ("600,1,0,Gamma,1,1", "CV(=0) must be > 0"),
        ("600,1,1,Pareto,1,1", "family(=Pareto) must be Gamma or Weibull"),
        ("600,1,1,Gamma", "has 4 fields, 6 are needed"),
        ("x,1,1,Gamma,1,1", "window start(=x) is not a number"),
    ],
)
def test_bad_windows_are_skipped(tmp_path: Path, row: str, reason: str) -> None:
    clients(tmp_path, rows=f"0,2,1,Gamma,1,1\n{row}\n1200,1,1,Gamma,1,1\n")
    trace = draw_servegen(tmp_path)
    assert [str(skip) for skip in trace.skipped] == [f"chunk-4-trace.csv row 2: {reason}"]
    with pytest.raises(ValueError, match=r"^chunk-4-trace\.csv row 2: "):
        draw_servegen(tmp_path, strict=True)


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no chunk-N-trace\.csv\.$"):
        draw_servegen(tmp_path)
    clients(tmp_path, rows="600,1,1,Gamma,1,1\n0,1,1,Gamma,1,1\n")
    with pytest.raises(ValueError, match="has window starts that do not rise"):
        draw_servegen(tmp_path)
    with pytest.raises(ValueError, match="holds no lengths"):
        draw_servegen(clients(tmp_path, prompt="{}"))
    (tmp_path / "chunk-4-dataset.json").write_text("{")
    with pytest.raises(ValueError, match=r"^chunk-4-dataset\.json is not valid JSON"):
        draw_servegen(tmp_path)
    (tmp_path / "chunk-4-dataset.json").unlink()
    with pytest.raises(ValueError, match=r"^chunk-4-trace\.csv needs chunk-4-dataset\.json beside"):
        draw_servegen(tmp_path)


def test_a_lone_request_is_anywhere_in_its_window(tmp_path: Path) -> None:
    """n requests leave n + 1 gaps: neither end of the window is preferred."""
    rows = "".join(f"{600 * i},{1 / 600},1,Gamma,1,1\n" for i in range(400))
    trace = draw_servegen(clients(tmp_path, rows=rows))
    assert trace.arrival_s is not None
    place = trace.arrival_s / 600 - np.arange(400)
    assert (place >= 0).all()
    assert (place < 1).all()
    assert place.mean() == pytest.approx(0.5, abs=4 * math.sqrt(1 / 12 / 400))
