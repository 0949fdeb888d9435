"""Suites: what they say, how lists multiply, and one sentence for what is wrong in them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kvsim.sim.regress.suite import read_suite
from support.suites import HEAD, TEXT, read_text

CASE = '\n[[case]]\nname = "chat"\nworkload = "alpaca"\n'


def test_a_case_has_the_defaults_and_its_own_options(tmp_path: Path) -> None:
    chat, drawn = read_text(tmp_path, TEXT).cases
    assert (chat.name, drawn.name) == ("chat", "drawn")
    assert chat.options["trace"] == ("traces/chat.jsonl.gz",)
    assert chat.options["gpu"] == drawn.options["gpu"] == "a100"
    assert drawn.options["num_requests"] == 20
    assert "rate" not in chat.options
    lines = TEXT.splitlines()
    assert [lines[case.line - 1] for case in (chat, drawn) if case.line] == ["[[case]]"] * 2
    assert chat.line != drawn.line


def test_lists_multiply_in_the_order_they_are_written(tmp_path: Path) -> None:
    text = CASE + 'scheduler = ["vllm", "orca"]\nasync_scheduling = [true, false]\nseed = [1]\n'
    names = [case.name for case in read_text(tmp_path, HEAD + text).cases]
    assert names == [
        "chat-vllm-async_scheduling-1",
        "chat-vllm-no-async_scheduling-1",
        "chat-orca-async_scheduling-1",
        "chat-orca-no-async_scheduling-1",
    ]
    options = [case.options for case in read_text(tmp_path, HEAD + text).cases]
    assert [(o["scheduler"], o["async_scheduling"]) for o in options] == [
        *(("vllm", True), ("vllm", False)),
        *(("orca", True), ("orca", False)),
    ]


def test_lists_among_the_defaults_multiply_too(tmp_path: Path) -> None:
    text = HEAD + "block_size = [8, 16]\n" + CASE
    assert [case.name for case in read_text(tmp_path, text).cases] == ["chat-8", "chat-16"]


def test_a_list_of_traces_is_a_case_each_and_a_list_in_it_one_trace(tmp_path: Path) -> None:
    text = '\n[[case]]\nname = "x"\ntrace = ["t/a.jsonl.gz", ["t/b.csv", "t/c.csv"]]\n'
    first, second = read_text(tmp_path, HEAD + text).cases
    assert (first.name, first.options["trace"]) == ("x-a", ("t/a.jsonl.gz",))
    assert (second.name, second.options["trace"]) == ("x-b+c", ("t/b.csv", "t/c.csv"))


@pytest.mark.parametrize(
    ("default", "own", "gone"),
    [
        ('trace = "a.csv"', 'workload = "alpaca"', "trace"),
        ("rate = 3", "concurrency = 4", "rate"),
        ("concurrency = 4", "rate = 3", "concurrency"),
        ("num_gpu_blocks_override = 9", "kv_cache_memory_bytes = 9", "num_gpu_blocks_override"),
        ('step_cost = "datasheet"', 'profile = "p.json"', "step_cost"),
    ],
)
def test_what_a_case_says_replaces_defaults_of_its_kind(
    tmp_path: Path, default: str, own: str, gone: str
) -> None:
    head = f'schema = "kvsim-suite/1"\n[defaults]\n{default}\nblock_size = 8\n'
    (case,) = read_text(tmp_path, f'{head}[[case]]\nname = "x"\n{own}\n').cases
    assert gone not in case.options
    assert case.options["block_size"] == 8
    (kept,) = read_text(tmp_path, f'{head}[[case]]\nname = "x"\nblock_size = 4\n').cases
    assert gone in kept.options
    assert kept.options["block_size"] == 4


def test_tolerances_of_a_case_go_over_the_suites(tmp_path: Path) -> None:
    text = f"""{HEAD}
[tolerance]
relative = 0.01
"ttft_s.p95" = {{ relative = 0.05 }}

[[case]]
name = "a"
workload = "alpaca"

