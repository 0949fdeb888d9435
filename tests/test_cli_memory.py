"""``kvsim memory`` as it is typed: N requests of L tokens, several servers at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.command import loaded, run

WRONG = {
    "no length": (["--for", "64"], "for(='64') must be NxL"),
    "no requests": (["--for", "0x10"], "for(='0x10') must have N and L > 0"),
    "words": (["--for", "axb"], "for(='axb') must be NxL"),
    "an empty demand": (["--for", "64x8k,"], "for(='') must be NxL"),
    "unknown gpu in a list": (["--gpu", "a100,h100"], "gpu(='h100') is unknown; near: h100"),
    "an empty gpu": (["--gpu", "a100,,l4"], "gpu(='a100,,l4') must not hold an empty value"),
    "no gpu": (["--gpu", ""], "gpu(='') must not hold an empty value"),
    "an empty model": (["--model", ","], "model(=',') must not hold an empty value"),
    "unknown model": (["--model", "llama-3.1-8b,x"], "model(='x') is unknown"),
    "unknown dtype": (["--kv-cache-dtype", "auto,int3"], "kv_cache_dtype(='int3') is unknown"),
    "TP is no number": (
        ["--tensor-parallel-size", "1,two"],
        "tensor_parallel_size(='1,two') must be whole numbers",
    ),
    "TP 0": (["--tensor-parallel-size", "1,0"], "tensor_parallel_size(=0) must be > 0"),
    "one TP that does not divide": (
        ["--tensor-parallel-size", "3"],
        "tensor_parallel_size(=3) must divide the 32 attention heads",
    ),
    "nothing fits": (["--gpu", "l4", "--model", "llama-3.1-70b,llama-3-70b"], "do not fit"),
    "a wrong flag for all": (["--gpu", "a100,l4", "--block-size", "0"], "block_size(=0) must be"),
    "no png": (["--out", "figure.pdf"], "out(='figure.pdf') must name a .png file"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_sentence(case: str) -> None:
    arguments, sentence = WRONG[case]
    result = run("memory", *arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert sentence in result.stderr
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1, "one line"


def test_one_server_in_full_and_what_is_asked_of_it() -> None:
    result = run("memory", "--for", "64x8192", "--for", "1x1000")
    assert result.exit_code == 0
    for words in ("Memory of one GPU", "KV pool", "requests of 4,000 tokens", "64.00 GiB"):
        assert words in result.stdout
    assert result.stdout.index("64 requests of 8,192") < result.stdout.index("1 request of 1,000")
    assert "no: KV pool; the pool holds 56 at once" in result.stdout


def test_several_are_repeated_or_in_a_list() -> None:
    names = [
        [
            (one["model"], one["gpu"], one["tensor_parallel_size"])
            for one in loaded("memory", *words)
        ]
        for words in (
            ["--gpu", "a100, h200", "--tensor-parallel-size", "1,2"],
            [*("--gpu", "a100", "--gpu", "h200,a100"), "--tensor-parallel-size=1,2,1"],
        )
    ]
    assert names[0] == names[1]
    assert [gpu for _, gpu, _ in names[0]] == ["a100", "a100", "h200", "h200"]


def test_a_comparison_has_no_budget_table() -> None:
    result = run("memory", "--model", "llama-3.1-8b,mixtral-8x7b", "--for", "64x8k")
    assert result.exit_code == 0
    assert "Side by side" in result.stdout
    assert "weights do not fit" in result.stdout
    assert "Memory of one GPU" not in result.stdout


def test_one_keeps_its_keys() -> None:
    plain = loaded("memory")
    assert plain["for"] == []
    assert plain["requests_of"]["4000"] == 115
    assert (plain["model"], plain["gpu"]) == ("llama-3.1-8b", "a100")


def test_figure(tmp_path: Path) -> None:
    path = tmp_path / "new" / "requests.png"
    result = run("memory", "--gpu", "a100,h200", "--out", str(path))
    assert result.exit_code == 0
    assert f"Wrote {path}" in result.stdout
    assert path.read_bytes().startswith(b"\x89PNG")


def test_other_commands_take_one_gpu() -> None:
    result = run("simulate", "--gpu", "a100,h200")
    assert result.exit_code == 2
    assert "gpu(='a100,h200') is unknown" in result.stderr
