"""The developer tool's set-up: what it installs, keeps, throws away and shows. Nothing here needs the network."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tgate_dev import cache, comfyui_fetch, pip, virtualenv
from tgate_dev.errors import UserError
from tgate_dev.process import CommandFailed, Runner
from tgate_dev.progress import Stage

posix_only = pytest.mark.skipif(os.name != "posix", reason="Windows hands no descriptors down and has no signal 0")


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("TGATE_CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    with (tmp_path / "held.lock").open("w") as lock:
        yield Runner.fresh(tmp_path / "logs" / "test.log", False, lock.fileno())


class TestRequirements:
    def test_torch_is_pinned_and_media_left_out(self, tmp_path: Path) -> None:
        (tmp_path / "requirements.txt").write_text(
            "comfyui-frontend-package==1.47.12\ncomfyui_workflow.templates==0.11.27\ntorch\nTorchVision\ntorchaudio>2\n"
            "torchsde  # noise\n\n#non essential dependencies:\nSQLAlchemy>=2.0.0\n"
        )
        host = ["comfyui-frontend-package==1.47.12", "torchsde", "SQLAlchemy>=2.0.0"]
        assert virtualenv.requirements(tmp_path) == [*virtualenv.TORCH, *host, *virtualenv.TOOLS]

    def test_key_follows_the_contents(self) -> None:
        key = virtualenv.environment_key(["torch==2.11.0", "einops"])
        assert key == virtualenv.environment_key(["einops", "torch==2.11.0"])
        assert key != virtualenv.environment_key(["torch==2.11.1", "einops"])
        assert key != virtualenv.environment_key(["torch==2.11.0", "einops", "scipy"])

    def test_key_follows_the_python(self, monkeypatch: pytest.MonkeyPatch) -> None:
        key = virtualenv.environment_key(["einops"])
        monkeypatch.setattr(sys, "version_info", (3, 99, 0, "final", 0))
        assert key != virtualenv.environment_key(["einops"])


class TestVirtualEnvironment:
    def test_a_finished_one_is_reused_and_a_stampless_one_is_not(self, tmp_path: Path, cache_folder: Path) -> None:
        (tmp_path / "requirements.txt").write_text("einops\n")
        place = cache_folder / "venv" / virtualenv.environment_key(virtualenv.requirements(tmp_path))
        python = virtualenv.interpreter(place)
        python.parent.mkdir(parents=True)
        python.symlink_to(sys.executable)
        assert not virtualenv.is_complete(place)
        (place / virtualenv.STAMP).touch()
        os.utime(place / virtualenv.STAMP, (0, 0))
        assert virtualenv.ready_virtualenv(tmp_path, verbose=False) == place
        assert time.time() - (place / virtualenv.STAMP).stat().st_mtime < 60
        python.unlink()
        assert not virtualenv.is_complete(place)

    def test_a_failed_build_leaves_nothing(self, tmp_path: Path, runner: Runner) -> None:
        place = tmp_path / "venvs" / "one"
        (place / "left").mkdir(parents=True)
        with pytest.raises(UserError, match=r"pip could not install the requirements: see its output in .*test\.log"):
            virtualenv.build(place, ["not a requirement"], runner)
        assert list(place.parent.iterdir()) == []
        assert "Invalid requirement" in runner.log.read_text()

    def test_a_build_stamps_last_what_it_installed(self, tmp_path: Path, runner: Runner) -> None:
        place = tmp_path / "venvs" / "one"
        (place / "left").mkdir(parents=True)
        virtualenv.build(place, ["pip"], runner)
        assert virtualenv.is_complete(place)
        assert json.loads((place / virtualenv.STAMP).read_text())["requirements"] == ["pip"]
        assert not (place / "left").exists()
        assert not (place / "tmp").exists()

    def test_too_small_a_disk_is_refused_before_anything_is_written(
        self, tmp_path: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(virtualenv, "NEEDED_GB", 10**9)
        with pytest.raises(UserError, match=r"needs 1000000000 GB .* has \d+\.\d GB left: free some space"):
            virtualenv.build(tmp_path / "venv", [], runner)
        assert not (tmp_path / "venv").exists()

    def test_a_python_that_lacks_pip_is_refused(
        self, tmp_path: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "ensurepip", None)
        with Stage("test", io.StringIO()) as stage, pytest.raises(UserError, match="apt install python3-venv"):
            virtualenv.make_virtualenv(tmp_path / "venv", runner, stage)


class TestProcesses:
    def test_output_of_a_failure_is_kept(self, runner: Runner) -> None:
        program = "import sys; print('before'); print('after', file=sys.stderr); sys.exit(3)"
        with Stage("test", io.StringIO()) as stage, pytest.raises(CommandFailed, match="exit code 3") as error:
            runner.run([sys.executable, "-u", "-c", program], stage)
        assert error.value.output.split() == ["before", "after"]
        assert error.value.output in runner.log.read_text()

    def test_verbose_shows_the_output(self, runner: Runner) -> None:
        shown = io.StringIO()
        verbose = Runner(runner.log, True, runner.lock)
        with Stage("test", shown) as stage:
            verbose.run([sys.executable, "-c", "print('so it goes')"], stage)
        assert "so it goes\n" in shown.getvalue()

    @posix_only
    def test_an_interrupt_ends_the_child(self, tmp_path: Path, runner: Runner) -> None:
        pid_file = tmp_path / "pid"
        program = f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"

        def interrupt(new_output: str) -> str:
            if pid_file.exists() and pid_file.read_text():
                raise KeyboardInterrupt
            return ""

        with Stage("test", io.StringIO()) as stage, pytest.raises(KeyboardInterrupt):
            runner.run([sys.executable, "-c", program], stage, interrupt)
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid_file.read_text()), 0)

    @posix_only
    def test_a_child_holds_the_lock_too(self, runner: Runner) -> None:
        with Stage("test", io.StringIO()) as stage:
            runner.run([sys.executable, "-c", f"import os; os.fstat({runner.lock})"], stage)

    @posix_only
    def test_a_child_that_outlives_its_parent_keeps_the_lock(self, tmp_path: Path) -> None:
        entry = tmp_path / "entry"
        waits: list[str] = []
        with cache.locked(entry, lambda: waits.append("first")) as lock:
            child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(lock,))

        def let_the_child_end() -> None:
            waits.append("second")
            child.communicate(b"\n")

        with cache.locked(entry, let_the_child_end):
            assert child.returncode == 0
        assert waits == ["second"]


class TestCache:
    def test_place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert cache.cache_root({"TGATE_CACHE_DIR": str(tmp_path)}) == tmp_path
        monkeypatch.setattr(sys, "platform", "linux")
        assert cache.cache_root({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / cache.FOLDER
        assert cache.cache_root({}) == Path.home() / ".cache" / cache.FOLDER
        monkeypatch.setattr(sys, "platform", "darwin")
        assert cache.cache_root({}) == Path.home() / "Library" / "Caches" / cache.FOLDER
        monkeypatch.setattr(sys, "platform", "win32")
        assert cache.cache_root({"LOCALAPPDATA": str(tmp_path)}) == tmp_path / cache.FOLDER

    def test_only_what_is_unused_and_unlocked_is_removed(self, tmp_path: Path) -> None:
        now = 1e9
        ages = {"fresh": 1.0, "old": 2 * cache.UNUSED_AFTER_SECONDS, "old_locked": 2 * cache.UNUSED_AFTER_SECONDS}
        for name, age in ages.items():
            (tmp_path / name).mkdir()
            (tmp_path / name / "stamp").touch()
            os.utime(tmp_path / name / "stamp", (now - age, now - age))
        (tmp_path / "killed").mkdir()
        with cache.locked(tmp_path / "old_locked", lambda: pytest.fail("nobody holds it")):
            removed = cache.remove_unused(tmp_path, "stamp", now)
        assert {path.name for path in removed} == {"old", "killed"}
        assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"fresh", "old_locked"}


class TestUnpacking:
    def test_only_files_of_the_tree_and_only_inside_it(self, tmp_path: Path) -> None:
        archive = tmp_path / "package.tar.gz"
        inside = ["p/vendor/ComfyUI/main.py", "p/vendor/ComfyUI/comfy/ops.py"]
        outside = [
            "p/setup.py",
            "p/vendor/other/main.py",
            "p/vendor/ComfyUI/../../../up.py",
            "/vendor/ComfyUI/../up.py",
        ]
        with tarfile.open(archive, "w:gz") as package:
            for name in [*inside, *outside]:
                member = tarfile.TarInfo(name)
                member.size = len(name)
                package.addfile(member, io.BytesIO(name.encode()))
            link = tarfile.TarInfo("p/vendor/ComfyUI/link")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc"
            package.addfile(link)
        target = tmp_path / "deep" / "deeper" / "target"
        with Stage("test", io.StringIO()) as stage:
            comfyui_fetch.unpack_tree(archive, target, stage)
        files = {path for path in tmp_path.rglob("*") if not path.is_dir()} - {archive}
        assert files == {target / "main.py", target / "comfy" / "ops.py"}
        assert (target / "main.py").read_text() == inside[0]


class TestPip:
    @pytest.mark.parametrize(
        ("output", "settings", "saying"),
        [
            ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", {}, "is full"),
            ("NewConnectionError('...: [Errno 111] Connection refused')", {}, "network connection"),
            ("Temporary failure in name resolution\nERROR: No matching distribution found for a==1", {}, "network"),
            ("ERROR: No matching distribution found for torch==2.11.0", {}, "has no torch==2.11.0 for Python"),
            ("ERROR: No matching distribution found for a==1", {"PIP_NO_INDEX": "1"}, "unset it"),
            ("ERROR: something else", {}, "pip could not fetch it: see its output in"),
        ],
    )
    def test_failures_become_advice(self, tmp_path: Path, output: str, settings: dict[str, str], saying: str) -> None:
        assert saying in str(pip.failure("fetch it", output, tmp_path / "log", settings))

    def test_progress(self, tmp_path: Path) -> None:
        packages = tmp_path / "lib" / "python3.11" / "site-packages"
        (packages / "pip-23.0.dist-info").mkdir(parents=True)
        progress = pip.InstallProgress(tmp_path)
        assert progress("Collecting numpy>=1.25\n  Downloading numpy-2.4.6-cp311-linux.whl (16 MB)\n") == (
            "downloading numpy-2.4.6"
        )
        assert progress("Installing collected packages: a, b, c, d\n") == "0 %, 0 of 4 packages installed"
        (packages / "a-1.dist-info").mkdir()
        assert progress("") == "25 %, 1 of 4 packages installed"


class TestStage:
    def test_a_stage_that_fails_is_not_called_done(self) -> None:
        shown = io.StringIO()
        with contextlib.suppress(KeyError), Stage("Building", shown):
            raise KeyError
        assert shown.getvalue() == "Building ...\nBuilding: stopped after 0:00\n"

    def test_no_spam_where_output_is_kept(self) -> None:
        shown = io.StringIO()
        with Stage("Building", shown) as stage:
            for percent in range(1000):
                stage.update(f"{percent} %")
        assert shown.getvalue() == "Building ...\nBuilding: done in 0:00\n"

    def test_a_terminal_gets_one_line_that_never_wraps(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        monkeypatch.setenv("COLUMNS", "40")
        monkeypatch.setattr("tgate_dev.progress.LIVE_SECONDS", 0.0)
        shown = Terminal()
        with Stage("Building", shown) as stage:
            stage.update("x" * 100)
        lines = shown.getvalue().split("\r\x1b[K")[1:]
        assert [line[:14] for line in lines] == ["Building ...", "Building ... 0", "Building: done"]
        assert max(map(len, lines)) < 40
        assert shown.getvalue().count("\n") == 1
