"""What one reused joint attention leaves out of a step, counted at full size through the node."""

from __future__ import annotations

from typing import Any

from .. import readme
from .counting import build_on_meta, count_macs
from .pack import PACK, Nodes, scope_of
from .support import DOCUMENTS, USUAL_RUNS, UsualRun, gated_attentions

HEADING = "| model | one run | joint attentions | as | left out of a step |\n| --- | --- | ---: | --- | ---: |"
SECTION = "bench reuse"
AS = {"joint attention": "modules", "inline joint attention": "within blocks"}
# The first step computes attention, the others reuse it.
STEPS, REUSED = 3, 2
SETTINGS = {"gate": 1.0, "guidance": "keep", "sp_interval": 1, "fi_interval": STEPS}


def measure(_options: Any, nodes: Nodes) -> int:
    """Print the table, and put it into the documents."""
    table = "\n".join([HEADING, *(line(run, nodes) for run in joint_runs(nodes))])
    print(table, flush=True)
    english, chinese = (PACK / name for name in DOCUMENTS)
    readme.replace_section(english, SECTION, table)
    readme.replace_section(chinese, SECTION, readme.chinese_table(table))
    return 0


def joint_runs(nodes: Nodes) -> list[UsualRun]:
    """Those of which joint attention can be reused; of several with one network, the first."""
    first: dict[int, UsualRun] = {}
    for run in USUAL_RUNS:
        if scope_of(build_on_meta(run.model), nodes) in AS:
            first.setdefault(id(run.model), run)
    return list(first.values())


def line(run: UsualRun, nodes: Nodes) -> str:
    """One row of the table."""
    attentions, _, _ = gated_attentions(run, nodes).partition(" ")
    form = AS[scope_of(build_on_meta(run.model), nodes)]
    return f"| {run.name} | {run.output} | {attentions} | {form} | {100 * reused_share(run, nodes):.0f} % |"


def reused_share(run: UsualRun, nodes: Nodes) -> float:
    """The share of a step's MACs, the products of attention included, that is left out where all of it is reused."""
    plain = build_on_meta(run.model)
    gated = nodes["TGATEApplyAdvanced"].execute(model=plain, **SETTINGS).args[0]
    before, after = (count_macs(model, run.model, nodes, steps=STEPS, cfg=1.0).full for model in (plain, gated))
    return (before - after) / before * STEPS / REUSED
