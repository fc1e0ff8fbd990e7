"""The core decides without ComfyUI: a bare interpreter with only the repository on its path can import it."""

import json
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]

IMPORT_EVERYTHING = """
import importlib, json, pkgutil, sys

sys.path.append(sys.argv[1])
import tgate_core

names = [f"tgate_core.{found.name}" for found in pkgutil.iter_modules(tgate_core.__path__)]
names.remove("tgate_core.comfy_host")
for name in names:
    importlib.import_module(name)
print(json.dumps({"imported": names, "all": sorted(sys.modules)}))
"""


def test_the_core_imports_without_comfyui():
    # Isolated: neither the environment's paths nor the folder it runs in can lend it a ComfyUI.
    command = [sys.executable, "-I", "-B", "-c", IMPORT_EVERYTHING, str(REPO)]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert outcome.returncode == 0, outcome.stderr
    modules = json.loads(outcome.stdout)
    written = {f"tgate_core.{path.stem}" for path in (REPO / "tgate_core").glob("*.py")} - {"tgate_core.__init__"}
    assert set(modules["imported"]) == written
    assert [name for name in modules["all"] if name.startswith(("comfy", "tgate_core.comfy_host"))] == []
