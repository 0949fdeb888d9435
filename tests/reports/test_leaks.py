"""Files given by absolute path leave their names in a report, never their folder."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from kvsim.calibration.gpus import load_gpu
from kvsim.calibration.models import CATALOGUE_FILE, load_model
from kvsim.calibration.profile.imported import import_folder
from kvsim.calibration.profile.store import read_profile, write_profile
from kvsim.reports.calibration_report import calibration_files
from kvsim.reports.write import plan_files
from kvsim.sim.files import json_bytes
from kvsim.sim.job import simulate_server
from kvsim.sim.plan import make_plan
from kvsim.sim.server import Server, resolve
from kvsim.traces.intake import Intake, Taken, take_in
from support.page_reader import Reader
from support.profiles import make_profile
from support.self_contained import check_self_contained

HOME = "home of anna"
EVIL = '"><img src=x onerror=alert(1)>'
ROOTS = re.compile(r"(?<![\w/.])/(home|root|work|tmp|usr|opt|Users|var|private)/")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deep") / HOME
    folder.mkdir()
    return folder


def trace_file(home: Path) -> Path:
    """An Azure trace with an evil name; its last row cannot be read."""
    rows = [f"2023-11-16 18:15:{i:02d}.5,{100 + 7 * i},{20 + i}" for i in range(50)]
    path = home / f"{EVIL}.csv"
    lines = ["TIMESTAMP,ContextTokens,GeneratedTokens", *rows, f"never,{EVIL},1"]
    path.write_text("\n".join(lines))
    return path


def model_folder(home: Path) -> Path:
    folder = home / "my-llama"
    folder.mkdir(exist_ok=True)
    catalogue = json.loads(CATALOGUE_FILE.read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(catalogue["llama-3.1-8b"]["config"]))
    return folder


def gpu_file(home: Path) -> Path:
    path = home / "our-card.json"
    path.write_text(json.dumps({"like": "h200", "name": "h200", "price_usd_per_hour": 1.5}))
    return path


def kernel_times(home: Path) -> Path:
    folder = home / "kernel-times"
    folder.mkdir(exist_ok=True)
    dense = [f"{name},{n},{5 + n / 10}" for name in ("qkv_proj", "layernorm") for n in (1, 2048)]
    (folder / "dense.csv").write_text("\n".join(["layer,tokens,time_us", *dense]))
    rows = [f"lm_head,{n},{700 + n}" for n in (1, 256)]
    (folder / "per_sequence.csv").write_text("\n".join(["layer,sequences,time_us", *rows]))
    points = [
        f"{c},{p},{n},{k},{5 + c / 100 + n * k / 1000}"
        for c in (0, 64, 1024)
        for p in (0, 4096)
        for n in (0, 1, 256)
        for k in (16, 16384)
        if c or n
    ]
    header = "prefill_chunk,kv_prefill,n_decode,kv_decode,time_us"
    (folder / "attention.csv").write_text("\n".join([header, *points]))
    return folder


def taken(home: Path) -> Taken:
    return take_in(Intake(trace=(str(trace_file(home)),)))


def server(home: Path, **flags: object) -> Server:
    return resolve(
        model=load_model(str(model_folder(home))),
        gpu=load_gpu(str(gpu_file(home))),
        trace=taken(home).trace,
        **flags,  # type: ignore[arg-type]
    )


def check(files: dict[str, bytes], home: Path) -> None:
    """No file names the folder or another of this machine's; what is text is UTF-8."""
    for name, data in files.items():
        assert HOME.encode() not in data, name
        assert str(home.parent).encode() not in data, name
        if not name.endswith(".png"):
            assert not ROOTS.search(data.decode()), name


def test_a_plan_of_files_and_a_profile(home: Path) -> None:
    path = write_profile(make_profile(), (), home / "h200.json")[0]
    made = make_plan(server(home, profile=str(path)), taken=taken(home), baselines=())
    files = plan_files(made)
    check(files, home)
    page = files["report.html"].decode()
    check_self_contained(page)
    assert f"{EVIL}.csv, 50 requests" in Reader(page).text
    assert "my-llama" in Reader(page).text
    assert json.loads(files["plan.json"])["trace"]["name"] == f"{EVIL}.csv"


def test_a_simulation_of_files_and_kernel_times(home: Path) -> None:
    made = server(home, step_cost_spec=f"measured:{kernel_times(home)}")
    _, summary = simulate_server(made, trace=taken(home).trace, title="")
    text = json_bytes(summary.to_json())
    check({"summary.json": text}, home)
    assert "kernel times of kernel-times" in text.decode()
    assert "my-llama" in text.decode()
    check({"cost": json_bytes(made.cost.describe()), "setting": made.setting.encode()}, home)


def test_the_report_of_imported_kernel_times(home: Path) -> None:
    card, model = str(gpu_file(home)), str(model_folder(home))
    profile = import_folder(kernel_times(home), gpu=card, model=model)
    path = write_profile(profile, (), home / "imported.json")[0]
    files = calibration_files(read_profile(path), ())
    check(files, home)
    evil = replace(profile.hardware, name=EVIL)
    page = calibration_files(replace(profile, hardware=evil), ())["report.html"].decode()
    check_self_contained(page)
    assert EVIL in Reader(page).text
