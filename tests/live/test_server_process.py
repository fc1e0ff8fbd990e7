"""Starting and stopping: nothing may be left running, and a server that does not start has to say why."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

import pytest

from tgate_dev.server import Server, ServerError, link_or_copy

posix_only = pytest.mark.skipif(os.name != "posix", reason="process groups are a matter of POSIX")

# A program that takes the server's place: it answers as one that is ready, and has started a process of its own.
ANSWERS = """
import http.server, pathlib, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path("child.pid").write_text(str(child.pid))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def server_of(program: str, folder: Path) -> Server:
    tree = folder / "tree"
    tree.mkdir()
    (tree / "main.py").write_text(program)
    return Server(Path(sys.executable), tree, folder, custom_nodes={})


def is_alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat")
        # One that has ended, and whose parent has too, may wait for a while until someone takes note.
        return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def has_ended(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_alive(pid)


def test_server_that_ends_says_why(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="no module named torch"):
        server_of("raise SystemExit('no module named torch')", tmp_path).__enter__()


@posix_only
def test_everything_is_stopped_when_the_block_fails(tmp_path: Path) -> None:
    children = []

    def use(server: Server) -> None:
        with server:
            children.append(int((server.comfyui / "child.pid").read_text()))
            assert is_alive(children[0])
            raise LookupError

    with pytest.raises(LookupError):
        use(server_of(ANSWERS, tmp_path))
    assert has_ended(children[0])


@posix_only
def test_everything_is_stopped_when_the_start_is_interrupted(tmp_path: Path) -> None:
    server = server_of(ANSWERS.replace("send_response(200)", "send_response(503)"), tmp_path)
    child = server.comfyui / "child.pid"

    def interrupt() -> None:
        if child.exists():
            raise KeyboardInterrupt

    server.on_wait = interrupt
    with pytest.raises(KeyboardInterrupt):
        server.__enter__()
    assert has_ended(int(child.read_text()))


def test_pack_is_visible_where_it_is_installed(tmp_path: Path) -> None:
    pack = tmp_path / "pack"
    pack.mkdir()
    (pack / "__init__.py").write_text("")
    link_or_copy(pack, tmp_path / "link")
    assert (tmp_path / "link" / "__init__.py").is_file()
