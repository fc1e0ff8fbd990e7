"""What only looks at a run may fail: the picture is there all the same, and the log says what became of the rest."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import comfy.model_management
import pytest
import tiny
import torch
import variants

STEPS = 8
Interrupted = comfy.model_management.InterruptProcessingException


class FaultError(RuntimeError):
    """Raised on purpose."""


def fail(*_, **__):
    raise FaultError("on purpose")


@pytest.fixture(scope="module")
def model():
    return variants.one_level()


@pytest.fixture
def listened(model, pack):
    """The model gated after step 4, and with whom told of its runs."""

    def apply(listener, gate=4.0):
        config = pack.core("gate.config").GateConfig(gate=gate)
        told = None if listener is None else pack.core("report.record").Listener(listener)
        return pack.core("host.install").apply_config(model, config, told).model

    return apply


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def faulty(name):
    """Puts a fault into one of ours: (pack, monkeypatch) → None."""
    module, *attributes, last = name.split(".")

    def install(pack, monkeypatch):
        owner = pack.core(module.replace("/", "."))
        for attribute in attributes:
            owner = getattr(owner, attribute)
        monkeypatch.setattr(owner, last, fail)

    return install


def in_the_summary(pack, monkeypatch):
    """Of a gated run, and of one that is left as it is."""
    for name in ("summary_text", "plain_text"):
        faulty(f"host/reporting.{name}")(pack, monkeypatch)


AT_THE_END = {
    "cells": faulty("host/reporting._cells"),
    "fingerprint": faulty("engine/identity.Fingerprint.of"),
    "summary": in_the_summary,
    "records": faulty("report/record.RunRecords.add"),
}


@pytest.mark.parametrize("gate", [4.0, 100.0], ids=["gated", "plain"])
@pytest.mark.parametrize("fault", AT_THE_END.values(), ids=AT_THE_END)
def test_a_fault_in_the_records_costs_no_picture(listened, pack, monkeypatch, caplog, fault, gate):
    expected = tiny.sample(listened(None, gate))
    fault(pack, monkeypatch)
    assert torch.equal(tiny.sample(listened(None, gate)), expected)
    (warning,) = warnings_of(caplog)
    assert "FaultError: on purpose" in warning
    assert "TGATE Report" in warning
    assert "please report it" in warning


@pytest.mark.parametrize("gate", [4.0, 100.0], ids=["gated", "plain"])
def test_a_fault_in_a_listener_costs_neither_picture_nor_record(listened, pack, caplog, gate):
    expected = tiny.sample(listened(None, gate))
    patched = listened(fail, gate)
    result = tiny.sample(patched)
    assert torch.equal(result, expected)
    assert pack.core("host.install").records_of(patched).find(result) is not None
    (warning,) = warnings_of(caplog)
    assert "telling the editor" in warning


def test_a_latent_without_fingerprint_still_has_a_record(listened, pack, monkeypatch):
    patched = listened(None)
    with monkeypatch.context() as patch:
        AT_THE_END["fingerprint"](pack, patch)
        tiny.sample(patched)
    record = pack.core("host.install").records_of(patched).last
    assert len(record.cells) == STEPS
    assert not record.was_interrupted
    assert record.fingerprint is None


@pytest.mark.parametrize("fault", [None, *AT_THE_END.values()], ids=["listener", *AT_THE_END])
def test_a_fault_does_not_hide_the_error_that_ended_the_run(listened, pack, monkeypatch, fault):
    def end(step, *_):
        if step == 5:
            raise ValueError("the run's own")

    patched = listened(fail if fault is None else None)
    if fault is not None:
        fault(pack, monkeypatch)
    with pytest.raises(ValueError, match="the run's own"):
        tiny.sample(patched, callback=end)


@pytest.mark.parametrize("gate", [4.0, 100.0], ids=["gated", "plain"])
def test_an_interrupt_is_no_fault(listened, caplog, gate):
    """A user who stops the queue while a listener is at work wants it to stop."""

    def interrupt(_record):
        raise Interrupted

    with pytest.raises(Interrupted):
        tiny.sample(listened(interrupt, gate))
    assert warnings_of(caplog) == []


MEASURING = {
    "in an attention": faulty("probe/measurement.relative_change"),
    "in a prediction": lambda _, monkeypatch: monkeypatch.setattr(torch, "cosine_similarity", fail),
    "at the end": faulty("probe/measurement._means"),
    "in recognising the network": faulty("host/run_start.network_signature"),
}


@pytest.mark.parametrize("fault", MEASURING.values(), ids=MEASURING)
def test_a_fault_in_measuring_costs_no_picture_and_leaves_no_older_measurement(model, pack, monkeypatch, caplog, fault):
    patched, probe = pack.nodes["TGATEProbe"].execute(model=model).args
    expected = tiny.sample(patched)
    assert probe.profile is not None
    with monkeypatch.context() as patch:
        fault(pack, patch)
        assert torch.equal(tiny.sample(patched), expected)
    (warning,) = warnings_of(caplog)
    assert "The probe holds no measurement: sample again" in warning
    assert probe.profile is None
    with pytest.raises(ValueError, match="holds no measurement"):
        pack.nodes["TGATEConvergencePlot"].execute(probe=probe)
    tiny.sample(patched)
    assert probe.profile is not None


def test_arguments_that_cannot_be_kept_cost_no_picture(model, gated, pack, monkeypatch):
    """They are kept for counting what a call cost."""
    patched = gated(model)
    expected = tiny.sample(patched)
    with monkeypatch.context() as patch:
        patch.setattr(pack.core("host.reporting"), "_without_values", fail)
        assert torch.equal(tiny.sample(patched), expected)


class BrokenServer(SimpleNamespace):
    """A server that cannot reach the editor."""

    client_id = "editor"
    send_sync = send_progress_text = staticmethod(fail)


@pytest.fixture
def in_an_editor(pack, monkeypatch):
    """A node's hidden inputs, in a server that cannot reach the editor."""
    server = __import__("server").PromptServer
    monkeypatch.setattr(server, "instance", BrokenServer(), raising=False)
    for node in ("TGATEApply", "TGATEApplyAdvanced"):
        monkeypatch.setattr(pack.nodes[node], "hidden", SimpleNamespace(unique_id="5"), raising=False)


@pytest.mark.usefixtures("in_an_editor")
def test_an_editor_out_of_reach_costs_no_picture(model, gated, caplog):
    twice = gated(gated(model))  # which is worth a remark
    assert any("showing a remark" in warning for warning in warnings_of(caplog))
    caplog.clear()
    assert torch.isfinite(tiny.sample(twice)).all()
    (warning,) = warnings_of(caplog)
    assert "telling the editor" in warning
