"""The host's context windows: what a window captured is handed out to that window, wherever it stands in its step."""

from __future__ import annotations

import inspect
from typing import Any

import comfy.context_windows
import comfy.model_management
import graphs
import pytest
import tiny
import torch
import variants
from comfy.model_patcher import ModelPatcher
from comfy_extras.nodes_context_windows import ContextWindowsManualNode
from host_nodes import call_node, host_node
from record import recording, with_runs
from reference import reference
from torch import Tensor
from variants import ATTENTIONS

pytestmark = pytest.mark.oldest

GUIDANCE = ["uncond", "cond", "cached_delta", "keep"]
SETTINGS = {"gate": 4.0, "sp_interval": 3, "fi_interval": 2}
MODELS = {"frames apart": variants.one_level, "frames attend to each other": variants.svd}
SMALL = (4, 4)  # height and width of latents
BATCHED = comfy.context_windows.ContextSchedules.BATCHED
LOOPED = comfy.context_windows.ContextSchedules.UNIFORM_LOOPED


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return MODELS[request.param]()


@pytest.fixture(scope="module")
def stills():
    """A model to which the frames of a window are a mere batch."""
    return variants.one_level()


def windowed(model: ModelPatcher, schedule: str = BATCHED, **inputs: Any) -> ModelPatcher:
    """The host's node on a model: windows of 4 frames, without overlap where nothing else is said."""
    chosen = {"context_length": 4, "context_overlap": 0, "context_stride": 1, "closed_loop": True, "dim": 0, **inputs}
    if "causal_window_fix" in inspect.signature(ContextWindowsManualNode.execute).parameters:
        chosen["causal_window_fix"] = False  # it gives most windows a frame more than they have
    node = {"context_schedule": schedule, "fuse_method": "pyramid", "freenoise": False}
    return call_node(ContextWindowsManualNode, model=model, **{**node, **chosen})


def windows_of_step(model: ModelPatcher, windows: Any) -> ModelPatcher:
    """`model`, its windows of each step given by a function of the step."""
    schedule = comfy.context_windows.ContextSchedule("test", lambda frames, handler, options: windows(handler._step))
    model.model_options["context_handler"].context_schedule = schedule
    return model


def is_close(result: Tensor, expected: Tensor) -> bool:
    return tiny.distance(result, expected) < 1e-4


@pytest.mark.parametrize("guidance", GUIDANCE)
def test_every_window_is_its_own_sampling(model, gated, guidance):
    """Windows that do not overlap, the last one shorter."""
    patched, drawn = gated(model, **SETTINGS, guidance=guidance), tiny.noise(3, 10, *SMALL)
    result = tiny.sample(windowed(patched), drawn=drawn, steps=6)
    alone = [tiny.sample(patched, drawn=window, steps=6) for window in drawn.split(4)]
    assert is_close(result, torch.cat(alone))


@pytest.mark.parametrize("sampler", ["heun", "dpmpp_2m", "heunpp2"])
@pytest.mark.parametrize("guidance", GUIDANCE)
def test_windows_of_samplers_with_a_memory(stills, gated, guidance, sampler):
    """Several evaluations a step, some of the step ahead: captures of a window are those of its evaluation, too."""
    patched, drawn = gated(stills, **SETTINGS, guidance=guidance), tiny.noise(3, batch=8)
    result = tiny.sample(windowed(patched), drawn=drawn, sampler=sampler, steps=6)
    alone = [tiny.sample(patched, drawn=window, sampler=sampler, steps=6) for window in drawn.split(4)]
    assert is_close(result, torch.cat(alone))


@pytest.mark.parametrize("guidance", GUIDANCE)
def test_windows_of_rows_are_their_own_samplings(stills, gated, guidance):
    """Windows may lie along any dimension: here, bands of a still."""
    patched, drawn = gated(stills, **SETTINGS, guidance=guidance), tiny.noise(3, height=12)
    result = tiny.sample(windowed(patched, dim=2), drawn=drawn)
    alone = [tiny.sample(patched, drawn=band) for band in drawn.split(4, dim=2)]
    assert is_close(result, torch.cat(alone, dim=2))


