"""Output folders: whole, kvsim's own, replaced at once; what is none is refused in a sentence."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kvsim.sim import folder as folder_module
from kvsim.sim.folder import MANIFEST, check_folder, kind_of, read_folder, write_folder

FILES = {"a.json": b"{}\n", "b.bin": b"\x00\x01"}


@pytest.fixture
def written(tmp_path: Path) -> Path:
    write_folder(tmp_path / "run", "result", FILES)
    return tmp_path / "run"


def names(path: Path) -> set[str]:
    return {entry.name for entry in path.iterdir()}


def test_what_is_written_is_read(written: Path) -> None:
    found = read_folder(written, "result")
    assert {name: path.read_bytes() for name, path in found.items()} == FILES
    assert names(written) == {*FILES, MANIFEST}
    assert kind_of(written) == "result"


def test_its_own_earlier_files_are_replaced_and_gone(written: Path) -> None:
    before = written.stat().st_ino
    write_folder(written, "result", {"c.txt": b"new"})
    assert names(written) == {"c.txt", MANIFEST}
    assert written.stat().st_ino != before, "a new folder took its place"
    assert names(written.parent) == {"run"}, "nothing is left beside it"


def test_another_kind_is_replaced_with_force_only(written: Path) -> None:
    with pytest.raises(ValueError, match=r"holds a result of kvsim, not a plan: .*--force"):
        write_folder(written, "plan", {"c.txt": b"new"})
    assert read_folder(written, "result")
    write_folder(written, "plan", {"c.txt": b"new"}, force=True)
    assert names(written) == {"c.txt", MANIFEST}
    assert kind_of(written) == "plan"


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    write_folder(tmp_path, "result", FILES)
    assert names(tmp_path) == {*FILES, MANIFEST}


@pytest.mark.parametrize("own", [True, False], ids=["beside ours", "alone"])
def test_foreign_files_are_refused_and_kept_with_force(tmp_path: Path, own: bool) -> None:
    if own:
        write_folder(tmp_path, "result", {"old.json": b"1"})
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"did not write \(notes.txt\).*--force") as caught:
        write_folder(tmp_path, "result", FILES)
    assert str(caught.value).count("\n") == 0
    assert "a.json" not in names(tmp_path)
    write_folder(tmp_path, "result", FILES, force=True)
    assert names(tmp_path) == {*FILES, MANIFEST, "notes.txt"}
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert read_folder(tmp_path, "result")


def test_many_foreign_files_are_counted(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.txt").touch()
    with pytest.raises(ValueError, match=r"\(0.txt, 1.txt, 2.txt and 2 more\)"):
        check_folder(tmp_path, "result")


def test_a_failure_leaves_the_old_files(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.rename

    def rename(source: Path, target: Path) -> None:
        if Path(source).name == "new":
            raise OSError("no room")
        real(source, target)

    large = written.parent / "large"
    large.write_bytes(b"large")
    monkeypatch.setattr(folder_module.os, "rename", rename)
    assert not folder_module._replaced(written, {"c.txt": b""}, {"d.bin": large})
    assert read_folder(written, "result"), "the old folder is back in its place"
    assert names(written.parent) == {"run", "large"}
    assert large.read_bytes() == b"large", "for who writes in place"


@pytest.mark.parametrize("in_place", [False, True])
def test_large_files_are_moved_in(
    written: Path, in_place: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = written.parent / "large"
    large.write_bytes(b"large")
    if in_place:
        monkeypatch.setattr(folder_module, "_replaced", lambda *_: False)
    paths = write_folder(written, "result", {"c.txt": b"new"}, moved={"d.bin": large})
    assert [path.name for path in paths] == ["c.txt", "d.bin"]
    assert names(written) == {"c.txt", "d.bin", MANIFEST}
    assert read_folder(written, "result")["d.bin"].read_bytes() == b"large"
    assert not large.exists()
    (written / "d.bin").write_bytes(b"other")
    with pytest.raises(ValueError, match=r"holds another d\.bin than when it was written"):
        read_folder(written, "result")


def test_a_folder_that_cannot_change_places_is_written_in_place(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "_replaced", lambda *_: False)
    write_folder(written, "result", {"c.txt": b"new"})
    assert names(written) == {"c.txt", MANIFEST}


def test_the_current_folder_stays_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_folder(".", "result", FILES)
    assert names(Path()) == {*FILES, MANIFEST}


def test_a_link_stays_a_link(written: Path) -> None:
    link = written.parent / "latest"
    link.symlink_to(written)
    write_folder(link, "result", {"c.txt": b"new"})
    assert link.is_symlink()
    assert names(written) == {"c.txt", MANIFEST}


def test_the_manifest_cannot_lead_outside(written: Path) -> None:
    victim = written.parent / "victim.txt"
    victim.write_text("mine")
    manifest = {"schema": "kvsim-folder/1", "kind": "result", "files": {"../victim.txt": ""}}
    (written / MANIFEST).write_text(json.dumps(manifest))
    write_folder(written, "result", FILES, force=True)
    assert victim.read_text() == "mine"


def test_the_same_files_give_the_same_manifest(tmp_path: Path) -> None:
    texts = set()
    for name in ("one", "two"):
        write_folder(tmp_path / name, "result", FILES)
        texts.add((tmp_path / name / MANIFEST).read_bytes())
    assert len(texts) == 1


def spoil(path: Path, how: str) -> None:
    manifest = json.loads((path / MANIFEST).read_text())
    if how == "half-written":
        (path / MANIFEST).unlink()
    elif how == "cut short":
        (path / MANIFEST).write_text('{"schema": "kvs')
    elif how == "another version":
        (path / MANIFEST).write_text(json.dumps({**manifest, "schema": "kvsim-folder/9"}))
    elif how == "lost file":
        (path / "a.json").unlink()
    elif how == "changed file":
        (path / "a.json").write_text("[]")
    else:
        (path / MANIFEST).write_text(json.dumps({**manifest, "kind": "plan"}))


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("half-written", "has no kvsim.json: it is half-written, or not kvsim's."),
        ("cut short", "has no kvsim.json: it is half-written"),
        ("another version", r"another version of kvsim \('kvsim-folder/9'"),
        ("lost file", "lacks a.json"),
        ("changed file", "holds another a.json than"),
        ("another kind", "is a folder of kind 'plan'"),
    ],
)
def test_what_is_no_whole_result_is_refused(written: Path, how: str, sentence: str) -> None:
    spoil(written, how)
    with pytest.raises(ValueError, match=sentence) as caught:
        read_folder(written, "result")
    assert str(caught.value).startswith("result(=")


def test_no_folder_at_all(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"result\(='.*nowhere'\) is no folder\."):
        read_folder(tmp_path / "nowhere", "result")
    assert kind_of(tmp_path) is None
