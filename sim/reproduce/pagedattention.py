"""The PagedAttention paper's memory: Table 1, Fig. 2, Fig. 13, Fig. 15 (Kwon et al., SOSP 2023)."""

from __future__ import annotations

from ...calibration.models import load_model
from .claim import Chart, Check, Claim, Series, near
from .replays import run_at, saturated
from .setup import MACHINES, OPT_13B, Machine, Setting, poisson_trace, server_of

PAPER = "PagedAttention"
SOURCE = "Kwon et al., SOSP 2023"
FIG_2 = {  # token states, reservation, internal fragmentation, external fragmentation and others
    "Orca (Max)": (0.204, 0.133, 0.573, 0.089),
    "Orca (Pow2)": (0.268, 0.179, 0.136, 0.416),
    "Orca (Oracle)": (0.382, 0.252, 0.0, 0.366),
}
FIG_2_VLLM = 0.963
FIG_13 = {  # preset, requests a second: mean number of batched requests
    ("sharegpt", 2.0): {
        "Orca (Max)": 7.00,
        "Orca (Pow2)": 9.81,
        "Orca (Oracle)": 13.62,
        "vLLM": 30.42,
    },
    ("alpaca", 30.0): {
        "Orca (Max)": 7.00,
        "Orca (Pow2)": 43.24,
        "Orca (Oracle)": 72.75,
        "vLLM": 132.44,
    },
}
SHARES = {
    "token_states": "token states",
    "reserved": "reservation",
    "internal": "internal fragmentation",
    "external": "external fragmentation & others",
}
SHARE_ROOM, EXTERNAL_ROOM = 0.025, 0.04
"""Points of the pool: how far the shares move with the unpublished shapes of the lengths."""
BATCH_ROOM = 0.12
LATER_STACK = (
    "Below saturation the batch is what arrives times how long it stays (Little's law): the "
    "printed batches mean 45 ms (ShareGPT) and 75 ms (Alpaca) a token; ours are the faster steps "
    "of a later software stack. Saturated, vLLM batches 33 and 185."
)
_GIB, _KIB = 1 << 30, 1 << 10


def table_1(setting: Setting) -> Claim:
    """Slots of the KV pool of each machine."""
    checks: list[Check] = []
    for machine in MACHINES.values():
        checks += _slots(machine)
    return Claim(
        name="pagedattention-table-1",
        paper=PAPER,
        source=f"{SOURCE}, Table 1 and section 3",
        says="OPT-13B, 66B and 175B have 12, 21 and 264 GB for KV and so 15.7K, 9.7K and 60.1K "
        "slots; a token of OPT-13B takes 800 KB, a request of 2,048 tokens 1.6 GB.",
        how="KV bytes per token from the models' shapes, parameters from the catalogue; the "
        "paper's GB of KV read as GiB.",
        checks=(*checks, *_of_a_token()),
        charts=(
            Chart(
                title="Slots of the KV pool",
                y_title="tokens",
                labels=tuple(machine.title for machine in MACHINES.values()),
                series=(
                    Series(name="ours", y=tuple(map(_slots_of, MACHINES.values()))),
                    Series(
                        name="paper",
                        y=tuple(
                            1e3 * float(machine.slots_printed.rstrip("K"))
                            for machine in MACHINES.values()
                        ),
                        paper=True,
                    ),
                ),
            ),
        ),
    )


def _slots(machine: Machine) -> list[Check]:
    model = load_model(machine.model)
    printed = 1e3 * float(machine.slots_printed.rstrip("K"))
    room = 1.0 / machine.kv_gib / 2  # the GiB are rounded to whole ones
    return [
        near(
            f"{machine.title}: KV slots in {machine.kv_gib:g} GiB",
            printed,
            _slots_of(machine),
            rel=room,
            abs=50,
            unit="tokens",
            printed=machine.slots_printed,
        ),
        near(
            f"{machine.title}: parameters, GB",
            machine.parameters_gb,
            model.num_parameters * 2 / 1e9,
            rel=0.015,
            printed=f"{machine.parameters_gb} GB",
        ),
    ]


def _slots_of(machine: Machine) -> float:
    return machine.kv_gib * _GIB // load_model(machine.model).kv_bytes_per_token()