[[case]]
name = "b"
workload = "alpaca"
[case.tolerance]
both = true
ttft_s.p95 = {{ absolute = 0.5 }}
"""
    a, b = read_text(tmp_path, text).cases
    assert a.tolerances.of("ttft_s.p95").relative == 0.05
    assert a.tolerances.of("ttft_s.p99").relative == 0.01
    own = b.tolerances.of("ttft_s.p95")
    assert (own.relative, own.absolute, own.both) == (0.05, 0.5, True)
    assert not a.tolerances.of("ttft_s.p95").both


def test_step_logs_by_patterns(tmp_path: Path) -> None:
    steps = tmp_path / "steps"
    steps.mkdir()
    for name in ("b.jsonl.gz", "a.jsonl.gz", "other.txt"):
        (steps / name).touch()
    text = (
        '\n[[conformance]]\nname = "v"\nsteps = ["steps/*.gz", "steps/other.txt"]\ntraces = "t"\n'
    )
    logs = read_text(tmp_path, HEAD + text).step_logs
    assert [log.name for log in logs] == ["v-a", "v-b", "v-other"]
    assert {log.traces for log in logs} == {tmp_path / "t"}
    assert logs[0].path == steps / "a.jsonl.gz"


WRONG = {
    "no value": ("schema = \n", r"SUITE\.toml, line 1, key schema: invalid value\."),
    "no equals sign": (
        f"{HEAD}block_size 16\n",
        r"line 7: expected '=' after a key in a key/value pair\.",
    ),
    "a key twice": (
        f'{HEAD}gpu = "h100-sxm"\n',
        r"line 7, key gpu: cannot overwrite a value\.",
    ),
    "an open list": (f"{HEAD}block_size = [16,\n", r"line 7, key block_size: "),
    "a table closed wrongly": (f"{HEAD}[[case]\n", r"line 7: expected ']]'"),
    "another schema": (
        'schema = "kvsim-suite/2"\n',
        r"schema\(='kvsim-suite/2'\) must be 'kvsim-suite/1'",
    ),
    "no schema": ("[[case]]\n", r"schema\(=None\) must be 'kvsim-suite/1'"),
    "nothing in it": (HEAD, r"holds no \[\[case\]\] and no \[\[conformance\]\]\.$"),
    "unknown table": (
        f"{HEAD}{CASE}[[cases]]\n",
        r"line 11: key\(='cases'\) is unknown; near: case\.",
    ),
    "unknown option": (
        f"{HEAD}{CASE}block_sze = 16\n",
        r"line 11, case 'chat': key\(='block_sze'\) is unknown; near: block_size",
    ),
    "unknown option, of the second case": (
        f'{HEAD}{CASE}\n[[case]]\nname = "b"\nworkload = "alpaca"\nalocator = "paged"\n',
        r"line 15, case 'b': key\(='alocator'\) is unknown; near: allocator",
    ),
    "unknown default": (
        f"{HEAD}shceduler = 'vllm'\n{CASE}",
        r"line 7: key\(='shceduler'\) is unknown; near: scheduler",
    ),
    "a default of another kind": (
        f"{HEAD}block_size = 'x'\n{CASE}",
        r"line 7: block_size\(='x'\) must be a whole number\.",
    ),
    "text for a number": (
        f"{HEAD}{CASE}block_size = '16'\n",
        r"line 11, case 'chat': block_size\(='16'\) must be a whole number\.",
    ),
    "true for a number": (f"{HEAD}{CASE}seed = true\n", r"seed\(=True\) must be a whole number\."),
    "a part for a whole": (f"{HEAD}{CASE}seed = 1.5\n", r"seed\(=1\.5\) must be a whole number\."),
    "a number for a switch": (
        f"{HEAD}{CASE}enforce_eager = 1\n",
        r"enforce_eager\(=1\) must be true or false\.",
    ),
    "no finite number": (f"{HEAD}{CASE}rate = inf\n", r"rate\(=inf\) must be finite\."),
    "a table for text": (f"{HEAD}{CASE}gpu = {{}}\n", r"gpu\(=\{\}\) must be text\."),
    "a wrong one in a list": (
        f"{HEAD}{CASE}block_size = [16, '32']\n",
        r"block_size\(='32'\) must be a whole number\.",
    ),
    "an empty list": (f"{HEAD}{CASE}block_size = []\n", r"block_size\(=\[\]\) must hold a value\."),
    "a trace of nothing": (
        f'{HEAD}\n[[case]]\nname = "x"\ntrace = [[]]\n',
        r"trace\(=\[\]\) must be a path\.",
    ),
    "no name": (f"{HEAD}\n[[case]]\nseed = 1\n", r"line 8, case 1: name\(=None\) must be a line"),
    "no name, before a case that has one": (
        f"{HEAD}\n[[case]]\nseed = 1\n{CASE}",
        r"line 8, case 1: name\(=None\) must be a line",
    ),
    "a name of two lines": (f'{HEAD}\n[[case]]\nname = "a\\nb"\n', r"must be a line of text\."),
    "a name of blanks": (f'{HEAD}\n[[case]]\nname = "  "\n', r"must be a line of text\."),
    "two of a name": (
        f"{HEAD}{CASE}{CASE.replace('chat', 'Chat')}",
        r"line 12: name\(='Chat'\) must be one case's only",
    ),
    "options that exclude each other": (
        f"{HEAD}{CASE}rate = 1\nconcurrency = 4\n",
        r"line 8, case 'chat': concurrency\(=4\) is a closed loop",
    ),
    "memory below nothing": (
        f"{HEAD}{CASE}non_kv_memory = -1.0\n",
        r"non_kv_memory\(=-1\.0\) must be >= 0 GiB\.",
    ),
    "unknown metric": (
        f'{HEAD}[tolerance]\n"ttft_s.p96" = {{ relative = 0.1 }}\n{CASE}',
        r"line 8: tolerance\(='ttft_s\.p96'\) is unknown; near: ttft_s",
    ),
    "unknown word of a metric": (
        f'{HEAD}[tolerance]\n"ttft_s.p95" = {{ relativ = 0.1 }}\n{CASE}',
        r"line 8: tolerance\(='ttft_s\.p95\.relativ'\) is unknown",
    ),
    "a tolerance that is no table": (
        f'{HEAD}[tolerance]\n"ttft_s.p95" = 0.1\n{CASE}',
        r"tolerance of ttft_s\.p95\(=0\.1\) must be a table",
    ),
    "a negative tolerance": (
        f"{HEAD}[tolerance]\nrelative = -0.1\n{CASE}",
        r"line 8: relative\(=-0\.1\) must be a number >= 0\.",
    ),
    "a case's unknown metric": (
        f"{HEAD}{CASE}tolerance = {{ foo = {{}} }}\n",
        r"line 11, case 'chat': tolerance\(='foo'\) is unknown",
    ),
    "a tolerance that is a number": (
        f"{HEAD}{CASE}tolerance = 1\n",
        r"case 'chat': tolerance\(=1\) must be a table\.",
    ),
    "cases that are no list": (f"{HEAD}[case]\n", r"case must be a list of tables, \[\[case\]\]\."),
    "defaults that are no table": (
        'schema = "kvsim-suite/1"\ndefaults = 1\n',
        r"defaults\(=1\) must be a table\.",
    ),
    "no step logs": (
        f'{HEAD}[[conformance]]\nname = "v"\n',
        r"conformance 'v': steps\(=None\) must be a pattern",
    ),
    "a pattern of nothing": (
        f'{HEAD}[[conformance]]\nname = "v"\nsteps = "no/*.gz"\n',
        r"line 9, conformance 'v': steps\(='no/\*\.gz'\) matches no file\.",
    ),
    "an unknown key of step logs": (
        f'{HEAD}[[conformance]]\nname = "v"\nstep = "no/*.gz"\n',
        r"line 9, conformance 'v': key\(='step'\) is unknown; near: steps\.",
    ),
    "traces that are no folder": (
        f'{HEAD}[[conformance]]\nname = "v"\nsteps = "SUITE.toml"\ntraces = 1\n',
        r"line 10, conformance 'v': traces\(=1\) must be a folder\.",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_suites_are_one_sentence(tmp_path: Path, name: str) -> None:
    text, expected = WRONG[name]
    with pytest.raises(ValueError, match=expected) as caught:
        read_text(tmp_path, text)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "SUITE.toml"))
    assert message.endswith(".")
    assert "\n" not in message


def test_a_suite_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "no.toml", tmp_path):
        with pytest.raises(ValueError, match=re.escape(f"suite(={str(path)!r}) cannot be read")):
            read_suite(path)


def test_a_suite_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="is no UTF-8 text"):
        read_suite(path)
