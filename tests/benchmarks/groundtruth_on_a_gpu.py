"""The ground truth on an NVIDIA GPU, in steps of a few minutes that can be done one at a time.

    python3 tests/benchmarks/groundtruth_on_a_gpu.py --out gpu/ [--budget 400s] [--steps a,b]

    memory        what the engine's memory goes to, beside `kvsim memory`
    calibrate     the card's profile, by on_a_gpu.py, into gpu/card
    fit           logs that step times are fitted to, and nothing else: a crowd, a trickle, swaps
    load-50, load-75, load-90    of the rate that the simulator says the engine serves
    again         load-75 once more: the noise floor
    burst         another workload, all at once, twice
    recompute, swap    a small pool, all at once
    transformers  the engine that nobody here wrote, at half of its own load
    report        prediction against measurement, with the fit and with the profile

A step that ended well is not done again unless it is named. With a budget no step is begun that may
not end within it; exit code 3 says that some are left: call again. 1: a step failed or a goal was
missed. ``--shape toy`` goes through the same steps on a CPU. kvsim need not be
installed; what it needs is in on_a_gpu.py.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from on_a_gpu import KVSIM, ROOT, Session  # beside this file

LEFT = 3
SEEDS = {"load": 1, "burst": 2, "small": 3, "fit": 101}
"""None of the traces that are predicted is fitted to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is run; counts are requests."""

    model: str
    device: tuple[str, ...]
    chat: tuple[str, ...]
    """Workload of the loads and of the fit."""
    other: tuple[str, ...]
    """Of burst and small pools."""
    flags: tuple[str, ...]
    small: tuple[str, ...]
    fit_requests: int
    burst_requests: int
    load_s: float
    step_s: float
    """Most that a step takes: none is begun later before the budget's end."""


SETTINGS = {
    "llama-3-8b": Setting(
        model="llama-3-8b",
        device=("--device", "cuda"),
        chat=("--workload", "sharegpt"),
        other=("--workload", "azure-chat"),
        flags=("--max-model-len", "16384"),
        small=("--num-gpu-blocks-override", "3751"),
        fit_requests=400,
        burst_requests=300,
        load_s=75.0,
        step_s=240.0,
    ),
    "toy": Setting(
        model="toy",
        device=("--device", "cpu", "--clock", "steady"),
        chat=("--prompt-tokens", "14", "--output-tokens", "6"),
        other=("--prompt-tokens", "10", "--output-tokens", "9"),
        flags=("--max-num-seqs", "4", "--max-num-batched-tokens", "32", "--block-size", "4"),
        small=("--num-gpu-blocks-override", "15"),
        fit_requests=8,
        burst_requests=6,
        load_s=5.0,
        step_s=60.0,
    ),
}


class Truth(Session):
    """The folder of one card, and which of these steps are done in it."""

    def __init__(self, out: Path, setting: Setting, budget: str) -> None:
        super().__init__(out, budget)
        self.setting = setting

    def go(self, steps: Sequence[str], *, again: bool, budget_s: float) -> int:
        """The steps in their order, as far as the budget goes; 1 where one failed."""
        begin_s, code, left = time.monotonic(), 0, []
        for step in steps:
            if self.is_done(step) and not again and step != "report":
                print(f"{step}: done before")
            elif time.monotonic() - begin_s + self.setting.step_s > budget_s:
                left.append(step)
            else:
                code |= self.do(step)
        if left:
            print(f"left for the next call: {', '.join(left)}")
        return code or (LEFT if left else 0)

    def do(self, step: str) -> int:
        """One step, noted when it has ended."""
        begin_s = time.monotonic()
        failed = int(bool(DO[step](self)))
        seconds = round(time.monotonic() - begin_s, 1)
        self.done[step] = {"rc": failed, "seconds": seconds}
        (self.out / "steps.json").write_text(json.dumps(self.done, indent=2) + "\n")
        print(f"{step}: {'FAILED' if failed else 'done'}, {seconds} s")
        return failed

    def serve(
        self, step: str, folder: str, name: str, workload: Sequence[str], *more: str, seed: int
    ) -> int:
        """One run of the engine."""
        setting, where = self.setting, str(self.out.resolve() / folder)
        given = ("--model", setting.model, *setting.device, *setting.flags, *workload, *more)
        named = ("--seed", str(seed), "--out", where, "--name", name, "--force")
        return self.python(step, (*KVSIM, "groundtruth", "run", *given, *named))

    def at_load(self, step: str, name: str, load: float) -> int:
        """A share of what the simulator says the engine serves."""
        seed = SEEDS["load"]
        rate = load * self.capacity_per_s()
        count = max(2, round(rate * self.setting.load_s))
        asked = ("-n", str(count), "--rate", f"{rate:.6g}")
        return self.serve(step, "runs", name, self.setting.chat, *asked, seed=seed)

    def burst(self, step: str, folder: str, name: str, *more: str) -> int:
        """All at once."""
        count = ("-n", str(self.setting.burst_requests), "--arrival-process", "backlog")
        seed = SEEDS["small" if more else "burst"]
        return self.serve(step, folder, name, self.setting.other, *count, *more, seed=seed)

    def capacity_per_s(self) -> float:
        """Of the loads' workload, with step times of the fit."""
        from kvsim.calibration.engine.fitting import fit_logs
        from kvsim.calibration.engine.log_reader import read_log
        from kvsim.sim.groundtruth.asked import find_logs
        from kvsim.sim.groundtruth.loads import capacity_per_s
        from kvsim.traces.embedded import trace_from_json

        logs = [read_log(path) for path in find_logs([str(self.out / "fit")])]
        crowd = next(log for log in logs if log.header.flags["preemption_mode"] == "recompute")
        return capacity_per_s(trace_from_json(crowd.header.trace), crowd, *fit_logs(logs))


