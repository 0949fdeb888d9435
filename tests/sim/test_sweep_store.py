"""Where runs are kept: whole or not at all, on a disk or in an object store, nobody else's."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from kvsim.sim.folder import check_folder, kind_of
from kvsim.sim.sweep.run import run_sweep
from kvsim.sim.sweep.store import Store
from support.sweeps import GRID, grid_of, tree


def opened(out: Path | str) -> Store:
    """Ready to be written to."""
    store = Store(str(out))
    store.open_to_write()
    return store


def test_objects_come_back(tmp_path: Path) -> None:
    store = opened(tmp_path / "a" / "b")
    store.write("runs", "one", b'{"key": "one"}')
    store.write("runs", "one", b'{"key": "two"}')
    assert store.read("runs", "one") == {"key": "two"}
    assert store.names("runs") == ["one"]
    assert store.names("grids") == []
    assert store.read("runs", "none") is None
    store.remove("runs", "one")
    store.remove("runs", "one")
    assert store.names("runs") == []
    assert kind_of(tmp_path / "a" / "b") == "sweep"


def test_a_file_is_not_seen_before_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path)
    store.write("runs", "one", b'{"old": 1}')
    seen = []

    def halves(_: LocalFileSystem, path: str, data: bytes) -> None:
        Path(path).write_bytes(data[:5])
        seen.append((store.names("runs"), store.read("runs", "one")))
        Path(path).write_bytes(data)

    monkeypatch.setattr(LocalFileSystem, "pipe_file", halves)
    store.write("runs", "one", b'{"new": 1}')
    store.write("runs", "two", b'{"new": 2}')
    assert seen == [(["one"], {"old": 1}), (["one"], {"new": 1})]
    assert store.names("runs") == ["one", "two"]


def test_parts_of_the_dead_are_removed_and_others_left(tmp_path: Path) -> None:
    opened(tmp_path)
    dead = 2**22 + 1  # above the kernel's largest
    names = {
        f".runs-a.json.part-{socket.gethostname()}-{dead}": False,
        f".runs-b.json.part-{socket.gethostname()}-{os.getppid()}": True,
        f".runs-c.json.part-elsewhere-{dead}": True,
        "notes.txt": True,
    }
    for name in names:
        (tmp_path / name).write_text("x")
    opened(tmp_path)
    assert {name: (tmp_path / name).exists() for name in names} == names


def test_an_object_store_holds_the_same_bytes(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    grid = grid_of(tmp_path, GRID.replace("[4, 8]", "8").replace("[8, 16]", "8"))
    run_sweep(grid, str(tmp_path / "out"), jobs=1)
    try:
        assert run_sweep(grid, "memory://bucket/sweep", jobs=1).num_new == 1
        assert run_sweep(grid, "memory://bucket/sweep/", jobs=1).num_stored == 1
        found = {
            path.removeprefix("/bucket/sweep/"): memory.cat_file(path)
            for path in memory.find("/bucket/sweep")
        }
    finally:
        memory.rm("/bucket", recursive=True)
    assert found == tree(tmp_path / "out")


def test_where_no_put_is_whole_a_part_is_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a disk nor an object store: sftp and the like."""
    store = opened(tmp_path)
    moved = []
    move = LocalFileSystem.mv

    def noted(self: LocalFileSystem, part: str, target: str) -> None:
        moved.append((Path(part).name.partition(".part-")[0], Path(target).name))
        move(self, part, target)

    monkeypatch.setattr(store._files, "protocol", ("sftp",))
    monkeypatch.setattr(LocalFileSystem, "mv", noted)
    store.write("runs", "one", b"{}")
    assert moved == [(".runs-one.json", "one.json")]
    assert sorted(tree(tmp_path)) == ["kvsim.json", "runs/one.json"]


def test_nobody_elses_folder(tmp_path: Path) -> None:
    for name in ("a.txt", "b", "c", "d"):
        (tmp_path / name).write_text("x")
    with pytest.raises(ValueError, match=r"did not write \(a\.txt, b, c and 1 more\): name an"):
        opened(tmp_path)
    assert len(list(tmp_path.iterdir())) == 4
    other = tmp_path / "other"
    check_folder(other, "plan")
    (other / "kvsim.json").write_text('{"schema": "kvsim-folder/1", "kind": "plan"}')
    with pytest.raises(ValueError, match="holds a plan of kvsim, not a sweep"):
        opened(other)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"store": "kvsim-sweep/9"}, "another version ('kvsim-sweep/9'; this kvsim reads"),
        ({"version": "0.0.1"}, "was written by kvsim 0.0.1, this is 0."),
    ],
)
def test_another_version(tmp_path: Path, change: dict[str, str], expected: str) -> None:
    opened(tmp_path)
    manifest = tmp_path / "kvsim.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | change))
    before = tree(tmp_path)
    with pytest.raises(ValueError, match=r"out\(=.*\)") as told:
        opened(tmp_path)
    assert expected in str(told.value)
    assert str(told.value).endswith("name another folder.")
    assert tree(tmp_path) == before


def test_not_to_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for out, expected in (
        (str(tmp_path / "file"), "cannot be used"),
        (str(tmp_path / "file" / "below"), "cannot be used: Not a directory"),
        ("nothing://at-all", "cannot be used: Protocol not known: nothing"),
        ("", "must name a folder or a URL"),
    ):
        with pytest.raises(ValueError, match=r"^out\(=.*\.$") as told:
            opened(out)
        assert expected in str(told.value)
