"""The report of a profile: files, page, tables and plain values; what it lacks; what it is not."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.transforms import Bbox
from rich.console import Console

from kvsim.calibration.measure.points import Limits, make_plan
from kvsim.calibration.models import load_model
from kvsim.calibration.profile.fit import fit_profile
from kvsim.calibration.profile.values import (
    DecodeFit,
    GemmFit,
    GemmTable,
    Hardware,
    LineFit,
    PrefillFit,
    Profile,
    Residual,
    Sample,
)
from kvsim.reports.calibration_data import calibration_of
from kvsim.reports.calibration_figures import FIGURES, calibration_pictures
from kvsim.reports.calibration_fitted import error_of
from kvsim.reports.calibration_page import calibration_page, lacks
from kvsim.reports.calibration_points import ATTENTION, points_of
from kvsim.reports.calibration_report import (
    calibration_files,
    calibration_heading,
    calibration_json,
    calibration_tables,
    write_calibration_report,
)
from kvsim.reports.calibration_sheets import SPLITS
from kvsim.reports.calibration_words import FAMILY_TITLES
from kvsim.reports.picture import Picture
from kvsim.reports.render import MAX_SVG_BYTES, svg
from kvsim.reports.style import fresh
from kvsim.reports.tables import sheet_table
from support.page_reader import Reader
from support.self_contained import check_self_contained
from support.synthetic_card import Card
from support.synthetic_samples import card_samples

EVIL = "<script>alert(1)</script>"
SLOWER = {"kvsim": 1.02, "sdpa": 1.2}


class Made:
    """A profile of every family, and its samples: points of a real run with times of a roofline."""

    def __init__(self) -> None:
        limits = Limits(free_memory_bytes=140 << 30, compute_capability=(9, 0))
        plan = make_plan(load_model("llama-3.1-8b"), limits, budget_s=1e6)
        untimed = [
            Sample(
                family=p.family,
                x=p.x,
                t=(1.0,),
                unit="bytes" if p.family == "memory" else "s",
                role=p.role,
                flags=p.flags,
            )
            for p in plan.points
        ]
        self.samples = tuple(_timed(sample) for sample in untimed)
        self.profile = _profile(self.samples, plan.missing)


def _timed(sample: Sample) -> Sample:
    if sample.family == "memory":
        return replace(sample, t=(float(1 << 34),))
    (point,) = points_of((sample,))
    t = 5e-6 + point.moved_bytes / 4e12 + point.flops / 7e14
    t *= SLOWER.get(sample.x.get("name", ""), 1.0)
    return replace(sample, t=(t, 1.01 * t, 0.99 * t))


def _profile(samples: tuple[Sample, ...], missing: tuple[str, ...]) -> Profile:
    points = [p for p in points_of(samples) if p.sample.role in ("fit", "heldout")]
    decodes = dict.fromkeys(p.key for p in points if "seq_lens" in p.x)
    chunks = dict.fromkeys(p.key for p in points if "chunks" in p.x)
    shapes: dict[tuple[int, int], dict[int, float]] = {}
    for p in points:
        if p.sample.family == "gemm":
            shapes.setdefault((p.x["n"], p.x["k"]), {})[p.x["m"]] = p.seconds
    return Profile(
        id="one.2026-11-23",
        provenance="measured",
        hardware=Hardware(
            gpu="h200",
            name="NVIDIA H200",
            compute_capability="9.0",
            num_sms=132,
            l2_bytes=50 << 20,
            total_memory_bytes=140 << 30,
            more={"clocks_mhz": {"sm_max": 1980}},
        ),
        software={"torch": "2.11.0", "kernel_hash": "sha256:0123456789abcdef"},
        run={
            "started_utc": "2026-11-23T06:00:00Z",
            "drift_pct": 0.34,
            "clocks_columns": ["t_s", "sm_mhz"],
            "clocks_log": [[0, 1980], [5, 1755]],
        },
        model="llama-3.1-8b",
        ceilings={
            "copy_bytes_per_s": {"value": 4.0e12, "n": 20, "iqr": 1e10},
            "read_bytes_per_s": {"value": 4.1e12, "n": 20, "iqr": 1e10},
            "matmul_bf16_flops_per_s": {"value": 7e14, "n": 20, "iqr": 1e12},
        },
        decode=tuple(
            DecodeFit(
                key=key,
                t0_s=5e-6,
                read_bytes_per_s=4e12,
                program_bytes_per_s=2e10,
                p=4.0,
                item_s=1e-9,
                slots=528,
                tile_tokens=64,
                min_chunk_tokens=64,
                target_items=132,
                uncertainty={"t0_s": 0.03, "p": 0.1},
            )
            for key in decodes
        ),
        prefill=tuple(
            PrefillFit(
                key=key,
                t0_s=5e-6,
                flops_per_s=6e14,
                read_bytes_per_s=4e12,
                program_flops_per_s=5e12,
                p=3.0,
                slots=132,
                query_tokens=32,
                tile_tokens=64,
                overlap=0.1,
            )
            for key in chunks
        ),
        gemm_tables=tuple(
            GemmTable(
                n=n, k=k, dtype="bf16", m=tuple(sorted(t)), t_s=tuple(t[m] for m in sorted(t))
            )
            for (n, k), t in shapes.items()
        ),
        gemm=(GemmFit(dtype="bf16", t0_s=5e-6, flops_per_s=7e14, read_bytes_per_s=4e12, p=6.0),),
        lines=(
            LineFit(name="empty_nodes graph", t0_s=5e-6, unit_s=1e-6, bytes_per_s=float("inf")),
        ),
        residuals=(
            _residual("ragged", "heldout", 1.6, 5.1),
            _residual("prefill", "heldout", 3.6, 7.0),
            _residual("decode", "leave_context_out", 2.2, 7.0),
        ),
        missing=missing,
        samples_sha256="ab" * 32,
    )


def _residual(family: str, split: str, median: float, p95: float) -> Residual:
    return Residual(
        family=family,
        split=split,
        num_points=40,
        median_pct=median,
        p95_pct=p95,
        worst_pct=2 * p95,
    )


@pytest.fixture(scope="module")
def made() -> Made:
    return Made()


@pytest.fixture(scope="module")
def pictures(made: Made) -> list[Picture]:
    with fresh():
        return calibration_pictures(calibration_of(made.profile, made.samples))


@pytest.fixture(scope="module")
def files(made: Made) -> dict[str, bytes]:
    return calibration_files(made.profile, made.samples)


@pytest.fixture(scope="module")
def html(files: dict[str, bytes]) -> str:
    return files["report.html"].decode()


def words_of(html: str) -> str:
    """What a reader sees, without the style sheet."""
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]+>", " ", html, flags=re.DOTALL).split())


# ---------------------------------------------------------------------- files


def test_every_file_is_written_the_page_first(
    made: Made, files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "kvsim.reports.calibration_report.calibration_files", lambda profile, samples: files
    )
    paths = write_calibration_report(made.profile, made.samples, tmp_path / "new" / "report")
    names = ["report.html", *(f"{name}.{kind}" for kind in ("png", "svg") for name in FIGURES)]
    assert [path.name for path in paths] == names
    there = sorted(path.name for path in paths[0].parent.iterdir())
    assert there == sorted([*names, "kvsim.json"])


def test_same_input_same_bytes_whatever_the_users_matplotlibrc(
    made: Made, files: dict[str, bytes]
) -> None:
    families = ("decode", "ceilings", "pcie", "baselines")
    few = tuple(s for s in made.samples if s.family in families)
    first = calibration_files(made.profile, few)
    with matplotlib.rc_context({"axes.grid": True, "font.size": 20, "savefig.dpi": 30}):
        again = calibration_files(made.profile, few)
    assert again == first
    assert first["baselines.png"] == files["baselines.png"]


def test_nothing_half_written_when_a_figure_fails(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> bytes:
        raise RuntimeError("no ink")

    monkeypatch.setattr("kvsim.reports.render.png", broken)
    few = tuple(s for s in made.samples if s.family == "pcie")
    with pytest.raises(RuntimeError, match="no ink"):
        write_calibration_report(made.profile, few, tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_the_summary_loads_no_drawing_library() -> None:
    code = (
        "import sys, kvsim.reports.calibration_report;"
        "heavy = ('matplotlib', 'jinja2', 'pandas', 'torch', 'scipy');"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---------------------------------------------------------------------- page


def test_the_page_parses_and_has_every_figure_with_its_words(
    html: str, pictures: list[Picture]
) -> None:
    reader = Reader(html)
    assert [attrs["id"] for attrs in reader.attributes("figure")] == list(FIGURES)
    drawings = reader.attributes("svg") + reader.attributes("img")
    assert len(drawings) == len(FIGURES)
    assert all(len(one.get("aria-label", one.get("alt", ""))) > 40 for one in drawings)
    for picture in pictures:
        assert len(picture.caption) > 60
        assert picture.sheet.rows
        assert len(svg(picture)) < MAX_SVG_BYTES
    ids = re.findall(r'\sid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    levels = [int(tag[1]) for tag, _ in reader.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_nothing_is_loaded(html: str) -> None:
    check_self_contained(html)
    assert "prefers-color-scheme: dark" in html
    assert len(html) < 1_500_000
    assert not re.search(r"\b(nan|inf)\b", words_of(html))


def test_a_name_stays_text(made: Made) -> None:
    hardware = replace(made.profile.hardware, name=EVIL, more={EVIL: EVIL})
    evil = replace(
        made.profile, hardware=hardware, model=EVIL, missing=(f"{EVIL}: {EVIL}",), run={EVIL: EVIL}
    )
    page = calibration_page(calibration_of(evil, ()), [])
    check_self_contained(page)
    assert page.count("<script") == 1
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 6


def test_the_verdict_names_card_date_kernel_and_what_is_missing(made: Made, html: str) -> None:
    first = (
        "NVIDIA H200 (h200): measured on 2026-11-23 for llama-3.1-8b, attention kernels "
        "0123456789ab. Missing: all-reduce."
    )
    assert calibration_heading(made.profile, made.samples)[0] == first
    assert first in words_of(html).replace("\N{NON-BREAKING HYPHEN}", "-")
    assert "All-reduce: one GPU." in words_of(html)
    assert 'class="banner"' not in html


@pytest.mark.parametrize("provenance", ["synthetic", "derived", "imported"])
def test_what_was_not_measured_here_cannot_be_overlooked(made: Made, provenance: str) -> None:
    few = tuple(s for s in made.samples if s.family in ("decode", "ceilings", "host"))
    profile = replace(made.profile, provenance=provenance)
    found = calibration_of(profile, few)
    page = calibration_page(found, calibration_pictures(found))
    assert page.index('class="banner"') < page.index("<header>")
    heading = calibration_heading(profile, few)
    assert heading[0].startswith(provenance.capitalize())
    said = words_of(page)
    assert f"time, {provenance}" in said
    assert said.count(heading[0].split(" ")[0]) >= 2 + 3, "banner, footer, captions"
    assert "measured" not in re.sub(r"(Nothing here was|not) measured", "", said)


def test_families_that_are_not_there_leave_their_figures_out_and_are_named(made: Made) -> None:
    few = tuple(s for s in made.samples if s.family in ("gemm", "pcie"))
    profile = replace(
        made.profile,
        missing=("baselines: left out by the budget of 60 s", "gemm: expert layers"),
        ceilings={},
        decode=(),
    )
    found = calibration_of(profile, few)
    pictures = calibration_pictures(found)
    assert [p.name for p in pictures] == ["roofline", "residuals", "linear-layers", "transfers"]
    said = lacks(found, pictures)
    assert "Baselines: left out by the budget of 60 s." in said
    assert "Linear layers: expert layers." in said
    assert any(line.startswith("No samples and no reason: ceilings, decode") for line in said)
    left_out = [line for line in said if line.startswith("Figure")]
    assert len(left_out) == len(FIGURES) - 4
    heading = calibration_heading(profile, few)[0]
    assert heading.endswith("block copies, all-reduce and baselines. In part: linear layers.")


def test_a_profile_without_samples_shows_its_coefficients(made: Made) -> None:
    bare = replace(made.profile, provenance="derived", derived_from={"from": "one", "rule": "two"})
    page = calibration_page(calibration_of(bare, ()), [])
    text = words_of(page)
    assert "No samples: the profile holds coefficients or tables only." in text
    assert "Fit of decode attention, one layer" in text
    assert "Derived from" in text
    assert "It has no samples." in text


def test_imported_tables_are_listed(made: Made) -> None:
    tables = {"dense": {"layer": ["a", "b"], "tokens": [1, 2], "time_us": [3.0, 4.0]}}
    bare = replace(made.profile, provenance="imported", tables=tables)
    text = words_of(calibration_page(calibration_of(bare, ()), []))
    assert "dense 2 layer, tokens, time_us" in text


def test_a_real_fit_is_understood(made: Made) -> None:
    """Names that the fit gives are those that the report looks for."""
    card = Card()
    samples = card_samples(card)
    fitted = fit_profile(samples, hardware=card.hardware())
    profile = replace(
        made.profile,
        provenance="synthetic",
        hardware=card.hardware(),
        ceilings=fitted.ceilings,
        decode=fitted.decode,
        prefill=fitted.prefill,
        gemm_tables=fitted.gemm_tables,
        residuals=fitted.residuals,
    )
    found = calibration_of(profile, samples)
    assert found.read_bytes_per_s == pytest.approx(card.read_bytes_per_s, rel=0.02)
    assert found.matmul_flops_per_s == pytest.approx(card.matmul_flops_per_s, rel=0.02)
    errors = [error_of(profile, point) for point in found.of(*ATTENTION)]
    assert sorted(abs(error) for error in errors if error is not None)[len(errors) // 2] < 0.02
    rows = calibration_tables(profile, samples)[1].rows
    assert {row[0] for row in rows} <= set(FAMILY_TITLES.values())
    assert {row[1] for row in rows} <= set(SPLITS.values())


# ---------------------------------------------------------------------- drawings


def test_no_words_cover_others_and_none_leave_the_picture(pictures: list[Picture]) -> None:
    for picture in pictures:
        figure = picture.figure
        figure.suptitle(picture.title).set_in_layout(True)
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw_without_rendering()
        for axes in figure.axes:
            ticks = [*axes.get_xticklabels(), *axes.get_yticklabels()]
            shown = [t for t in (*axes.texts, *ticks) if t.get_text() and t.get_visible()]
            boxes = [t.get_window_extent(renderer) for t in shown if _inside(t, axes)]
            for one, other in combinations(boxes, 2):
                assert not _overlap(one, other), picture.name
            assert all(b.x0 >= -1 and b.x1 <= figure.bbox.x1 + 1 for b in boxes), picture.name


def _inside(text: Any, axes: Any) -> bool:
    """A tick that lies beyond the axes is not drawn."""
    if text in axes.texts:
        return True
    (low, high), at = (
        (axes.get_xlim(), text.get_position()[0])
        if text in axes.get_xticklabels()
        else (axes.get_ylim(), text.get_position()[1])
    )
    return bool(min(low, high) <= at <= max(low, high))


def _overlap(one: Bbox, other: Bbox) -> bool:
    both = Bbox.intersection(one, other)
    return both is not None and both.width > 1.5 and both.height > 2.5


# ---------------------------------------------------------------------- terminal and plain values


def test_the_summary_is_whole_at_100_columns(made: Made) -> None:
    out = StringIO()
    sheets = calibration_tables(made.profile, made.samples)
    assert [sheet.title for sheet in sheets] == [
        "Ceilings",
        "Errors of the fits",
        "Goals of the kernels",
    ]
    for sheet in sheets:
        Console(file=out, width=100, force_terminal=False).print(sheet_table(sheet))
    text = out.getvalue()
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "…" not in text


def test_errors_beside_their_goals(made: Made) -> None:
    rows = calibration_tables(made.profile, made.samples)[1].rows
    assert [row[-2:] for row in rows] == [("2 / 6 %", "met"), ("3 / 8 %", "missed"), ("-", "")]


def test_a_card_of_the_catalogue_has_its_datasheet_beside_it(made: Made) -> None:
    copy, *_ = calibration_tables(made.profile, made.samples)[0].rows
    assert copy == ("copy", "4.00 TB/s", "0.2 %", "20", "4.80 TB/s")
    unknown = replace(made.profile, hardware=replace(made.profile.hardware, gpu="nobody's"))
    assert calibration_tables(unknown, made.samples)[0].rows[0][-1] == "-"


def test_plain_values_are_json(made: Made) -> None:
    values = json.loads(json.dumps(calibration_json(made.profile), allow_nan=False))
    assert values["hardware"]["more"]["clocks_mhz"]["sm_max"] == 1980
    assert values["lines"][0]["bytes_per_s"] is None
    assert {fit["key"]["kind"] for fit in values["decode"]} == {"paged"}
    goals = [(x["goal_median_pct"], x["goal_p95_pct"]) for x in values["residuals"]]
    assert goals == [(2.0, 6.0), (3.0, 8.0), (None, None)]


def test_clocks_are_summed_up(html: str) -> None:
    assert "sm_mhz 1,755 1,980" in words_of(html)
    assert "clocks_log" not in html


def test_drift_is_shown_of_each_anchor(html: str, made: Made) -> None:
    anchors = [s for s in made.samples if s.role == "anchor"]
    assert len(anchors) == 60
    assert words_of(html).count("+0.0 %") >= 20
