"""All that needs an NVIDIA GPU, in steps of a few minutes that can be done one at a time.

    python3 tests/benchmarks/on_a_gpu.py --out gpu/ [--steps correctness,baselines] [--budget 480s]

    correctness  the kernels' tests, on the card
    baselines    ceilings, our kernels and other libraries' on the same batches
    calibrate    the card's profile, with its raw samples
    refit        the profile's fit again, from the samples: the same bytes
    report       the profile as a page
    summary      goals met and missed, errors of the fits
    sweep        the kernels' long sweep, on the card; only where it is named

A step that ended well is not done again unless it is named; a calibration goes on where it was
left. Needs Python 3.11, torch, Triton, NumPy and SciPy, typer and rich, for the tests pytest and
hypothesis, for the page matplotlib and jinja2; kvsim itself need not be installed. The folder holds
``summary.txt``, profiles and samples, ``report.html``, ``log.txt`` and which steps are done. Exit
code 1: a step failed or a goal was missed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / ".dev"))
STEPS = ("correctness", "baselines", "calibrate", "refit", "report", "summary")
LONG_STEPS = ("sweep",)
MOST_S = {"correctness": 570.0, "sweep": 570.0}
"""Of a step; others bound themselves."""
BASELINES_BUDGET = "300s"
TAIL_LINES = 30
KVSIM = ("-c", "from kvsim.cli import app; app()")
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "default", "tests/kernels")


class Session:
    """The folder of one card, and which steps are done in it."""

    def __init__(self, out: Path, budget: str) -> None:
        self.out, self.budget = out, budget
        out.mkdir(parents=True, exist_ok=True)
        self._state = out / "steps.json"
        self.done: dict[str, dict[str, float]] = (
            json.loads(self._state.read_text(encoding="utf-8")) if self._state.exists() else {}
        )

    def run(self, steps: Sequence[str], *, again: bool) -> int:
        """The steps in their order; 1 where one fails."""
        code = 0
        for step in steps:
            if self.is_done(step) and not again and step != "summary":
                print(f"{step}: done before")
                continue
            begin_s = time.monotonic()
            failed = int(bool(DO[step](self)))
            self.done[step] = {"rc": failed, "seconds": round(time.monotonic() - begin_s, 1)}
            self._state.write_text(json.dumps(self.done, indent=2) + "\n", encoding="utf-8")
            print(f"{step}: {'FAILED' if failed else 'done'}, {self.done[step]['seconds']} s")
            code |= failed
        return code

    def is_done(self, step: str) -> bool:
        """Whether it ended well."""
        return self.done.get(step, {}).get("rc") == 0

    def python(self, step: str, arguments: Sequence[str]) -> int:
        """A command of this Python, its output in the log; its end is printed."""
        path = os.pathsep.join([str(ROOT / ".dev"), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": path.rstrip(os.pathsep), "PYTHONSAFEPATH": "1"}
        output = ""
        try:
            done = subprocess.run(
                [sys.executable, *arguments],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=MOST_S.get(step),
            )
            code, output = done.returncode, done.stdout
        except subprocess.TimeoutExpired as error:
            output = error.stdout.decode() if isinstance(error.stdout, bytes) else ""
            code, output = 124, f"{output}\nstopped after {error.timeout:g} s"
        with (self.out / "log.txt").open("a", encoding="utf-8") as log:
            log.write(f"===== {step}: exit code {code}\n{output}\n")
        print("\n".join(output.splitlines()[-TAIL_LINES:]))
        return code


def correctness(session: Session) -> int:
    """The kernels' tests."""
    return session.python("correctness", PYTEST)


def sweep(session: Session) -> int:
    """The tests that are too long for every day."""
    spread = ("-n", "auto") if find_spec("xdist") else ()
    return session.python("sweep", (*PYTEST, "-m", "slow", *spread))


def baselines(session: Session) -> int:
    """Other libraries and the card's ceilings, in one run."""
    out = str(session.out.resolve() / "baselines.json")
    families = ("--families", "ceilings,baselines", "--budget", BASELINES_BUDGET)
    return session.python("baselines", (*KVSIM, "calibrate", *families, "--out", out))


