"""Which profile is taken, and every reason to refuse one; the source line changes with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kvsim.calibration.costs import step_cost
from kvsim.calibration.gpus import load_gpu
from kvsim.calibration.models import load_model
from kvsim.calibration.profile import find
from kvsim.calibration.profile.cost import measured_cost
from kvsim.calibration.profile.find import cost_of_file
from kvsim.calibration.profile.imported import import_folder
from kvsim.calibration.profile.store import write_profile
from kvsim.calibration.step_cost import Batch, StepCost
from kvsim.sim.server import resolve
from kvsim.traces import synthesize, workload_preset
from support.command import SMALL, loaded, run
from support.measured import KERNELS
from support.profiles import make_profile

LLAMA, H200, A100 = load_model("llama-3.1-8b"), load_gpu("h200"), load_gpu("a100")
BATCH = Batch(64, 64 * 4096)


def written(folder: Path, name: str = "h200.json", **changes: object) -> str:
    return str(write_profile(make_profile(**changes), (), folder / name)[0])


def asked(spec: str = "auto", **flags: object) -> StepCost:
    return step_cost(spec, **{"model": LLAMA, "gpu": H200, **flags})  # type: ignore[arg-type]


@pytest.fixture(name="ships")
def ships_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Profiles that kvsim would ship."""
    monkeypatch.setattr(find, "BUNDLED", tmp_path)
    return lambda name="h200.json", **changes: written(tmp_path, name, **changes)


def test_a_profile_may_be_named_in_two_ways(tmp_path: Path) -> None:
    path = written(tmp_path)
    for found in (asked(profile=path), asked(f"measured:{path}"), asked("measured", profile=path)):
        assert found.origin == "measured (profile h200.2026-11-22.a1b2, measured 2026-11-22)"
        assert found.step_ns(BATCH) == measured_cost(make_profile(), model=LLAMA, gpu=H200).step_ns(
            BATCH
        )


