"""`bench gpu` rehearsed from its bundle, on a Python that has torch and no other package."""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import platform
import subprocess
import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import pytest

from tgate_dev import bootstrap, environment
from tgate_dev.bench.gpu import bundle
from tgate_dev.bench.gpu.parts import PARTS
from tgate_dev.cache import cache_root

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif((sys.platform, platform.machine()) != ("linux", "x86_64"), reason="bundles are for Linux"),
]
FIRST = "wan-1.3b-bf16-sdpa"
# For all of them torch would follow the code of each network for minutes: of the compiled ones, a UNet and a DiT.
REHEARSED = ("*-sdpa", "sd15-*-compiled", "wan-*-compiled")
ROWS = {"plain", "TGATE Apply, balanced", "TGATE Apply, fast", "EasyCache"}
UNET_ROWS = {"TGATE DeepCache", "TGATE DeepCache + Apply, balanced", "TGATE DeepCache + Apply, fast"}


@pytest.fixture
def bundled(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    assert bundle.pack(environment.current(), argparse.Namespace(bundle=folder, python=None)) == 0
    return folder


@pytest.fixture
def bare_python(tmp_path: Path) -> Path:
    """A Python with torch, numpy and what they need."""
    venv, variables = tmp_path / "bare", {"UV_CACHE_DIR": str(cache_root() / "uv"), **os.environ}
    python = venv / "bin" / "python"
    subprocess.run([bootstrap.uv(), "venv", "--python", sys.executable, str(venv)], env=variables, check=True)
    wanted = [f"{name}=={version(name)}" for name in ("torch", "numpy")]
    # Torch has gigabytes.
    command = [bootstrap.uv(), "pip", "install", "--link-mode", "symlink", "--python", str(python), *wanted]
    subprocess.run(command, env=variables, check=True)
    return python


def run(folder: Path, python: Path, out: Path, *options: str) -> str:
    command = ["sh", str(folder / "run.sh"), "--rehearse", "--runs", "1", "--out", str(out), *options]
    variables = {"PATH": os.defpath, "HOME": str(out.parent), "PYTHON": str(python), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=out.parent, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_rehearsal(bundled: Path, bare_python: Path, tmp_path: Path) -> None:
    """Parts go on where they stopped: the second command leaves the one that the first named."""
    out = tmp_path / "out"
    assert run(bundled, bare_python, out, FIRST).startswith(f"| {FIRST}, tiny, ")
    first = (out / "gpu-records.jsonl").read_text(encoding="utf-8")
    printed = run(bundled, bare_python, out, *REHEARSED)
    assert (out / "gpu.md").read_text(encoding="utf-8") in printed
    records = (out / "gpu-records.jsonl").read_text(encoding="utf-8")
    assert records.startswith(first)
    lines = [json.loads(line) for line in records.splitlines()]
    runs = Counter((line["settings"]["part"], line["row"]) for line in lines)
    assert set(runs.values()) == {1}
    expected = {name for pattern in REHEARSED for name in fnmatch.filter(PARTS, pattern) if "-sdpa" in name}
    assert len(expected) == 12
    assert {part for part, _ in runs} == expected
    for part in expected:
        rows = {row for name, row in runs if name == part}
        assert rows >= ROWS
        assert (rows >= UNET_ROWS) == part.startswith("sd")
    found = json.loads((out / "gpu.json").read_text(encoding="utf-8"))
    assert found["failed"] == []
    assert {target["part"] for target in found["targets"]} == expected
    assert not (out / "gpu.png").exists()
