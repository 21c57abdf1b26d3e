"""Which column of a table is which factor, metric, seed or state: by names that other programs write, or as told."""

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from mnist_ablate.errors import SweepError
from mnist_ablate.ledger.table_cells import refused
from mnist_ablate.ledger.table_file import TableFile
from mnist_ablate.text import guess, hint, listed, plainly, shown
from mnist_ablate.trial import Scalar

if TYPE_CHECKING:
    pass

Role = Literal["setting", "result", "note", ""]
_PREFIXES: tuple[tuple[str, Role, str], ...] = (
    ("params_", "setting", "Optuna"),
    ("user_attrs_", "note", "Optuna"),
    ("system_attrs_", "note", "Optuna"),
    ("values_", "result", "Optuna"),
    ("value_", "result", "Optuna"),
    ("params.", "setting", "MLflow"),
    ("metrics.", "result", "MLflow"),
    ("tags.", "note", "MLflow"),
    ("config.", "setting", "W&B"),
    ("summary.", "result", "W&B"),
    ("config/", "setting", "Ray Tune"),
    ("hyperparameters.values.", "setting", "KerasTuner"),
    ("metrics.metrics.", "result", "KerasTuner"),
)
_SUFFIXES = {"KerasTuner": ".observations"}
SEED_NAMES = ("seed", "random_seed", "random_state", "rng_seed")
STATE_NAMES = ("outcome", "status", "state", "lifecycle_stage")
STAGE = "stage"  # of our own tables: only trials of the verdicts are judged
_OBSERVED = r"metrics\.metrics\.[^.]+\.observations"
_NESTED = {"config", "summary", "summary_metrics", "hyperparameters", "metrics", "params"}
_MOST_NESTED = 1 << 16  # characters of a cell that holds a mapping
_SEED_HEAD = re.compile(r"(?:seed|run|rep|repeat|repetition|trial)?[ _-]?(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Wanted:
    """What a sweep asks of a table: its factors with their values, its metrics, and the columns that the user named."""

    factors: Mapping[str, Sequence[Scalar]]
    metrics: Sequence[str]
    named: Mapping[str, str]


@dataclass(frozen=True)
class Columns:
    """The places of the columns. `seed` is None in a table without seeds. `others` have the rest, with their roles."""

    factors: Mapping[str, int]
    metrics: Mapping[str, int]
    seed: int | None
    states: Sequence[int]
    others: Mapping[str, tuple[int, Role]]


def bare(name: str) -> tuple[str, Role, str]:
    """A column's name without the prefix of a program, its role, and that program."""
    for prefix, role, program in reversed(_PREFIXES):
        if name.startswith(prefix) and name != prefix:
            return name.removeprefix(prefix).removesuffix(_SUFFIXES.get(program, "")), role, program
    return name, "", ""


def folded(name: str) -> str:
    """A name as it is compared: `Batch Size` is `batch_size`."""
    return re.sub(r"[\s\-]+", "_", name.strip()).casefold()


def tidy(table: TableFile, wanted: Wanted) -> TableFile:
    """The table in long form: mappings in cells spread out, a column for each arm or seed turned into rows."""
    table = _observed(_spread(table))
    names = [folded(bare(name)[0]) for name in table.names]
    lacking = [name for name in wanted.factors if name not in wanted.named and folded(name) not in names]
    if len(wanted.metrics) != 1 or folded(wanted.metrics[0]) in names or wanted.metrics[0] in wanted.named:
        return table
    (metric,) = wanted.metrics
    if len(lacking) == 1:
        (factor,) = lacking
        heads = {place: found for place, found in enumerate(map(_arm_of(factor, wanted, metric), table.names)) if found}
        if len(heads) > 1:
            return _melted(table, heads, factor, metric, "a column for each arm")
    if not lacking and not any(name in names for name in SEED_NAMES):
        ends = {place: found[1] for place, name in enumerate(table.names) if (found := _SEED_HEAD.fullmatch(name))}
        if len(ends) > 1:
            return _melted(table, ends, "seed", metric, "a column for each seed")
    return table


def _arm_of(factor: str, wanted: Wanted, metric: str) -> Any:
    """A function that tells which value of the factor a column is for; '' if it is for none."""
    ways = ("{v}", "{f}={v}", "{f}_{v}", "{m}_{v}", "{v}_{m}", "{f}:_{v}")
    heads = {
        folded(way.format(v=value, f=factor, m=metric)): str(value) for value in wanted.factors[factor] for way in ways
    }
    return lambda name: heads.get(folded(name), "")


def _melted(table: TableFile, heads: Mapping[int, str], name: str, metric: str, told: str) -> TableFile:
    import pandas as pd

    kept = [place for place in range(len(table.names)) if place not in heads]
    parts = []
    for place, value in heads.items():
        part = table.cells.iloc[:, [*kept, place]].set_axis(range(len(kept) + 1), axis=1)
        part.insert(len(kept), "value", value)
        parts.append(part.set_axis(range(len(kept) + 2), axis=1))
    cells = pd.concat(parts).sort_index(kind="stable")
    names = (*(table.names[place] for place in kept), name, metric)
    return replace(table, names=names, cells=cells, form=(*table.form, told))


def _spread(table: TableFile) -> TableFile:
    """Columns whose cells hold mappings, as W&B's `config` and `summary`, become a column for each key."""
    found = [
        place
        for place, name in enumerate(table.names)
        if name.casefold() in _NESTED and len(table.cells) and table.cells.iloc[0, place].startswith("{")
    ]
    if not found:
        return table
    import pandas as pd

    rest = [place for place in range(len(table.names)) if place not in found]
    frames, names = [table.cells.iloc[:, rest]], [table.names[place] for place in rest]
    for place in found:
        name = table.names[place]
        cells = zip(table.column(place), table.numbers(), strict=True)
        records = [_mapping(text, row, name) for text, row in cells]
        spread = pd.DataFrame(records, index=table.cells.index).fillna("")
        prefix = "summary" if name.startswith("summary") else name
        frames.append(spread)
        names += [f"{prefix}.{key}" for key in spread.columns]
    cells = pd.concat(frames, axis=1)
    return replace(table, names=tuple(names), cells=cells.set_axis(range(len(names)), axis=1))


def _observed(table: TableFile) -> TableFile:
    """KerasTuner's observations of a metric become the number at the best step, averaged over its executions."""
    places = [place for place, name in enumerate(table.names) if re.fullmatch(_OBSERVED, name)]
    if not places:
        return table
    cells, rows = table.cells.copy(), table.numbers()
    steps = table.column(table.names.index("best_step")) if "best_step" in table.names else [""] * len(rows)
    for place in places:
        texts = [
            _observation(text, step, row, table.names[place])
            for text, step, row in zip(table.column(place), steps, rows, strict=True)
        ]
        cells[cells.columns[place]] = texts
    return replace(table, cells=cells)


def _observation(text: str, step: str, row: int, column: str) -> str:
    if not text.strip():
        return ""
    try:
        found = {str(each["step"]): each["value"] for each in json.loads(text)}
        values = [float(value) for value in found.get(step) or [*found.values()][-1]]
        return repr(sum(values) / len(values))
    except (ValueError, TypeError, KeyError, IndexError, ZeroDivisionError):
        raise refused(row, column, f"{shown(text)} is not what KerasTuner writes") from None


def _mapping(text: str, row: int, column: str) -> dict[str, str]:
    """A cell that holds a mapping, as JSON or as Python shows it."""
    if len(text) > _MOST_NESTED:
        raise refused(row, column, f"a mapping of {len(text):,} characters")
    if not text.strip():
        return {}
    try:
        try:
            found = json.loads(text)
        except ValueError:
            found = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        found = None
    if not isinstance(found, dict):
        raise refused(row, column, f"{shown(text)} is not a mapping")
    plain = {
        str(key): value["value"] if isinstance(value, dict) and "value" in value else value
        for key, value in found.items()
    }
    return {
        key: json.dumps(value, default=str) if isinstance(value, dict | list) else "" if value is None else str(value)
        for key, value in plain.items()
    }


def find(table: TableFile, wanted: Wanted) -> Columns:
    """Where everything stands. Raises SweepError for a column that is missing, or could be one of two."""
    head = table.first_row - 1
    for name, column in wanted.named.items():
        if name not in (*wanted.factors, *wanted.metrics, "seed", "outcome"):
            allowed = (*wanted.factors, *wanted.metrics, "seed", "outcome")
            raise SweepError(f"--map {plainly(name)}=…: the sweep has no {plainly(name)}; {hint(name, allowed)}")
        if column not in table.names:
            raise SweepError(f"--map {plainly(name)}={plainly(column)}: no such column; {hint(column, table.names)}")
    factors = {name: _place(table, wanted, name, "setting", head) for name in wanted.factors}
    metrics = {name: _metric_place(table, wanted, name, head) for name in wanted.metrics}
    used = {*factors.values(), *metrics.values()}
    seed = _seed_place(table, wanted, head, used)
    told = [wanted.named["outcome"]] if "outcome" in wanted.named else None
    states = [
        place
        for place, name in enumerate(table.names)
        if (name in told if told else folded(name) in STATE_NAMES) and place not in used
    ]
    used |= {*states, *([seed] if seed is not None else [])}
    others = {name: (place, bare(name)[1]) for place, name in enumerate(table.names) if name and place not in used}
    return Columns(factors, metrics, seed, states, others)


def _candidates(table: TableFile, name: str, prefer: Role) -> list[int]:
    """The columns that can be meant by a name, the best way of writing it only."""
    exact = [place for place, each in enumerate(table.names) if each == name]
    if exact:
        return exact
    names = [bare(each)[0] for each in table.names]
    for told, asked in ((names, name), ([*map(folded, names)], folded(name))):
        found = [place for place, each in enumerate(told) if each == asked]
        preferred = [place for place in found if bare(table.names[place])[1] in (prefer, "")]
        if preferred or found:
            return preferred or found
    return []


def _place(table: TableFile, wanted: Wanted, name: str, prefer: Role, head: int) -> int:
    if name in wanted.named:
        return table.names.index(wanted.named[name])
    found = _candidates(table, name, prefer)
    if len(found) == 1:
        return found[0]
    if found:
        names = [table.names[place] for place in found]
        if len(set(names)) == 1:
            raise refused(head, name, "appears twice in the header")
        raise refused(head, name, f"may be {listed(names)}: say which: --map {name}={names[0]}")
    raise refused(head, name, f"missing; {_advice(name, table.names)}")


def _advice(name: str, names: Sequence[str]) -> str:
    """The nearest column, and how to name another."""
    near = {bare(each)[0]: each for each in reversed(names) if each}
    told = guess(name, near)
    example = next((column for short, column in near.items() if told == f"did you mean {shown(short)}?"), "COLUMN")
    told = f"did you mean {shown(example)}?" if told else ""
    given = example if example.isprintable() and " " not in example else "COLUMN"
    return (
        f"{told} the header has: {listed(each for each in names if each)}; or say which: --map {name}={given}".lstrip()
    )


def _metric_place(table: TableFile, wanted: Wanted, name: str, head: int) -> int:
    """The only objective of an Optuna study has no name but `value`."""
    is_study = {"number", "value", "state"} <= {*table.names}
    if is_study and len(wanted.metrics) == 1 and name not in wanted.named and not _candidates(table, name, "result"):
        return table.names.index("value")
    return _place(table, wanted, name, "result", head)


def _seed_place(table: TableFile, wanted: Wanted, head: int, used: set[int]) -> int | None:
    if "seed" in wanted.named:
        return table.names.index(wanted.named["seed"])
    for name in SEED_NAMES:
        found = [place for place in _candidates(table, name, "setting") if place not in used]
        if len(found) > 1:
            return _place(table, wanted, name, "setting", head)
        if found:
            return found[0]
    names = [name for place, name in enumerate(table.names) if place not in used]
    if told := guess("seed", [bare(name)[0] for name in names]):
        raise refused(head, "seed", f"missing; {told} name it: --map seed=COLUMN")
    return None


def programs(table: TableFile) -> Iterator[str]:
    """The programs whose prefixes the header has."""
    found = {bare(name)[2] for name in table.names} - {""}
    yield from (f"{program}'s columns" for program in sorted(found))
