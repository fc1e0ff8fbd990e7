from tgate_core.statistics import RunStatistics


def test_a_reason_is_kept_once():
    statistics = RunStatistics()
    assert statistics.note("tiles")
    assert statistics.note("areas")
    assert not statistics.note("tiles")
    assert statistics.notes == ["tiles", "areas"]


def test_two_runs_do_not_share_their_notes():
    RunStatistics().note("tiles")
    assert RunStatistics().notes == []


def test_the_summary_is_one_line_with_every_number_in_its_place():
    statistics = RunStatistics(
        steps=25,
        gate_step=10,
        attention_computed=300,
        attention_skipped=100,
        branches_dropped=15,
        peak_cache_bytes=3 * 2**19,
    )
    assert statistics.summary() == (
        "gate at step 10 of 25; 100 of 400 attentions reused, guidance dropped in 15 evaluations, cache peak 1.5 MiB"
    )


def test_the_summary_ends_with_the_reasons():
    statistics = RunStatistics()
    statistics.note("tiles")
    statistics.note("areas")
    assert statistics.summary().endswith(" MiB; tiles; areas")


def test_the_summary_names_deep_cache_beside_a_gate_and_alone():
    both = RunStatistics(steps=25, gate_step=10, model_calls=25, shallow_steps=16, shallow_calls=16)
    assert both.summary() == (
        "gate at step 10 of 25; 0 of 0 attentions reused, guidance dropped in 0 evaluations, "
        "16 of 25 network calls left out the deep blocks, cache peak 0.0 MiB"
    )
    alone = RunStatistics(steps=25, gate_step=25, model_calls=25, shallow_steps=16, shallow_calls=16)
    assert alone.summary() == "16 of 25 network calls left out the deep blocks, cache peak 0.0 MiB"
