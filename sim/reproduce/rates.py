"""The PagedAttention paper's rates: Fig. 12, 17 and 18 (Kwon et al., SOSP 2023, section 6).

Knees are not printed, ratios are: "1.7 to 2.7 times Orca (Oracle)" over its models. Ratios rest on
step times of another software stack than the paper's, which is what the tolerance is for.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from ...traces.lengths import fixed
from ...traces.presets import workload_preset
from ...traces.workload import Workload
from .claim import Chart, Check, Claim, Series, near, within
from .pagedattention import PAPER, SOURCE
from .replays import Sustained, saturated, sustained
from .setup import LATENCY_LEVEL_S, MACHINES, OPT_13B, SYSTEMS, Machine, Setting, server_of

RATIO_ROOM = 0.15
"""Of a ratio of two rates: what another software stack's step times may move it by."""
SHAREGPT_RATIOS = {"Orca (Oracle)": (1.7, 2.7), "Orca (Max)": (2.7, 8.0)}
COINCIDE = 1.02
"""The resolution of a search for a rate."""
CHAT_TOKENS = 1024
"""Fig. 17: prompts are the last so many tokens of a conversation, outputs at most as long."""
LONG_PROMPTS = (
    "Every prompt is taken as 1,024 tokens (the paper: most; it prints no distribution): then the "
    "pool holds 12 requests where the buddy allocator holds 7; shorter prompts among them would "
    "make that more. Preempted requests, which compute 1,024 tokens and more again, and the "
    "attention of the larger batch take a part of it."
)
_SHOWN_S = 2 * LATENCY_LEVEL_S


def fig_12_sharegpt(setting: Setting) -> Claim:
    """Sustained rates on ShareGPT."""
    machines = tuple(MACHINES.values()) if setting.full else (OPT_13B,)
    found = {machine: _sustained(machine, "sharegpt", setting) for machine in machines}
    checks = []
    for machine, systems in found.items():
        for other, (low, high) in SHAREGPT_RATIOS.items():
            checks.append(
                within(
                    f"{machine.title}: vLLM / {other}",
                    (1 - RATIO_ROOM) * low,
                    (1 + RATIO_ROOM) * high,
                    ratio(systems, other),
                    unit="x",
                    printed=f"{low:g}x to {high:g}x",
                )
            )
        checks.append(_order(machine, systems))
    return Claim(
        name="pagedattention-fig-12-sharegpt",
        paper=PAPER,
        source=f"{SOURCE}, Fig. 12 a-c and section 6.2",
        says="On ShareGPT vLLM sustains 1.7 to 2.7 times the rate of Orca (Oracle) and 2.7 to 8 "
        "times that of Orca (Max), over OPT-13B, 66B and 175B.",
        how=_how("ShareGPT", setting, found),
        checks=tuple(checks),
        charts=tuple(_curves(machine, systems) for machine, systems in found.items()),
    )


def fig_12_alpaca(setting: Setting) -> Claim:
    """Sustained rates on Alpaca: the gain shrinks where memory is plenty."""
    names = ("opt-13b", "opt-66b", "opt-175b") if setting.full else ("opt-13b",)
    found = {MACHINES[name]: _sustained(MACHINES[name], "alpaca", setting) for name in names}
    checks: list[Check] = []
    for machine, systems in found.items():
        checks += (
            within(
                f"{machine.title}: vLLM / {other}",
                1.0 / COINCIDE,
                float("inf"),
                ratio(systems, other),
                unit="x",
                printed="ahead or equal",
                shape=True,
            )
            for other in SYSTEMS
            if other != "vLLM"
        )
    if setting.full:
        gain = {name: ratio(found[MACHINES[name]], "Orca (Oracle)") for name in names}
        checks.append(
            within(
                "gain over Orca (Oracle): OPT-175B / OPT-13B",
                0.0,
                0.95,
                gain["opt-175b"] / gain["opt-13b"],
                unit="x",
                printed="smaller: compute-bound",
                shape=True,
            )
        )
    return Claim(
        name="pagedattention-fig-12-alpaca",
        paper=PAPER,
        source=f"{SOURCE}, Fig. 12 d-f and section 6.2",
        says="Alpaca follows the trend of ShareGPT, but for OPT-175B the gain over Orca (Oracle) "
        "and (Pow2) is less pronounced: short sequences, much memory, so it is bound by compute.",
        how=_how("Alpaca", setting, found),
        checks=tuple(checks),
        charts=tuple(_curves(machine, systems) for machine, systems in found.items()),
    )


