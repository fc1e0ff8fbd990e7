"""The developer tool: which ComfyUI it takes, how it reads its command line, and what it says when it cannot go on."""

from __future__ import annotations

import ast
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tgate_dev import checks, comfyui, environment
from tgate_dev.cli import parse
from tgate_dev.errors import UserError

REPO = Path(__file__).resolve().parents[2]
TOOL = REPO / "tools" / "dev.py"


def make_tree(folder: Path, version: str = "0.30.0") -> Path:
    """The files that ComfyUI's folder is recognised by."""
    folder.mkdir(parents=True)
    (folder / "main.py").touch()
    (folder / "requirements.txt").write_text("einops\n")
    (folder / "comfyui_version.py").write_text(f'# generated\n__version__ = "{version}"\n')
    return folder


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("TGATE_CACHE_DIR", str(folder))
    return folder


def run_tool(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOL), *arguments]
    return subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=60)


class TestChoiceOfComfyui:
    def test_explicit_path_comes_before_the_tree_around_the_pack(self, tmp_path: Path) -> None:
        around = make_tree(tmp_path / "around", "0.20.1")
        explicit = make_tree(tmp_path / "explicit", "0.24.1")
        pack = around / "custom_nodes" / "pack"
        found = comfyui.find_local(pack, {"COMFYUI_PATH": str(explicit)})
        assert found == comfyui.Comfyui(explicit, "0.24.1")

    def test_tree_around_the_pack(self, tmp_path: Path) -> None:
        tree = make_tree(tmp_path / "tree", "0.20.1")
        assert comfyui.find_local(tree / "custom_nodes" / "pack", {}) == comfyui.Comfyui(tree, "0.20.1")
        assert comfyui.find_local(tree / "custom_nodes" / "pack", {"COMFYUI_PATH": ""}) is not None

    def test_a_pack_elsewhere_has_no_tree(self, tmp_path: Path) -> None:
        tree = make_tree(tmp_path / "tree")
        assert comfyui.find_local(tree / "other" / "pack", {}) is None
        (tree / "main.py").unlink()
        assert comfyui.find_local(tree / "custom_nodes" / "pack", {}) is None

    def test_requested_version_comes_before_both(self, tmp_path: Path, cache_folder: Path) -> None:
        own = make_tree(tmp_path / "own", "0.24.1")
        fetched = make_tree(cache_folder / "comfyui" / f"0.20.1-{comfyui.PINS['0.20.1'].sha256[:8]}", "0.20.1")
        variables = {"COMFYUI_PATH": str(own)}
        chosen = environment.choose_comfyui("0.20.1", tmp_path / "pack", variables, verbose=False)
        assert chosen == comfyui.Comfyui(fetched, "0.20.1")
        assert environment.choose_comfyui(None, tmp_path / "pack", variables, verbose=False).path == own

    def test_default_is_the_newest_pinned(self, tmp_path: Path, cache_folder: Path) -> None:
        newest = max(comfyui.PINS, key=lambda version: [int(number) for number in version.split(".")])
        tree = make_tree(cache_folder / "comfyui" / f"{newest}-{comfyui.PINS[newest].sha256[:8]}", newest)
        assert environment.choose_comfyui(None, tmp_path / "pack", {}, verbose=False) == comfyui.Comfyui(tree, newest)

    def test_too_old_a_tree_is_refused(self, tmp_path: Path) -> None:
        tree = make_tree(tmp_path / "tree", "0.16.2")
        with pytest.raises(UserError, match=r"is ComfyUI 0\.16\.2 and the pack needs 0\.16\.3"):
            comfyui.find_local(tmp_path / "pack", {"COMFYUI_PATH": str(tree)})

    @pytest.mark.parametrize("version", ["0.16.3", "0.100.0", "1.0.0", "0.31.0-dev"])
    def test_newer_trees_are_taken(self, tmp_path: Path, version: str) -> None:
        tree = make_tree(tmp_path / "tree", version)
        assert comfyui.find_local(tmp_path / "pack", {"COMFYUI_PATH": str(tree)}) == comfyui.Comfyui(tree, version)


