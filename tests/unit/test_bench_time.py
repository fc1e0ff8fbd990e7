"""`bench time`: its command line, its figures, and the table made of them. Nothing here samples."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tgate_dev.bench.timing import options
from tgate_dev.bench.timing.figures import Spread, figures, full_steps, gated_step
from tgate_dev.bench.timing.options import TimeOptions
from tgate_dev.bench.timing.records import Oracle, Results, Row, RunRecord, Steps
from tgate_dev.bench.timing.report import LEGEND, as_json, markdown_table, text_table
from tgate_dev.cli import parse

ONE_BRANCH = Oracle(frozenset({"attn2"}), branches=1)
SETTINGS = {
    "model": "sd15",
    "pixels": 256,
    "batch": 1,
    "steps": 5,
    "dtype": "fp32",
    "device_name": "CPU, 2 threads",
}


def plain_run(seconds: float = 10.0) -> RunRecord:
    """Five steps; the first one's time holds more than the step."""
    steps = [share * seconds for share in (0.6, 0.1, 0.1, 0.1, 0.1)]
    return RunRecord(steps, [2.0] * 5, step_processor_seconds=[2 * step for step in steps])


def gated_run(gated_seconds: float = 1.0) -> RunRecord:
    """Gate at step 3; the step before it captures and takes longer."""
    steps = [8.0, 2.0, 3.0, gated_seconds, gated_seconds]
    reused = [[], [], [], ["attn2"], ["attn2"]]
    processor = [3 * step for step in steps]
    branches = [2.0, 2.0, 2.0, 1.0, 1.0]
    return RunRecord(steps, branches, reused, step_processor_seconds=processor, cache_bytes=3 * 2**20)


def plain_steps(seconds: float = 10.0) -> Steps:
    """The plain model's steps beside a run; together they take so long."""
    run = plain_run(seconds)
    return {number: single(step, 2 * step) for number, step in enumerate(run.step_seconds)}


def oracle_steps(seconds: float) -> Steps:
    """The oracle's, beside those that do what it does."""
    return {number: single(seconds, 4 * seconds) for number in (3, 4)}


def single(seconds: float, processor_seconds: float) -> RunRecord:
    """A run of one step."""
    return RunRecord([seconds], [1.0], step_processor_seconds=[processor_seconds])


def as_it_is(model: object) -> object:
    return model


def make_results(*rows: Row) -> Results:
    plain = Row("plain", as_it_is, runs=[plain_run(10.0), plain_run(20.0), plain_run(40.0)])
    plain.plain_steps = [plain_steps(10.0), plain_steps(16.0), plain_steps(50.0)]
    return Results(dict(SETTINGS), ["A remark."], [plain, *rows])


def gated_row() -> Row:
    """Three rounds: of 15, 16 and 19 seconds."""
    row = Row("gated", as_it_is, ONE_BRANCH, runs=[gated_run(1.0), gated_run(1.5), gated_run(3.0)])
    row.plain_steps = [plain_steps(20.0), plain_steps(20.0), plain_steps(25.0)]
    row.oracle_steps = [oracle_steps(1.0), oracle_steps(1.2), oracle_steps(2.0)]
    return row


