"""What a node's settings will do, before any run: the answer to what the editor asks while widgets change."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from ..engine.inputs import shown
from ..forecast.schedule import forecast_steps
from ..gate.config import SCOPES, GateConfig, Scope
from ..gate.schedule import Schedule, build_schedule, needed_steps, refreshed_steps, resolve_gate_step
from ..presets import GENERIC, PRESETS, PUBLISHED, PUBLISHED_ROWS, PresetConfig, PresetPlan, guidance_of
from .timeline import StepCell, as_groups, planned_cells
from .work import planned_saving

PRESET_NODE = "TGATEApply"
ADVANCED_NODE = "TGATEApplyAdvanced"
# Until a run has told what the model is: the family that most models of today go by.
ASSUMED_FAMILY = "sdxl"
# Of settings that a model passed on unchanged cannot follow.
NOTHING = GateConfig(cross_attention=False, self_attention=False, guidance="keep")
# The host samples these by a function of another name.
SAME_SAMPLERS = {"ddim": "euler", "uni_pc_bh2": "unipc_bh2"}
# More than anyone samples with, and more than a strip has room for; ten times as many would take seconds.
MOST_STEPS_SHOWN = 1000

# As JavaScript writes them. Python would also take other scripts' digits, spaces, underscores and words.
_NUMBER = re.compile(r"[+-]?\d{1,30}(\.\d{1,30})?(e[+-]?\d{1,3})?", re.ASCII)
_YES_AND_NO = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True)
class NoiseLevels:
    """The noise that a run goes through.

    Attributes:
        sigmas: its N + 1 noise levels.
        percent_to_sigma: the model's map from a share of its whole schedule (0 to 1) to sigma.
    """

    sigmas: tuple[float, ...]
    percent_to_sigma: Callable[[float], float]


@dataclass(frozen=True)
class NoiseSchedule:
    """What decides on a run's noise levels, beside the model.

    Attributes:
        scheduler, sampler: the host's names of them.
        steps: number of steps N ≥ 1.
        begin, end: shares of the whole noise schedule, see `Sampling`.
        is_custom: whether a node of its own makes the levels, not the sampler.
    """

    scheduler: str
    sampler: str
    steps: int
    begin: float
    end: float
    is_custom: bool


# The noise levels for a family of models; None where they are not known.
LevelsOf = Callable[[str, NoiseSchedule], NoiseLevels | None]


@dataclass(frozen=True)
class Sampling:
    """The run that a node's settings are shown for.

    Attributes:
        steps: number of steps N ≥ 1.
        is_guided: whether it uses classifier-free guidance (cfg other than 1).
        begin: share of the whole noise schedule at which it begins; 0.5 for a denoise of 0.5.
        end: share of the whole noise schedule at which it ends.
        levels: its noise levels, where they are known.

    Raises:
        ValueError: it ends before it begins, or outside of the schedule.
    """

    steps: int
    is_guided: bool = True
    begin: float = 0.0
    end: float = 1.0
    levels: NoiseLevels | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.begin < self.end <= 1.0:
            raise ValueError(
                f"TGATE: the run covers {self.begin} to {self.end} of the noise schedule; "
                "it must begin before it ends, both from 0 to 1."
            )

    @property
    def sigmas(self) -> tuple[float, ...]:
        """Its N + 1 noise levels, or stand-ins for them: what is left of the schedule, evenly spaced."""
        if self.levels is not None:
            return self.levels.sigmas
        return tuple(1.0 - self.begin - (self.end - self.begin) * step / self.steps for step in range(self.steps + 1))

    def percent_to_sigma(self, percent: float) -> float:
        """The noise level, or its stand-in, at a share of the whole schedule."""
        return 1.0 - percent if self.levels is None else self.levels.percent_to_sigma(percent)


def preview(query: Mapping[str, str], levels_of: LevelsOf = lambda family, schedule: None) -> dict[str, Any]:
    """The schedule of a node's settings, as the strip under it draws it.

    Args:
        query: `node` (its id), its widgets by name, and of the run `steps`, `guided` (1 or 0), `family` (of the model,
            or its scope, if known), `sampler` and `scheduler` (by the host's names), `custom_sigmas` (1 where a node of
            its own makes the noise levels), `denoise` and `ends_at` (share of the noise schedule at which it ends). All
            but `node` have defaults; what else there is counts for nothing.
        levels_of: the noise levels of a run with that scheduler. Without any they are taken to be evenly spaced.

    Returns:
        `groups` (of steps, see `as_groups`), `gate_step`, `is_assumed` (another family of models would give another
        schedule, and it is not known), `is_approximate` (the run's own noise levels decide, and are not known),
        `is_measured` (a probe decides, which a run alone can tell: all steps are shown as without a gate),
        `is_by_error` (the run decides which steps are refreshed: none is shown), `family` (as given, None where there
        is no such), `saved` (about what share of the plain run's work is left out, 0 to 1) and `presets` (for TGATE
        Apply, of each its `name`, `saved` and `same_as`: the first that does the same in this run, or None).

    Raises:
        ValueError: a value is missing, out of range or no value of its kind, or there are two.
    """
    for name, count in Counter(name for name, _ in query.items()).most_common(1):
        if count > 1:
            raise ValueError(f"TGATE: {shown(name)} is given {count} times; give it once.")
    sampling = _sampling(query, levels_of)
    settings, is_assumed = _settings(query, sampling)
    config, plan = settings.gate or NOTHING, _planned(settings, sampling)
    family = _family(query)
    return {
        "groups": as_groups(plan.cells),
        "gate_step": plan.schedule.gate_step,
        "is_assumed": is_assumed,
        "is_approximate": sampling.levels is None and (config.gate_unit == "percent of schedule" or plan.goes_by_noise),
        "is_measured": config.gate_unit == "measured",
        "is_by_error": config.refresh == "by error" and sampling.is_guided and plan.schedule.has_gate,
        "family": family,
        "saved": round(planned_saving(plan.cells, family or ASSUMED_FAMILY, sampling.is_guided), 3),
        "presets": _presets(query, sampling) if query.get("node") == PRESET_NODE else [],
    }


def _sampling(query: Mapping[str, str], levels_of: LevelsOf) -> Sampling:
    """The run that is asked about; where its noise levels are known, they say how many steps it has."""
    sampling = Sampling(
        steps=_steps(query),
        is_guided=_flag(query, "guided", True),
        begin=1.0 - _number(query, "denoise", 1.0),
        end=_number(query, "ends_at", 1.0),
    )
    schedule = NoiseSchedule(
        scheduler=query.get("scheduler", ""),
        sampler=query.get("sampler", ""),
        steps=sampling.steps,
        begin=sampling.begin,
        end=sampling.end,
        is_custom=_flag(query, "custom_sigmas", False),
    )
    levels = levels_of(_family(query) or ASSUMED_FAMILY, schedule)
    return sampling if levels is None else replace(sampling, steps=len(levels.sigmas) - 1, levels=levels)


@dataclass(frozen=True)
class _Plan:
    schedule: Schedule
    cells: tuple[StepCell, ...]
    goes_by_noise: bool


def _planned(settings: PresetPlan, sampling: Sampling) -> _Plan:
    config, forecast = settings.gate or NOTHING, settings.forecast
    gate_step = _gate_step(config, sampling)
    refreshed = refreshed_steps(config, sampling.sigmas, gate_step, sampling.is_guided)
    schedule = build_schedule(config, sampling.steps, gate_step, refreshed=refreshed)
    needed = needed_steps(config, gate_step, refreshed) if schedule.has_gate else frozenset[int]()
    predicted = forecast_steps(forecast, sampling.sigmas, needed) if forecast else frozenset()
    cells = planned_cells(config, schedule, sampling.is_guided, predicted=predicted)
    return _Plan(schedule, cells, bool(refreshed) or forecast is not None)


def _family(query: Mapping[str, str]) -> str | None:
    family = query.get("family", "")
    return family if family in PUBLISHED_ROWS or family in SCOPES else None


def _presets(query: Mapping[str, str], sampling: Sampling) -> list[dict[str, Any]]:
    """What each preset saves in this run, and which of them do the same."""
    family, rows, first = _family(query) or ASSUMED_FAMILY, [], dict[Any, str]()
    for name in PRESETS:
        settings, _ = _settings({**query, "preset": name}, sampling)
        cells = _planned(settings, sampling).cells
        does = (cells, sampling.is_guided and (settings.gate or NOTHING).guidance)
        saved = round(planned_saving(cells, family, sampling.is_guided), 3)
        rows.append({"name": name, "saved": saved, "same_as": first.get(does)})
        first.setdefault(does, name)
    return rows


def _gate_step(config: GateConfig, sampling: Sampling) -> int:
    # A node that gates nothing passes its model on.
    if config.gates_nothing or config.gate_unit == "measured":
        return sampling.steps
    return resolve_gate_step(config, sampling.sigmas, sampling.percent_to_sigma)


def _settings(query: Mapping[str, str], sampling: Sampling) -> tuple[PresetPlan, bool]:
    """The node's settings for this run, and whether they are those of a family that is only assumed."""
    node, family = query.get("node", ""), query.get("family", "")
    if node not in (PRESET_NODE, ADVANCED_NODE):
        raise ValueError(f"TGATE: node is {shown(node)}; there is a preview of: {PRESET_NODE}, {ADVANCED_NODE}.")
    scope: Scope = next((one for one in SCOPES if one == family), "all")
    if node == ADVANCED_NODE:
        return PresetPlan(_advanced(query).within(scope) or NOTHING), False
    is_assumed = scope == "all" and family not in PUBLISHED_ROWS
    rows = GENERIC if scope != "all" else ASSUMED_FAMILY if is_assumed else family
    preset: Any = query.get("preset", "balanced")  # checked when made
    solver = query.get("sampler", "euler")
    sampler, most_noise = SAME_SAMPLERS.get(solver, solver), sampling.percent_to_sigma(0.0)
    plan = PresetConfig(rows, preset).resolve(sampling.sigmas, sampling.is_guided, sampler, most_noise)
    if scope == "all" or plan.gate is None:
        return plan, is_assumed
    return PresetPlan(NOTHING) if preset == PUBLISHED else plan._replace(gate=guidance_of(plan.gate)), is_assumed


def _advanced(query: Mapping[str, str]) -> GateConfig:
    values: dict[str, Any] = {}
    for field in fields(GateConfig):
        default = field.default
        if isinstance(default, bool):
            values[field.name] = _flag(query, field.name, default)
        elif isinstance(default, (int, float)):
            values[field.name] = _number(query, field.name, default)
        else:
            values[field.name] = query.get(field.name, default)
    return GateConfig(**values)


def _steps(query: Mapping[str, str]) -> int:
    steps = _number(query, "steps", 25)
    if not 1 <= steps <= MOST_STEPS_SHOWN or steps != int(steps):
        raise ValueError(
            f"TGATE: steps is {shown(query['steps'])}; the schedule is shown for runs of 1 to {MOST_STEPS_SHOWN} steps."
        )
    return int(steps)


def _number(query: Mapping[str, str], name: str, default: float) -> float:
    text = query.get(name)
    if text is None:
        return default
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError(f"TGATE: {name} is {shown(text)}; give a number of 30 digits at most.")
    return float(text) if match[1] or match[2] else int(text)


def _flag(query: Mapping[str, str], name: str, default: bool) -> bool:
    text = query.get(name)
    if text is None:
        return default
    if text not in _YES_AND_NO:
        raise ValueError(f"TGATE: {name} is {shown(text)}; choose one of: {', '.join(_YES_AND_NO)}.")
    return _YES_AND_NO[text]