class TestExitCodes:
    """What the user can put right: one sentence on the error stream, nothing on the other, exit code 2."""

    def assert_refused(self, result: subprocess.CompletedProcess[str], *sayings: str) -> None:
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.count("\n") == 1, result.stderr
        assert all(saying in result.stderr for saying in sayings), result.stderr

    def test_comfyui_path_that_is_no_folder(self, tmp_path: Path) -> None:
        result = run_tool("env", COMFYUI_PATH=str(tmp_path / "nowhere"))
        self.assert_refused(result, "COMFYUI_PATH", "not a folder", "unset it")

    def test_comfyui_path_without_comfyui(self, tmp_path: Path) -> None:
        (tmp_path / "main.py").touch()
        result = run_tool("test", COMFYUI_PATH=str(tmp_path))
        self.assert_refused(result, "no comfyui_version.py and no requirements.txt", "unset it")

    def test_comfyui_path_without_a_version(self, tmp_path: Path) -> None:
        tree = make_tree(tmp_path / "tree")
        (tree / "comfyui_version.py").write_text("")
        self.assert_refused(run_tool("env", COMFYUI_PATH=str(tree)), "comfyui_version.py states no version")

    def test_unknown_version(self) -> None:
        self.assert_refused(run_tool("env", "--comfyui-version", "9.9.9"), "9.9.9", *comfyui.PINS, "COMFYUI_PATH")

    def test_cache_that_cannot_be_used(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        result = run_tool("env", COMFYUI_PATH=str(make_tree(tmp_path / "tree")), TGATE_CACHE_DIR=str(tmp_path / "file"))
        self.assert_refused(result, str(tmp_path / "file"), "TGATE_CACHE_DIR")

    def test_verbose_shows_where_it_came_from(self, tmp_path: Path) -> None:
        result = run_tool("env", "--verbose", COMFYUI_PATH=str(tmp_path / "nowhere"))
        assert result.returncode == 2
        assert "Traceback" in result.stderr

    def test_old_python(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        ast.parse(TOOL.read_text(), feature_version=(3, 4))
        monkeypatch.setattr(sys, "version_info", (3, 9, 18, "final", 0))
        with pytest.raises(SystemExit) as exit_:
            runpy.run_path(str(TOOL), run_name="__main__")
        assert exit_.value.code == 2
        assert "needs Python 3.10 or newer and was started with 3.9" in capsys.readouterr().err


class TestCommandLine:
    def test_arguments_after_the_dashes_are_pytests(self) -> None:
        options = parse(["test", "--comfyui-version", "0.20.1", "--", "-k", "cache", "--verbose"])
        assert options.pytest_arguments == ["-k", "cache", "--verbose"]
        assert (options.comfyui_version, options.verbose) == ("0.20.1", False)

    def test_quick_chooses_the_tests_itself(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert parse(["test", "--quick"]).quick
        with pytest.raises(SystemExit):
            parse(["test", "--quick", "--", "unit"])
        assert "leave out it, or the arguments after --" in capsys.readouterr().err

    def test_measurements_are_named(self, capsys: pytest.CaptureFixture[str]) -> None:
        options = parse(["bench", "macs", "--comfyui-version", "0.24.1"])
        assert (options.measurement, options.comfyui_version) == ("macs", "0.24.1")
        for arguments in (["bench"], ["bench", "speed"]):
            with pytest.raises(SystemExit) as exit_:
                parse(arguments)
            assert exit_.value.code == 2
            assert "macs" in capsys.readouterr().err

    def test_tests_are_named_from_where_the_user_is(self, tmp_path: Path) -> None:
        tests = tmp_path / "tests"
        (tests / "unit").mkdir(parents=True)
        (tests / "unit" / "test_a.py").touch()
        (tmp_path / "nodes").mkdir()
        given = ["-k", "test_a.py", "test_a.py::test_one", "../unit", "missing.py", "../../nodes", "-x"]
        absolute = [f"{tests}/unit/test_a.py::test_one", f"{tests}/unit"]
        expected = ["-k", "test_a.py", *absolute, "missing.py", "../../nodes", "-x"]
        assert checks.absolute_paths(given, tests / "unit", tests) == expected
