"""What checks of data have to say: errors, warnings and notes, each with its cases."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One observation: an error makes results wrong or training fail, a warning makes them worse.

    ``message`` says what is the case and what to do; ``examples`` are all the cases, for files as
    paths relative to the data set's root.
    """

    level: Level
    message: str
    examples: tuple[str, ...] = ()


class Findings:
    """For a report that has ``findings``."""

    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.level == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.level == "warning")

    @property
    def ok(self) -> bool:
        """No errors; there may be warnings and notes."""
        return not self.errors


def by_level(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors first, then warnings, then notes; otherwise in the order in which they came."""
    return tuple(sorted(findings, key=lambda finding: get_args(Level).index(finding.level)))
