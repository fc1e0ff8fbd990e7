"""What conds can carry beside text: weight hooks on a schedule, GLIGEN boxes, unCLIP pictures."""

from __future__ import annotations

import comfy.clip_vision
import comfy.gligen
import comfy.utils
import comfy_extras.nodes_hooks as hook_nodes
import folder_paths
import graphs
import pytest
import tiny
import torch
import variants
from record import recording
from reference import reference
from tiny import distance
from variants import ATTENTIONS

import nodes as host_nodes

pytestmark = pytest.mark.oldest

GUIDANCE = ["uncond", "cond", "cached_delta", "keep"]
SURVIVORS = {"uncond": [[1]], "cond": [[0]], "cached_delta": [[0]]}
EXACT = 1e-6  # of the latent's spread; the effect of T-GATE is above 1e-3
A, B, NEGATIVE = tiny.text(1), tiny.text(3), tiny.text(2)
GLIGEN_WIDTH = 768  # the width at which the host gives SD 1 its number of heads


@pytest.fixture(scope="module")
def model():
    return variants.one_level()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder in which the host's loaders find files; their list of folders is put back afterwards."""
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", dict(folder_paths.folder_names_and_paths))
    for kind in ("loras", "gligen"):
        folder_paths.folder_names_and_paths[kind] = ([str(tmp_path)], {".safetensors"})
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    return tmp_path


# --- LoRA hooks -------------------------------------------------------------------------------------------------------


def lora_hook(model, folder):
    """CreateHookLoraModelOnly with a random LoRA on every linear weight of the UNet."""
    generator = torch.Generator().manual_seed(9)
    weights = {}
    for name, weight in model.model.diffusion_model.state_dict().items():
        if weight.ndim == 2 and name.endswith(".weight") and "transformer_blocks" in name:
            key = f"diffusion_model.{name.removesuffix('.weight')}"
            weights[f"{key}.lora_up.weight"] = torch.randn(weight.shape[0], 2, generator=generator)
            weights[f"{key}.lora_down.weight"] = torch.randn(2, weight.shape[1], generator=generator) / 8
    comfy.utils.save_torch_file(weights, str(folder / "random.safetensors"))
    return hook_nodes.CreateHookLoraModelOnly().create_hook_model_only("random.safetensors", 1.0)[0]


def keyframed(hooks, *frames):
    """SetHookKeyframes with (start_percent, strength) frames."""
    group = None
    for start_percent, strength in frames:
        (group,) = hook_nodes.CreateHookKeyframe().create_hook_keyframe(strength, start_percent, group)
    return hook_nodes.SetHookKeyframes().set_hook_keyframes(hooks, group)[0]


def hooked(cond, hooks):
    return hook_nodes.ConditioningSetProperties().set_properties(cond, 1.0, "default", hooks=hooks)[0]


def hooks_on_positive(hooks):
    return hooked(A, hooks), NEGATIVE


def hooks_on_both(hooks):
    node = hook_nodes.PairConditioningSetProperties()
    return node.set_properties(A, NEGATIVE, 1.0, "default", hooks=hooks)


def hooks_on_one_of_two(hooks):
    return graphs.combine(hooked(graphs.masked(A, graphs.left_mask()), hooks), B), NEGATIVE


CONSTANT = ((0.0, 1.0),)
FADING = ((0.0, 1.0), (0.3, 0.6), (0.7, 0.1))


@pytest.mark.parametrize("guidance", GUIDANCE)
@pytest.mark.parametrize("place", [hooks_on_positive, hooks_on_both, hooks_on_one_of_two])
@pytest.mark.parametrize("frames", [CONSTANT, FADING], ids=["constant", "fading"])
def test_a_lora_on_conds_keeps_its_schedule(model, gated, folder, place, frames, guidance):
    """The host patches weights between the calls of one step, taking our injection off and on each time."""
    run = dict(zip(("positive", "negative"), place(keyframed(lora_hook(model, folder), *frames)), strict=True))
    patched = gated(model, guidance=guidance)
    with recording(model, patched) as record:
        result = tiny.sample(patched, **run)
    effective = "keep" if guidance == "uncond" and place is hooks_on_one_of_two else guidance
    after = [call for call in record.calls if call.sigma <= record.sigmas[4] * 1.0001]
    assert {call.cross_attention for call in after} == {0}
    if effective != "keep":
        assert {branch for call in after for branch in call.branches} == {SURVIVORS[effective][0][0]}
    assert distance(result, tiny.sample(reference(model, 4, effective), **run)) < EXACT
    assert distance(result, tiny.sample(patched, positive=A)) > 1e-3


