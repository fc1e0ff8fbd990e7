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
SOURCES = {
    "__init__.py": "",
    "tgate_core/__init__.py": "",
    "tgate_core/config.py": "GATE: int = 1\n",
    "nodes/__init__.py": "",
    "nodes/apply.py": "from ..tgate_core.config import GATE\n\nVALUE = GATE + 1\n",
    "tools/small_dev/__init__.py": "",
    "tests/test_it.py": TEST,
    "tests/contract/test_contract.py": "def test_contract() -> None:\n    pass\n",
    "tests/contract/test_random_graphs.py": "def test_random_graphs() -> None:\n    pass\n",
}
# What is appended to a file, and the one check that must mind it.
FAULTS = {
    "none": ("nodes/apply.py", ""),
    "ruff check": ("nodes/apply.py", "\n\ndef unused() -> None:\n    import os\n"),
    "ruff format": ("nodes/apply.py", "X  =  1\n"),
    "mypy": ("nodes/apply.py", "WRONG: str = VALUE\n"),
    "pytest contract": ("tests/contract/test_contract.py", "\n\ndef test_fault() -> None:\n    raise AssertionError\n"),
    "pytest the rest": ("tests/test_it.py", "\n\ndef test_fault() -> None:\n    raise AssertionError\n"),
}


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("caches")


@pytest.fixture
def small_pack(tmp_path: Path) -> Path:
    """A clone in a folder whose name is not an identifier."""
    pack = tmp_path / "any-name"
    for name, text in SOURCES.items():
        (pack / name).parent.mkdir(parents=True, exist_ok=True)
        (pack / name).write_text(text)
    shutil.copy(REPO / "pyproject.toml", pack)
    shutil.copy(REPO / "tests" / "pytest.ini", pack / "tests")
    return pack


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_by_its_check_and_all_checks_run(
    fault: str,
    small_pack: Path,
    caches: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TGATE_CACHE_DIR", str(caches))
    name, text = FAULTS[fault]
    with (small_pack / name).open("a") as file:
        file.write(text)
    ready = environment.Environment(Path(sys.executable), Path(os.environ["TGATE_COMFYUI"]), "any")
    before = set(small_pack.rglob("*"))
    assert checks.run(ready, [], small_pack, [], verbose=False) == (0 if fault == "none" else 1)
    assert set(small_pack.rglob("*")) == before
    output = capfd.readouterr().out
    summary = {line[:16].strip(): line.split()[-1] for line in output.splitlines()[-5:]}
    assert [check for check, outcome in summary.items() if outcome != "passed"] == [fault] * (fault != "none")
    assert ("1 failed, 2 passed in" if fault == "pytest contract" else "2 passed in") in output
    assert ("1 failed, 1 passed in" if fault == "pytest the rest" else "1 passed in") in output
    assert ("\nnodes/apply.py:4: error" in output) == (fault == "mypy")


@pytest.mark.slow
@pytest.mark.parametrize("host", ["/old", "/older"])
def test_the_contract_is_tested_on_further_hosts(
    host: str, small_pack: Path, caches: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TGATE_CACHE_DIR", str(caches))
    needs_old = 'import os\n\n\ndef test_host() -> None:\n    assert os.environ["TGATE_COMFYUI"] == "/old"\n'
    (small_pack / "tests/contract/test_contract.py").write_text(needs_old)
    (small_pack / "tests/contract/test_random_graphs.py").write_text('raise RuntimeError("not for older hosts")\n')
    ready = environment.Environment(Path(sys.executable), Path(os.environ["TGATE_COMFYUI"]), "any")
    old = environment.Environment(Path(sys.executable), Path(host), "0.1")
    code = checks.run(ready, [old], small_pack, ["test_it.py"], verbose=False)
    output = capfd.readouterr().out
    assert code == (host != "/old"), output
    summary = output.splitlines()[-1]
    assert summary.startswith("contract 0.1")
    assert summary.split("s  ")[1] == ("passed" if host == "/old" else "FAILED (exit code 1)")
