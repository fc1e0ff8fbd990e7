"""`bench gpu` rehearsed from its bundle, on a Python that has torch and no other package."""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import platform
import subprocess
import sys
import sysconfig
from collections import Counter
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tgate_dev import environment
from tgate_dev.bench.gpu import bundle
from tgate_dev.bench.gpu.parts import PARTS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif((sys.platform, platform.machine()) != ("linux", "x86_64"), reason="bundles are for Linux"),
]
FIRST = "wan-1.3b-bf16-sdpa"
# In a rehearsal bf16 is fp32, as fp16 is. For all that are compiled torch would follow the code of each network for
# minutes: of those, a UNet and a DiT.
REHEARSED = ("[!s]*-sdpa", "sdxl-[!b]*-sdpa", "sd15-*-sdpa", "sdxl-fp16-batch1-*-compiled", "wan-*-compiled")
WEIGHTS = {f"sdxl-{name}-sdpa" for name in ("fp8-weights", "int8-weights", "lowvram")}
ROWS = {"plain", "TGATE Apply, balanced", "TGATE Apply, fast", "EasyCache"}
UNET_ROWS = {"TGATE DeepCache", "TGATE DeepCache + Apply, balanced", "TGATE DeepCache + Apply, fast"}


@pytest.fixture
def bundled(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    assert bundle.pack(environment.current(), argparse.Namespace(bundle=folder, python=None)) == 0
    return folder


def needed_by(*names: str) -> set[str]:
    """These distributions and all that they need here."""
    found: set[str] = set()
    waiting = [*names]
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in found:
            found.add(name)
            asked = map(Requirement, distribution(name).requires or ())
            waiting += [one.name for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


@pytest.fixture
def bare_python(tmp_path: Path) -> Path:
    """A Python with torch, numpy and what they need: those of this environment, as torch has gigabytes."""
    venv = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(venv), "platbase": str(venv)}))
    for name in needed_by("torch", "numpy"):
        found = distribution(name)
        for top in {path.parts[0] for path in found.files or ()} - {"..", "__pycache__"}:
            if not (packages / top).exists():
                (packages / top).symlink_to(Path(str(found.locate_file(top))))
    return venv / "bin" / "python"


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
    assert {part for part, _ in runs} == expected >= WEIGHTS
    assert len(expected) == 13
    for part in expected:
        rows = {row for name, row in runs if name == part}
        assert rows >= ROWS
        assert (rows >= UNET_ROWS) == part.startswith("sd")
    found = json.loads((out / "gpu.json").read_text(encoding="utf-8"))
    assert found["failed"] == []
    assert {target["part"] for target in found["targets"]} == expected
    assert not (out / "gpu.png").exists()
