"""The workflows that a program makes: a table, and the graphs of its rows. Needs PyYAML, which ComfyUI brings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from ..prompts import ObjectInfo
from .models import Model
from .recipes import Recipe
from .workflow import Workflow

TABLE = Path(__file__).with_name("table.yaml")


def made(object_info: ObjectInfo) -> Iterator[tuple[str, str]]:
    """Name of each workflow, and what its file holds; `object_info` is what a server says about its nodes.

    Raises:
        DescriptionError: a workflow does not fit them.
    """
    table = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    rows: list[Model | Recipe] = [Model(**row) for row in table["models"]]
    rows += [Recipe(**row) for row in table["recipes"]]
    for row in rows:
        workflow = Workflow(object_info)
        row.build(workflow)
        yield row.name, as_text(workflow.saved(row))


def as_text(graph: Mapping[str, Any]) -> str:
    """What a workflow's file holds."""
    return json.dumps(graph, indent=2, ensure_ascii=False) + "\n"
