"""The checks of this project: linter, formatter, types, import contracts and tests, all of them each time."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .cache import cache_root, content_key
from .environment import Environment

# The pack has no name of its own: ComfyUI loads it by its folder. Checkers, which need one, are given this.
PACKAGE_NAME = "tgate_pack"
PACKAGE_PARTS = ("nodes", "tgate_core")
# For the tests' folder, not for the repository root: before Python 3.11 `-m` puts the current folder first on the path,
# where the pack's `nodes` would hide ComfyUI's nodes.py.
PYTEST = ("-m", "pytest", "-c", "pytest.ini", "--rootdir", ".")
# Whoever is done first takes over tests of the other.
TWO_PROCESSES = ("--numprocesses", "2", "--dist", "worksteal")
QUICK = "(unit or contract) and not random and not slow"
ON_OLDEST, ON_OTHERS = "hosts", "hosts and not oldest"
# A test's name may well be a word that they are given.
EXPRESSION_OPTIONS = ("-k", "-m")
CACHES = {"RUFF_CACHE_DIR": "ruff", "MYPY_CACHE_DIR": "mypy", "HYPOTHESIS_STORAGE_DIRECTORY": "hypothesis"}


@dataclass(frozen=True)
class Workplace:
    """Where and how the checks run."""

    environment: Environment
    pack: Path  # the repository root
    verbose: bool  # whether commands are shown

    def call(self, *command: str, folder: Path, at_end: bool = False, **variables: str) -> int:
        """Runs one command of the environment's Python, with its output on the terminal; returns the exit code.

        Args:
            command: the arguments of Python.
            folder: where to run it.
            at_end: the output comes in one piece, and files have the names that they have in the clone.
            variables: environment variables besides those of all checks.
        """
        if self.verbose:
            print("$", *command, flush=True)
        # A clone stays as it was checked out.
        caches = cache_root() / "checks" / content_key([str(self.pack), str(self.environment.python)])
        places = {variable: str(caches / name) for variable, name in CACHES.items()}
        result = subprocess.run(
            [str(self.environment.python), *command],
            cwd=folder,
            env={**self.environment.variables(), **places, **variables},
            stdout=subprocess.PIPE if at_end else None,
            text=True,
            check=False,
        )
        if at_end:
            print(result.stdout.replace(PACKAGE_NAME + os.sep, ""), end="", flush=True)
        return result.returncode


def run(
    environment: Environment, older: Sequence[Environment], pack: Path, pytest_arguments: Sequence[str], verbose: bool
) -> int:
    """Runs every check, whatever the others say, and sums up; 0 if all passed, else 1.

    On `older` hosts, the oldest of them first, run the tests that are marked `hosts`, and `oldest` ones on the first
    alone. Without arguments for pytest all tests run.
    """
    place, tests = Workplace(environment, pack, verbose), pack / "tests"
    named_tests = absolute_paths(pytest_arguments or TWO_PROCESSES, Path.cwd(), tests)
    checks: dict[str, Callable[[], int]] = {
        "ruff check": lambda: place.call("-m", "ruff", "check", ".", folder=pack),
        "ruff format": lambda: place.call("-m", "ruff", "format", "--check", ".", folder=pack),
        "mypy": lambda: check_types(place),
        "imports": lambda: check_imports(place),
        "pytest": lambda: place.call(*PYTEST, *named_tests, folder=tests),
    }
    print(f"ComfyUI {environment.comfyui_version} at {environment.comfyui}", flush=True)
    results = [_timed(name, check) for name, check in checks.items()]
    # Each in one process, so that another host can be tested beside it.
    hosts = {f"hosts {other.comfyui_version}": Workplace(other, pack, verbose) for other in older}
    chosen = [ON_OLDEST, *[ON_OTHERS] * len(hosts)]
    run_hosts = [
        partial(host.call, *PYTEST, "-m", marked, folder=tests, at_end=True)
        for host, marked in zip(hosts.values(), chosen, strict=False)
    ]
    with ThreadPoolExecutor(max_workers=2) as processors:
        results += processors.map(_timed, hosts, run_hosts)
    print("\n".join(["", *(line for line, _ in results)]), flush=True)
    return 0 if all(passed for _, passed in results) else 1


def _timed(name: str, check: Callable[[], int]) -> tuple[str, bool]:
    print(f"\n-- {name}", flush=True)
    start = time.monotonic()
    code = check()
    outcome = "passed" if code == 0 else f"FAILED (exit code {code})"
    return f"{name:16} {time.monotonic() - start:6.1f} s  {outcome}", code == 0


def check_types(place: Workplace) -> int:
    """mypy over the pack and the tools."""
    with _packaged(place.pack) as folder:
        tools = sorted(path.stem for path in (folder / "tools").glob("*.py"))
        packages = [PACKAGE_NAME, *(path.parent.name for path in (folder / "tools").glob("*/__init__.py"))]
        arguments = [f"--package={package}" for package in packages] + [f"--module={module}" for module in tools]
        command = ["-m", "mypy", "--config-file", str(place.pack / "pyproject.toml"), *arguments]
        search = os.pathsep.join([str(folder), str(folder / "tools")])
        return place.call(*command, folder=folder, at_end=True, MYPYPATH=search)


def check_imports(place: Workplace) -> int:
    """import-linter's contracts over the pack, which they call `PACKAGE_NAME`."""
    project = str(place.pack / "pyproject.toml")
    lint = f"from importlinter.cli import lint_imports as lint; exit(lint({project!r}, no_cache=True))"
    with _packaged(place.pack) as folder:
        return place.call("-c", lint, folder=folder, PYTHONPATH=str(folder / "tools"))


@contextmanager
def _packaged(pack: Path) -> Iterator[Path]:
    """A folder with a copy of the pack as a package, and of the tools.

    The folder of a clone may have any name, hyphens included, and relative imports that leave `nodes` need a package
    around it.
    """
    with tempfile.TemporaryDirectory(prefix="tgate-checks-") as name:
        folder = Path(name)
        no_byte_code = shutil.ignore_patterns("__pycache__")
        shutil.copytree(pack / "tools", folder / "tools", ignore=no_byte_code)
        package = folder / PACKAGE_NAME
        package.mkdir()
        shutil.copy2(pack / "__init__.py", package)
        for part in PACKAGE_PARTS:
            shutil.copytree(pack / part, package / part, ignore=no_byte_code)
        yield folder


def absolute_paths(arguments: Sequence[str], folder: Path, tests: Path) -> list[str]:
    """pytest's arguments with the tests named relative to `folder` named in full, and all else as it is."""
    result: list[str] = []
    for argument in arguments:
        name, separator, rest = argument.partition("::")
        path = (folder / name).resolve()
        is_value = bool(result) and result[-1] in EXPRESSION_OPTIONS
        if not is_value and path.exists() and path.is_relative_to(tests.resolve()):
            argument = f"{path}{separator}{rest}"
        result.append(argument)
    return result
