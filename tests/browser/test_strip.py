"""The strip: which sampler it follows, what it says, and what it leaves alone."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Route
from strip_editor import BOTH_FRONTENDS, LOOKS, SEND, Strip, StripEditor, run_detail

from tgate_dev.editor import Links, Nodes, sampled

GATE, ADVANCED = "TGATEApply", "TGATEApplyAdvanced"
TEXTS = "/extensions/comfyui-tgate-nodes/texts.js"
SETTING = "window.app.extensionManager.setting.get"
# What `balanced` does with most samplers in 25 steps.
PREDICTED = "10 of 25 steps predicted"
# The run of a node in the graph that is open, unless it says otherwise.

pytestmark = pytest.mark.slow


def custom_sampler(guider: str, steps: int) -> tuple[Nodes, Links]:
    nodes: Nodes = {
        "gate": (GATE, {"preset": "fast"}),
        "bypassed": ("ModelSamplingDiscrete", {}),
        "guider": (guider, {}),
        "scheduler": ("BasicScheduler", {"steps": steps}),
        "sampler": ("SamplerCustomAdvanced", {}),
    }
    links: Links = [
        ("gate", "MODEL", "bypassed", "model"),
        ("bypassed", "MODEL", "guider", "model"),
        ("bypassed", "MODEL", "scheduler", "model"),
        ("guider", "GUIDER", "sampler", "guider"),
        ("scheduler", "SIGMAS", "sampler", "sigmas"),
    ]
    return nodes, links


def predicted(strip: Strip) -> list[int]:
    """Places of the steps that are predicted."""
    return [place for place, bar in enumerate(strip.bars) if "predicted" in bar["looks"]]


def measured(source: str | None) -> tuple[Nodes, Links]:
    """A node that gates as measured, with a probe from a node of this type, if any."""
    nodes, links = sampled(ADVANCED, {"gate": 3, "gate_unit": "measured"}, steps=12)
    if source is not None:
        nodes["source"] = (source, {})
        links = [*links, ("source", "probe", "gate", "probe")]
    return nodes, links


def loaded() -> tuple[Nodes, Links]:
    """A node with a loader, and another loader that nothing is connected to."""
    nodes, links = sampled(GATE)
    nodes |= {"loader": ("CheckpointLoaderSimple", {}), "other": ("UNETLoader", {})}
    return nodes, [*links, ("loader", "MODEL", "gate", "model")]


class TestWhichRun:
    def test_a_sampler_behind_other_nodes(self, editor: StripEditor) -> None:
        editor.build(*custom_sampler("CFGGuider", 12))
        strip = editor.wait_for_strip(GATE, "of 12 steps")
        assert "two passes" not in strip.bars[0]["label"]
        assert "both guidance passes" in strip.bars[0]["label"]

    def test_a_guider_without_guidance(self, editor: StripEditor) -> None:
        editor.build(*custom_sampler("BasicGuider", 12))
        strip = editor.wait_for_strip(GATE, "of 12 steps")
        assert all("one pass" in bar["label"] for bar in strip.bars)
        assert strip.caption.startswith("cfg is 1: no second pass to save")

    def test_a_part_of_a_run(self, editor: StripEditor) -> None:
        settings = {"gate": 0.5, "gate_unit": "percent of schedule"}
        nodes: Nodes = {
            "gate": (ADVANCED, settings),
            "sampler": ("KSamplerAdvanced", {"steps": 20, "start_at_step": 4, "end_at_step": 16}),
        }
        editor.build(nodes, [("gate", "MODEL", "sampler", "model")])
        assert "Approximate" not in editor.wait_for_strip(ADVANCED, "gate after 6 of 12 steps").caption

    def test_noise_levels_by_the_schedulers_name(self, editor: StripEditor) -> None:
        """A multistep sampler gets a late gate where its steps are long."""
        editor.build(*sampled(GATE, {"preset": "gentle"}, steps=20, sampler_name="dpmpp_2m", scheduler="normal"))
        normal = editor.wait_for_strip(GATE, "gate after 18 of 20 steps")
        assert "Approximate" not in normal.caption
        editor.on_node("KSampler", "(node) => { node.widgets.find((w) => w.name === 'scheduler').value = 'karras'; }")
        editor.on_node(GATE, "(node) => node.onConnectionsChange()")
        karras = editor.wait_for_strip(GATE, "6 of 20 steps predicted")
        assert "Approximate" not in karras.caption

    def test_noise_levels_by_a_node_of_their_own(self, editor: StripEditor) -> None:
        settings = {"preset": "gentle"}
        editor.build(*sampled(GATE, settings, steps=25, sampler_name="dpmpp_2m", scheduler="karras"))
        by_name = editor.wait_for_strip(GATE, "7 of 25 steps predicted")
        nodes, links = custom_sampler("CFGGuider", 25)
        nodes["gate"], nodes["bypassed"] = (GATE, settings), ("RescaleCFG", {})
        nodes["scheduler"] = ("BasicScheduler", {"steps": 25, "scheduler": "karras"})
        nodes["solver"] = ("KSamplerSelect", {"sampler_name": "dpmpp_2m"})
        editor.build(nodes, [*links, ("solver", "SAMPLER", "sampler", "sampler")])
        by_node = editor.wait_until(GATE, lambda strip: predicted(strip) == predicted(by_name))
        assert "Approximate" not in by_node.caption

    def test_a_node_that_changes_them_leaves_the_plan_approximate(self, editor: StripEditor) -> None:
        nodes, links = sampled(GATE, steps=25, sampler_name="dpmpp_2m", scheduler="karras")
        nodes["levels"] = ("ModelSamplingDiscrete", {})
        editor.build(nodes, [*links, ("levels", "MODEL", "gate", "model")])
        assert "Approximate" in editor.wait_for_strip(GATE, "of 25 steps").caption
        editor.on_node("ModelSamplingDiscrete", "(node) => { node.mode = 4; }")
        editor.on_node(GATE, "(node) => node.onConnectionsChange()")
        editor.wait_until(GATE, lambda strip: PREDICTED in strip.title and "Approximate" not in strip.caption)

    def test_steps_from_a_node_of_their_own(self, editor: StripEditor) -> None:
        nodes, links = sampled(GATE, steps=25)
        nodes["number"] = ("PrimitiveInt", {"value": 33})
        editor.build(nodes, [*links, ("number", "INT", "sampler", "steps")])
        editor.wait_for_strip(GATE, "of 33 steps")

    def test_steps_that_cannot_be_read_are_said_to_be_assumed(self, editor: StripEditor) -> None:
        """The node between has a setting of that name, which means something else."""
        nodes, links = custom_sampler("CFGGuider", 12)
        nodes["more"] = ("ExtendIntermediateSigmas", {})
        direct = ("scheduler", "SIGMAS", "sampler", "sigmas")
        assert direct in links
        links = [link for link in links if link != direct]
        through = [("scheduler", "SIGMAS", "more", "sigmas"), ("more", "SIGMAS", "sampler", "sigmas")]
        editor.build(nodes, [*links, *through])
        strip = editor.wait_until(GATE, lambda strip: "Steps are known after a run: 25 assumed." in strip.caption)
        assert "No sampler" not in strip.caption

    @pytest.mark.parametrize(
        ("solver", "title"),
        [("SamplerEulerAncestral", "10 of 25 steps predicted"), ("SamplerDPMAdaptative", "gate after 2 of 25 steps")],
    )
    def test_solvers_by_nodes_of_their_own(self, editor: StripEditor, solver: str, title: str) -> None:
        """With samplers that look ahead no step is predicted."""
        nodes, links = custom_sampler("CFGGuider", 25)
        nodes["gate"], nodes["solver"] = (GATE, {"preset": "balanced"}), (solver, {})
        editor.build(nodes, [*links, ("solver", "SAMPLER", "sampler", "sampler")])
        editor.wait_for_strip(GATE, title)

    def test_a_muted_sampler_does_not_count(self, editor: StripEditor) -> None:
        editor.build(*sampled(GATE, steps=40))
        editor.wait_for_strip(GATE, "of 40 steps")
        editor.on_node("KSampler", "(node) => { node.mode = 2; }")
        editor.on_node(GATE, "(node) => node.onConnectionsChange()")
        editor.wait_for_strip(GATE, "of 25 steps")

    def test_a_sampler_outside_of_the_subgraph(self, editor: StripEditor) -> None:
        editor.build(*sampled(GATE, steps=36))
        editor.wait_for_strip(GATE, "of 36 steps")
        inside = editor.on_node(
            GATE,
            """(node) => {
              const { node: host, subgraph } = window.app.rootGraph.convertToSubgraph(new Set([node]));
              window.app.canvas.setGraph(subgraph);
              return [String(host.id), String(subgraph.nodes[0].id)];
            }""",
        )
        editor.settle()
        read = "() => window.app.canvas.graph.nodes[0].widgets.at(-1).element.shadowRoot.textContent"
        editor.page.wait_for_function(f"() => ({read})().includes('of 36 steps')")
        # The server calls it by its way there.
        editor.page.evaluate(SEND, run_detail(":".join(inside)))
        assert "Last run" in editor.page.evaluate(read)
        editor.page.evaluate("() => window.app.canvas.setGraph(window.app.rootGraph)")


class TestWhatItSays:
    def test_a_node_by_itself_says_what_to_connect_and_no_more(self, editor: StripEditor) -> None:
        editor.build({"gate": (GATE, {})}, [])
        strip = editor.wait_for_strip(GATE, "Plan")
        assert strip.caption == "No sampler connected: 25 steps assumed. As for SDXL: connect a model."
        assert not strip.is_cut

    def test_bars_are_told_apart_without_colour(self, editor: StripEditor) -> None:
        settings = {"gate": 0.5, "guidance": "uncond", "refresh": "never", "protect_last": 2, "sp_interval": 3}
        editor.build(*sampled(ADVANCED, settings, steps=20))
        strip = editor.wait_for_strip(ADVANCED, "gate after 10 of 20 steps")
        heights = {tuple(bar["looks"]): bar["height"] for bar in strip.bars}
        assert heights[("planning",)] == 100
        assert heights[("planning", "reused")] == 70
        assert heights[("fidelity",)] == 35
        assert heights[("protected",)] == 100
        assert strip.gate == 10
        assert strip.bars[3]["label"] == "Step 4 of 20: planning; both guidance passes"
        assert strip.bars[12]["label"] == "Step 13 of 20: gated; cross-attention frozen; one pass"
        assert all(name in strip.legend for name in ("planning", "reused", "gated", "in full"))

    def test_refreshed_steps_are_shown_where_they_are_known(self, editor: StripEditor) -> None:
        settings = {"gate": 3, "gate_unit": "step", "sp_interval": 1}
        editor.build(*sampled(ADVANCED, {**settings, "refresh": "growing gaps"}, steps=12))
        strip = editor.wait_for_strip(ADVANCED, "gate after 3 of 12 steps")
        assert [place for place, bar in enumerate(strip.bars) if "refresh" in bar["looks"]] == [4, 7]
        assert strip.bars[4]["height"] == 100
        assert strip.bars[4]["label"] == "Step 5 of 12: refreshed; both guidance passes"
        assert "refresh" in strip.legend
        editor.build(*sampled(ADVANCED, {**settings, "refresh": "by error"}, steps=12))
        strip = editor.wait_until(ADVANCED, lambda strip: "where the error asks for it" in strip.caption)
        assert not any("refresh" in bar["looks"] for bar in strip.bars)

    def test_a_measured_gate_is_known_after_a_run(self, editor: StripEditor) -> None:
        editor.build(*measured("TGATEConvergencePlot"))
        strip = editor.wait_for_strip(ADVANCED, "where the probe saw attention settle")
        assert strip.caption.startswith("Measured: known after a run.")
        assert [bar["looks"] for bar in strip.bars] == [["planning"]] * 12

    @pytest.mark.parametrize("source", [None, "TGATEProbe"])
    def test_a_measured_gate_without_a_measurement_is_no_plan(self, editor: StripEditor, source: str | None) -> None:
        """A probe straight from the node that measures is still empty when this one runs."""
        editor.build(*measured(source))
        strip = editor.wait_until(ADVANCED, lambda strip: "connect the probe of" in strip.caption)
        assert (strip.bars, strip.title) == ([], "")
        editor.on_node(ADVANCED, "(node) => { node.widgets.find((w) => w.name === 'gate_unit').value = 'step'; }")
        editor.on_node(ADVANCED, "(node) => node.onConnectionsChange()")
        assert len(editor.wait_for_strip(ADVANCED, "Plan gate after 3 of 12 steps").bars) == 12

    def test_connecting_a_measurement_brings_the_plan(self, editor: StripEditor) -> None:
        nodes, links = measured("TGATEConvergencePlot")
        editor.build(nodes, links[:-1])
        editor.wait_until(ADVANCED, lambda strip: "connect the probe of" in strip.caption)
        connect = """(node) => {
          const plot = window.app.rootGraph.nodes.find((one) => one.type === 'TGATEConvergencePlot');
          plot.connect(plot.outputs.length - 1, node, node.inputs.findIndex((input) => input.name === 'probe'));
        }"""
        editor.on_node(ADVANCED, connect)
        editor.wait_for_strip(ADVANCED, "where the probe saw attention settle")

    def test_many_steps_are_drawn_together(self, editor: StripEditor) -> None:
        editor.build(*sampled(ADVANCED, {"gate": 0.15, "sp_interval": 1, "refresh": "never"}, steps=1000))
        strip = editor.wait_for_strip(ADVANCED, "gate after 150 of 1000 steps")
        assert [bar["label"].split(":")[0] for bar in strip.bars] == [
            "Steps 1 to 150 of 1000",
            "Steps 151 to 1000 of 1000",
        ]

    def test_equal_steps_beyond_a_hundred_share_a_bar_up_to_the_gate(self, editor: StripEditor) -> None:
        ids = editor.build(*sampled(GATE, steps=25))
        editor.wait_for_strip(GATE, PREDICTED)
        # Nothing that the gate would change was reused.
        groups = [{**run_detail("")["groups"][0], "count": 120}]
        editor.page.evaluate(SEND, run_detail(ids["gate"], groups=groups, gate_step=50))
        strip = editor.read_strip(GATE)
        assert [bar["label"].split(":")[0] for bar in strip.bars] == ["Steps 1 to 50 of 120", "Steps 51 to 120 of 120"]
        assert strip.gate == 1
        editor.page.evaluate(SEND, run_detail(ids["gate"], groups=[{**groups[0], "count": 100}], gate_step=50))
        assert len(editor.read_strip(GATE).bars) == 100

    def test_a_run_of_more_steps_than_it_shows_says_so(self, editor: StripEditor) -> None:
        editor.build(*sampled(GATE, steps=1001))
        strip = editor.wait_until(GATE, lambda strip: "for runs of 1 to 1000 steps" in strip.caption)
        assert strip.bars == []
        assert all("status of 400" in complaint for complaint in editor.complaints)
        editor.complaints.clear()

    @pytest.mark.parametrize("family", ["constructor", "__proto__", "toString", 7, {"a": 1}, ["sd15"]])
    def test_a_family_that_nobody_knows_has_no_name(self, editor: StripEditor, family: Any) -> None:
        editor.build(*sampled(GATE, steps=4))
        editor.wait_for_strip(GATE, "of 4 steps")
        editor.on_node(GATE, "(node, family) => { node.properties.tgate_family = family; }", family)
        editor.on_node("KSampler", "(node) => { node.widgets.find((w) => w.name === 'steps').value = 5; }")
        editor.on_node(GATE, "(node) => node.onConnectionsChange()")
        assert "Model:" not in editor.wait_for_strip(GATE, "of 5 steps").caption

    def test_only_what_a_text_is_given_is_filled_in(self, editor: StripEditor) -> None:
        fill = "async (module) => (await import(module)).filled('{constructor} of {steps}', { steps: 7 })"
        assert editor.page.evaluate(fill, TEXTS) == "{constructor} of 7"

    def test_settings_that_the_node_refuses_are_named(self, editor: StripEditor) -> None:
        editor.build(*sampled(ADVANCED, {"gate": 3, "gate_unit": "fraction of steps"}))
        strip = editor.wait_until(ADVANCED, lambda strip: "must be between 0 and 1" in strip.caption)
        assert strip.bars == []
        assert editor.complaints
        assert all("status of 400" in complaint for complaint in editor.complaints)
        editor.complaints.clear()

    def test_a_server_without_an_answer_breaks_nothing(self, editor: StripEditor) -> None:
        def refuse(route: Route) -> None:
            route.fulfill(status=404, body="no such page")

        editor.page.route("**/tgate/schedule*", refuse)
        editor.build(*sampled(GATE, steps=24))
        editor.wait_until(GATE, lambda strip: strip.caption == "No preview: the server does not answer.")
        editor.page.unroute("**/tgate/schedule*")

    def test_language_is_the_editors(self, editor: StripEditor) -> None:
        editor.build(*sampled(GATE, steps=25))
        editor.wait_for_strip(GATE, PREDICTED)
        try:
            editor.set("Comfy.Locale", "zh")
            strip = editor.wait_for_strip(GATE, "计划 25 步中有 10 步为推算")
            assert "计算" in strip.legend
        finally:
            editor.set("Comfy.Locale", "en")
        editor.wait_for_strip(GATE, PREDICTED)

    def test_the_presets_are_told_apart(self, editor: StripEditor) -> None:
        editor.build(*sampled(GATE, {"preset": "fast"}, steps=25))
        strip = editor.wait_for_strip(GATE, "Plan")
        told = re.findall(r"([a-z, ]+)(?: −\d+ %| = fast)(?: · |$)", strip.presets)
        assert sorted(", ".join(told).split(", ")) == ["as published", "balanced", "gentle"]
        # With one pass in each step, what remains of guidance tells none apart.
        editor.build(*sampled(GATE, {"preset": "fast"}, steps=4, cfg=1))
        strip = editor.wait_until(GATE, lambda strip: strip.caption.startswith("cfg is 1"))
        assert " = fast" in strip.presets

    def test_a_muted_loader_and_another_sampler_are_followed(self, editor: StripEditor) -> None:
        nodes, links = loaded()
        editor.build(nodes, links)
        assert "connect a model" not in editor.wait_for_strip(GATE, "Plan").caption
        nodes["other sampler"] = ("KSampler", {"steps": 12, "cfg": 1})
        editor.build(
            nodes, [link for link in links if link[2] != "sampler"] + [("gate", "MODEL", "other sampler", "model")]
        )
        assert editor.wait_for_strip(GATE, "of 12 steps").caption.startswith("cfg is 1")


@BOTH_FRONTENDS
class TestSettings:
    @pytest.mark.parametrize("palette", ["dark", "light"])
    def test_the_dialog_offers_the_nodes_presets(self, editor: StripEditor, palette: str) -> None:
        editor.dress(False, palette)
        page = editor.page
        try:
            page.keyboard.press("Escape")
            page.keyboard.press("Control+,")
            dialog = page.get_by_role("dialog")
            dialog.get_by_text("TGATE", exact=True).first.click()
            choice = dialog.get_by_role("combobox").filter(has_text="balanced")
            choice.click()
            offered = page.get_by_role("option").all_inner_texts()
            definition = page.evaluate("async () => (await (await fetch('/object_info/TGATEApply')).json()).TGATEApply")
            assert offered == definition["input"]["required"]["preset"][1]["options"]
            page.get_by_role("option", name="gentle").click()
            page.wait_for_function(f"() => {SETTING}('TGATE.DefaultPreset') === 'gentle'")
        finally:
            editor.keep_screenshot(f"settings-{palette}")
            page.keyboard.press("Escape")
            page.keyboard.press("Escape")
            editor.set("TGATE.DefaultPreset", "balanced")
            editor.dress(*LOOKS[0])

    def test_a_new_node_takes_the_preset_that_is_set(self, editor: StripEditor) -> None:
        editor.set("TGATE.DefaultPreset", "fast")
        try:
            editor.build({"gate": (GATE, {})}, [])
            preset = "(node) => node.widgets.find((widget) => widget.name === 'preset').value"
            assert editor.on_node(GATE, preset) == "fast"
            # A graph that is loaded keeps its own.
            editor.build({"gate": (GATE, {"preset": "gentle"})}, [])
            editor.page.evaluate("async () => await window.app.loadGraphData(window.app.rootGraph.serialize())")
            assert editor.on_node(GATE, preset) == "gentle"
        finally:
            editor.set("TGATE.DefaultPreset", "balanced")

    @pytest.mark.parametrize("is_html", [False, True])
    def test_strips_can_be_switched_off(self, editor: StripEditor, is_html: bool) -> None:
        """A node that was made larger stays so much larger."""
        editor.set("Comfy.VueNodes.Enabled", is_html)
        editor.build(*sampled(GATE))
        editor.wait_for_strip(GATE, "Plan")
        height = editor.on_node(GATE, "(node) => { node.setSize([500, node.size[1] + 60]); return node.size[1]; }")
        editor.set("TGATE.ShowStrip", False)
        try:
            if not is_html:
                assert editor.on_node(GATE, "(node) => node.size[1]") < height - 100
            assert not editor.page.locator(".tgate-schedule").is_visible()
        finally:
            editor.set("TGATE.ShowStrip", True)
            editor.page.locator(".tgate-schedule").wait_for()
            editor.set("Comfy.VueNodes.Enabled", False)
        if not is_html:
            assert editor.on_node(GATE, "(node) => [...node.size]") == [500, height]


class TestAfterARun:
    def test_what_happened_is_shown_until_a_setting_changes(self, editor: StripEditor) -> None:
        ids = editor.build(*sampled(GATE, steps=25))
        assert "As for SDXL" in editor.wait_for_strip(GATE, PREDICTED).caption
        editor.page.evaluate(SEND, run_detail(ids["gate"]))
        strip = editor.read_strip(GATE)
        assert (strip.tag, strip.title) == ("Last run", "gate after 3 of 7 steps")
        assert strip.saving == "−33 % work · 2.5 s"
        assert strip.caption == "one reason"
        assert "a third saved" in strip.details
        editor.page.evaluate(SEND, run_detail(ids["gate"], notes=[], plain_seconds=5.25))
        strip = editor.read_strip(GATE)
        assert (strip.saving, strip.caption) == ("−33 % work · 2.5 s (plain 5.3 s)", "a third saved")
        assert strip.bars[3]["label"] == (
            "Step 4 of 7: gated; self-attention reused in 50 %; cross-attention frozen; one pass"
        )
        assert strip.bars[2]["looks"] == ["planning", "shallow"]
        assert strip.bars[5]["label"].startswith("Step 6 of 7: predicted from the steps before")
        assert strip.bars[5]["looks"] == ["predicted"]
        assert "predicted" in strip.legend
        assert strip.bars[6]["label"] == "Step 7 of 7: not run"
        # The family is known now.
        editor.on_node("KSampler", "(node) => { node.widgets.find((w) => w.name === 'steps').value = 50; }")
        editor.on_node(GATE, "(node) => node.onConnectionsChange()")
        assert editor.wait_for_strip(GATE, "Plan 19 of 50 steps predicted").caption.startswith("Model: SD 1.5.")
        assert editor.on_node(GATE, "(node) => node.serialize().properties.tgate_family") == "sd15"

    def test_it_is_of_the_model_that_is_connected(self, editor: StripEditor) -> None:
        ids = editor.build(*loaded())
        editor.wait_for_strip(GATE, "Plan")
        editor.page.evaluate(SEND, run_detail(ids["gate"]))
        assert editor.read_strip(GATE).tag == "Last run"
        connect = """(node, kind) => {
          const source = window.app.rootGraph.nodes.find((one) => one.type === kind);
          source.connect(0, node, node.inputs.findIndex((input) => input.name === 'model'));
        }"""
        editor.on_node(GATE, connect, "UNETLoader")
        assert "As for SDXL" in editor.wait_for_strip(GATE, "Plan").caption
        # What was told of the first loader still holds of it.
        editor.on_node(GATE, connect, "CheckpointLoaderSimple")
        assert "Model: SD 1.5." in editor.wait_until(GATE, lambda strip: "SDXL" not in strip.caption).caption

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param("(node) => { node.widgets[0].value = 'another.safetensors'; }", id="another file"),
            pytest.param("(node) => { node.mode = 2; }", id="never run"),
        ],
    )
    def test_it_is_of_the_loader_as_it_was(self, editor: StripEditor, change: str) -> None:
        ids = editor.build(*loaded())
        editor.wait_for_strip(GATE, "Plan")
        editor.page.evaluate(SEND, run_detail(ids["gate"]))
        assert editor.read_strip(GATE).tag == "Last run"
        editor.on_node("CheckpointLoaderSimple", change)
        editor.page.evaluate("() => window.comfyAPI.api.api.dispatchEvent(new CustomEvent('graphChanged'))")
        editor.wait_for_strip(GATE, "Plan")

    def test_a_node_between_keeps_the_family(self, editor: StripEditor) -> None:
        ids = editor.build(*loaded())
        editor.wait_for_strip(GATE, "Plan")
        editor.page.evaluate(SEND, run_detail(ids["gate"]))
        between = """(node) => {
          const between = window.LiteGraph.createNode('ModelSamplingDiscrete');
          const loader = window.app.rootGraph.nodes.find((one) => one.type === 'CheckpointLoaderSimple');
          window.app.rootGraph.add(between);
          loader.connect(0, between, 0);
          between.connect(0, node, 0);
        }"""
        editor.on_node(GATE, between)
        assert "Model: SD 1.5." in editor.wait_for_strip(GATE, "Plan").caption

    def test_a_bypassed_node_shows_neither_run_nor_plan(self, editor: StripEditor) -> None:
        ids = editor.build(*sampled(GATE, steps=25))
        editor.wait_for_strip(GATE, "Plan")
        editor.page.evaluate(SEND, run_detail(ids["gate"]))
        editor.page.keyboard.press("Escape")
        editor.look_at(GATE, left=300, top=250)
        editor.on_node(GATE, "(node) => window.app.canvas.selectNode(node)")
        editor.page.locator("#graph-canvas").focus()
        editor.page.keyboard.press("Control+b")
        strip = editor.wait_until(GATE, lambda strip: strip.caption.startswith("Bypassed"))
        assert (strip.tag, strip.bars) == ("", [])
        editor.page.evaluate(SEND, run_detail(ids["gate"]))
        assert editor.read_strip(GATE).caption.startswith("Bypassed")
        editor.page.keyboard.press("Control+b")
        editor.wait_for_strip(GATE, "Plan")

    def test_a_run_whose_steps_nobody_saw(self, editor: StripEditor) -> None:
        """Left alone by T-GATE, and interrupted."""
        ids = editor.build(*sampled(GATE))
        editor.wait_for_strip(GATE, "Plan")
        editor.page.evaluate(SEND, run_detail(ids["gate"], was_interrupted=True, groups=[], gate_step=6))
        strip = editor.read_strip(GATE)
        assert (strip.tag, strip.title, strip.bars) == ("Stopped", "left as it is", [])

    def test_an_interrupted_run_says_so(self, editor: StripEditor) -> None:
        ids = editor.build(*sampled(GATE))
        editor.page.evaluate(SEND, run_detail(ids["gate"], was_interrupted=True))
        assert editor.read_strip(GATE).tag == "Stopped"

    @pytest.mark.parametrize("node_id", ["404", "404:1", "", "sampler"])
    def test_runs_of_other_nodes_leave_it_alone(self, editor: StripEditor, node_id: str) -> None:
        ids = editor.build(*sampled(GATE))
        editor.wait_for_strip(GATE, "Plan")
        editor.page.evaluate(SEND, run_detail(ids.get(node_id, node_id)))
        assert editor.read_strip(GATE).tag == "Plan"

    def test_runs_of_another_tabs_graph_leave_it_alone(self, editor: StripEditor) -> None:
        ids = editor.build(*sampled(GATE))
        editor.wait_for_strip(GATE, "Plan")
        # Without an id it was queued by a program, as a prompt without its graph.
        for other in ("a graph in another tab", None, ""):
            editor.page.evaluate(SEND, run_detail(ids["gate"], workflow_id=other))
            assert editor.read_strip(GATE).tag == "Plan"
        own = editor.page.evaluate("() => window.app.rootGraph.id")
        editor.page.evaluate(SEND, run_detail(ids["gate"], workflow_id=own))
        assert editor.read_strip(GATE).tag == "Last run"


def test_a_graph_that_is_refused_stays_as_it_was(editor: StripEditor) -> None:
    """It has no output, so the server does not take it."""
    editor.build(*sampled(GATE))
    editor.wait_for_strip(GATE, "Plan")
    queued = "async () => { await window.app.queuePrompt(0).catch(() => {}); return window.app.rootGraph.extra ?? {}; }"
    assert "tgate" not in editor.page.evaluate(queued)
    editor.page.keyboard.press("Escape")
    assert all("/prompt" in complaint or "Prompt" in complaint for complaint in editor.complaints), editor.complaints
    editor.complaints.clear()


def test_nothing_of_it_is_saved_or_queued(editor: StripEditor) -> None:
    editor.build(*sampled(ADVANCED, {"gate": 7, "gate_unit": "step"}))
    editor.wait_for_strip(ADVANCED, "gate after 7")
    graph = editor.page.evaluate("async () => await window.app.graphToPrompt()")
    [node] = [node for node in graph["workflow"]["nodes"] if node["type"] == ADVANCED]
    assert node["widgets_values"] == [
        7,
        "step",
        5,
        1,
        2,
        True,
        True,
        "cached_delta",
        0,
        "auto",
        0,
        "growing gaps",
        2,
        0.7,
    ]
    [queued] = [node for node in graph["output"].values() if node["class_type"] == ADVANCED]
    assert "tgate_schedule" not in queued["inputs"]
    assert len(queued["inputs"]) == 14
