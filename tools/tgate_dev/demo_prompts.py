"""The demo's prompts: the shipped workflow, plain and gated, made to fit the checkpoint and the machine."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .errors import UserError
from .server_graph import Graph, ObjectInfo, Prompt, insert_after_source, is_sampler, to_prompt

GATING_NODES = ("TGATEApply", "TGATEApplyAdvanced")
METER_NODE = "TGATEDevMeter"
METER_ID = "meter"
CHECKPOINT_INPUT = "ckpt_name"
SIZE_STEP = 64


@dataclass(frozen=True)
class Pair:
    """One workflow as two prompts.

    Attributes:
        plain: T-GATE's nodes bypassed.
        gated: the workflow as it is.
        gate: how the gating node calls itself.
        size: width and height of the picture.
        own_size: the same as the workflow has it.
    """

    plain: Prompt
    gated: Prompt
    gate: str
    size: tuple[int, int]
    own_size: tuple[int, int]


def make_pair(
    graph: Graph, object_info: ObjectInfo, checkpoint: str, steps: int | None, longest_side: int | None
) -> Pair:
    """The two prompts of a workflow.

    Args:
        graph: the workflow as saved by the editor.
        object_info: what the server says about its nodes.
        checkpoint: name of the checkpoint to use instead of the workflow's.
        steps: sampling steps, None for the workflow's.
        longest_side: pixels; larger pictures are made smaller.

    Raises:
        GraphError: the workflow cannot be turned into a prompt.
        UserError: it has no T-GATE to compare with.
    """
    gated = to_prompt(graph, object_info)
    gates = [node["_meta"]["title"] for node in gated.values() if node["class_type"] in GATING_NODES]
    if not gates:
        raise UserError("The workflow has no TGATE node that is switched on: choose one that has, as in workflows/.")
    plain = to_prompt(graph, object_info, bypassed=GATING_NODES)
    own_size = size = (0, 0)
    for prompt in (plain, gated):
        for node in prompt.values():
            _set_known(node["inputs"], checkpoint, steps)
        for inputs in _sized(prompt):
            own_size = (inputs["width"], inputs["height"])
            size = inputs["width"], inputs["height"] = fitted(own_size, longest_side)
    return Pair(plain, gated, " + ".join(gates), size, own_size)


def metered(prompt: Prompt, result_file: str, run: str) -> Prompt:
    """A copy of a prompt with the meter right before each sampler: one that counts if there is a file to write to."""
    prompt = copy.deepcopy(prompt)
    insert_after_source(prompt, "model", METER_ID, METER_NODE, result_file=result_file, run=run)
    return prompt


def sampler(prompt: Prompt) -> tuple[str, dict[str, Any]]:
    """Id and inputs of the prompt's first sampler.

    Raises:
        UserError: it has none.
    """
    for node_id, node in prompt.items():
        if is_sampler(node):
            return node_id, node["inputs"]
    raise UserError("The workflow has no KSampler: choose one that has, as in workflows/.")


def checkpoint_name(graph: Graph) -> str:
    """The checkpoint file that a saved workflow names; empty where it names none."""
    loaders = (node for node in graph["nodes"] if node["type"] == "CheckpointLoaderSimple")
    return next((str(node["widgets_values"][0]) for node in loaders if node.get("widgets_values")), "")


def fitted(size: tuple[int, int], longest_side: int | None) -> tuple[int, int]:
    """Width and height in the same proportion, in whole steps of 64 pixels, no side longer than `longest_side`."""
    if longest_side is None or max(size) <= longest_side:
        return size
    scale = longest_side / max(size)
    width, height = (max(SIZE_STEP, round(side * scale / SIZE_STEP) * SIZE_STEP) for side in size)
    return width, height


def _set_known(inputs: dict[str, Any], checkpoint: str, steps: int | None) -> None:
    if CHECKPOINT_INPUT in inputs:
        inputs[CHECKPOINT_INPUT] = checkpoint
    if steps is not None and "steps" in inputs:
        inputs["steps"] = steps


def _sized(prompt: Prompt) -> Iterator[dict[str, Any]]:
    return (node["inputs"] for node in prompt.values() if {"width", "height", "batch_size"} <= node["inputs"].keys())
