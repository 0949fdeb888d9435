"""ShareGPT text: first pair of turns, counted by a tokenizer (here one token per word)."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from kvsim.traces import load_trace

Write = Callable[[str, str | bytes], Path]


class _Words:
    @staticmethod
    def from_file(path: str) -> "_Words":
        if Path(path).read_text() != "{}":
            raise Exception("bad file")  # as the library does
        return _Words()

    def encode_batch(self, texts: list[str]) -> list[SimpleNamespace]:
        return [SimpleNamespace(ids=text.split()) for text in texts]


@pytest.fixture
def tokenizer(monkeypatch: pytest.MonkeyPatch, write: Write) -> Path:
    module = ModuleType("tokenizers")
    module.Tokenizer = _Words  # type: ignore[attr-defined]  # a stand-in
    monkeypatch.setitem(sys.modules, "tokenizers", module)
    return write("tokenizer.json", "{}")


def talk(*texts: object) -> dict[str, object]:
    sides = ("human", "gpt")
    turns = [{"from": sides[i % 2], "value": text} for i, text in enumerate(texts)]
    return {"id": "x", "conversations": turns}


TALKS = [
    talk("one two three", "a b", "ignored"),
    talk("lonely"),
    talk("", "answer"),
    talk("x", 5),
    {"id": "nothing"},
    talk("p", "q"),
]
KEPT = [(3, 2), (1, 1)]
SKIPPED = [
    (2, "has 1 turns, at least 2 are needed"),
    (3, "has a turn of 0 tokens"),
    (4, "has a turn without a text value"),
    (5, "has no conversations"),
]


@pytest.mark.parametrize("separator", [None, "\n"], ids=["list", "lines"])
def test_first_pairs(write: Write, tokenizer: Path, separator: str | None) -> None:
    text = json.dumps(TALKS) if separator is None else separator.join(map(json.dumps, TALKS))
    trace = load_trace(write("s.json", text), tokenizer=tokenizer)
    assert trace.arrival_s is None
    kept = zip(trace.prompt_tokens.tolist(), trace.output_tokens.tolist(), strict=True)
    assert list(kept) == KEPT
    assert [(skip.row, skip.reason) for skip in trace.skipped] == SKIPPED


def test_library_is_missing(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    path = write("s.json", json.dumps(TALKS))
    with pytest.raises(ValueError, match=r"pip install 'kvsim\[sharegpt\]'"):
        load_trace(path, tokenizer=write("tokenizer.json", "{}"))


def test_bad_tokenizer_files(write: Write, tokenizer: Path, tmp_path: Path) -> None:
    path = write("s.json", json.dumps(TALKS))
    with pytest.raises(ValueError, match=r"must be a tokenizer\.json file"):
        load_trace(path, tokenizer=tmp_path / "absent.json")
    with pytest.raises(ValueError, match=r"cannot be read: bad file"):
        load_trace(path, tokenizer=write("other.json", "nonsense"))


def test_broken_list(write: Write, tokenizer: Path) -> None:
    text = json.dumps(TALKS)[:-5]
    with pytest.raises(ValueError, match=r"^s\.json is not valid JSON"):
        load_trace(write("s.json", text), tokenizer=tokenizer)
