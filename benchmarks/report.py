"""The structure of results: series of numbers, targets, and how they are stored."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.harness import Outcome

# The reason why a contender has no row, if the command line left it out.
NOT_ASKED_FOR = "not asked for"
# Units for which less is better. All others are rates or shares, for which more is better.
COSTS = frozenset(
    {"ns", "µs", "ms", "s", "calls", "copies", "% of a core", "items", "items a kill"}
)


@dataclass(frozen=True, slots=True)
class Series:
    """One contender's values of one case, in order of the runs."""

    case: str
    peer: str
    unit: str
    values: tuple[float, ...]
    failure: str | None = None

    @property
    def median(self) -> float | None:
        return median(self.values) if self.values else None


@dataclass(frozen=True, slots=True)
class Target:
    """A target and the measured value (None: not measured)."""

    text: str
    measured: float | None
    limit: float
    unit: str
    at_least: bool

    @property
    def met(self) -> bool | None:
        if self.measured is None:
            return None
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    @property
    def verdict(self) -> str:
        return {True: "met", False: "MISSED", None: "not measured"}[self.met]


def at_least(text: str, measured: float | None, limit: float, unit: str = "x") -> Target:
    return Target(text, measured, limit, unit, at_least=True)


def at_most(text: str, measured: float | None, limit: float, unit: str = "x") -> Target:
    return Target(text, measured, limit, unit, at_least=False)


def quotient(above: float | None, below: float | None) -> float | None:
    """`above / below`, or None when either was not measured."""
    return above / below if above is not None and below else None


@dataclass(slots=True)
class Report:
    """The results of one workload.

    `baseline` is the contender that the table's ratios refer to.
    """

    workload: str
    title: str
    baseline: str | None = None
    series: list[Series] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    # Answers that are no numbers: by contender and question.
    facts: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, case: str, unit: str, outcomes: Mapping[str, Outcome], key: str) -> None:
        """Add the number `key` of every contender as a separate case."""
        for peer, outcome in outcomes.items():
            values = tuple(outcome.values.get(key, ()))
            failure = outcome.failures[-1] if outcome.failures else None
            if values or failure:
                self.series.append(Series(case, peer, unit, values, failure))

    def median(self, case: str, peer: str) -> float | None:
        """The median of a series; None when it was not measured."""
        for series in self.series:
            if (series.case, series.peer) == (case, peer):
                return series.median
        return None

    def reference(self, case: str) -> float | None:
        """The baseline's median of a case."""
        return self.median(case, self.baseline) if self.baseline else None

    def as_json(self) -> dict[str, Any]:
        document = asdict(self)
        for entry, series in zip(document["series"], self.series, strict=True):
            entry["median"] = series.median
        for entry, target in zip(document["targets"], self.targets, strict=True):
            entry["verdict"] = target.verdict
        return document


def times_better(unit: str, ours: float | None, theirs: float | None) -> float | None:
    """How many times better `ours` is than `theirs`: above 1 is better, whatever the unit."""
    return quotient(theirs, ours) if unit in COSTS else quotient(ours, theirs)
