"""Public traces that can be fetched by name: where they are, what they hash to, and their licence.

Each is pinned to a commit of its publisher's repository; `sha256` is of the bytes as published.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicTrace:
    """A file in a public repository. `trace_format` is a name that `load_trace` knows."""

    repository: str
    commit: str
    path: str
    sha256: str
    size_bytes: int
    trace_format: str
    licence: str

    @property
    def url(self) -> str:
        return f"https://raw.githubusercontent.com/{self.repository}/{self.commit}/{self.path}"

    @property
    def file_name(self) -> str:
        return self.path.rpartition("/")[2]


CATALOGUE = {
    "azure-conv-2023": PublicTrace(
        repository="Azure/AzurePublicDataset",
        commit="b469a113cedca53ddc3bdea71a143dc4b7d8700c",
        path="data/AzureLLMInferenceTrace_conv.csv",
        sha256="2f1e5b666d4e3055fdbba98598ce2ec307767b9064e03e2fa46676dbcc7d0bf8",
        size_bytes=719_188,
        trace_format="azure",
        licence="CC-BY-4.0, Microsoft; cite Patel et al., Splitwise, ISCA 2024",
    ),
    "mooncake-conversation": PublicTrace(
        repository="kvcache-ai/Mooncake",
        commit="3b5a594133958449a1feaf1c9e0fc1b553e34a28",
        path="FAST25-release/traces/conversation_trace.jsonl",
        sha256="b8cbb061a85206d729d91cdc2981f43c9e0d99209dce588d3af5f7934408b9df",
        size_bytes=3_029_533,
        trace_format="mooncake",
        licence="Apache-2.0; cite Qin et al., Mooncake, FAST 2025",
    ),
    "vidur-splitwise-conv": PublicTrace(
        repository="microsoft/vidur",
        commit="7d47513363ec447a741ac5e47241580b47724fbf",
        path="data/processed_traces/splitwise_conv.csv",
        sha256="439e4138b7e384f316de614c071f7162be05b8af0cef866f82faacd1b0472249",
        size_bytes=382_729,
        trace_format="vidur",
        licence="MIT (repository); data CC-BY-4.0, Microsoft",
    ),
    "vidur-arxiv-summarization": PublicTrace(
        repository="microsoft/vidur",
        commit="7d47513363ec447a741ac5e47241580b47724fbf",
        path="data/processed_traces/arxiv_summarization_stats_llama2_tokenizer_filtered_v2.csv",
        sha256="9d3580538d915ca75e4aaaa54590b42dbb17abc6d74c8913310cf07c232adcdc",
        size_bytes=884_932,
        trace_format="vidur",
        licence="MIT (repository)",
    ),
    "etalon-bwb": PublicTrace(
        repository="project-etalon/etalon",
        commit="d5f18de15a2227a2d469365afc4fa9e2df0c631d",
        path="data/processed_traces/bwb_stats_llama2_tokenizer_filtered_v2.csv",
        sha256="389419d2f2e55149b5d6ccfedb881572798d39650436ab86fd61f3c40337a990",
        size_bytes=1_123_791,
        trace_format="vidur",
        licence="Apache-2.0 (repository)",
    ),
    "splitwise-sim-test": PublicTrace(
        repository="Mutinifni/splitwise-sim",
        commit="8f99e7dc9b407f4ce2488d03dd44c0b8b946dab0",
        path="traces/test_trace.csv",
        sha256="4048699985519151427ba5ba47bb39176db94bc21c8b253bfc84531c6dbd3391",
        size_bytes=144,
        trace_format="splitwise",
        licence="MIT",
    ),
    "llmservingsim-example": PublicTrace(
        repository="casys-kaist/LLMServingSim",
        commit="5daddb21a545658d5150b535712d0494584b5278",
        path="workloads/example_trace.jsonl",
        sha256="8e55b35d62c0530fd6fefcf67d422b1dcb8b80e1c71243a21900f8ac829b5429",
        size_bytes=3_573,
        trace_format="llmservingsim",
        licence="MIT",
    ),
}