def _of_a_token() -> tuple[Check, ...]:
    token_bytes = load_model("opt-13b").kv_bytes_per_token()
    return (
        near("OPT-13B: KV of a token, KiB", 800, token_bytes / _KIB, printed="800 KB"),
        near(
            "OPT-13B: KV of 2,048 tokens, GiB",
            1.6,
            2048 * token_bytes / _GIB,
            abs=0.05,
            printed="1.6 GB",
        ),
    )


def fig_2(setting: Setting) -> Claim:
    """Where the KV memory goes, saturated."""
    checks = []
    for system, printed in FIG_2.items():
        found = saturated("sharegpt", system)
        for (name, title), share in zip(SHARES.items(), printed, strict=True):
            room = EXTERNAL_ROOM if name == "external" else SHARE_ROOM
            ours = getattr(found.pool_share, name)
            checks.append(near(f"{system}: {title}", share, ours, abs=room, unit="share"))
    paged = saturated("sharegpt", "vLLM").pool_share.token_states
    checks.append(near("vLLM: token states", FIG_2_VLLM, paged, abs=SHARE_ROOM, unit="share"))
    return Claim(
        name="pagedattention-fig-2",
        paper=PAPER,
        source=f"{SOURCE}, Fig. 2",
        says="Of the KV memory only 20.4 to 38.2 % holds token states in the existing systems, "
        "96.3 % in vLLM.",
        how="OPT-13B, ShareGPT lengths, a queue that never empties, every step of one length: no "
        "timing model.",
        checks=tuple(checks),
        charts=(_shares_chart(),),
    )


def _shares_chart() -> Chart:
    systems = (*FIG_2, "vLLM")
    found = {system: saturated("sharegpt", system) for system in systems}
    printed = {**FIG_2, "vLLM": (FIG_2_VLLM, 0.0, 1 - FIG_2_VLLM, 0.0)}
    labels = [label for system in systems for label in (system, "paper")]
    columns = []
    for position, (name, title) in enumerate(SHARES.items()):
        values: list[float] = []
        for system in systems:
            values += [getattr(found[system].pool_share, name), printed[system][position]]
        columns.append(Series(name=title, y=tuple(values)))
    return Chart(
        title="Shares of the KV pool, ours and the paper's",
        y_title="share of the pool",
        labels=tuple(labels),
        series=tuple(columns),
        stacked=True,
        shares=True,
    )


def fig_13(setting: Setting) -> Claim:
    """Mean number of batched requests."""
    found = {
        key: {system: _batched(key[0], key[1], system, setting) for system in printed}
        for key, printed in FIG_13.items()
    }
    checks = [
        near(
            f"{preset} at {rate:g}/s: {system}",
            batch,
            found[preset, rate][system],
            rel=BATCH_ROOM,
            known=LATER_STACK if system == "vLLM" else "",
        )
        for (preset, rate), printed in FIG_13.items()
        for system, batch in printed.items()
    ]
    return Claim(
        name="pagedattention-fig-13",
        paper=PAPER,
        source=f"{SOURCE}, Fig. 13 and section 6.2",
        says="OPT-13B batches 7.00, 9.81 and 13.62 requests with Orca (Max), (Pow2) and (Oracle) "
        "and 30.42 with vLLM at 2 ShareGPT requests/s; 7.00, 43.24, 72.75 and 132.44 at 30 Alpaca "
        "requests/s.",
        how="The Orca systems, which these rates saturate in the paper, with a queue that never "
        "empties and no timing model; vLLM at the printed rates, mean while requests arrive.",
        checks=tuple(checks),
        charts=tuple(_batch_chart(key, found[key]) for key in FIG_13),
    )


def _batched(preset: str, rate: float, system: str, setting: Setting) -> float:
    if system != "vLLM":
        return saturated(preset, system).mean_running
    trace = poisson_trace(preset, rate, OPT_13B, setting)
    return run_at(server_of(OPT_13B, system), trace, rate).mean_running


def _batch_chart(key: tuple[str, float], found: dict[str, float]) -> Chart:
    printed = FIG_13[key]
    return Chart(
        title=f"{key[0]}, {key[1]:g} requests/s",
        y_title="batched requests, mean",
        labels=tuple(printed),
        series=(
            Series(name="ours", y=tuple(found[system] for system in printed)),
            Series(name="paper", y=tuple(printed.values()), paper=True),
        ),
    )
