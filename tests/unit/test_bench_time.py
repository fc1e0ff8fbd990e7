"""`bench time`: its command line, its figures, and the table made of them. Nothing here samples."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tgate_dev import environment
from tgate_dev.bench.timing.results import Oracle, Round, Row, RunRecord, Spread, as_json, as_markdown
from tgate_dev.cli import main, parse

ONE_BRANCH = Oracle(frozenset({"attn2"}), branches=1)
SETTINGS = {"model": "sd15", "title": "sd15, 256 × 256 pixels, 5 steps, fp32, CPU, 2 threads"}


def gated_run(gated_seconds: float = 1.0) -> RunRecord:
    """Gate at step 3; the step before it captures and takes longer, the first one holds more than the step."""
    steps = [8.0, 2.0, 3.0, gated_seconds, gated_seconds]
    return RunRecord(steps, [2.0, 2.0, 2.0, 1.0, 1.0], [[], [], [], ["attn2"], ["attn2"]], cache_bytes=3 * 2**20)


def plain_steps(seconds: float = 10.0) -> dict[int, float]:
    """The plain model's steps beside a run; together they take so long."""
    return {step: share * seconds for step, share in enumerate((0.6, 0.1, 0.1, 0.1, 0.1))}


def plain_row() -> Row:
    runs = [RunRecord(list(plain_steps(seconds).values()), [2.0] * 5) for seconds in (10.0, 20.0, 40.0)]
    rounds = [Round(run, plain_steps(beside)) for run, beside in zip(runs, (10.0, 16.0, 50.0), strict=True)]
    return Row("plain", as_it_is, rounds=rounds)


def gated_row() -> Row:
    """Three rounds: of 15, 16 and 19 seconds."""
    row = Row("gated", as_it_is, ONE_BRANCH, peak_bytes=5 * 2**20)
    for gated, plain, ideal in ((1.0, 20.0, 1.0), (1.5, 20.0, 1.2), (3.0, 25.0, 2.0)):
        row.rounds.append(Round(gated_run(gated), plain_steps(plain), dict.fromkeys((3, 4), ideal)))
    return row


def as_it_is(model: object) -> object:
    return model


