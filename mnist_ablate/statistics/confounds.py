"""What may explain a difference besides the claim: columns that separate its arms, and results that look odd.

Rows and the columns beside them in, findings out. Reads no table.
"""

import re
import shlex
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mnist_ablate.statistics.claim_verdict import ClaimVerdict
from mnist_ablate.statistics.claims.kind import kind_of
from mnist_ablate.statistics.decision_rule import Finding
from mnist_ablate.statistics.pairing import ArmRows, by_arm, label, shares_seeds, unusable
from mnist_ablate.sweep.claim import Claim
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.text import counted
from mnist_ablate.trial import Row, Scalar
from mnist_ablate.workloads.workload import default_workload

_VERSIONS = re.compile(r"commit|digest|checksum|sha256|(^|[_.])version|revision|(^|[_.])git|code_hash|^dataset$|^data$")
_LABELS = re.compile(
    r"^(run_?name|name|label|arm|group|notes?|description|tags?|id|run_?id|trial_?id|uuid|url|artifact_uri|number|index"
    r"|mlflow\.run_?name|mlflow\.log-model\.history|mlflow\.note\.content|experiment_tag|logdir|grid_id|search_space)$"
)
_RESULTS = re.compile(
    r"loss|accuracy|(^|_)acc($|_)|f1|auc|score|duration|seconds|runtime|(^|_)time|elapsed|epochs_to|converged|^value"
    r"|^created|^updated|^date$|_at$|timestamp|datetime|start|^end|^pid$|worker|iterations_since|^done$|^best_step$"
)
_TIMES = re.compile(r"start|created|datetime|^date$|timestamp|began")
_EPOCHS = re.compile(r"^(epochs?|steps?|epochs?_(run|trained)|stopped_epoch|training_iteration|last_epoch)$")
_BEST = re.compile(r"^(best|max|min|highest|lowest|top)_(?!5$|1$)")
_APART_DAYS = 30.0
_UNEVEN = 2.5
_SHOWN = 3
_FEW = 100  # results of an arm: more of them agree by the grid of what can be counted


@dataclass(frozen=True)
class Column:
    """A column that no verdict reads: its distinct values as text, and the place of each row's value among them."""

    role: Literal["setting", "result", "note", ""]
    values: tuple[str, ...]
    codes: NDArray[np.intp]


@dataclass(frozen=True)
class Context:
    """The columns beside the rows, in their order; `bare_names` leads from a plain name to that of the column."""

    columns: Mapping[str, Column] = field(default_factory=dict)
    bare_names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Confound:
    """A column in which the two sides of a claim differ, with what each side has."""

    column: str
    treatment: str
    control: str
    accepted: bool = False

    def __str__(self) -> str:
        return f"{self.column} ({self.treatment} against {self.control})"


@dataclass(frozen=True)
class ClaimAudit:
    """What may explain the difference of a claim besides what is claimed, and what its reader must know."""

    name: str
    confounded: tuple[Confound, ...] = ()
    caveats: tuple[str, ...] = ()

    @property
    def withheld(self) -> list[Confound]:
        """The confounds that nobody accepted: no verdict is given."""
        return [each for each in self.confounded if not each.accepted]


def audit(
    sweep: Sweep, rows: Sequence[Row], context: Context, accepted: Sequence[str] = (), *, has_seeds: bool = True
) -> tuple[ClaimAudit, ...]:
    """What is found for each claim, in order. `accepted` names columns whose difference is taken for harmless."""
    places = {id(row): place for place, row in enumerate(rows)}
    arms = by_arm(rows)
    used = {
        metric: {id(arm): _used(arm, metric, places) for arm in arms} for metric in {c.metric for c in sweep.claims}
    }
    return tuple(
        _Audit(sweep, claim, arms, used[claim.metric], context, accepted, has_seeds).found() for claim in sweep.claims
    )


