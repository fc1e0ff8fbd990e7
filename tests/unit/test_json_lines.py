"""Files that are written while something runs that may be stopped at any moment."""

from pathlib import Path

from tgate_dev import json_lines


def test_values_come_back_in_order(tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    assert [*json_lines.read(file)] == []
    for value in ({"a": 1}, {"b": "ü"}):
        json_lines.append(file, value)
    assert [*json_lines.read(file)] == [{"a": 1}, {"b": "ü"}]


def test_a_line_that_was_cut_off_takes_nothing_with_it(tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_text('{"a": 1}\n{"b": ', encoding="utf-8")
    assert [*json_lines.read(file)] == [{"a": 1}]
    json_lines.append(file, {"c": 3})
    assert [*json_lines.read(file)] == [{"a": 1}, {"c": 3}]
