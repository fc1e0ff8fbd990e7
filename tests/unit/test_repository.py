"""Files that only others read: GitHub, the registry, pre-commit and those who cite."""

from __future__ import annotations

import importlib.metadata
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from check_jsonschema import main as check_jsonschema
from click.testing import CliRunner, Result
from comfy_config.config_parser import extract_node_configuration
from documents import REPO, text_of
from PIL import Image

from tgate_dev.cli import parse

GITHUB = REPO / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = sorted({*(GITHUB / "ISSUE_TEMPLATE").glob("*.yml")} - {GITHUB / "ISSUE_TEMPLATE" / "config.yml"})
SCHEMAS = {
    "vendor.github-workflows": WORKFLOWS,
    "custom.github-workflows-require-timeout": [path for path in WORKFLOWS if path.stem != "publish"],
    "vendor.github-issue-forms": FORMS,
    "vendor.github-issue-config": [GITHUB / "ISSUE_TEMPLATE" / "config.yml"],
    "vendor.dependabot": [GITHUB / "dependabot.yml"],
    "vendor.citation-file-format": [REPO / "CITATION.cff"],
}
ADDRESS = "https://github.com/comfyui-tgate/comfyui-tgate-nodes"
RAW = "https://raw.githubusercontent.com/comfyui-tgate/comfyui-tgate-nodes"


def validated(schema: str, *files: Path) -> Result:
    """check-jsonschema, in this process: it takes a second to start."""
    return CliRunner().invoke(check_jsonschema, ["--builtin-schema", schema, *map(str, files)])


def audited(place: Path) -> subprocess.CompletedProcess[str]:
    """zizmor over workflows: actions pinned by commit, least permissions, no text of strangers in a shell."""
    program = shutil.which("zizmor", path=str(Path(sys.executable).parent))
    assert program, "zizmor is not in this environment"
    command = [program, "--offline", "--quiet", "--min-severity", "medium", str(place)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def loaded(path: Path) -> dict[str, Any]:
    return yaml.safe_load(text_of(path))


@pytest.mark.parametrize("schema", SCHEMAS)
def test_file_is_what_its_reader_takes(schema: str, tmp_path: Path) -> None:
    files = SCHEMAS[schema]
    assert files
    outcome = validated(schema, *files)
    assert outcome.exit_code == 0, outcome.output
    other = tmp_path / "other.yml"
    other.write_text("jobs: {test: {steps: []}}\nunknown: true\n", encoding="utf-8")
    assert validated(schema, other).exit_code == 1


def test_workflows_are_safe(tmp_path: Path) -> None:
    outcome = audited(GITHUB / "workflows")
    assert outcome.returncode == 0, outcome.stdout
    unpinned = re.sub("@[0-9a-f]{40}", "@main", text_of(GITHUB / "workflows" / "tests.yml"))
    (tmp_path / "tests.yml").write_text(unpinned, encoding="utf-8")
    assert "unpinned-uses" in audited(tmp_path / "tests.yml").stdout


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_may_only_read(workflow: Path) -> None:
    jobs = loaded(workflow)["jobs"].values()
    for permissions in (loaded(workflow)["permissions"], *(job.get("permissions", {}) for job in jobs)):
        assert permissions in ({}, {"contents": "read"})


def test_workflows_and_documents_call_the_tool_as_it_is() -> None:
    """Each command line of the developer tool in a workflow or a document is one that it takes."""
    files = [*WORKFLOWS, *GITHUB.glob("*.md"), *REPO.glob("*.md"), *(REPO / "docs").glob("*.md")]
    lines = {line for file in files for line in re.findall(r"python3 tools/dev\.py ([a-z][^`\n]*)", text_of(file))}
    assert len(lines) >= 5
    for line in lines:
        parse(shlex.split(line))


def test_nothing_is_published_before_all_tests_passed() -> None:
    publish = loaded(GITHUB / "workflows" / "publish.yml")
    # YAML reads the key `on` as a truth value.
    assert publish[True] == {"push": {"tags": ["v*"]}}
    assert publish["jobs"]["tests"]["uses"] == "./.github/workflows/tests.yml"
    assert publish["jobs"]["publish"]["needs"] == "tests"
    (tests,) = loaded(GITHUB / "workflows" / "tests.yml")["jobs"].values()
    assert tests["steps"][-1] == {"run": "python3 tools/dev.py test"}


def test_nightly_takes_the_newest_comfyui() -> None:
    job = loaded(GITHUB / "workflows" / "nightly.yml")["jobs"]["newest-comfyui"]
    checkouts = [step["with"] for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")]
    (host,) = [given for given in checkouts if given.get("repository") == "Comfy-Org/ComfyUI"]
    assert "ref" not in host
    assert job["steps"][-1]["env"]["COMFYUI_PATH"] == "${{ github.workspace }}/" + host["path"]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.stem)
def test_issue_form_asks_for_the_log_line(form: Path) -> None:
    (field,) = [field for field in loaded(form)["body"] if field.get("id") == "log"]
    assert "TGATE" in field["attributes"]["label"]
    assert field["validations"]["required"]


def test_pre_commit_runs_the_same_ruff() -> None:
    (mirror,) = loaded(REPO / ".pre-commit-config.yaml")["repos"]
    assert mirror["rev"] == f"v{importlib.metadata.version('ruff')}"


class TestRegistry:
    def test_host_and_registry_read_the_pack_description(self) -> None:
        read = extract_node_configuration(str(REPO))
        assert read is not None
        assert read.project.urls.repository == ADDRESS
        assert read.project.license.text == loaded(REPO / "CITATION.cff")["license"] == "GPL-3.0-only"
        assert read.project.version == loaded(REPO / "CITATION.cff")["version"]
        assert read.project.supported_os == ["OS Independent"]
        assert read.tool_comfy.icon.startswith(f"{RAW}/main/")

    def test_addresses_of_this_repository_lead_somewhere(self) -> None:
        texts = [REPO / "pyproject.toml", REPO / "CITATION.cff", *GITHUB.rglob("*.*"), *REPO.rglob("docs/**/*.md")]
        pattern = rf"(?:{ADDRESS}/blob|{RAW})/main/([\w./-]+)"
        places = [place for file in texts if file.is_file() for place in re.findall(pattern, text_of(file))]
        assert len(places) >= 4
        assert [place for place in places if not (REPO / place).is_file()] == []

    def test_pictures_are_as_the_registry_wants_them(self) -> None:
        images = REPO / "docs" / "images"
        width, height = Image.open(images / "icon.png").size
        assert width == height <= 400
        width, height = Image.open(images / "banner.png").size
        assert width * 9 == height * 21
