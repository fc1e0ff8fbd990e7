"""The registry's archive holds the code that runs and nothing else, and nothing that the registry's scanner flags."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from archive import REPO, shipped_files, unpacked_archive

FOLDERS = {"locales", "nodes", "tgate_core", "web", "workflows", "subgraphs"}
SHIPPED = {*FOLDERS, "LICENSE", "README.md", "__init__.py", "pyproject.toml"}
KINDS = {"", ".jpg", ".js", ".json", ".md", ".png", ".py", ".svg", ".toml"}
PICTURES = (".jpg", ".png", ".svg")
MOST_BYTES = 1_600_000
# As a scanner reads: in any text file, comments included.
FLAGGED = {
    "programs": r"\bsubprocess\b|\bpopen\b|os\.(?:system|exec|spawn)",
    "network": r"\burllib\b|\bhttpx?\.|\brequests\b|\bsocket\.|ClientSession|XMLHttpRequest|WebSocket|fetch\(.?https?:",
    "environment": r"\benviron\b|\bgetenv\b",
    "code": r"\beval\s*\(|(?<![\w.])exec\s*\(|__import__|\bnew Function\b|\bctypes\.\w*DLL|\bcdll\b",
    "unpickling": r"\bpickle\b|\bmarshal\b|\bshelve\b|torch\.load",
    "hidden": r"\bbase64\b|\batob\b|\bfromhex\b|\\x[0-9a-f]{2}\\x|[A-Za-z0-9+/=]{200,}",
}
# One of each, as somebody might add it.
FAULTS = {
    "programs": "from subprocess import run\n",
    "programs, by name": "import os\n\nos.system('ls')\n",
    "network": "import requests\n",
    "network, from a page": "await fetch('https://example.com/')\n",
    "environment": "from os import environ\n",
    "code": "VALUE = eval ('1')\n",
    "unpickling": "import pickle\n",
    "hidden": f'BLOB = "{"QUFB" * 60}"\n',
}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked_archive(tmp_path_factory.mktemp("archive"))


def flags(name: str, text: str) -> list[str]:
    """What a text would be flagged for: where, why and for which words."""
    found = ((kind, match) for kind, pattern in FLAGGED.items() for match in re.finditer(pattern, text))
    return [f"{name}: {kind}: {match[0][:40]}" for kind, match in found]


def security_findings(folder: Path) -> str:
    """What ruff's security rules say, the registry's own two and the one on several statements in a line included."""
    # S105 takes names with 'pass' in them for passwords.
    rules = ["--isolated", "--no-cache", "--select", "S,E702", "--ignore", "S105", "--output-format", "concise"]
    command = [sys.executable, "-m", "ruff", "check", *rules, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def test_holds_what_runs_and_nothing_else(archive: Path) -> None:
    assert {path.name for path in archive.iterdir()} == SHIPPED
    assert {path.suffix for path in archive.rglob("*") if path.is_file()} <= KINDS


def test_leaves_out_nothing_that_runs() -> None:
    here = {str(path.relative_to(REPO)) for part in ("nodes", "tgate_core") for path in (REPO / part).rglob("*.py")}
    assert here <= set(shipped_files())


def test_is_small(archive: Path) -> None:
    sizes = {path: path.stat().st_size for path in archive.rglob("*") if path.is_file()}
    assert sum(size for path, size in sizes.items() if path.suffix not in PICTURES) < MOST_BYTES


def test_nothing_is_flagged(archive: Path) -> None:
    files = [path for path in archive.rglob("*") if path.is_file() and path.suffix not in PICTURES]
    assert [flag for path in files for flag in flags(path.name, path.read_text(encoding="utf-8"))] == []
    assert "All checks passed" in security_findings(archive)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_scan_finds(fault: str) -> None:
    (flag,) = flags("apply.py", FAULTS[fault])
    assert flag.startswith(f"apply.py: {fault.partition(',')[0]}: ")


def test_the_security_rules_find(tmp_path: Path) -> None:
    (tmp_path / "apply.py").write_text("exec('a = 1')\n", encoding="utf-8")
    assert "S102" in security_findings(tmp_path)