def test_a_keyframe_behind_the_gate_still_counts(model, gated, folder):
    patched = gated(model, guidance="cond")
    hooks = lora_hook(model, folder)
    late = tiny.sample(patched, positive=hooked(A, keyframed(hooks, (0.0, 1.0), (0.6, 0.0))))
    constant = tiny.sample(patched, positive=hooked(A, keyframed(hooks, *CONSTANT)))
    assert distance(late, constant) > 1e-3


def test_a_hooked_run_leaves_the_next_one_alone(model, gated, folder):
    patched = gated(model, sp_interval=3, fi_interval=2)
    expected = tiny.sample(patched)
    tiny.sample(patched, positive=hooked(A, keyframed(lora_hook(model, folder), *FADING)))
    assert torch.equal(tiny.sample(patched), expected)


# --- GLIGEN -----------------------------------------------------------------------------------------------------------


class BoxText:
    """The text encoder of a GLIGEN box: one random embedding, (1, 768)."""

    def tokenize(self, text):
        return text

    def encode_from_tokens(self, tokens, return_pooled):
        assert return_pooled == "unprojected"
        return None, torch.randn(1, GLIGEN_WIDTH, generator=torch.Generator().manual_seed(len(tokens)))


def gligen(folder):
    """A random GLIGEN for the two transformer blocks, through the host's loader."""
    torch.manual_seed(3)
    weights = {}
    for place in ("input_blocks.1.1", "middle_block.1"):
        fuser = comfy.gligen.GatedSelfAttentionDense(32, GLIGEN_WIDTH, 8, 4)
        for part in fuser.children():
            tiny.randomise(part, 3)
        fuser.alpha_attn.data, fuser.alpha_dense.data = torch.tensor(1.0), torch.tensor(0.5)
        prefix = f"{place}.transformer_blocks.0.fuser."
        weights |= {prefix + name: weight for name, weight in fuser.state_dict().items()}
    position = comfy.gligen.PositionNet(GLIGEN_WIDTH, GLIGEN_WIDTH)
    tiny.randomise(position, 4)
    weights |= {f"position_net.{name}": weight for name, weight in position.state_dict().items()}
    comfy.utils.save_torch_file(weights, str(folder / "boxes.safetensors"))
    return host_nodes.GLIGENLoader().load_gligen("boxes.safetensors")[0]


@pytest.mark.parametrize("guidance", GUIDANCE)
def test_gligen_boxes_reach_the_model_in_every_step(model, gated, folder, guidance):
    """The box is attended to between self- and cross-attention; cond and uncond carry other patches: two calls."""
    boxes = gligen(folder)
    (positive,) = host_nodes.GLIGENTextBoxApply().append(A, BoxText(), boxes, "a box", 32, 32, 8, 16)
    patched = gated(model, guidance=guidance)
    used = []
    handle = boxes.model.module_list[1].register_forward_hook(lambda *_: used.append(True))
    with recording(model, patched) as record:
        result = tiny.sample(patched, positive=positive)
    handle.remove()
    alone = SURVIVORS.get(guidance)
    assert len(used) == len(record.calls) == (16 if alone is None else 12)
    assert [call.cross_attention for call in record.calls] == [ATTENTIONS] * 8 + [0] * (len(used) - 8)
    if alone is not None:
        assert [call.branches for call in record.calls[8:]] == alone * 4
    assert distance(result, tiny.sample(reference(model, 4, guidance), positive=positive)) < EXACT
    assert distance(result, tiny.sample(patched)) > 1e-3


# --- unCLIP -----------------------------------------------------------------------------------------------------------


def seen(seed):
    """What a CLIP vision model says about a picture."""
    output = comfy.clip_vision.Output()
    output.image_embeds = torch.randn(1, 16, generator=torch.Generator().manual_seed(seed))
    return output


@pytest.mark.parametrize("guidance", GUIDANCE)
@pytest.mark.parametrize("pictures", [1, 2])
def test_unclip_pictures_are_gated_with_their_text(gated, pictures, guidance):
    model = variants.unclip()
    positive = A
    for seed in range(pictures):
        (positive,) = host_nodes.unCLIPConditioning().apply_adm(positive, seen(seed), 0.8, 0.1)
    patched = gated(model, guidance=guidance)
    with recording(model, patched) as record:
        result = tiny.sample(patched, positive=positive)
    assert record.per_call("cross_attention") == [ATTENTIONS] * 4 + [0] * 4
    assert [call.branches for call in record.calls[4:]] == SURVIVORS.get(guidance, [[1, 0]]) * 4
    assert distance(result, tiny.sample(reference(model, 4, guidance), positive=positive)) < EXACT
    assert distance(result, tiny.sample(patched)) > 1e-3
