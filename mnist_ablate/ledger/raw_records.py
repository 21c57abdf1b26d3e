"""What a ledger or a bundle holds of a sweep, as it lies there; knows neither and checks nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class RawTrial:
    """A trial of the study: `state` is Optuna's word; the values are as stored, the attributes still JSON."""

    number: int
    state: str
    params: Mapping[str, Any]
    values: tuple[float, ...]
    steps: Mapping[int, float]
    attrs: Mapping[str, str]


@dataclass(frozen=True)
class RawStudy:
    """A study: its own name, its attributes as JSON, its trials by number."""

    name: str
    attrs: Mapping[str, str] = field(default_factory=dict)
    trials: tuple[RawTrial, ...] = ()