def memory(truth: Truth) -> int:
    """Beside the budget; a CPU has none."""
    if truth.setting.device[1] != "cuda":
        return 0
    model = ("--model", truth.setting.model)
    return truth.python("memory", (*KVSIM, "groundtruth", "memory", *model))


def calibrate(truth: Truth) -> int:
    """The card's profile, resumed where it was left."""
    if truth.setting.device[1] != "cuda":
        return 0
    script = str(ROOT / "tests" / "benchmarks" / "on_a_gpu.py")
    out = ("--out", str(truth.out.resolve() / "card"), "--steps", "calibrate")
    return truth.python("calibrate", (script, *out, "--budget", f"{truth.setting.step_s:g}s"))


def fit(truth: Truth) -> int:
    """A crowd, a trickle of somebody now and then, and swaps."""
    setting, seed = truth.setting, SEEDS["fit"]
    count, few = str(setting.fit_requests), str(max(4, setting.fit_requests // 8))
    crowd = ("-n", count, "--arrival-process", "backlog")
    code = truth.serve("fit", "fit", "crowd", setting.chat, *crowd, seed=seed)
    trickle = ("-n", few, "--rate", f"{int(few) / 15:g}")
    code |= truth.serve("fit", "fit", "trickle", setting.chat, *trickle, seed=seed + 1)
    swaps = (*setting.small, "--preemption", "swap")
    return code | truth.serve("fit", "fit", "swaps", setting.other, *crowd, *swaps, seed=seed + 2)


def burst(truth: Truth) -> int:
    """Another workload than the fit's; twice."""
    return truth.burst("burst", "runs", "burst") or truth.burst("burst", "runs", "burst-again")


def swap(truth: Truth) -> int:
    """A small pool, blocks to host memory and back."""
    more = (*truth.setting.small, "--preemption", "swap")
    return truth.burst("swap", "runs", "swap", *more)


def transformers(truth: Truth) -> int:
    """The other engine, at half of what it serves; its own logs are fitted to."""
    more = ("--scheduler", "transformers", "--enforce-eager")
    folder, count = "transformers", str(truth.setting.fit_requests // 2)
    crowd = ("-n", count, "--arrival-process", "backlog", *more)
    chat, step, seed = truth.setting.chat, "transformers", SEEDS["fit"]
    code = truth.serve(step, f"{folder}/fit", "crowd", chat, *crowd, seed=seed)
    if not code:
        from kvsim.calibration.engine.log_reader import read_log

        log = read_log(truth.out / folder / "fit" / "crowd.jsonl.gz")
        rate = 0.5 * len(log.requests) / log.end["end_s"]
        asked = ("-n", str(max(2, round(rate * truth.setting.load_s))), "--rate", f"{rate:.6g}")
        for name in ("load-50", "load-50-again"):
            code |= truth.serve(step, folder, name, chat, *asked, *more, seed=SEEDS["load"])
    return code or reported(truth, folder, "fit", folder)


def report(truth: Truth) -> int:
    """With the fit, and with the profile where the card has one."""
    code = reported(truth, "runs", "fit", "")
    profile = truth.out.resolve() / "card" / "profile.json"
    return code | (reported(truth, "runs", "profile", "") if profile.exists() else 0)


def reported(truth: Truth, logs: str, by: str, folder: str) -> int:
    """One report; 1 where a goal is missed."""
    out = truth.out.resolve()
    source = out / folder / "fit" if by == "fit" else out / "card" / "profile.json"
    page = ("--out", str(out / folder / f"report-{by}"))
    host = ("--fit", str(out / "fit")) if by == "profile" else ()
    command = ("groundtruth", "report", str(out / logs), f"--{by}", str(source), *host, *page)
    return truth.python("report", (*KVSIM, *command))


DO: dict[str, Callable[[Truth], int]] = {
    "memory": memory,
    "calibrate": calibrate,
    "fit": fit,
    "load-50": lambda truth: truth.at_load("load-50", "load-50", 0.50),
    "load-75": lambda truth: truth.at_load("load-75", "load-75", 0.75),
    "again": lambda truth: truth.at_load("again", "load-75-again", 0.75),
    "load-90": lambda truth: truth.at_load("load-90", "load-90", 0.90),
    "burst": burst,
    "recompute": lambda truth: truth.burst("recompute", "runs", "recompute", *truth.setting.small),
    "swap": swap,
    "transformers": transformers,
    "report": report,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, type=Path, help="folder of this card")
    parser.add_argument("--steps", default="", help=f"of {', '.join(DO)}; all where none")
    parser.add_argument("--budget", default="", help="of this call, 400s; none: all steps")
    parser.add_argument("--shape", default="llama-3-8b", choices=tuple(SETTINGS))
    read = parser.parse_args(arguments)
    named = [step for step in read.steps.split(",") if step]
    unknown = [step for step in named if step not in DO]
    if unknown:
        parser.error(f"steps(={unknown[0]!r}) must be of {', '.join(DO)}.")
    try:
        budget_s = float(read.budget.removesuffix("s") or "inf")
    except ValueError:
        parser.error(f"budget(={read.budget!r}) must be seconds, such as 400s.")
    truth = Truth(read.out, SETTINGS[read.shape], read.budget)
    return truth.go(
        [step for step in DO if step in (named or DO)], again=bool(named), budget_s=budget_s
    )


if __name__ == "__main__":
    sys.exit(main())
