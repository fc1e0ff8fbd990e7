"""Controls of every kind for a tiny model, ways to put them on a conditioning, and what of them a network took."""

from __future__ import annotations

from dataclasses import dataclass, field

import comfy.cldm.cldm
import comfy.controlnet
import comfy.ops
import comfy.t2i_adapter.adapter
import tiny
import torch
import variants

import nodes as host_nodes

CPU = torch.device("cpu")
# Two residual blocks at the one level: an adapter's features are added behind the second.
TWO_BLOCKS = {"num_res_blocks": [2], "transformer_depth": [1, 1], "transformer_depth_output": [0, 0, 0]}
A, NEGATIVE = tiny.text(1), tiny.text(2)


def control_network(seed=11):
    """A `comfy.cldm` control network for the model above."""
    config = {**tiny.SD15_UNET, **variants.ONE_LEVEL, **TWO_BLOCKS, "num_heads": 8, "hint_channels": 3}
    del config["out_channels"]
    torch.manual_seed(seed)
    network = comfy.cldm.cldm.ControlNet(**config, operations=comfy.ops.disable_weight_init)
    tiny.randomise(network, seed)
    return network.requires_grad_(False).eval()


def controlnet(seed=11):
    return comfy.controlnet.ControlNet(control_network(seed), load_device=CPU)


def t2i_adapter():
    torch.manual_seed(12)
    adapter = comfy.t2i_adapter.adapter.Adapter([32], nums_rb=1, cin=3 * 64, sk=True, use_conv=False, xl=False)
    tiny.randomise(adapter, 12)
    return comfy.controlnet.T2IAdapter(adapter.requires_grad_(False).eval(), 3, 8, "nearest-exact", device=CPU)


def control_lora():
    """What a control LoRA adds to the UNet's own weights: the hint, the zero convolutions, and low-rank changes."""
    weights = {"lora_controlnet": torch.tensor([])}
    generator = torch.Generator().manual_seed(13)
    for name, weight in control_network(13).state_dict().items():
        if name.startswith(("input_hint_block", "zero_convs", "middle_block_out")):
            weights[name] = weight
        elif name.endswith("attn1.to_q.weight"):
            stem = name.removesuffix(".weight")
            weights[f"{stem}.up"] = torch.randn(weight.shape[0], 2, generator=generator)
            weights[f"{stem}.down"] = torch.randn(2, weight.shape[1], generator=generator) / 8
    return comfy.controlnet.ControlLora(weights)


KINDS = [controlnet, t2i_adapter, control_lora]


def applied(control, strength=0.8, start=0.0, end=1.0, picture=0, positive=A, negative=NEGATIVE):
    """ControlNetApplyAdvanced: control on both branches."""
    node = host_nodes.ControlNetApplyAdvanced()
    image = variants.picture(seed=picture)
    positive, negative = node.apply_controlnet(positive, negative, control, image, strength, start, end)
    return {"positive": positive, "negative": negative}


def applied_the_old_way(control):
    """ControlNetApply: control on the positive, which the host then copies to the negative."""
    (positive,) = host_nodes.ControlNetApply().apply_controlnet(A, control, variants.picture(), 0.8)
    return {"positive": positive, "negative": NEGATIVE}


def applied_to_one_side(control):
    """Control on the positive only, as a graph can wire it."""
    return {"positive": applied(control)["positive"], "negative": NEGATIVE}


def chained(control):
    """A second control net behind the first, with another picture."""
    first = applied(control)
    return applied(controlnet(seed=21), picture=1, positive=first["positive"], negative=first["negative"])


@dataclass
class ControlSeen:
    """Of each network call: rows of x, rows of the control tensors, and how many the network took."""

    rows: list[int] = field(default_factory=list)
    control_rows: list[set[int]] = field(default_factory=list)
    given: list[int] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)

    def watch(self, executor, *args, **kwargs):
        """APPLY_MODEL wrapper; the UNet pops what it takes."""
        control = args[4]
        before = tensors(control)
        self.rows.append(args[0].shape[0])
        self.control_rows.append({tensor.shape[0] for tensor in before})
        self.given.append(len(before))
        output = executor(*args, **kwargs)
        self.taken.append(len(before) - len(tensors(control)))
        return output


def tensors(control):
    return [tensor for part in (control or {}).values() for tensor in part if tensor is not None]
