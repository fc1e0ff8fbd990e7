"""The developer tool's checks, on a small pack of the same shape."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from tgate_dev import checks, environment

REPO = Path(__file__).resolve().parents[2]
# `nodes` must be free for ComfyUI's nodes.py, so the repository root must not be on the path.
TEST = """from importlib.util import find_spec


def test_it() -> None:
    assert not find_spec("nodes")
"""
TEST_ON_HOSTS = """import os

import pytest


@pytest.mark.hosts
def test_host() -> None:
    assert os.environ["TGATE_COMFYUI"] != "/broken"


@pytest.mark.hosts
@pytest.mark.oldest
def test_oldest_host() -> None:
    assert os.environ["TGATE_COMFYUI"] != "/broken"
"""
CONTRACT = """
[tool.importlinter]
root_package = "tgate_pack"

[[tool.importlinter.contracts]]
name = "the core knows no nodes"
type = "forbidden"
source_modules = ["tgate_pack.tgate_core"]
forbidden_modules = ["tgate_pack.nodes"]
"""
SOURCES = {
    "__init__.py": "",
    "tgate_core/__init__.py": "",
    "tgate_core/config.py": "GATE: int = 1\n",
    "nodes/__init__.py": "",
    "nodes/apply.py": "from ..tgate_core.config import GATE\n\nVALUE = GATE + 1\n",
    "tools/small_dev/__init__.py": "",
    "tests/test_it.py": TEST,
    "tests/test_on_hosts.py": TEST_ON_HOSTS,
}
# By the check that must mind it: what is appended to which file, and what is then said.
FAULTS = {
    "ruff check": ("nodes/apply.py", "\n\ndef unused() -> None:\n    import os\n", "F401"),
    "ruff format": ("nodes/__init__.py", "X  =  1\n", "1 file would be reformatted"),
    "mypy": ("nodes/apply.py", "\n\nWRONG: str = VALUE\n", "\nnodes/apply.py:10: error"),
    "imports": (
        "tgate_core/__init__.py",
        "from ..nodes import apply as apply\n",
        "tgate_pack.tgate_core -> tgate_pack.nodes",
    ),
    "pytest": (
        "tests/test_it.py",
        "\n\ndef test_fault() -> None:\n    raise AssertionError\n",
        "1 failed, 3 passed in",
    ),
}
ALL = [*FAULTS, "hosts 0.1", "hosts 0.2"]


@pytest.fixture
def small_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone in a folder whose name is not an identifier."""
    monkeypatch.setenv("TGATE_CACHE_DIR", str(tmp_path / "caches"))
    pack = tmp_path / "any-name"
    for name, text in SOURCES.items():
        (pack / name).parent.mkdir(parents=True, exist_ok=True)
        (pack / name).write_text(text)
    settings = (REPO / "pyproject.toml").read_text(encoding="utf-8").partition("[tool.importlinter]")[0]
    (pack / "pyproject.toml").write_text(settings + CONTRACT, encoding="utf-8")
    shutil.copy(REPO / "tests" / "pytest.ini", pack / "tests")
    return pack


def outcomes(pack: Path, older_host: str, capfd: pytest.CaptureFixture[str]) -> tuple[int, dict[str, str], str]:
    """Exit code, how each check ended, and all that was written; the clone stays as it was."""
    python = Path(sys.executable)
    newest = environment.Environment(python, Path(os.environ["TGATE_COMFYUI"]), "any")
    older = [environment.Environment(python, Path(older_host), version) for version in ("0.1", "0.2")]
    before = set(pack.rglob("*"))
    code = checks.run(newest, older, pack, [], verbose=False)
    assert set(pack.rglob("*")) == before
    output = capfd.readouterr().out
    summary = output.splitlines()[-len(ALL) :]
    return code, {line[:16].strip(): line.partition(" s  ")[2] for line in summary}, output


@pytest.mark.slow
def test_all_checks_pass_on_a_sound_pack(small_pack: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, ends, output = outcomes(small_pack, "/sound", capfd)
    assert (code, ends) == (0, dict.fromkeys(ALL, "passed")), output
    assert [f"{count} deselected in" in output for count in ("2 passed, 1", "1 passed, 2")] == [True, True], output


@pytest.mark.slow
def test_each_fault_is_found_by_its_check_and_all_checks_run(
    small_pack: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, text, _ in FAULTS.values():
        with (small_pack / name).open("a") as file:
            file.write(text)
    code, ends, output = outcomes(small_pack, "/broken", capfd)
    assert (code, ends) == (1, dict.fromkeys(ALL, "FAILED (exit code 1)")), output
    parts = {part.partition("\n")[0]: part for part in output.split("\n-- ")}
    assert [check for check, (_, _, saying) in FAULTS.items() if saying not in parts[check]] == [], output
    assert [f"{count} deselected in" in output for count in ("2 failed, 2", "1 failed, 3")] == [True, True], output