REFUSED = {
    "another GPU": (
        {"gpu": A100},
        {},
        "profile(=PATH) was measured on NVIDIA H200: --gpu a100 needs another.",
    ),
    "other kernels": (
        {},
        {"software": {"kernel_hash": "sha256:0123456789abcdef"}},
        "profile(=PATH) was measured with other kernels (0123456789ab) than these",
    ),
    "kernels of no version": (
        {},
        {"software": {}},
        "profile(=PATH) was measured with other kernels (none) than these",
    ),
    "invented": (
        {},
        {"provenance": "synthetic"},
        "profile(=PATH) is synthetic: invented for tests, it says nothing of a card.",
    ),
    "a model it cannot tell": (
        {"model": load_model("mixtral-8x7b")},
        {},
        "profile(=PATH) has no kernels of routed experts, which mixtral-8x7b has.",
    ),
    "beside another source": (
        {"spec": "silicon"},
        {},
        "profile(=PATH) says nothing beside step_cost(='silicon'): leave one out.",
    ),
    "beside itself": (
        {"spec": "measured:x.json"},
        {},
        "profile(=PATH) says nothing beside step_cost(='measured:x.json'): leave one out.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str, tmp_path: Path) -> None:
    flags, changes, sentence = REFUSED[case]
    path = written(tmp_path, **changes)
    with pytest.raises(ValueError, match="profile") as error:
        asked(**{"profile": path, **flags})
    assert str(error.value).startswith(sentence.replace("PATH", path))
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)


def test_files_that_are_no_profiles(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must be a \.json file; a folder of kernel times is"):
        asked(profile=str(tmp_path))
    with pytest.raises(ValueError, match=r"none\.json"):
        asked(profile=str(tmp_path / "none.json"))
    newer = json.loads(Path(written(tmp_path)).read_text(encoding="utf-8"))
    (tmp_path / "newer.json").write_text(json.dumps({**newer, "schema": "kvsim-profile/2"}))
    with pytest.raises(ValueError, match="has schema kvsim-profile/2: this kvsim reads"):
        asked(profile=str(tmp_path / "newer.json"))


def test_an_invented_card_where_the_caller_allows_it(tmp_path: Path) -> None:
    path = written(tmp_path, provenance="synthetic")
    found = cost_of_file(path, gpu=H200, model=LLAMA, allow_synthetic=True)
    assert found.origin == "measured (profile h200.2026-11-22.a1b2, synthetic 2026-11-22)"


def test_a_derived_profile_says_so(tmp_path: Path) -> None:
    path = written(tmp_path, provenance="derived", derived_from={"from": "h100.2026-11-01"})
    found = asked(profile=path)
    assert found.source == "derived"
    assert "derived 2026-11-22, scaled from h100.2026-11-01" in found.origin


# ---------------------------------------------------------------------- auto


def test_auto_prefers_the_profile_that_is_shipped(ships: Callable[..., None]) -> None:
    assert asked().source == "silicon"
    ships()
    assert asked().origin == "measured (profile h200.2026-11-22.a1b2, measured 2026-11-22)"
    assert asked("measured").origin == asked().origin
    assert asked(gpu=A100).source == "silicon", "it is of another card"
    ships("h200.newer.json", id="h200.newer")
    assert "profile h200.newer" in asked().origin, "the last by name"


WHY = {
    "a model it cannot tell": (
        {"model": load_model("mixtral-8x7b"), "tensor_parallel_size": 2},
        {},
        "has no kernels of routed experts, which mixtral-8x7b has",
    ),
    "another head layout": (
        {"model": load_model("llama-3.2-3b")},
        {},
        "has no decode attention of 24 query and 8 KV heads of 128 in bf16 over bf16",
    ),
    "other kernels": ({}, {"software": {"kernel_hash": "sha256:0"}}, "with other kernels (0)"),
}


@pytest.mark.parametrize("case", WHY)
def test_auto_says_why_it_takes_the_tables(case: str, ships: Callable[..., None]) -> None:
    flags, changes, sentence = WHY[case]
    ships(**changes)
    found = asked(**flags)
    assert found.source == "silicon"
    assert "; the profile h200 that kvsim ships " in found.origin
    assert sentence in found.origin
    assert sentence in str(found.describe()["why"])
    with pytest.raises(ValueError, match=r"step_cost\(='measured'\) cannot be had: the profile"):
        asked("measured", **flags)


def test_a_shipped_profile_is_what_others_are_derived_from(ships: Callable[..., None]) -> None:
    """Of Hopper cards the H100 is nearest to an H20, then the H200."""
    ships()
    h20 = load_gpu("h20")
    assert asked(gpu=h20).origin.startswith("derived (scaled from h100-sxm")
    near = replace(h20, name="near-h200", memory_bandwidth_bytes_per_s=4.7e12,
                   flops_per_s=(("bf16", 980e12),))  # fmt: skip
    found = asked(gpu=near)
    assert found.origin.startswith("derived (scaled from h200")
    assert "measured of profile h200.2026-11-22.a1b2" in found.origin
    described = found.describe()
    assert {"profile", "derived_from"} <= described.keys()
    terms = {term.name: term for term in found.terms(BATCH)}
    read_s = 64 * 4096 * 4096 / 4e12 * 4.8 / 4.7
    assert terms["attention"].ns == pytest.approx(32e9 * (10e-6 + read_s), rel=1e-5)


# ---------------------------------------------------------------------- imported


def test_imported_times_are_those_of_their_folder(
    shared_file: Callable[[str], Path], tmp_path: Path
) -> None:
    folder, card = shared_file(KERNELS), load_gpu("rtx-pro-6000")
    profile = replace(
        import_folder(folder, gpu=card.name, model=LLAMA.name),
        id="casys",
        run={"tensor_parallel_size": 1, "started_utc": "2025-05-05T00:00:00Z"},
    )
    path = str(write_profile(profile, (), tmp_path / "casys.json")[0])
    theirs, ours = asked(f"measured:{folder}", gpu=card), asked(profile=path, gpu=card)
    for batch in (BATCH, Batch(1, 100), Batch(33, 9000, ((700, 300), (64, 0)), 0, 4000)):
        assert ours.step_ns(batch) == theirs.step_ns(batch)
    assert ours.origin == "measured (profile casys, imported 2025-05-05)"
    assert ours.band == theirs.band
    with pytest.raises(ValueError, match=r"times of model llama-3\.1-8b: --model qwen3-8b needs"):
        asked(profile=path, gpu=card, model=load_model("qwen3-8b"))
    with pytest.raises(
        ValueError, match="of tensor_parallel_size 1: --tensor-parallel-size 2 need"
    ):
        asked(profile=path, gpu=card, tensor_parallel_size=2)
    with pytest.raises(ValueError, match="was measured on NVIDIA RTX PRO 6000 Blackwell Server: "):
        asked(profile=path)
    damaged = replace(profile, tables={**profile.tables, "dense": {"layer": ["qkv"]}})
    path = str(write_profile(damaged, (), tmp_path / "damaged.json")[0])
    with pytest.raises(ValueError, match=r"is damaged: tables\.dense\.tokens is missing"):
        asked(profile=path, gpu=card)


# ---------------------------------------------------------------------- where it is shown


def test_the_command_line_takes_it(tmp_path: Path) -> None:
    path = written(tmp_path)
    origin = "measured (profile h200.2026-11-22.a1b2, measured 2026-11-22)"
    step = loaded("cost", "--gpu", "h200", "--batch", "64x4096", "--profile", path)
    assert (step["source"], step["origin"], step["why"]) == ("measured", origin, None)
    same = loaded("cost", "--gpu", "h200", "--batch", "64x4096", "--step-cost", f"measured:{path}")
    assert same["step_s"] == step["step_s"]
    shown = run("cost", "--gpu", "h200", "--batch", "64x4096", "--profile", path).stdout
    assert f"Source: {origin}." in shown
    assert "Note: Attention was timed with kvsim's own kernels" in shown
    summary = loaded("simulate", *SMALL, "--gpu", "h200", "--profile", path)
    assert summary["sources"]["timing"] == "measured"
    assert summary["sources"]["timing_from"] == origin
    said = run("simulate", *SMALL, "--gpu", "h200", "--profile", path).stdout
    assert f"step times: {origin}." in " ".join(said.split())
    wrong = run("simulate", *SMALL, "--gpu", "a100", "--profile", path)
    assert wrong.exit_code == 2
    assert wrong.stderr == (
        f"Error: profile(={path}) was measured on NVIDIA H200: --gpu a100 needs another.\n"
    )


def test_the_servers_blocks_reach_the_profile(tmp_path: Path) -> None:
    """Blocks of 64 were measured apart."""
    base = make_profile()
    wide = [replace(fit, key=replace(fit.key, block_size=64), t0_s=1e-3) for fit in base.decode]
    path = written(tmp_path, decode=(*base.decode, *wide))
    trace = synthesize(workload=workload_preset("sharegpt"), num_requests=4, seed=0)
    small, large = (
        resolve(
            model=LLAMA, gpu=H200, trace=trace, profile=path, flags={"block_size": size}
        ).cost.step_ns(BATCH)
        for size in (16, 64)
    )
    assert large - small == pytest.approx(32e9 * (1e-3 - 10e-6))