class TestCommandLine:
    def test_defaults_leave_the_choice_to_the_device(self) -> None:
        found = options.parse([])
        assert (found.model, found.device, found.dtype, found.pixels) == (None, None, None, None)
        assert (found.batch, found.steps, found.runs, found.peers) == (1, 25, 3, ())

    @pytest.mark.parametrize(
        "given",
        [
            TimeOptions(out=Path("/out")),
            TimeOptions("sdxl", "cuda", "bf16", 4, 768, 10, 7, Path("/o u t"), (Path("/a"), Path("/b c"))),
        ],
    )
    def test_the_child_gets_what_the_user_said(self, given: TimeOptions) -> None:
        assert options.parse(options.as_arguments(given)) == given

    def test_through_the_developer_tool(self) -> None:
        found = parse(["bench", "time", "--model", "sdxl", "--peers", "one", "two", "--comfyui-version", "0.30.0"])
        assert (found.measurement, found.model, found.comfyui_version) == ("time", "sdxl", "0.30.0")
        assert options.from_namespace(found).peers == (Path.cwd() / "one", Path.cwd() / "two")

    @pytest.mark.parametrize(
        ("given", "saying"),
        [
            (["--runs", "0"], "0 is below 1"),
            (["--steps", "1"], "1 is below 2"),
            (["--batch", "x"], "'x' is not a whole number"),
            (["--pixels", "100"], "100 is not a multiple of 64"),
            (["--model", "flux"], "pixart-alpha"),
        ],
    )
    def test_what_makes_no_sense_is_refused(
        self, given: list[str], saying: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as exit_:
            options.parse(given)
        assert exit_.value.code == 2
        assert saying in capsys.readouterr().err


class TestFigures:
    def test_spread(self) -> None:
        assert Spread.of([3.0, None, 1.0, 10.0]) == Spread(median=3.0, low=1.0, high=10.0)
        assert Spread.of([1.0, 2.0]) == Spread(1.5, 1.0, 2.0)
        assert Spread.of([None]) is None

    def test_ratios_are_to_the_steps_that_ran_in_between(self) -> None:
        found = figures(gated_row())
        assert found.seconds == Spread(16.0, 15.0, 19.0)
        assert found.ratio == Spread(0.76, 0.75, 0.8)
        assert found.processor_ratio == Spread(pytest.approx(1.14), pytest.approx(1.125), pytest.approx(1.2))
        assert found.gated_step == Spread(1.5, 1.0, 3.0)
        assert found.to_oracle == Spread(1.25, 1.0, 1.5)
        assert found.processor_to_oracle == Spread(pytest.approx(0.9375), 0.75, 1.125)
        assert found.cache_bytes == 3 * 2**20
        assert found.peak_bytes is None
        assert found.branches == Spread(8.0, 8.0, 8.0)

    def test_a_step_that_does_not_what_the_oracle_does_counts_for_nothing(self) -> None:
        row = gated_row()
        row.runs[0].step_seconds[2] = 1000.0
        assert figures(row).to_oracle == Spread(1.25, 1.0, 1.5)

    def test_a_machine_that_gets_slower_tips_neither_side(self) -> None:
        """Steps of ours and of the oracle in turn, each a second longer than what ran before it."""
        ours = RunRecord([100.0, 10.0, 12.0, 14.0], [2.0, 1.0, 1.0, 1.0])
        row = Row("override", as_it_is, Oracle(frozenset(), branches=1), runs=[ours], plain_steps=[{}])
        row.oracle_steps = [{1: single(11.0, 1.0), 2: single(13.0, 1.0), 3: single(15.0, 1.0)}]
        assert figures(row).to_oracle == Spread(1.0, 1.0, 1.0)

    def test_a_graphics_card_has_no_processor_seconds(self) -> None:
        row = Row("gated", as_it_is, ONE_BRANCH, runs=[gated_run()], plain_steps=[plain_steps()])
        row.oracle_steps = [oracle_steps(1.0)]
        for run in (*row.runs, *row.plain_steps[0].values(), *row.oracle_steps[0].values()):
            run.step_processor_seconds = None
        found = figures(row)
        assert (found.processor_ratio, found.processor_to_oracle) == (None, None)
        assert found.ratio == Spread(1.5, 1.5, 1.5)

    def test_a_row_that_was_given_up_keeps_its_rounds(self) -> None:
        row = Row("peer", as_it_is, is_foreign=True, failure="given up", runs=[plain_run(5.0)])
        row.plain_steps = [plain_steps(10.0)]
        found = figures(row)
        assert found.ratio == Spread(0.5, 0.5, 0.5)
        assert (found.gated_step, found.to_oracle, found.full_steps) == (None, None, None)

    def test_full_steps_leave_out_the_first_and_count_the_one_that_captures(self) -> None:
        assert full_steps(gated_run(), plain_steps(20.0)) == (2.0 + 3.0) / (2.0 + 2.0)

    def test_no_full_steps(self) -> None:
        reused = RunRecord(plain_run().step_seconds, [2.0] * 5, [["attn1"]] * 5)
        assert full_steps(reused, plain_steps()) is None

    def test_gated_steps_do_what_the_oracle_does(self) -> None:
        assert gated_step(gated_run(), ONE_BRANCH) == 1.0
        assert gated_step(gated_run(), Oracle(frozenset({"attn2"}), branches=2)) is None
        assert gated_step(gated_run(), Oracle(frozenset({"attn1"}), branches=1)) is None
        assert gated_step(gated_run(), None) is None

    def test_without_t_gate_the_branches_tell(self) -> None:
        override = RunRecord(plain_run().step_seconds, [2.0, 2.0, 2.0, 1.0, 1.0])
        assert override.steps_like(Oracle(frozenset(), branches=1)) == [3, 4]
        assert override.full_steps() == [1, 2]

    def test_names_of_oracles(self) -> None:
        assert ONE_BRANCH.name == "one branch, without cross-attention"
        assert Oracle(frozenset({"attn1", "attn2"}), 2).name == "2 branches, without self-attention and cross-attention"
        assert Oracle(frozenset(), 1).name == "one branch"


class TestReport:
    def test_table(self) -> None:
        title, _, heading, plain, gated, *_ = text_table(make_results(gated_row())).splitlines()
        assert title == "sd15, 256 × 256 pixels, 5 steps, fp32, CPU, 2 threads"
        ratios = ["1.000", "(0.800–1.250)"] * 2
        assert plain.split() == ["plain", "20.00", "(10.00–40.00)", *ratios, *["-"] * 4, "10", "-", "-"]
        ratios = [
            "0.760",
            "(0.750–0.800)",
            "1.140",
            "(1.125–1.200)",
            "1.5000",
            "(1.0000–3.0000)",
            "1.250",
            "(1.000–1.500)",
            "0.938",
            "(0.750–1.125)",
            "1.250",
            "(1.000–1.250)",
            "8",
            "3.0",
            "-",
        ]
        assert gated.split() == ["gated", "16.00", "(15.00–19.00)", *ratios]
        assert len(heading) == len(plain) == len(gated)

    def test_table_for_a_page(self) -> None:
        row = gated_row()
        row.peak_bytes = 5 * 2**20
        heading, _, plain, gated = markdown_table(make_results(row)).splitlines()
        assert heading.startswith("| sd15, 256 × 256 pixels, 5 steps, fp32, CPU, 2 threads | s a run | × plain |")
        assert plain == "| plain | 20.0 | 1.000 | - | - | - | - |"
        assert gated == "| gated | 16.0 | 0.760 | 1.250 | 1.250 | 3.0 | 5.0 |"

    def test_what_is_said_below_it(self) -> None:
        noted, broken = gated_run(), gated_run()
        noted.notes, broken.is_finite = ["the cache is full"], False
        rows = [
            Row("noted", as_it_is, runs=[noted, noted]),
            Row("broken", as_it_is, runs=[broken]),
            Row("peer", as_it_is, is_foreign=True, failure="given up, TypeError: no"),
        ]
        text = text_table(make_results(*rows))
        assert text.split(LEGEND)[1].strip().splitlines() == [
            "A remark.",
            "peer: given up, TypeError: no",
            "noted: the cache is full",
            "broken: the result holds infinities or NaN",
        ]
        assert "\npeer " not in text

    def test_json_has_all_raw_numbers(self) -> None:
        found = json.loads(as_json(make_results(gated_row())))
        assert found["settings"]["model"] == "sd15"
        gated = found["rows"][1]
        assert gated["oracle"] == "one branch, without cross-attention"
        assert gated["runs"][0]["step_seconds"] == [8.0, 2.0, 3.0, 1.0, 1.0]
        assert gated["oracle_steps"][1] == {key: {"seconds": 1.2, "processor_seconds": 4.8} for key in "34"}
        assert [len(steps) for steps in gated["plain_steps"]] == [5, 5, 5]
        assert gated["figures"]["ratio"] == {"median": 0.76, "low": 0.75, "high": 0.8}

    def test_batch_is_named_where_it_is_unusual(self) -> None:
        results = make_results()
        results.settings["batch"] = 4
        assert results.title == "sd15, 256 × 256 pixels, batch 4, 5 steps, fp32, CPU, 2 threads"