@dataclass(frozen=True)
class _Used:
    """What a verdict can read of an arm: the places of its rows, their seeds as they are ordered, and their results."""

    places: NDArray[np.intp]
    seeds: list[int]
    values: NDArray[np.float64]


def _used(arm: ArmRows, metric: str, places: Mapping[int, int]) -> _Used:
    found = [
        (places[id(row)], seed, row.metrics[metric]) for seed, row in arm.by_seed.items() if not unusable(row, metric)
    ]
    rows, seeds, values = zip(*found, strict=True) if found else ((), (), ())
    return _Used(np.array(rows, dtype=np.intp), [*seeds], np.array(values, dtype=np.float64))


def confounded(verdict: ClaimVerdict, found: Sequence[Confound]) -> ClaimVerdict:
    """The same without a verdict: what was measured may be the effect of something else."""
    names = " ".join(f"--accept-confounded {shlex.quote(each.column)}" for each in found)
    reason = f"confounded by {', '.join(map(str, found))}; if that cannot matter: {names}"
    return replace(verdict, verdict="inconclusive", finding=Finding.NOT_JUDGED, seeds_needed=None, reason=reason)


@dataclass(frozen=True)
class _Audit:
    sweep: Sweep
    claim: Claim
    arms: Sequence[ArmRows]
    used: Mapping[int, _Used]
    context: Context
    accepted: Sequence[str]
    has_seeds: bool

    @property
    def settings(self) -> Container[str]:
        """The names of settings; code of the user's own is not read for them."""
        return self.sweep.settings if self.sweep.train else default_workload().settings.model_fields

    def found(self) -> ClaimAudit:
        sides = [side for _, side in kind_of(self.claim).sides(self.arms, self.claim)]
        if not sides:
            return ClaimAudit(self.claim.name)
        found: dict[str, Confound] = {}
        for one, other in zip(sides[::2], sides[1::2], strict=False):
            for each in self._confounds(one, other):
                found.setdefault(each.column, each)
        caveats = dict.fromkeys(self._caveats(sides))
        return ClaimAudit(self.claim.name, tuple(found.values()), tuple(caveats))

    def _of(self, arm: ArmRows) -> _Used:
        return self.used[id(arm)]

    def _rows(self, side: Sequence[ArmRows]) -> NDArray[np.intp]:
        """The places of the rows of a side that a verdict can read."""
        return np.concatenate([self._of(arm).places for arm in side])

    def _confounds(self, one: Sequence[ArmRows], other: Sequence[ArmRows]) -> Iterator[Confound]:
        rows = [self._rows(side) for side in (one, other)]
        if not all(each.size for each in rows):
            return
        varied = {*self.sweep.factors, *self.sweep.nuisance}
        by_name = {name: bare for bare, name in self.context.bare_names.items()}
        for name, column in self.context.columns.items():
            bare = by_name.get(name, name)
            if bare in varied or _LABELS.search(bare):
                continue
            codes = [column.codes[each] for each in rows]
            sets = [set(np.unique(each).tolist()) for each in codes]
            is_setting = column.role == "setting" or bare in self.sweep.fixed or bool(_VERSIONS.search(bare))
            is_setting = is_setting or (bare in self.settings and not _EPOCHS.match(bare))
            if not is_setting and (column.role == "result" or _RESULTS.search(bare) or _EPOCHS.match(bare)):
                continue
            if is_setting:
                differs = sets[0] != sets[1] or self._differs_by_seed(column, one, other)
            else:
                differs = not sets[0] & sets[1] and self._separates(column, codes, one, other)
            if differs:
                yield self._confound(name, bare, column, codes)

    def _confound(self, name: str, bare: str, column: Column, codes: Sequence[NDArray[np.intp]]) -> Confound:
        treatment, control = (_values(column, each) for each in codes)
        told = bare if bare in self.sweep.fixed else name
        return Confound(told, treatment, control, not {name, bare}.isdisjoint(self.accepted))

    def _separates(
        self, column: Column, codes: Sequence[NDArray[np.intp]], one: Sequence[ArmRows], other: Sequence[ArmRows]
    ) -> bool:
        """Whether the column tells the sides apart by values that repeat, and is not the arm's own name."""
        if sum(len(np.unique(each)) for each in codes) == sum(each.size for each in codes):
            return False  # it tells every row from every other
        for side, each in zip((one, other), codes, strict=True):
            names = {str(value).casefold() for arm in side for value in arm.params.values()}
            if not all(column.values[code].casefold() in names for code in np.unique(each)):
                return True
        return False

    def _differs_by_seed(self, column: Column, one: Sequence[ArmRows], other: Sequence[ArmRows]) -> bool:
        """Whether a setting differs at a seed that both sides have. The arms of the sides stand in the same order."""
        if not self.has_seeds or len(column.values) <= 1:
            return False
        for left, right in zip(map(self._of, one), map(self._of, other), strict=True):
            at = dict(zip(left.seeds, column.codes[left.places].tolist(), strict=True))
            codes = column.codes[right.places].tolist()
            if any(at.get(seed, code) != code for seed, code in zip(right.seeds, codes, strict=True)):
                return True
        return False

    def _caveats(self, sides: Sequence[Sequence[ArmRows]]) -> Iterator[str]:
        metric = self.claim.metric
        if _BEST.match(metric):
            told = "looks like the best of many epochs, which is lucky as well as good: was it chosen on the test set?"
            yield f"{metric} {told}"
        for name, value in self.sweep.fixed.items():
            yield from self._not_as_fixed(name, value, sides)
        arms = [arm for side in sides for arm in side]
        yield from self._seed_caveats(sides)
        for arm in arms:
            n, distinct = len(self._of(arm).seeds), len(np.unique(self._of(arm).values))
            if n > 2 and distinct == 1:  # noqa: PLR2004 - two agree by chance
                yield f"all {n} results of {label(arm.params)} are equal: do its seeds have an effect?"
            elif 3 < n <= _FEW and distinct <= n // 2:  # noqa: PLR2004 - as above
                yield f"{label(arm.params)} has equal results for different seeds: {distinct} values in {n}"
        yield from self._copies(arms)
        yield from self._uneven(arms)
        if len(sides) > 1:
            yield from self._times(sides)
            yield from self._stopped_early(sides)

    def _not_as_fixed(self, name: str, value: Scalar, sides: Sequence[Sequence[ArmRows]]) -> Iterator[str]:
        column = self.context.columns.get(self.context.bare_names.get(name, name))
        if column is None or not sides:
            return
        rows = np.concatenate([self._rows(side) for side in sides])
        found = {column.values[code] for code in np.unique(column.codes[rows])}
        if found and not any(_equal(text, value) for text in found):
            yield f"{name} is {' and '.join(sorted(found)[:_SHOWN])} in the table, and {value} in the sweep file"

    def _seed_caveats(self, sides: Sequence[Sequence[ArmRows]]) -> Iterator[str]:
        if len(sides) <= 1:
            return
        arms = [arm for side in sides for arm in side]
        used = {label(arm.params): {*self._of(arm).seeds} for arm in arms}
        counts = {name: len(seeds) for name, seeds in used.items()}
        if len(set(counts.values())) > 1:
            what = "seeds" if self.has_seeds else "results"
            yield f"unequal numbers of {what}: {', '.join(f'{name} has {n}' for name, n in counts.items())}"
        every = set[int]().union(*used.values())
        if self.has_seeds and set[int].intersection(*used.values()):
            lacking = {name: sorted(every - seeds) for name, seeds in used.items()}
            short = [name for name, seeds in lacking.items() if seeds]
            if len(short) == 1:
                seeds = lacking[short[0]]
                told = ", ".join(map(str, seeds[:5])) + ", …" * (len(seeds) > 5)  # noqa: PLR2004 - as many as fit
                yield f"only {short[0]} lacks {'seeds' if len(seeds) > 1 else 'seed'} {told}"

    def _copies(self, arms: Sequence[ArmRows]) -> Iterator[str]:
        """Arms whose results at three seeds or more are the same numbers."""
        for place, one in enumerate(map(self._of, arms)):
            at = dict(zip(one.seeds, one.values.tolist(), strict=True))
            for other in arms[place + 1 :]:
                right = self._of(other)
                shared = [
                    (at[seed], v) for seed, v in zip(right.seeds, right.values.tolist(), strict=True) if seed in at
                ]
                same = sum(left == value for left, value in shared)
                if same > 2 and same == len(shared) and len({left for left, _ in shared}) > 1:  # noqa: PLR2004
                    yield f"{label(arms[place].params)} and {label(other.params)} have the same results: is one a copy?"

    def _uneven(self, arms: Sequence[ArmRows]) -> Iterator[str]:
        """Arms without pairs for which Welch's interval is wrong more often than it says, if results are skewed."""
        if shares_seeds(arms):
            return
        values = [self._of(arm).values for arm in arms]
        counts = [len(each) for each in values]
        spreads = [float(np.std(each, ddof=1)) if len(each) > 1 else 0.0 for each in values]
        if max(counts) >= 2 * min(counts) or max(spreads) > _UNEVEN * min(spreads):
            uneven = "without pairs, and with such uneven numbers or spreads"
            yield f"{uneven}, skewed results are judged wrong more often than 5%"

    def _times(self, sides: Sequence[Sequence[ArmRows]]) -> Iterator[str]:
        for bare, name in self.context.bare_names.items():
            if not _TIMES.search(bare):
                continue
            column = self.context.columns[name]
            middles = [_middle_day(column, self._rows(side)) for side in sides]
            known = [day for day in middles if day is not None]
            if len(known) == len(sides) and max(known) - min(known) > _APART_DAYS:
                yield f"the arms were run {max(known) - min(known):.0f} days apart ({name})"
                return

    def _stopped_early(self, sides: Sequence[Sequence[ArmRows]]) -> Iterator[str]:
        for bare, name in self.context.bare_names.items():
            column = self.context.columns[name]
            if not _EPOCHS.match(bare) or column.role == "setting" or bare in {*self.sweep.factors, *self.sweep.fixed}:
                continue
            lengths = [_numbers(column, self._rows(side)) for side in sides]
            if all(each.size for each in lengths) and min(map(np.max, lengths)) < max(map(np.max, lengths)):
                said = " against ".join(f"{each.max():g}" for each in lengths)
                yield f"one arm was stopped early: {name} reaches {said}"