def fig_17(setting: Setting) -> Claim:
    """The chatbot: buddy allocation makes the three Orca variants one."""
    found = _sustained(OPT_13B, chatbot(), setting)
    orca = [found[system].rate_per_s for system in SYSTEMS if system != "vLLM"]
    return Claim(
        name="pagedattention-fig-17",
        paper=PAPER,
        source=f"{SOURCE}, Fig. 17 and section 6.5",
        says="A chatbot with prompts cut to the last 1,024 tokens: vLLM sustains twice the rate of "
        "the three Orca variants, which coincide, as the buddy allocator gives each 1,024 slots "
        "for the output whatever is predicted.",
        how="OPT-13B; every prompt has 1,024 tokens (the paper: most have), outputs are ShareGPT's "
        f"up to 1,024; {_minutes(setting)} of Poisson arrivals.",
        checks=(
            within(
                "Orca: largest / smallest rate of the three",
                1.0,
                COINCIDE,
                max(orca) / min(orca),
                unit="x",
                printed="they coincide",
                shape=True,
            ),
            near(
                "requests at once, saturated, no timing model: vLLM / Orca",
                2.0,
                saturated(chatbot(), "vLLM").mean_running
                / saturated(chatbot(), "Orca (Max)").mean_running,
                rel=RATIO_ROOM,
                unit="x",
                known=LONG_PROMPTS,
            ),
            near(
                "sustained rate: vLLM / Orca",
                2.0,
                ratio(found, "Orca (Max)"),
                rel=RATIO_ROOM,
                unit="x",
                known=LONG_PROMPTS,
            ),
        ),
        charts=(_curves(OPT_13B, found),),
    )


def chatbot() -> Workload:
    """Prompts of 1,024 tokens, ShareGPT's outputs up to as many."""
    sharegpt = workload_preset("sharegpt")
    return Workload(
        name="chatbot",
        prompt=fixed(CHAT_TOKENS),
        output=replace(sharegpt.output, max_tokens=CHAT_TOKENS),
        source=f"{sharegpt.source}; {SOURCE}, section 6.5",
    )


def ratio(found: dict[str, Sustained], other: str) -> float:
    """vLLM's rate over another system's."""
    return found["vLLM"].rate_per_s / found[other].rate_per_s


def _sustained(
    machine: Machine, workload: str | Workload, setting: Setting
) -> dict[str, Sustained]:
    return {
        system: sustained(server_of(machine, system), workload, machine=machine, setting=setting)
        for system in SYSTEMS
    }


def _order(machine: Machine, found: dict[str, Sustained]) -> Check:
    """The smallest step in vLLM > Oracle > Pow2 > Max."""
    rates = [found[system].rate_per_s for system in SYSTEMS]
    steps = [faster / slower for faster, slower in pairwise(rates)]
    return within(
        f"{machine.title}: smallest step in vLLM, Oracle, Pow2, Max",
        1.0,
        float("inf"),
        min(steps),
        unit="x",
        printed="in this order",
        shape=True,
    )


def _curves(machine: Machine, found: dict[str, Sustained]) -> Chart:
    return Chart(
        title=machine.title,
        x_title="requests/s",
        y_title="normalised latency, s/token",
        series=tuple(
            Series(
                name=f"{system}: {one.rate_per_s:.3g}/s",
                x=tuple(run.rate_per_s for run in one.runs),
                y=tuple(run.normalised_latency_s for run in one.runs),
            )
            for system, one in found.items()
        ),
        log_x=True,
        y_max=_SHOWN_S,
        level=LATENCY_LEVEL_S,
    )


def _how(lengths: str, setting: Setting, found: dict[Machine, dict[str, Sustained]]) -> str:
    names = ", ".join(machine.title for machine in found)
    return (
        f"{names}, {lengths} lengths, {_minutes(setting)} of Poisson arrivals; the rate at which "
        f"mean(E2E / output tokens) crosses {LATENCY_LEVEL_S:g} s, found by bisection. Ratios may "
        f"miss the printed interval by {100 * RATIO_ROOM:.0f} %."
    )


def _minutes(setting: Setting) -> str:
    return f"{setting.trace_s(OPT_13B) / 60:.0f} min"
