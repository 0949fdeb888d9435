"""The house: who may import whom, what a wheel holds, what `kvsim --help` loads."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("traces", "kernels", "calibration", "sim", "reports", "api")
MAY_IMPORT = {
    "traces": set(),
    "kernels": set(),
    "calibration": {"kernels"},
    "sim": {"calibration", "traces"},
    "reports": {"sim", "calibration", "traces"},
    "api": {"reports", "sim", "calibration", "traces"},
}
HEAVY = ("pandas", "matplotlib", "torch", "triton")


def imports_of(path: Path) -> set[tuple[int, str]]:
    """Every ``(level, module)`` that a file imports, wherever the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            found.add((node.level, node.module or ""))
        elif isinstance(node, ast.Import):
            found |= {(0, alias.name) for alias in node.names}
    return found


def rooms_imported(path: Path) -> set[str]:
    """Rooms that a file of a room reaches by relative imports."""
    depth = len(path.relative_to(ROOT).parts) - 1
    above = {module.split(".")[0] for level, module in imports_of(path) if level == depth + 1}
    return above & set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_one_way(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        reached = rooms_imported(path)
        assert reached <= MAY_IMPORT[room], f"{path.relative_to(ROOT)} imports {reached}"


@pytest.mark.parametrize("room", ROOMS)
def test_the_package_imports_itself_relatively(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        absolute = {module for level, module in imports_of(path) if level == 0}
        ours = [module for module in absolute if module.split(".")[0] == "kvsim"]
        assert not ours, f"{path.relative_to(ROOT)} imports {ours}"


def test_the_simulator_needs_no_heavy_library() -> None:
    for path in (ROOT / "sim").rglob("*.py"):
        names = {module.split(".")[0] for level, module in imports_of(path) if level == 0}
        assert not names & set(HEAVY), path.name


@pytest.mark.parametrize(
    "arguments", [["--help"], ["plan", "--help"], ["trace", "stats", "--help"]]
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom kvsim.cli import app\n"
        f"try: app({arguments!r})\nexcept SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_editable_links_lead_to_every_room() -> None:
    links = {path.name for path in (ROOT / ".dev" / "kvsim").iterdir() if path.is_symlink()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    included = set(project["tool"]["hatch"]["build"]["only-include"]) - {"tests"}
    assert links == included


def test_wheel_holds_the_package_and_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet"]
    command += ["--disable-pip-version-check", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"kvsim", "kvsim-0.1.0.dist-info"}
    inside = {name.split("/", 1)[1] for name in names if name.startswith("kvsim/")}
    assert {"__init__.py", "py.typed", "cli/__init__.py", "sim/replica.py"} <= inside
    assert {"calibration/catalogue/models.json", "reports/templates/report.html.j2"} <= inside
    assert not [name for name in inside if name.startswith(("tests/", ".dev/"))]
    python = {str(path.relative_to(ROOT)) for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    assert python <= inside, "every module is in the wheel"
