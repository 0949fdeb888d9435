"""``kvsim plan`` as a decision: what a user types, what is refused in one sentence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kvsim.reports.figures.options import options_cost, options_rate
from kvsim.reports.picture import Picture
from kvsim.sim.durations import seconds_of
from kvsim.sim.load import load_server
from kvsim.sim.plan import Plan, make_plan
from kvsim.sim.serve_command import serve_command
from kvsim.sim.server import Server
from kvsim.traces.intake import Intake, take_in
from support.command import SMALL, run
from support.planned import fake_searches

ROOT = Path(__file__).resolve().parents[1]
UNSURE = ("--confidence-runs", "0")
CLOCK = "affine:0.02,0.0001,0.0000001"
WRONG: dict[str, tuple[list[str], str]] = {
    "a GPU twice": (["--gpu", "a100,A100-SXM"], "gpu(='a100,A100-SXM') must name each GPU once"),
    "an unknown GPU of several": (["--gpu", "a100,h2000"], "gpu(='h2000') is unknown; near: h200"),
    "a price for several": (["--gpu", "a100,h200", "--price", "2"], "must name its GPU: a100=2"),
    "two prices for one": (
        ["--gpu", "a100,h200", "--price", "a100=1,a100=2"],
        "price(='a100=2') must be the only one of a100",
    ),
    "a price for another": (
        ["--gpu", "a100,h200", "--price", "h20=2"],
        "price(='h20=2') must be of a GPU that is compared: a100, h200",
    ),
    "a price that is none": (["--price", "cheap"], "price(='cheap') must be USD per GPU and hour"),
    "a negative price": (["--price", "-1"], "price(='-1') must be USD per GPU and hour, >= 0"),
    "a value twice": (["--block-size", "16,32,16"], "must hold each value once"),
    "an empty value": (["--block-size", "16,,32"], "must not hold an empty value"),
    "no whole number": (["--block-size", "16,x"], "block_size(='16,x') must be whole numbers"),
    "no number": (["--gpu-memory-utilization", "0.9,much"], "must be numbers"),
    "a size of nothing": (["--max-num-seqs", "0,256"], "max_num_seqs(=0) must be > 0"),
    "an unknown dtype": (["--kv-cache-dtype", "auto,fp9"], "kv_cache_dtype(='fp9') is unknown"),
    "a quantile of nothing": (["--quantile", "0.9"], "needs slo_ttft, slo_tpot or slo_e2e"),
    "a quantile above 1": (["--slo-ttft", "2s", "--quantile", "95"], "quantile(=95.0) must be in"),
    "no time": (["--slo-ttft", "2 weeks"], "slo_ttft(='2 weeks') must be a time such as 2s"),
    "no time at all": (["--slo-tpot", "0ms"], "slo_tpot(='0ms') must be > 0 s"),
    "a closed loop": (
        ["--slo-ttft", "2s", "--concurrency", "8"],
        "concurrency(=8) is a closed loop, which has no rate to search: leave it or slo_ttft out",
    ),
    "several in a closed loop": (
        ["--block-size", "16,32", "--concurrency", "8"],
        "leave it or the values of block_size out",
    ),
    "no rate at all": (
        ["--slo-ttft", "2s", "--arrival-process", "backlog"],
        "arrives all at once and has no rate",
    ),
    "a target of nothing": (["--target-rate", "0"], "target_rate(=0.0) must be > 0"),
    "GPUs without a target": (["--max-gpus", "4"], "max_gpus(=4) needs target_rate"),
    "fewer runs than none": (
        ["--slo-ttft", "2s", "--confidence-runs", "-1"],
        "confidence_runs(=-1) must be >= 0",
    ),
    "runs of nothing": (["--confidence-runs", "5"], "needs something to decide"),
    "an unknown change": (["--what-if", "block_sise=64"], "what_if(='block_sise') is unknown"),
    "no GPUs": (["--target-rate", "4", "--max-gpus", "0"], "max_gpus(=0) must be > 0"),
    "more than anybody waits for": (
        ["--max-num-seqs", ",".join(map(str, range(1, 501))), "--block-size", "8,16,32"],
        "block_size x max_num_seqs make 1500 servers: at most 1000",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_one_sentence(name: str, tmp_path: Path) -> None:
    arguments, sentence = WRONG[name]
    result = run("plan", "-n", "40", *arguments, "--out", str(tmp_path / "report"))
    assert result.exit_code == 2, result.output
    assert sentence in result.output
    assert result.output.count("\n") == 1
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2s", 2.0),
        ("50ms", 0.05),
        ("0.05", 0.05),
        (" 1.5 S ", 1.5),
        ("1min", 60.0),
        ("5e1us", 5e-5),
    ],
)
def test_times_are_written_as_people_write_them(text: str, seconds: float) -> None:
    assert seconds_of("slo", text) == seconds


@pytest.fixture(scope="module")
def small() -> Plan:
    """A plan without a decision."""
    taken = take_in(Intake(workload="sharegpt", num_requests=30, rate_per_s=4.0))
    flags = {"step_cost": CLOCK, "num_gpu_blocks_override": 200}
    server = load_server(taken.trace, hardware={"gpu": "a100", "model": "qwen3-8b"}, flags=flags)
    return make_plan(server, taken=taken)


def pictures(plan: Plan) -> list[Picture]:
    """Those of the decision."""
    found = (options_cost(plan), options_rate(plan))
    return [picture for picture in found if picture is not None]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, small: Plan) -> list[Any]:
    """No simulation behind the decision and only its own figures; the servers planned for."""
    servers: list[Any] = []

    def made(server: Server, *, decision: Any = None, **_: object) -> Plan:
        servers.append(server)
        return replace(small, decision=decision)

    monkeypatch.setattr("kvsim.sim.planner.planned.make_plan", made)
    monkeypatch.setattr("kvsim.reports.write.plan_pictures", pictures)
    return servers


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> None:
    def rate(server: Server) -> float:
        return 3.0 if server.deployment.block_size == 16 else 2.0

    fake_searches(monkeypatch, rate)


def plan(*arguments: str, out: Path) -> Any:
    return run(
        "plan",
        *SMALL,
        "--step-cost",
        CLOCK,
        "--num-gpu-blocks-override",
        "800",
        *arguments,
        "--out",
        str(out),
    )


@pytest.mark.usefixtures("rates")
def test_a_decision_as_a_user_sees_it(tmp_path: Path, quick: list[Any]) -> None:
    given = ("--slo-ttft", "2s", "--slo-tpot", "50ms", "--block-size", "16,32", *UNSURE)
    result = plan(*given, "--target-rate", "5", "--price", "2", out=tmp_path)
    assert result.exit_code == 0, result.output
    assert "Objective: TTFT <= 2 s and TPOT <= 0.05 s for 95 % of the requests." in result.output
    assert "Target: 5.00 requests/s (given)." in result.output
    assert "Deploy 2 x (a100, block_size 16): each holds 3.00 requests/s" in result.output
    assert "Start: vllm serve" in result.output
    decision = json.loads((tmp_path / "plan.json").read_text())["decision"]
    assert decision["chosen"] == "a100, block_size 16"
    assert decision["serve_command"] == serve_command(quick[0])
    assert quick[0].deployment.block_size == 16
    assert [one["usd_per_hour"] for one in decision["options"]] == [4.0, 6.0]
    assert decision["losers"] == [
        {"title": "a100, block_size 32", "reason": "1.50x the price: 3 GPUs, 6.00 USD/h"}
    ]
    assert decision["slo"] == {
        "ttft_s": 2.0,
        "tpot_s": 0.05,
        "e2e_s": None,
        "quantile": 0.95,
        "assumed": False,
    }
    formats = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    for key in (*decision, *decision["options"][0], *decision["confirmed"], *decision["defaults"]):
        assert f"`{key}`" in formats, key
    page = (tmp_path / "report.html").read_text()
    for text in ("What to deploy", "1.50x the price", "recommended.toml", 'id="options-cost"'):
        assert text in page
    assert (tmp_path / "options-rate.png").exists()
    assert "block_size = 16" in (tmp_path / "recommended.toml").read_text()
    update = run(
        "regress", "update", str(tmp_path / "recommended.toml"), "--baseline", str(tmp_path / "b")
    )
    assert update.exit_code == 0, update.output


@pytest.mark.usefixtures("rates", "quick")
def test_an_objective_is_assumed_and_the_trace_s_rate_is_the_target(tmp_path: Path) -> None:
    result = plan("--block-size", "16,32", "--json", *UNSURE, out=tmp_path)
    assert result.exit_code == 0, result.output
    decision = json.loads(result.stdout)["decision"]
    assert decision["slo"]["assumed"] is True
    assert decision["target_rate_per_s"] == pytest.approx(4.0, rel=0.3)


@pytest.mark.usefixtures("quick")
def test_an_objective_that_nothing_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_searches(monkeypatch, lambda server: 0.0)
    result = plan("--slo-tpot", "50ms", out=tmp_path)
    assert result.exit_code == 1, result.output
    assert (
        "No server keeps the objective. Nearest is a100: at 0.1/s TPOT P95 is 61 ms > 50 ms; "
        "--slo-tpot 62ms would hold there." in result.output
    )
    assert not (tmp_path / "recommended.toml").exists()
    assert "No server keeps the objective." in (tmp_path / "report.html").read_text()


def test_nothing_is_decided_where_nothing_is_asked(tmp_path: Path, quick: list[Any]) -> None:
    result = plan("--gpu", "a100", "--block-size", "16", "--price", "2", out=tmp_path)
    assert result.exit_code == 0, result.output
    assert "Under backlog the paged server runs" in result.output
    assert "Objective" not in result.output
    assert json.loads((tmp_path / "plan.json").read_text())["decision"] is None
    (server,) = quick
    assert server.gpu.price_usd_per_hour == 2.0
    assert server.deployment.block_size == 16
