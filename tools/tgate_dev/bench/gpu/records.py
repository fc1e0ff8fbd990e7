"""What was measured on a card: a line for each run of a row, from which tables are made and measuring goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ... import json_lines
from ..timing.results import Oracle, Round, Row, RunRecord

# In place of a row's name where a part fails as a whole.
WHOLE_PART = "the whole part"


@dataclass
class Table:
    """One part on one machine: its rows by name, and why those that failed did."""

    settings: Mapping[str, Any]
    rows: dict[str, Row] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def add(self, line: Mapping[str, Any]) -> None:
        """Take in one line of the file."""
        name = line["row"]
        if "error" in line:
            self.failed[name] = line["error"]
            return
        for mended in (name, WHOLE_PART):
            self.failed.pop(mended, None)
        oracle = line["oracle"] and Oracle(frozenset(line["oracle"][0]), line["oracle"][1])
        row = self.rows.setdefault(name, Row(name, lambda model: model, oracle))
        row.peak_bytes, row.syncs = line["peak_bytes"], line["syncs"]
        plain, ideal = ({int(step): value for step, value in line[key].items()} for key in ("plain", "ideal"))
        row.rounds.append(Round(RunRecord(**line["run"]), plain, ideal))


class Records:
    """The tables of a file; it need not exist yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tables: dict[str, Table] = {}
        for line in json_lines.read(path):
            self.table(line["settings"]).add(line)

    def all(self) -> list[Table]:
        """All tables, in the order in which they were begun."""
        return [*self._tables.values()]

    def table(self, settings: Mapping[str, Any]) -> Table:
        """The one of these settings: another machine or version has another."""
        return self._tables.setdefault(json.dumps(settings, sort_keys=True), Table(settings))

    def keep(self, settings: Mapping[str, Any], row: Row) -> None:
        """Keep a row's newest round."""
        newest = row.rounds[-1]
        self._append(
            settings,
            row=row.name,
            oracle=row.oracle and [sorted(row.oracle.kinds), row.oracle.branches],
            peak_bytes=row.peak_bytes,
            syncs=row.syncs,
            run=asdict(newest.run),
            plain=newest.plain,
            ideal=newest.oracle,
        )

    def keep_failure(self, settings: Mapping[str, Any], row: str, error: Exception) -> None:
        """Keep why a row of this name could not be measured."""
        self._append(settings, row=row, error=f"{type(error).__name__}: {error}".splitlines()[0])

    def _append(self, settings: Mapping[str, Any], **line: Any) -> None:
        told = {"settings": dict(settings), **line}
        json_lines.append(self._path, told)
        self.table(settings).add(json.loads(json.dumps(told)))
