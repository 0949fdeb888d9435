"""Trace file formats: one dict entry per format, read by name or recognised by content."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from . import jsonl, tables
from .detect import detect_format
from .dynamo import read_dynamo
from .jsonl import read_records
from .openai_log import read_openai_log
from .otel_genai import read_otel_genai
from .ragpulse import read_ragpulse
from .records import parse_records
from .rows import Rows
from .sharegpt import read_sharegpt
from .source import read_text
from .tables import CsvColumns, generic_layout, parse_table, read_table
from .tracelab import read_tracelab
from .vllm_bench import read_vllm_bench
from .weka import read_weka

__all__ = ["ALIASES", "FORMATS", "CsvColumns", "ReadOptions", "read_file", "resolve_format"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """What a user may say about a file's content; None = the format's own."""

    hash_block_size: int | None = None  # tokens
    tokenizer: str | Path | None = None
    columns: CsvColumns | None = None
    keep_empty: bool = False  # keep requests whose output was 0 tokens, as 1 token
    directory: Path = Path()  # where the file is


Reader = Callable[[str, str, str, ReadOptions], Rows]  # text, file name, format, options


def _read_csv(text: str, file: str, name: str, options: ReadOptions) -> Rows:
    table, layout = parse_table(text, file), tables.LAYOUTS[name]
    for column in layout.required:
        if not table.has(column):
            raise ValueError(
                f"{file} is not {name}: no column {column!r} among {table.listed_header}."
            )
    return read_table(table, layout)


def _read_generic_csv(text: str, file: str, name: str, options: ReadOptions) -> Rows:
    if options.columns is None:
        raise ValueError(
            f"{file}: trace_format csv needs prompt_tokens_column and output_tokens_column."
        )
    table = parse_table(text, file)
    return read_table(table, generic_layout(options.columns, table))


def _read_jsonl(text: str, file: str, name: str, options: ReadOptions) -> Rows:
    return read_records(parse_records(text, file), jsonl.LAYOUTS[name], options.hash_block_size)


def _read_sharegpt(text: str, file: str, name: str, options: ReadOptions) -> Rows:
    return read_sharegpt(text, file, options.tokenizer)


def _read_weka(text: str, file: str, name: str, options: ReadOptions) -> Rows:
    return read_weka(text, file, options.hash_block_size, keep_empty=options.keep_empty)


def _read_dynamo(text: str, file: str, name: str, options: ReadOptions) -> Rows:
    return read_dynamo(parse_records(text, file), options.hash_block_size)


def _read_tracelab(text: str, file: str, name: str, options: ReadOptions) -> Rows:
    return read_tracelab(text, file)


def _read_ragpulse(text: str, file: str, name: str, options: ReadOptions) -> Rows:
    return read_ragpulse(parse_records(text, file), options.directory)


def _read_vllm_bench(text: str, file: str, name: str, options: ReadOptions) -> Rows:
    return read_vllm_bench(text, file)


def _read_openai_log(text: str, file: str, name: str, options: ReadOptions) -> Rows:
    return read_openai_log(text, file)


def _read_otel_genai(text: str, file: str, name: str, options: ReadOptions) -> Rows:
    return read_otel_genai(text, file)


def _read_servegen(text: str, file: str, name: str, options: ReadOptions) -> Rows:
    raise ValueError(f"{file}: trace_format {name} needs the folder of chunk-N-trace.csv files.")


FORMATS: dict[str, Reader] = {
    "azure": _read_csv,
    "burstgpt": _read_csv,
    "mooncake": _read_jsonl,
    "bailian": _read_jsonl,
    "vidur": _read_csv,
    "splitwise": _read_csv,
    "llmservingsim": _read_jsonl,
    "sharegpt": _read_sharegpt,
    "weka": _read_weka,
    "tracelab": _read_tracelab,
    "dynamo": _read_dynamo,
    "ragpulse": _read_ragpulse,
    "servegen": _read_servegen,
    "vllm-bench": _read_vllm_bench,
    "openai": _read_openai_log,
    "otel": _read_otel_genai,
    "golden": _read_jsonl,
    "csv": _read_generic_csv,
}

# other tools' spellings (NVIDIA AIPerf's first)
ALIASES = {
    "mooncake_trace": "mooncake",
    "bailian_trace": "bailian",
    "burst_gpt_trace": "burstgpt",
    "burstgpt_trace": "burstgpt",
    "burst_gpt": "burstgpt",
    "azure_trace": "azure",
    "vidur_trace": "vidur",
    "splitwise_trace": "splitwise",
    "llmservingsim_trace": "llmservingsim",
    "qwen_bailian": "bailian",
    "weka_trace": "weka",
    "kv_cache_tester": "weka",
    "tracelab_trace": "tracelab",
    "dynamo_trace": "dynamo",
    "dynamo.request.trace.v1": "dynamo",
    "rag_pulse": "ragpulse",
    "ragpulse_trace": "ragpulse",
    "vllm_bench": "vllm-bench",
    "vllm_bench_serve": "vllm-bench",
    "openai_log": "openai",
    "litellm": "openai",
    "otel_genai": "otel",
    "otel_trace_replay": "otel",
    "otlp": "otel",
}


def resolve_format(name: str) -> str:
    """A format's own name; "auto" stays. Raises ValueError listing the known ones."""
    plain = name.strip().casefold().replace("-", "_")
    plain = ALIASES.get(plain, plain)
    if plain == "auto" or plain in FORMATS:
        return plain
    near = get_close_matches(plain, [*FORMATS, *ALIASES], n=1)
    hint = f" (did you mean {ALIASES.get(near[0], near[0])}?)" if near else ""
    known = ", ".join(["auto", *FORMATS])
    raise ValueError(f"trace_format(={name}) must be one of {known}{hint}.")


def read_file(path: str | Path, trace_format: str, options: ReadOptions) -> Rows:
    """The requests of one file. Raises ValueError with one sentence where it cannot be read."""
    file, text = Path(path).name, read_text(path)
    if not text.strip():
        raise ValueError(f"{file} holds no requests.")
    name = trace_format
    if name == "auto":
        name = "csv" if options.columns is not None else detect_format(text, file)
    return FORMATS[name](text, file, name, replace(options, directory=Path(path).parent))