class TestCommandLine:
    def test_the_child_gets_what_the_user_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Through the command, whatever the measurement."""
        ran = []

        class Ready:
            def run(self, module: str, *arguments: str, **variables: str) -> int:
                ran.append((module, parse(arguments), variables))
                return 3

        monkeypatch.setattr(environment, "ensure", lambda version, verbose: Ready())
        given = ["bench", "time", "--model", "sdxl", "--out", "/o u t", "--peers", "/a", "/b c", "--verbose"]
        for arguments in (given, ["bench", "macs"], ["support"]):
            assert main(arguments) == 3
            assert ran.pop() == ("bench", parse(arguments), {"OMP_WAIT_POLICY": "ACTIVE"})

    def test_through_the_developer_tool(self) -> None:
        found = parse(["bench", "time", "--model", "sdxl", "--peers", "one", "two", "--comfyui-version", "0.30.0"])
        assert (found.measurement, found.model, found.comfyui_version) == ("time", "sdxl", "0.30.0")
        assert found.peers == [Path("one"), Path("two")]

    @pytest.mark.parametrize(
        ("given", "saying"),
        [
            (["--runs", "0"], "'0' is not a whole number of 1 or more"),
            (["--steps", "1"], "'1' is not a whole number of 2 or more"),
            (["--steps", "x"], "'x' is not a whole number"),
            (["--model", "flux"], "pixart-alpha"),
        ],
    )
    def test_what_makes_no_sense_is_refused(
        self, given: list[str], saying: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as exit_:
            parse(["bench", "time", *given])
        assert exit_.value.code == 2
        assert saying in capsys.readouterr().err


class TestFigures:
    def test_spread(self) -> None:
        assert Spread.of([3.0, None, 1.0, 10.0]) == Spread(median=3.0, low=1.0, high=10.0)
        assert Spread.of([1.0, 2.0]) == Spread(1.5, 1.0, 2.0)
        assert Spread.of([None]) is None

    def test_ratios_are_to_the_steps_that_ran_in_between(self) -> None:
        found = gated_row().figures()
        assert found["seconds"] == Spread(16.0, 15.0, 19.0)
        assert found["to_plain"] == Spread(0.76, 0.75, 0.8)
        assert found["to_oracle"] == Spread(1.25, 1.0, 1.5)
        assert found["full_to_plain"] == Spread(1.25, 1.0, 1.25)
        assert found["cache_bytes"] == Spread(3 * 2**20, 3 * 2**20, 3 * 2**20)
        assert found["peak_bytes"] == Spread(5 * 2**20, 5 * 2**20, 5 * 2**20)

    def test_a_machine_that_gets_slower_tips_neither_side(self) -> None:
        """Steps of ours and of the oracle in turn, each a second longer than what ran before it."""
        ours = RunRecord([100.0, 10.0, 12.0, 14.0], [2.0, 1.0, 1.0, 1.0])
        assert Round(ours, {}, {1: 11.0, 2: 13.0, 3: 15.0}).to_oracle() == 1.0

    def test_what_has_no_oracle_has_no_gated_and_no_full_steps(self) -> None:
        found = plain_row().figures()
        assert found["to_plain"] == pytest.approx((1.0, 0.8, 1.25))
        assert [found[name] for name in ("to_oracle", "full_to_plain", "cache_bytes", "peak_bytes")] == [None] * 4

    def test_full_steps_leave_out_the_first_and_count_the_one_that_captures(self) -> None:
        assert Round(gated_run(), plain_steps(20.0)).full_to_plain() == (2.0 + 3.0) / (2.0 + 2.0)

    def test_no_full_steps(self) -> None:
        reused = RunRecord([1.0] * 5, [2.0] * 5, [["attn1"]] * 5)
        assert Round(reused, plain_steps()).full_to_plain() is None

    def test_gated_steps_do_what_the_oracle_does(self) -> None:
        assert gated_run().steps_like(ONE_BRANCH) == [3, 4]
        assert gated_run().steps_like(Oracle(frozenset({"attn2"}), branches=2)) == []
        assert gated_run().steps_like(Oracle(frozenset({"attn1"}), branches=1)) == []
        assert gated_run().steps_like(None) == []

    def test_without_t_gate_the_branches_tell(self) -> None:
        override = RunRecord([1.0] * 5, [2.0, 2.0, 2.0, 1.0, 1.0])
        assert override.steps_like(Oracle(frozenset(), branches=1)) == [3, 4]
        assert override.full_steps() == [1, 2]


class TestTable:
    def test_medians(self) -> None:
        heading, mark, plain, gated = as_markdown(SETTINGS, [plain_row(), gated_row()]).splitlines()
        assert heading == (
            "| sd15, 256 × 256 pixels, 5 steps, fp32, CPU, 2 threads | s a run | × plain | gated step, × oracle | "
            "full steps, × plain | captures, MiB | peak, MiB |"
        )
        assert mark == "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
        assert plain == "| plain | 20.0 | 1.000 | - | - | - | - |"
        assert gated == "| gated | 16.0 | 0.760 | 1.250 | 1.250 | 3.0 | 5.0 |"

    def test_what_is_said_below_it_is_said_once(self) -> None:
        row = gated_row()
        for one in row.rounds:
            one.run.notes.append("the cache is full")
        assert as_markdown(SETTINGS, [row]).splitlines()[-2:] == ["", "gated: the cache is full"]

    def test_json_has_all_raw_numbers(self) -> None:
        found = json.loads(as_json(SETTINGS, [plain_row(), gated_row()]))
        assert found["settings"]["model"] == "sd15"
        gated = found["rows"][1]
        assert gated["figures"]["to_plain"] == {"median": 0.76, "low": 0.75, "high": 0.8}
        assert gated["rounds"][0]["run"]["step_seconds"] == [8.0, 2.0, 3.0, 1.0, 1.0]
        assert gated["rounds"][1]["oracle"] == {"3": 1.2, "4": 1.2}
        assert [len(one["plain"]) for one in gated["rounds"]] == [5, 5, 5]
