"""Files: all or none, the same bytes every time, a sentence where the folder cannot be written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import matplotlib
import pytest

from kvsim.reports.figures import FIGURES
from kvsim.reports.write import finite, plan_files, write_plan
from kvsim.sim.files import json_bytes
from kvsim.sim.plan import Plan


def test_everything_is_written(
    plan: Plan, files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvsim.reports.write.plan_files", lambda _, folder, report: files)
    paths = write_plan(plan, tmp_path / "new" / "report")
    names = list(files)
    assert names[:2] == ["report.html", "plan.json"]
    stems = {name.partition(".")[0] for name in names[2:]}
    assert stems <= set(FIGURES)
    assert set(names[2:]) == {f"{stem}.{kind}" for stem in stems for kind in ("png", "svg")}
    assert [path.name for path in paths] == names
    assert sorted(path.name for path in paths[0].parent.iterdir()) == sorted([*names, "kvsim.json"])


def test_plan_json_is_plain_and_complete(plan: Plan, files: dict[str, bytes]) -> None:
    text = files["plan.json"].decode()
    loaded = json.loads(text)
    assert [one["title"] for one in loaded["candidates"]] == [x.title for x in plan.candidates]
    assert loaded["candidates"][0]["summary"]["pool_share"]
    assert not re.search(r"/(home|root|work|tmp|usr|opt|Users)/", text)


def test_same_input_same_bytes_whatever_the_users_matplotlibrc(
    files: dict[str, bytes], make_small_plan: Callable[[], Plan]
) -> None:
    with matplotlib.rc_context({"axes.grid": True, "font.size": 20, "savefig.dpi": 30}):
        again = plan_files(make_small_plan())
    assert [name for name, data in files.items() if again[name] != data] == []


def test_a_ratio_to_nothing_is_null(lopsided_plan: Plan) -> None:
    text = json_bytes(finite(lopsided_plan.to_json())).decode()
    assert json.loads(text)["advantages"][0]["under_backlog"] is None
    assert "Infinity" not in text
    assert "NaN" not in text
    assert finite({"a": [1.5, float("nan")]}) == {"a": [1.5, None]}


def test_a_file_in_the_place_of_the_folder(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvsim.reports.write.plan_files", lambda *_, **__: {"plan.json": b"{}"})
    target = tmp_path / "taken"
    target.write_text("mine")
    with pytest.raises(ValueError, match=rf"out\(='{target}'\) cannot be written: .+\.") as caught:
        write_plan(plan, target)
    assert "\n" not in str(caught.value)
    assert target.read_text() == "mine"


def test_nothing_half_written_when_a_figure_fails(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> bytes:
        raise RuntimeError("no ink")

    monkeypatch.setattr("kvsim.reports.write.plan_pictures", broken)
    with pytest.raises(RuntimeError, match="no ink"):
        write_plan(plan, tmp_path / "report")
    assert not (tmp_path / "report").exists()
