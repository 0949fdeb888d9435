"""A whole calibration on an invented card: files, going on, fitting again to the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvsim.calibration.measure.calibrate import Calibrated, calibrate, convert, refit
from kvsim.calibration.measure.point import Point
from kvsim.calibration.profile.store import read_profile, read_samples
from support.fake_card import FakeCard

FEW = ("ceilings", "host", "memory", "block_copy", "baselines")


def made(out: Path, card: FakeCard, families: tuple[str, ...] = FEW) -> Calibrated:
    return calibrate(str(out), families=families, report=lambda *step: None, card=card)


def test_a_calibration_is_two_files_and_its_fit_comes_out_again(tmp_path: Path) -> None:
    out = tmp_path / "new" / "card.json"
    card = FakeCard()
    done = made(out, card, (*FEW, "kv_dtypes"))
    assert card.closed
    assert sorted(path.name for path in out.parent.iterdir()) == [
        "card.json",
        "card.samples.jsonl.gz",
    ]
    assert done.path == out
    assert len(done.profile.decode) == 4, "its own dtype and three others"
    assert len(read_samples(out)) == read_profile(out).run["num_samples"]
    again = refit(str(out), str(tmp_path / "again.json"))
    assert again.path.read_bytes() == out.read_bytes()
    in_place = refit(str(out), None)
    assert in_place.path == out


def test_a_run_that_was_stopped_says_so_and_goes_on(tmp_path: Path) -> None:
    def stop(point: Point) -> None:
        if len(card.prepared) == 60:
            raise KeyboardInterrupt

    out = tmp_path / "card.json"
    card = FakeCard(on_prepare=stop)
    first = made(out, card)
    assert first.why_ended == "interrupted"
    assert any("interrupted: " in entry for entry in read_profile(out).missing)
    assert any("the same command goes on from" in line for line in first.lines())
    second_card = FakeCard()
    second = made(out, second_card)
    assert second.why_ended == ""
    assert second.profile.run["sessions"] == 2
    assert len(second_card.prepared) == second.profile.run["num_samples"] - 60
    assert not [path for path in tmp_path.iterdir() if "partial" in path.name]


def test_other_families_do_not_go_on_with_the_points_of_these(tmp_path: Path) -> None:
    def stop(point: Point) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "card.json"
    with pytest.raises(ValueError, match=r"^nothing was measured: interrupted\.$"):
        made(out, FakeCard(on_prepare=stop))
    with pytest.raises(ValueError, match=r"was measured with families\(='ceilings,host,"):
        made(out, FakeCard(), ("gemm",))


@pytest.mark.parametrize("count", [1, 2, 5, 9, 30])
def test_however_little_was_measured_there_is_a_profile(tmp_path: Path, count: int) -> None:
    def stop(point: Point) -> None:
        if len(card.prepared) == count:
            raise KeyboardInterrupt

    card = FakeCard(on_prepare=stop)
    done = made(tmp_path / "card.json", card, ("decode", "gemm", "prefill", "pcie"))
    assert done.profile.run["num_samples"] == count
    assert len(done.profile.missing) >= 4


def test_families_of_one_reason_are_one_line(tmp_path: Path) -> None:
    lines = made(tmp_path / "card.json", FakeCard(), ("host",)).lines()
    (line,) = [line for line in lines if line.endswith(": not asked for.")]
    assert line.startswith("Missing: ceilings, decode, ragged, gemm")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"budget": "1h"}, "budget"),
        ({"families": ("x",)}, "families"),
        ({"model": "no-such-model"}, "model"),
    ],
)
def test_wrong_input_is_told_before_the_card_is_touched(
    tmp_path: Path, arguments: dict[str, object], sentence: str
) -> None:
    card = FakeCard()
    with pytest.raises(ValueError, match=rf"^{sentence}\(="):
        calibrate(str(tmp_path / "x.json"), report=print, card=card, **arguments)  # type: ignore[arg-type]
    assert card.prepared == []


def test_a_path_that_is_no_profile(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^out\(='x'\) must be named \.json\.$"):
        calibrate("x", report=print, card=FakeCard())
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="cannot be written"):
        calibrate(str(tmp_path / "file" / "x.json"), report=print, card=FakeCard())


def test_a_profile_without_samples_cannot_be_fitted_again(
    tmp_path: Path, shared_file: object
) -> None:
    folder = shared_file("measured/rtx-pro-6000-llama-3.1-8b/profile")  # type: ignore[operator]
    out = tmp_path / "imported.json"
    done = convert(
        str(folder), str(out), gpu="rtx-pro-6000", model="llama-3.1-8b", tensor_parallel_size=1
    )
    assert done.profile.provenance == "imported"
    with pytest.raises(ValueError, match="has no samples to fit again"):
        refit(str(out), None)
    with pytest.raises(ValueError, match=r"^gpu must name the card that --from was measured on"):
        convert(str(folder), str(out), gpu=None, model="llama-3.1-8b", tensor_parallel_size=1)
