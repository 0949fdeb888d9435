"""Another tool's kernel times become a profile, and give the cost that their folder gives."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from kvsim.calibration.profile.imported import import_folder, read_folder
from kvsim.calibration.profile.store import read_profile, write_profile
from support.measured import KERNELS

FILES = {
    "dense": "layer,tokens,time_us\nqkv_proj,1,5.5\nqkv_proj,256,31\n",
    "per_sequence": "layer,sequences,time_us,extra\nlm_head,1,700,x\n",
    "attention": "prefill_chunk,kv_prefill,n_decode,kv_decode,time_us\n0,0,1,16,8.3523312345\n",
}


@pytest.fixture(name="folder")
def folder_fixture(tmp_path: Path) -> Path:
    folder = tmp_path / "kernels"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / f"{name}.csv").write_text(text)
    return folder


def test_columns_are_kept_as_they_were_measured(folder: Path) -> None:
    made = import_folder(folder, gpu="RTX PRO 6000", model="meta-llama/Llama-3.1-8B")
    assert made.tables == {
        "dense": {"layer": ["qkv_proj"] * 2, "tokens": [1, 256], "time_us": [5.5, 31.0]},
        "per_sequence": {"layer": ["lm_head"], "sequences": [1], "time_us": [700.0]},
        "attention": {
            "prefill_chunk": [0],
            "kv_prefill": [0],
            "n_decode": [1],
            "kv_decode": [16],
            "time_us": [8.35233123],
        },
    }
    assert (made.provenance, made.model) == ("imported", "llama-3.1-8b")
    assert (made.hardware.gpu, made.hardware.num_sms) == ("rtx-pro-6000", 188)
    assert made.run == {"tensor_parallel_size": 1}
    assert made.id.startswith("rtx-pro-6000.llama-3.1-8b.imported.")
    assert made.decode == made.gemm_tables == made.lines == made.residuals == ()


def test_the_id_follows_the_times(folder: Path) -> None:
    first = import_folder(folder, gpu="h200", model="llama-3.1-8b")
    assert import_folder(folder, gpu="h200", model="llama-3.1-8b") == first
    (folder / "dense.csv").write_text(FILES["dense"].replace("5.5", "5.6"))
    assert import_folder(folder, gpu="h200", model="llama-3.1-8b").id != first.id


def test_packed_files_are_read(folder: Path) -> None:
    plain = read_folder(folder, name="from")
    with gzip.open(folder / "dense.csv.gz", "wt") as file:
        file.write((folder / "dense.csv").read_text())
    (folder / "dense.csv").unlink()
    assert read_folder(folder, name="from") == plain


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("dense", None, r"from\(='.*kernels'\) has no dense.csv or dense.csv.gz\."),
        ("dense", "layer,tokens,time_us\n", r"dense.csv has no rows\."),
        ("dense", "layer,time_us\na,1\n", r"dense.csv has no column tokens\."),
        (
            "dense",
            "layer,tokens,time_us\na,one,1\n",
            r"column tokens holds a cell that is no number",
        ),
        ("dense", "layer,tokens,time_us\na,1\n", r"column time_us holds a cell that is no number"),
        ("dense", "layer,tokens,time_us\na,1,0\n", r"column time_us holds 0: times are > 0"),
        (
            "dense",
            "layer,tokens,time_us\na,-1,2\n",
            r"column tokens holds -1: times are > 0, counts",
        ),
        ("dense", "layer,tokens,time_us\na,1,nan\n", r"column time_us holds nan: times are > 0"),
    ],
)
def test_bad_folders_are_refused(folder: Path, name: str, text: str | None, sentence: str) -> None:
    path = folder / f"{name}.csv"
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=sentence):
        import_folder(folder, gpu="h200", model="llama-3.1-8b")


def test_what_is_no_text(folder: Path) -> None:
    (folder / "dense.csv").unlink()
    (folder / "dense.csv.gz").write_bytes(b"not packed")
    with pytest.raises(ValueError, match=r"dense.csv.gz cannot be read: it is no whole text"):
        read_folder(folder, name="from")


def test_unknown_names(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"gpu\(='h900'\) is unknown"):
        import_folder(folder, gpu="h900", model="llama-3.1-8b")
    with pytest.raises(ValueError, match=r"model\(='llama-9'\) is unknown"):
        import_folder(folder, gpu="h200", model="llama-9")


def test_a_real_cards_kernels(shared_file: Callable[[str], Path], tmp_path: Path) -> None:
    """19,364 attention times of an RTX PRO 6000: stored and read back, to nine digits."""
    made = import_folder(
        shared_file(f"{KERNELS}/attention.csv.gz").parent, gpu="rtx-pro-6000", model="llama-3.1-8b"
    )
    assert len(made.tables["attention"]["time_us"]) == 19_364
    path = tmp_path / "imported.json"
    assert write_profile(made, (), path) == (path,)
    assert read_profile(path).tables == made.tables
