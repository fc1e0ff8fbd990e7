"""The core decides without ComfyUI: a bare interpreter with only the repository on its path can import it."""

import json
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]

IMPORT_EVERYTHING = """
import importlib, json, sys

sys.path.append(sys.argv[1])
for name in sys.argv[2:]:
    importlib.import_module(name)
print(json.dumps(sorted(sys.modules)))
"""


def test_the_core_imports_without_comfyui():
    files = [path.relative_to(REPO).with_suffix("") for path in (REPO / "tgate_core").rglob("*.py")]
    names = {".".join(part for part in path.parts if part != "__init__") for path in files}
    alone = sorted(name for name in names if not name.startswith("tgate_core.host"))
    assert len(alone) > 20
    # Isolated: neither the environment's paths nor the folder it runs in can lend it a ComfyUI.
    command = [sys.executable, "-I", "-B", "-c", IMPORT_EVERYTHING, str(REPO), *alone]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert outcome.returncode == 0, outcome.stderr
    imported = json.loads(outcome.stdout)
    assert [name for name in imported if name.startswith(("comfy", "tgate_core.host"))] == []
