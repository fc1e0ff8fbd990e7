"""`bench gpu`: its records, targets and chart, and what it counts. Nothing here samples."""

from __future__ import annotations

import argparse
import importlib
import sys
import warnings
from pathlib import Path

import pytest
import torch

from tgate_dev import cli, environment
from tgate_dev.bench.gpu import bundle, stand_ins
from tgate_dev.bench.gpu.records import WHOLE_PART, Records
from tgate_dev.bench.gpu.report import targets, write
from tgate_dev.bench.timing.results import Oracle, Round, Row, RunRecord

SETTINGS = {"part": "sdxl-fp16-batch1-sdpa", "title": "sdxl, card", "rehearsed": False}
GATED = Oracle(frozenset({"attn2"}), branches=1)


def row(name: str, seconds: float, oracle: Oracle | None = GATED) -> Row:
    """Three steps of a second each, of which the last is gated and takes so long, beside an oracle of half a second."""
    run = RunRecord([1.0, 1.0, seconds], [2.0, 2.0, 1.0], [[], [], ["attn2"]])
    one = Round(run, {0: 1.0, 1: 1.0, 2: 1.0}, {2: 0.5} if oracle else {})
    return Row(name, lambda model: model, oracle, peak_bytes=2**20, syncs=1.0, rounds=[one])


class TestRecords:
    def test_what_is_kept_is_read_again(self, tmp_path: Path) -> None:
        path = tmp_path / "records.jsonl"
        kept = row("TGATE Apply, balanced", 0.5)
        Records(path).keep(SETTINGS, kept)
        (table,) = Records(path).all()
        assert table.settings == SETTINGS
        (found,) = table.rows.values()
        assert found.oracle == GATED
        assert (found.rounds, found.figures()) == (kept.rounds, kept.figures())

    def test_rounds_add_up_and_another_machine_is_another_table(self, tmp_path: Path) -> None:
        records = Records(tmp_path / "records.jsonl")
        for settings in (SETTINGS, SETTINGS, {**SETTINGS, "device_name": "other"}):
            records.keep(settings, row("plain", 1.0, None))
        assert [len(table.rows["plain"].rounds) for table in records.all()] == [2, 1]

    def test_a_failure_lasts_until_the_row_succeeds(self, tmp_path: Path) -> None:
        path = tmp_path / "records.jsonl"
        Records(path).keep_failure(SETTINGS, "plain", RuntimeError("out of memory\nmore"))
        (table,) = Records(path).all()
        assert table.failed == {"plain": "RuntimeError: out of memory"}
        write(tmp_path, [table])
        assert "- sdxl-fp16-batch1-sdpa: plain: RuntimeError: out of memory" in (tmp_path / "gpu.md").read_text()
        Records(path).keep(SETTINGS, row("plain", 1.0))
        assert Records(path).all()[0].failed == {}

    def test_a_part_that_failed_as_a_whole_is_mended_by_any_row(self, tmp_path: Path) -> None:
        path = tmp_path / "records.jsonl"
        Records(path).keep_failure(SETTINGS, WHOLE_PART, RuntimeError("out of memory"))
        assert Records(path).all()[0].failed == {WHOLE_PART: "RuntimeError: out of memory"}
        Records(path).keep(SETTINGS, row("plain", 1.0))
        assert Records(path).all()[0].failed == {}


class TestTargets:
    @pytest.mark.parametrize(("gated", "is_met"), [(0.514, True), (0.516, False)])
    def test_gated_step(self, gated: float, is_met: bool, tmp_path: Path) -> None:
        records = Records(tmp_path / "records.jsonl")
        records.keep(SETTINGS, row("TGATE Apply, fast", gated))
        assert [target.is_met for target in targets(records.all()[0])] == [is_met, True, False]

    @pytest.mark.parametrize(
        ("alone", "together", "expected"), [(1.57, 0.89, [True, False]), (1.59, 0.88, [False, True])]
    )
    def test_sdxl_is_held_to_the_best_row(
        self, alone: float, together: float, expected: list[bool], tmp_path: Path
    ) -> None:
        """Seconds of runs; plain takes three."""
        records = Records(tmp_path / "records.jsonl")
        for name, seconds in {"Apply, gentle": 2.0, "Apply, fast": alone, "DeepCache + Apply, fast": together}.items():
            one = row(f"TGATE {name}", 0.0, None)
            one.rounds[0].run.step_seconds = [seconds, 0.0, 0.0]
            records.keep(SETTINGS, one)
        assert [target.is_met for target in targets(records.all()[0])] == expected

    def test_all_is_written(self, tmp_path: Path) -> None:
        records = Records(tmp_path / "records.jsonl")
        records.keep(SETTINGS, row("TGATE Apply, fast", 0.5))
        write(tmp_path, records.all())
        text = (tmp_path / "gpu.md").read_text(encoding="utf-8")
        assert "| TGATE Apply, fast | 2.5 | 0.833 | 1.000 | 1.000 | 1.0 | 1.0 |" in text
        assert "MISSED: TGATE Apply is 1.20 times as fast as plain, target 1.9" in text
        assert (tmp_path / "gpu.png").read_bytes().startswith(b"\x89PNG")


def test_waits_for_the_card_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    from tgate_dev.bench.timing.sampling import count_syncs

    modes: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def run(waits: int) -> None:
        """Torch warns in that mode alone."""
        if modes:
            warnings.warn("something else", stacklevel=1)
            for _ in range(waits):
                warnings.warn("called a synchronizing CUDA operation", stacklevel=1)

    assert count_syncs(torch.device("cuda"), run, 2) == 2
    assert modes == ["warn", "default"]
    assert count_syncs(torch.device("cpu"), run, 2) is None


def test_stand_ins_are_for_what_is_missing_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.setattr(stand_ins, "STAND_INS", ("scipy", "tgate_nowhere"))
    stand_ins.allow()
    assert isinstance(importlib.import_module("tgate_nowhere.inner").Anything, type)
    assert not hasattr(sys.modules["tgate_nowhere"], "__version__")
    assert hasattr(importlib.import_module("scipy"), "__version__")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("tgate_elsewhere")


def test_a_bundle_is_packed_by_the_tool_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    packed = []

    def pack(ready: object, options: argparse.Namespace) -> int:
        packed.append((ready, options.bundle, options.python))
        return 0

    monkeypatch.setattr(environment, "ensure", lambda version, verbose: "ready")
    monkeypatch.setattr(bundle, "pack", pack)
    assert cli.main(["bench", "gpu", "--bundle", str(tmp_path), "--python", "3.12"]) == 0
    assert packed == [("ready", tmp_path, "3.12")]