def _values(column: Column, codes: NDArray[np.intp]) -> str:
    """The distinct values of a side, the first ones by name."""
    values = [column.values[code] or "nothing" for code in np.unique(codes)]
    shown = [value if len(value) <= 24 else f"{value[:23]}…" for value in values[:_SHOWN]]  # noqa: PLR2004 - on a line
    return " and ".join(shown) + (f" and {counted(len(values) - _SHOWN, 'other')}" if len(values) > _SHOWN else "")


def _numbers(column: Column, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    found = []
    for code in column.codes[rows]:
        try:
            found.append(float(column.values[code]))
        except ValueError:
            continue
    return np.asarray(found, dtype=np.float64)


def _middle_day(column: Column, rows: NDArray[np.intp]) -> float | None:
    """The median day since 1970 of a column of times; None if it has none that can be read."""
    days = [day for code in np.unique(column.codes[rows]) if (day := _day(column.values[code])) is not None]
    return float(np.median(days)) if days else None


def _day(text: str) -> float | None:
    from datetime import UTC, datetime

    if re.fullmatch(r"\d{9,10}(\.\d+)?|\d{12,13}", text):
        return float(text[:10]) / 86_400
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() / 86_400


def _equal(text: str, value: Scalar) -> bool:
    if text.casefold() == str(value).casefold():
        return True
    try:
        return not isinstance(value, str) and float(text) == float(value)
    except ValueError:
        return False
