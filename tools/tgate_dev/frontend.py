"""The newest editor of ComfyUI's, beside the one that each host brings: a package of files for `--front-end-root`."""

from __future__ import annotations

import shutil
from pathlib import Path

from .bootstrap import download
from .cache import cache_root, made

PACKAGE = "comfyui-frontend-package"
RELEASE = "1.58.1"
SHA256 = "37912597537a731a8f421179618a736c24184c5bdbfa327f38b2fb7c291852d9"
PAGES_IN_PACKAGE = "comfyui_frontend_package/static"


def ready_frontend() -> Path:
    """The folder that the host is given as `--front-end-root`, from the cache; fetched first where it is missing.

    Raises:
        UserError: it cannot be fetched.
    """
    what = f"ComfyUI's editor {RELEASE}"

    def fetch(folder: Path) -> Path:
        download(PACKAGE, RELEASE, SHA256, folder, what, ["--quiet"])
        shutil.unpack_archive(next(folder.glob("*.whl")), folder, "zip")
        return folder / PAGES_IN_PACKAGE

    entry = cache_root() / "frontend" / f"{RELEASE}-{SHA256[:8]}"
    return made(entry, what, fetch, lambda place: (place / "index.html").is_file())