def calibrate(session: Session) -> int:
    """The profile; a run that the budget ended has failed, and goes on the next time."""
    profile = session.out.resolve() / "profile.json"
    command = ("calibrate", "--budget", session.budget, "--out", str(profile))
    code = session.python("calibrate", (*KVSIM, *command))
    return code or int(profile.with_suffix(".partial.jsonl").exists())


def refit(session: Session) -> int:
    """The fit is a function of the samples."""
    profile = session.out.resolve() / "profile.json"
    with tempfile.TemporaryDirectory() as folder:
        again = Path(folder) / profile.name
        command = ("calibrate", "--refit", str(profile), "--out", str(again))
        code = session.python("refit", (*KVSIM, *command))
        if code:
            return code
        same = again.read_bytes() == profile.read_bytes()
    print("refit: the same bytes" if same else "refit: ANOTHER PROFILE")
    return int(not same)


def report(session: Session) -> int:
    """The page alone: its figures are in it."""
    profile = session.out.resolve() / "profile.json"
    with tempfile.TemporaryDirectory() as folder:
        command = ("calibrate", "report", str(profile), "--out", folder)
        code = session.python("report", (*KVSIM, *command))
        if not code:
            shutil.copy(Path(folder) / "report.html", session.out / "report.html")
    return code


def summary(session: Session) -> int:
    """Goals and errors as text; 1 where a goal was missed."""
    shown = [*STEPS[:-1], *(step for step in LONG_STEPS if step in session.done)]
    lines = [f"{step}: {_state_of(session, step)}" for step in shown]
    goals, missed = goal_lines(session.out)
    lines += ["", *goals, "", *error_lines(session.out)]
    text = "\n".join(lines) + "\n"
    (session.out / "summary.txt").write_text(text, encoding="utf-8")
    print(text)
    return int(missed)


def goal_lines(out: Path) -> tuple[list[str], bool]:
    """Every goal of the kernels beside the baselines' run, and whether one was missed."""
    from kvsim.calibration.measure.cases import judge, verdict_line
    from kvsim.calibration.profile.store import read_profile, read_samples

    path = next((p for p in (out / "baselines.json", out / "profile.json") if p.exists()), None)
    if path is None:
        return ["goals: nothing was measured"], False
    profile, verdicts = read_profile(path), judge(read_samples(path))
    lines = [f"{profile.hardware.name}, {profile.id} ({path.name})"]
    lines += [verdict_line(verdict) for verdict in verdicts]
    lines += [f"missing: {entry}" for entry in profile.missing if entry.startswith("baselines")]
    return lines, any(verdict.met is False for verdict in verdicts)


def error_lines(out: Path) -> list[str]:
    """How far the fits are from the points, and what is missing."""
    from kvsim.calibration.profile.store import read_profile

    path = out / "profile.json"
    if not path.exists():
        return ["profile: not measured"]
    profile = read_profile(path)
    lines = [f"{profile.id}: {profile.run['num_samples']} points in {profile.run['seconds']} s"]
    lines += [
        f"{one.family} {one.split}: median {one.median_pct:.2f} %, P95 {one.p95_pct:.2f} %, "
        f"worst {one.worst_pct:.1f} % of {one.num_points}"
        for one in profile.residuals
    ]
    return [*lines, *(f"missing: {entry}" for entry in profile.missing)]


def _state_of(session: Session, step: str) -> str:
    state = session.done.get(step)
    if state is None:
        return "not done"
    return f"{'FAILED' if state['rc'] else 'done'}, {state['seconds']} s"


DO: dict[str, Callable[[Session], int]] = {
    "correctness": correctness,
    "sweep": sweep,
    "baselines": baselines,
    "calibrate": calibrate,
    "refit": refit,
    "report": report,
    "summary": summary,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, type=Path, help="folder of this card")
    parser.add_argument(
        "--steps", default="", help=f"of {', '.join(DO)}; all but the sweep where none"
    )
    parser.add_argument("--budget", default="480s", help="of the calibration")
    read = parser.parse_args(arguments)
    named = [step for step in read.steps.split(",") if step]
    unknown = [step for step in named if step not in DO]
    if unknown:
        parser.error(f"steps(={unknown[0]!r}) must be of {', '.join(DO)}.")
    steps = [step for step in DO if step in (named or STEPS)]
    return Session(read.out, read.budget).run(steps, again=bool(named))


if __name__ == "__main__":
    sys.exit(main())
