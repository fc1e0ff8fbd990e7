"""The checks of this project: linter, formatter, types and tests, all of them each time."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .cache import cache_root, content_key
from .environment import Environment

# The pack has no name of its own: ComfyUI loads it by its folder. For the type checker, which needs one, it gets this.
PACKAGE_NAME = "tgate_pack"
PACKAGE_PARTS = ("nodes", "tgate_core")
# What takes minutes and asks nothing of the host that the other contract tests do not ask.
NEWEST_HOST_ONLY = (
    "contract/test_random_graphs.py",
    "contract/test_random_families.py",
    "contract/test_deep_cache_beside.py",
    "contract/test_deep_cache_gated.py",
    "contract/test_families_beside.py",
    "contract/test_overhead.py",
    "contract/test_run_precision.py",
    "contract/test_run_shapes.py",
    "contract/test_run_sigmas.py",
    "contract/test_unet_kin.py",
    # Attention's own products go by the name of layers' there, so that what is told has nothing to be compared with.
    "contract/test_costs.py",
)
# For the tests' folder, not for the repository root: before Python 3.11 `-m` puts the current folder first on the path,
# where the pack's `nodes` would hide ComfyUI's nodes.py.
PYTEST_OPTIONS = ("-c", "pytest.ini", "--rootdir", ".")
# A test's name may well be a word that they are given.
EXPRESSION_OPTIONS = ("-k", "-m")


@dataclass(frozen=True)
class Finished:
    """A check that ran apart: its exit code, all that it printed, and how long it took."""

    code: int
    output: str
    seconds: float


@dataclass(frozen=True)
class Workplace:
    """Where and how the checks run.

    Attributes:
        environment: the Python and the ComfyUI.
        pack: the repository root.
        variables: the checks' environment variables.
        verbose: whether commands are shown.
    """

    environment: Environment
    pack: Path
    variables: dict[str, str]
    verbose: bool

    def call(self, *command: str, folder: Path | None = None, prefix: str = "", **variables: str) -> int:
        """Runs one command of the environment's Python, with its output on the terminal.

        Args:
            command: the arguments of Python.
            folder: where to run it; the repository root when None.
            prefix: what to leave out of the output wherever it occurs; the output then comes at the end.
            variables: environment variables besides those of all checks.

        Returns:
            The exit code.
        """
        if self.verbose:
            print("$", *command, flush=True)
        program = [str(self.environment.python), *command]
        settings = {**self.variables, **variables}
        capture = subprocess.PIPE if prefix else None
        result = subprocess.run(program, cwd=folder or self.pack, env=settings, stdout=capture, text=True, check=False)
        if prefix:
            print(result.stdout.replace(prefix, ""), end="", flush=True)
        return result.returncode


def run(
    environment: Environment,
    others: Sequence[Environment],
    pack: Path,
    pytest_arguments: Sequence[str],
    verbose: bool,
) -> int:
    """Runs every check, whatever the others say, and sums up; 0 if all passed, else 1.

    Args:
        environment: where everything is checked.
        others: further hosts, on which the contract tests run.
        pack: the repository root.
        pytest_arguments: what pytest is given; without any, all tests run, in two processes.
        verbose: whether commands are shown.
    """
    place = _workplace(environment, pack, verbose)
    checks: dict[str, Callable[[], int]] = {
        "ruff check": lambda: place.call("-m", "ruff", "check", "."),
        "ruff format": lambda: place.call("-m", "ruff", "format", "--check", "."),
        "mypy": lambda: check_types(place),
    }
    contracts = {
        f"contract {other.comfyui_version}": partial(_contract, _workplace(other, pack, verbose)) for other in others
    }
    tests, meanwhile = _tests(place, contracts, pytest_arguments)
    print(f"ComfyUI {environment.comfyui_version} at {environment.comfyui}", flush=True)
    with ThreadPoolExecutor(max_workers=1) as background:
        waiting = {name: background.submit(check) for name, check in meanwhile.items()}
        results = [_timed(name, check) for name, check in (checks | tests).items()]
        # From the last on: what has not begun by now is run here, so that neither waits for the other.
        for name, running in reversed(waiting.items()):
            check = meanwhile[name] if running.cancel() else running.result
            results.append(_timed(name, partial(_show, check)))
    print("\n".join(["", *(line for line, _ in results)]), flush=True)
    return 0 if all(passed for _, passed in results) else 1


def _tests(
    place: Workplace, contracts: Mapping[str, Callable[[], Finished]], arguments: Sequence[str]
) -> tuple[dict[str, Callable[[], int]], dict[str, Callable[[], Finished]]]:
    """Runs of pytest by name: those that are seen one after the other, and those that go on meanwhile."""
    if arguments:
        return {"pytest": lambda: run_tests(place, arguments)}, dict(contracts)
    contract = str(place.pack / "tests" / "contract")
    meanwhile: dict[str, Callable[[], Finished]] = {"pytest the rest": partial(_all_but_contract, place)}
    return {"pytest contract": lambda: run_tests(place, [contract])}, {**meanwhile, **contracts}


def _workplace(environment: Environment, pack: Path, verbose: bool) -> Workplace:
    caches = cache_root() / "checks" / content_key([str(pack), str(environment.python)])
    own_caches = {
        "RUFF_CACHE_DIR": str(caches / "ruff"),
        "MYPY_CACHE_DIR": str(caches / "mypy"),
        "HYPOTHESIS_STORAGE_DIRECTORY": str(caches / "hypothesis"),
    }
    return Workplace(environment, pack, {**environment.variables(), **own_caches}, verbose)


def _contract(place: Workplace) -> Finished:
    """The contract tests on an older host."""
    tests = place.pack / "tests"
    ignored = [f"--ignore={tests / name}" for name in NEWEST_HOST_ONLY]
    return _pytest_apart(place, "-q", "-m", "not slow", *ignored, str(tests / "contract"))


def _all_but_contract(place: Workplace) -> Finished:
    tests = place.pack / "tests"
    return _pytest_apart(place, f"--ignore={tests / 'contract'}", str(tests))


def _pytest_apart(place: Workplace, *arguments: str) -> Finished:
    """pytest whose output is kept until it is shown in one piece."""
    start = time.monotonic()
    command = [str(place.environment.python), "-m", "pytest", *PYTEST_OPTIONS, *arguments]
    done = subprocess.run(
        command, cwd=place.pack / "tests", env=place.variables, check=False, capture_output=True, text=True
    )
    return Finished(done.returncode, done.stdout + done.stderr, time.monotonic() - start)


def _show(check: Callable[[], Finished]) -> int:
    done = check()
    print(f"{done.output}\ntook {done.seconds:.0f} s", flush=True)
    return done.code


def _timed(name: str, check: Callable[[], int]) -> tuple[str, bool]:
    print(f"\n-- {name}", flush=True)
    start = time.monotonic()
    code = check()
    outcome = "passed" if code == 0 else f"FAILED (exit code {code})"
    return f"{name:16} {time.monotonic() - start:6.1f} s  {outcome}", code == 0


def check_types(place: Workplace) -> int:
    """mypy over the pack and the tools.

    It sees a copy of the pack as a package with a proper name: the folder of a clone may have any, hyphens included,
    and relative imports that leave `nodes` need a package around it.
    """
    with tempfile.TemporaryDirectory(prefix="tgate-types-") as name:
        folder = Path(name)
        _copy_sources(place.pack, folder)
        tools = sorted(path.stem for path in (folder / "tools").glob("*.py"))
        packages = [PACKAGE_NAME, *(path.parent.name for path in (folder / "tools").glob("*/__init__.py"))]
        arguments = [f"--package={package}" for package in packages] + [f"--module={module}" for module in tools]
        command = ["-m", "mypy", "--config-file", str(place.pack / "pyproject.toml"), *arguments]
        search = os.pathsep.join([str(folder), str(folder / "tools")])
        return place.call(*command, folder=folder, prefix=PACKAGE_NAME + os.sep, MYPYPATH=search)


def _copy_sources(pack: Path, folder: Path) -> None:
    no_byte_code = shutil.ignore_patterns("__pycache__")
    shutil.copytree(pack / "tools", folder / "tools", ignore=no_byte_code)
    package = folder / PACKAGE_NAME
    package.mkdir()
    shutil.copy2(pack / "__init__.py", package)
    for part in PACKAGE_PARTS:
        shutil.copytree(pack / part, package / part, ignore=no_byte_code)


def run_tests(place: Workplace, arguments: Sequence[str]) -> int:
    """pytest over the tests that the arguments name, or all."""
    tests = place.pack / "tests"
    return place.call("-m", "pytest", *PYTEST_OPTIONS, *absolute_paths(arguments, Path.cwd(), tests), folder=tests)


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
