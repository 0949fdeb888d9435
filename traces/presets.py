"""Named synthetic workloads. Each names its source and says how its parameters were found.

`PRESETS` is the registry; `workload_preset` gives an entry, with other arrivals where asked.
Prompt and output lengths are drawn independently of each other.
"""

from dataclasses import replace
from difflib import get_close_matches

from .lengths import Lengths
from .workload import Arrivals, Workload

# Kwon et al., PagedAttention (SOSP 2023): requests hold at most 2048 tokens in all.
_PAPER_MAX_TOTAL_TOKENS = 2048

# Drawn with means of 164.9 and 342.7 and an output CV of 0.89; what is left after drawing again at
# 2048 has means of 161.3 and 338.0 (Fig. 11: 161.31 and 337.99) and an output CV of 0.87, which
# follows from Fig. 2, Orca (Max): 299 tokens still to come on average = E[o^2] / 2 E[o]. Input CV
# 1.4: the paper gives none; with it a saturated replay has Fig. 2's shares and Fig. 13's batch
# sizes.
_SHAREGPT = Workload(
    name="sharegpt",
    prompt=Lengths(kind="gamma", mean_tokens=164.9, cv=1.4),
    output=Lengths(kind="gamma", mean_tokens=342.7, cv=0.89),
    max_total_tokens=_PAPER_MAX_TOTAL_TOKENS,
    source="ShareGPT lengths (OPT tokenizer), Kwon et al., SOSP 2023, Fig. 11 and Fig. 2",
)

# The prompts' spread: none published. 19.31 tokens are a block of 16 and a bit, so that what
# parallel sampling shares hangs on it: a lognormal of CV 0.6 has 0.71 full blocks in a prompt (a
# gamma of CV 1.0: 0.79) and gives the savings of Fig. 15 for 2, 4 and 6 samples within their
# tolerance; beam search and batch sizes hardly feel it.
_ALPACA = Workload(
    name="alpaca",
    prompt=Lengths(kind="lognormal", mean_tokens=19.31, cv=0.6),
    output=Lengths(kind="gamma", mean_tokens=58.45, cv=1.0),
    max_total_tokens=_PAPER_MAX_TOTAL_TOKENS,
    source="Alpaca lengths (OPT tokenizer), Kwon et al., SOSP 2023, Fig. 11",
)

# Quantiles of the published file (mean 1154.7 in, 211.1 out); the lengths sit in a few narrow
# groups, which no two-parameter family follows.
_AZURE_CHAT = Workload(
    name="azure-chat",
    prompt=Lengths(
        kind="quantile",
        points=(
            (0, 2),
            (0.05, 181),
            (0.1, 207),
            (0.2, 387),
            (0.3, 403),
            (0.4, 703),
            (0.5, 1020),
            (0.6, 1071),
            (0.7, 1130),
            (0.8, 1315),
            (0.85, 1876),
            (0.9, 2734),
            (0.92, 4073),
            (0.95, 4083),
            (0.99, 4142),
            (0.999, 6179),
            (1, 14050),
        ),
    ),
    output=Lengths(
        kind="quantile",
        points=(
            (0, 7),
            (0.05, 41),
            (0.1, 54),
            (0.2, 77),
            (0.3, 91),
            (0.4, 103),
            (0.5, 129),
            (0.6, 177),
            (0.65, 217),
            (0.675, 373),
            (0.7, 384),
            (0.8, 400),
            (0.9, 424),
            (0.95, 451),
            (0.99, 601),
            (0.999, 954),
            (1, 1000),
        ),
    ),
    arrivals=Arrivals(process="poisson", rate_per_s=5.53),
    source="Azure LLM inference trace 2023, conversation (CC-BY-4.0), Patel et al., ISCA 2024",
)

# Input: median 1469, mean 2048, P99 7436 of the same publication: a lognormal of median 1469 and
# sigma 0.886 (mean 2175, CV 1.09), cut at 7436, has mean 2048 and its P99 at the cut. Output:
# median 13 and mean 28 give a lognormal of CV 1.91.
_AZURE_CODE = Workload(
    name="azure-code",
    prompt=Lengths(kind="lognormal", mean_tokens=2175.0, cv=1.092, max_tokens=7436),
    output=Lengths(kind="lognormal", mean_tokens=28.0, cv=1.91),
    arrivals=Arrivals(process="poisson", rate_per_s=2.57),
    source="Azure LLM inference trace 2023, code (CC-BY-4.0), Patel et al., ISCA 2024",
)

# Median and P90 as published: 1730 and 5696 in, 415 and 834 out; requests of more than 8192 tokens
# are left out. Gamma, found by least squares on a million draws after that cut; the prompts then
# have a standard deviation of 2092 (published: 2088).
_OPENCHAT_SHAREGPT4 = Workload(
    name="openchat-sharegpt4",
    prompt=Lengths(kind="gamma", mean_tokens=4276.0, cv=1.211),
    output=Lengths(kind="gamma", mean_tokens=470.4, cv=0.587),
    max_total_tokens=8192,
    source="openchat_sharegpt4 lengths, Agrawal et al., Sarathi-Serve (OSDI 2024), Table 2",
)

# As above: 7059 and 12985 in, 208 and 371 out, cut at 16384; standard deviation of the prompts 3744
# (published: 3638).
_ARXIV_SUMMARIZATION = Workload(
    name="arxiv-summarization",
    prompt=Lengths(kind="gamma", mean_tokens=8672.0, cv=0.612),
    output=Lengths(kind="gamma", mean_tokens=225.8, cv=0.483),
    max_total_tokens=16_384,
    source="arxiv_summarization lengths, Agrawal et al., Sarathi-Serve (OSDI 2024), Table 2",
)

PRESETS = {
    "sharegpt": _SHAREGPT,
    "alpaca": _ALPACA,
    "azure-chat": _AZURE_CHAT,
    "azure-code": _AZURE_CODE,
    "openchat-sharegpt4": _OPENCHAT_SHAREGPT4,
    "arxiv-summarization": _ARXIV_SUMMARIZATION,
}


def workload_preset(name: str, *, arrivals: Arrivals | None = None) -> Workload:
    """A preset by name (case and _ forgiven), with `arrivals` instead of its own where given.

    Raises ValueError listing the known names.
    """
    plain = name.strip().casefold().replace("_", "-")
    if plain not in PRESETS:
        near = get_close_matches(plain, PRESETS, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ValueError(f"workload(={name}) must be one of {', '.join(PRESETS)}{hint}.")
    workload = PRESETS[plain]
    return workload if arrivals is None else replace(workload, arrivals=arrivals)