@pytest.mark.parametrize("guidance", GUIDANCE)
def test_a_text_for_each_window(stills, gated, guidance):
    """Each window takes one of the conds of a branch, so there is one each, and guidance may go."""
    patched, drawn = gated(stills, **SETTINGS, guidance=guidance), tiny.noise(3, batch=8)
    texts = [tiny.text(1), tiny.text(5)]
    split = windowed(patched, split_conds_to_windows=True)
    with recording(stills, split) as record:
        result = tiny.sample(split, drawn=drawn, positive=graphs.combine(*texts))
    alone = [tiny.sample(patched, drawn=part, positive=text) for part, text in zip(drawn.split(4), texts, strict=True)]
    assert is_close(result, torch.cat(alone))
    assert record.batches == [2] * 8 + [2 if guidance == "keep" else 1] * 8
    assert record.per_call("cross_attention") == [ATTENTIONS] * 8 + [0] * 8


@pytest.mark.parametrize("guidance", GUIDANCE)
def test_windows_in_another_order_at_each_step(stills, gated, guidance):
    """The host's overlapping looped windows, elsewhere in every step: against a run that computes everything."""
    drawn, looped = tiny.noise(3, batch=8), {"schedule": LOOPED, "context_overlap": 2}
    patched = windowed(gated(stills, gate=2.0, fi_interval=2, guidance=guidance), **looped)
    with recording(stills, patched) as record:
        result = tiny.sample(patched, drawn=drawn, steps=4)
    assert record.per_call("cross_attention") == [ATTENTIONS] * 8 + [0] * 8
    expected = reference(windowed(stills, **looped), 2, guidance, fi_interval=2)
    expected = tiny.sample(expected, drawn=drawn, steps=4)
    assert is_close(result, expected)


@pytest.mark.parametrize("guidance", GUIDANCE)
def test_the_order_of_windows_does_not_matter(model, gated, guidance):
    def windows(step):
        return [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 0, 1]]

    def reordered(step):
        return windows(step)[step % 3 :] + windows(step)[: step % 3]

    patched, drawn = gated(model, **SETTINGS, guidance=guidance), tiny.noise(3, 6, *SMALL)
    fixed = tiny.sample(windows_of_step(windowed(patched), windows), drawn=drawn, steps=6)
    assert is_close(tiny.sample(windows_of_step(windowed(patched), reordered), drawn=drawn, steps=6), fixed)


@pytest.mark.parametrize("guidance", GUIDANCE)
def test_windows_that_shift_begin_anew(model, gated, guidance):
    """Windows that stay for two steps and come back no more: each of them is gated as a run of two steps."""
    drawn, steps = tiny.noise(3, 8, *SMALL), 8
    patched = windowed(gated(model, gate=4.0, fi_interval=2, guidance=guidance), LOOPED)
    with recording(model, patched) as record:
        result = tiny.sample(patched, drawn=drawn, steps=steps)
    attentions = max(record.per_call("cross_attention"))
    assert record.per_call("cross_attention") == [attentions] * 10 + [0] * 2 + [attentions] * 2 + [0] * 2
    assert (
        record.batches
        == [2] * 10 + [2 if guidance == "keep" else 1] * 2 + [2] * 2 + [2 if guidance == "keep" else 1] * 2
    )

    latent = tiny.sample(windowed(model, LOOPED), drawn=drawn, steps=steps, last_step=4)
    two_steps = gated(model, gate=1.0, fi_interval=2, guidance=guidance)
    for start, shift in [(4, 1), (6, 3)]:  # the host's uniform windows of steps 4 and 5, of 6 and 7
        turned, silent = latent.roll(-shift, dims=0), torch.zeros(4, 4, *SMALL)
        span = {"steps": steps, "start_step": start, "last_step": start + 2}
        turned = [tiny.sample(two_steps, drawn=silent, latent=window, **span) for window in turned.split(4)]
        latent = torch.cat(turned).roll(shift, dims=0)
    assert is_close(result, latent)


@pytest.mark.parametrize("guidance", GUIDANCE)
def test_windows_that_are_new_at_every_step_are_computed_in_full(model, gated, pack, guidance):
    """A window of the same ordinal and length holds other frames at every step: nothing is reused, nothing changes."""

    def windows(step):
        turned = [(frame + step) % 6 for frame in range(6)]
        return [turned[:3], turned[3:5], turned[5:]]

    drawn = tiny.noise(3, 6, *SMALL)
    settings = {"gate": 2.0, "sp_interval": 2, "fi_interval": 3, "guidance": guidance}
    plain = tiny.sample(windows_of_step(windowed(model), windows), drawn=drawn, steps=5)
    patched = windows_of_step(windowed(gated(model, **settings)), windows)
    assert torch.equal(tiny.sample(patched, drawn=drawn, steps=5), plain)
    record = pack.core("host.install").records_of(patched).last
    assert record.counts.notes == [pack.core("gate.technique").NOTHING_AGAIN]


@pytest.mark.parametrize("guidance", GUIDANCE)
@pytest.mark.parametrize(
    "later",
    [
        pytest.param([4, 3, 2, 1, 0], id="the other way round"),
        pytest.param([0, 3, 2, 1, 4], id="first and last frame the same"),
    ],
)
def test_a_window_is_its_frames_in_their_order(model, gated, guidance, later):
    """The same frames in another order are another window: row by row, its captures are those of other frames."""

    def windows(step):
        return [[0, 1, 2, 3, 4] if step < 2 else later]

    drawn = tiny.noise(3, 5, *SMALL)
    plain = tiny.sample(windows_of_step(windowed(model), windows), drawn=drawn, steps=3)
    patched = windows_of_step(windowed(gated(model, gate=2.0, guidance=guidance)), windows)
    assert torch.equal(tiny.sample(patched, drawn=drawn, steps=3), plain)


@pytest.mark.parametrize("order", ["ours first", "ours last"])
@pytest.mark.parametrize("guidance", ["uncond", "cond", "cached_delta"])
def test_auxiliary_passes_in_windows_stay_out_of_it(stills, gated, guidance, order):
    """PAG evaluates every window once more by itself, reads no captures and leaves none."""
    pag = host_node("nodes_pag", "PerturbedAttentionGuidance", scale=2.0)
    settings = {**SETTINGS, "guidance": guidance}
    patched = pag(gated(stills, **settings)) if order == "ours first" else gated(pag(stills), **settings)
    drawn = tiny.noise(3, batch=8)
    in_windows = windowed(patched)
    with recording(stills, in_windows) as record:
        result = tiny.sample(in_windows, drawn=drawn)
    alone = [tiny.sample(patched, drawn=window) for window in drawn.split(4)]
    assert is_close(result, torch.cat(alone))
    per_step = [record.per_call("cross_attention")[4 * step : 4 * step + 4] for step in range(8)]
    assert per_step == [[ATTENTIONS] * 4] * 4 + [[0, 0, ATTENTIONS, ATTENTIONS]] * 4


def least_memory_asked_for(model: ModelPatcher, drawn: Tensor, monkeypatch: pytest.MonkeyPatch) -> float:
    """Bytes that a run wants left free at the least when the host loads the model for it."""
    asked, load_models_gpu = [], comfy.model_management.load_models_gpu

    def look(*args, **kwargs):
        asked.append(kwargs["minimum_memory_required"])
        return load_models_gpu(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(comfy.model_management, "load_models_gpu", look)
        tiny.sample(model, drawn=drawn, steps=4)
    return asked[0]


@pytest.mark.parametrize("order", ["windows first", "windows last"])
@pytest.mark.parametrize("dim", [0, 2, 3], ids=["frames", "rows", "columns"])
def test_room_is_asked_for_the_captures_of_all_windows(stills, gated, monkeypatch, dim, order):
    """The host budgets for one window at a time, but captures of all of them are held at once."""
    settings = {"gate": 2.0, "guidance": "keep"}
    drawn = tiny.noise(3, **{{0: "batch", 2: "height", 3: "width"}[dim]: 12})
    alone = windowed(stills, dim=dim)
    patched = gated(alone, **settings) if order == "windows first" else windowed(gated(stills, **settings), dim=dim)
    patched, runs = with_runs(patched)
    without = least_memory_asked_for(alone, drawn, monkeypatch)
    room = least_memory_asked_for(patched, drawn, monkeypatch) - without
    assert room == pytest.approx(runs[0].counts.peak_cache_bytes, rel=1e-3)
