"""The ledger as one file, and back: every record of some sweeps, checked before anything is written.

A zip of JSON lines, one member a record of a sweep: what was registered, then each finished trial. It is the same
whether it comes from SQLite or PostgreSQL. Whoever can write the file can write checksums too: keep the one printed.
"""

import errno
import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import optuna
from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.trial import FrozenTrial, TrialState

from mnist_ablate.errors import ConflictError, SweepError, mask
from mnist_ablate.ledger.database import open_storage, sqlite_file, translate_errors
from mnist_ablate.ledger.ledger import Ledger
from mnist_ablate.ledger.optuna_rows import TrialRows
from mnist_ablate.ledger.raw_records import RawTrial, record_problems
from mnist_ablate.processes import whole_file
from mnist_ablate.sweep.sweep import Sweep, is_name
from mnist_ablate.trial import Scalar

FORMAT = 1
_MANIFEST = "manifest.json"
_PLAN = ("sweep", "digest", "registered", "content")
"""What must be registered of a sweep; the content is written last and says that all is there."""
_ELSEWHERE = "mirrored"
"""What a tracker was seen to have, which is not the ledger's."""
_LONGEST_LINE = 64_000_000
_BLOCK = 1_000_000
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, KeyError, TypeError)
"""What reading a damaged zip, or lines that are not ours, can raise."""


class TrialLine(TypedDict):
    """A trial as a line of the file."""

    state: str
    value: float | None
    params: dict[str, Scalar]
    distributions: dict[str, str]
    attrs: dict[str, object]
    steps: list[tuple[int, float]]
    times: list[str | None]


class Restored(NamedTuple):
    """What became of a record: how many trials the file has of it, and how many were written now."""

    name: str
    trials: int
    written: int


def export(url: str, names: Sequence[str], target: Path) -> tuple[dict[str, int], str]:
    """Write every record of these sweeps to a new file; the trials of each by its name, and the file's sha256.

    Raises SweepError if the file is there, no sweep is named or one is not recorded, ConflictError if the ledger is
    damaged.
    """
    if target.exists():
        raise SweepError(f"{target}: exists already and was not changed: choose another file name")
    ledger = Ledger(url, reading=True)
    if not names:
        where = sqlite_file(url) or mask(url)
        raise SweepError(f"{where}: no sweep is recorded there: check --home and OPTUNA_STORAGE")
    for name in names:
        ledger.find(name)
    with whole_file(target) as part:
        counts = _write(url, names, part)
    with target.open("rb") as file:
        return counts, hashlib.file_digest(file, "sha256").hexdigest()


def restore(url: str, source: Path) -> list[Restored]:
    """Write what the ledger lacks of a file's records; what is there already stays, and doing it twice adds nothing.

    Raises SweepError if the file is damaged or was altered, ConflictError if the ledger has other records of a name.
    """
    with _readable(source):
        archive = zipfile.ZipFile(source)
    with archive:
        with _readable(source):
            members = _members(archive)
            for name, member in members.items():
                _check(name, _lines(archive, member))
        Ledger(url)  # makes the tables
        with translate_errors(url):
            storage = open_storage(url, create=False)
            known = set(optuna.get_all_study_names(storage))
            for name in members.keys() & known:
                _missing(optuna.load_study(study_name=name, storage=storage), [*_lines(archive, members[name])])
        return [_restored(url, storage, name, [*_lines(archive, member)]) for name, member in members.items()]


@contextmanager
def _readable(source: Path) -> Iterator[None]:
    """Raises SweepError for whatever is wrong with the file."""
    try:
        yield
    except SweepError as error:
        raise SweepError(f"{source}: {error}: nothing was restored; use another copy") from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # what seeking to a place before the file gives
            raise
        raise SweepError(f"{source}: not a complete mnist-ablate backup: use another copy") from None
    except _BROKEN as error:
        text = str(error).partition("\n")[0] or type(error).__name__
        raise SweepError(f"{source}: not a complete mnist-ablate backup ({text}): use another copy") from None


def _write(url: str, names: Sequence[str], target: Path) -> dict[str, int]:
    counts: dict[str, int] = {}
    digests: dict[str, dict[str, str]] = {}
    with translate_errors(url), zipfile.ZipFile(target, "x", zipfile.ZIP_DEFLATED) as archive:
        storage = open_storage(url, create=False)
        for study_name in sorted(optuna.get_all_study_names(storage), key=_order):
            if study_name.rpartition("/")[0] not in names:
                continue
            study = optuna.load_study(study_name=study_name, storage=storage)
            if "content" not in study.user_attrs:  # cut off before it began
                continue
            about = {name: value for name, value in study.user_attrs.items() if name != _ELSEWHERE}
            lines = [about, *map(_line, study.get_trials(deepcopy=False))]
            _check_whole(study_name, lines)
            text = "".join(f"{json.dumps(line, allow_nan=False)}\n" for line in lines).encode()
            member = f"{len(digests):04}.jsonl"
            archive.writestr(_entry(member), text)
            digests[study_name] = {"member": member, "sha256": hashlib.sha256(text).hexdigest()}
            counts[study_name] = len(lines) - 1
        archive.writestr(_entry(_MANIFEST), json.dumps({"format": FORMAT, "records": digests}, indent=1))
    return counts


def _entry(name: str) -> zipfile.ZipInfo:
    """A member without the time of day: the same records make the same file."""
    entry = zipfile.ZipInfo(name)
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def _order(study_name: str) -> tuple[str, int]:
    name, _, number = study_name.rpartition("/")
    return name, int(number) if number.isdecimal() else 0


def _line(trial: FrozenTrial) -> TrialLine:
    return {
        "state": trial.state.name,
        "value": None if trial.values is None else trial.values[0],
        "params": trial.params,
        "distributions": {name: distribution_to_json(each) for name, each in trial.distributions.items()},
        "attrs": trial.user_attrs,
        "steps": sorted(trial.intermediate_values.items()),
        "times": [time.isoformat() if time else None for time in (trial.datetime_start, trial.datetime_complete)],
    }


def _check_whole(study_name: str, lines: Sequence[Any]) -> None:
    try:
        _check(study_name, iter(lines))
    except (SweepError, *_BROKEN) as error:
        name = study_name.rpartition("/")[0]
        raise ConflictError(f"ledger: {error}: run mnist-ablate verify {name}, and restore a backup") from None


def _members(archive: zipfile.ZipFile) -> dict[str, str]:
    """The member of each record, once its checksum is seen to be right."""
    manifest = json.loads(archive.read(_MANIFEST))
    if manifest["format"] != FORMAT:
        raise SweepError(f"has format {manifest['format']}, not {FORMAT}, and needs another version of mnist-ablate")
    for name, about in manifest["records"].items():
        digest = hashlib.sha256()
        with archive.open(about["member"]) as file:
            while block := file.read(_BLOCK):
                digest.update(block)
        if digest.hexdigest() != about["sha256"]:
            raise SweepError(f"{name} was altered")
    return {name: about["member"] for name, about in manifest["records"].items()}


def _lines(archive: zipfile.ZipFile, member: str) -> Iterator[Any]:
    with archive.open(member) as file:
        while text := file.readline(_LONGEST_LINE):
            yield json.loads(text)


def _check(study_name: str, lines: Iterator[Any]) -> None:
    """Raises SweepError if a record is not what it says it is."""
    name, _, number = study_name.rpartition("/")
    about = next(lines)
    sweep = Sweep.model_validate(about["content"]["sweep"])
    if not is_name(name) or not number.isdecimal() or {name, about["sweep"]} != {sweep.name}:
        raise SweepError(f"{study_name!r} is not the name of its sweep")
    if sweep.digest != about["digest"]:
        raise SweepError(f"{study_name}: the sweep was altered")
    for place, line in enumerate(lines):
        attrs = {key: json.dumps(value) for key, value in line["attrs"].items()}
        values = () if line["value"] is None else (line["value"],)
        found = record_problems(RawTrial(place, line["state"], line["params"], values, dict(line["steps"]), attrs))
        if found:
            raise SweepError(f"{study_name}: record {place} {found[0]}")


def _missing(study: optuna.Study, lines: Sequence[Any]) -> Sequence[TrialLine]:
    """The trials that the ledger lacks of a record that it has. Raises ConflictError if it has others."""
    about, trials = lines[0], lines[1:]
    there = [json.loads(json.dumps(_line(trial))) for trial in study.get_trials(deepcopy=False)]
    both = min(len(there), len(trials))
    same_plan = all(study.user_attrs.get(name, about[name]) == about[name] for name in _PLAN)
    if not same_plan or [_identity(line) for line in there[:both]] != [_identity(line) for line in trials[:both]]:
        raise ConflictError(
            f"{study.study_name}: the ledger has a different record of this name and keeps it; nothing was restored: "
            "restore to another --home or OPTUNA_STORAGE"
        )
    return trials[both:]


def _identity(line: TrialLine) -> tuple[object, str]:
    return line["attrs"].get("sha256", ""), line["state"]


def _restored(url: str, storage: optuna.storages.RDBStorage, study_name: str, lines: Sequence[Any]) -> Restored:
    """Write a record, or the rest of it, under the lock of its sweep."""
    with Ledger(url).driving(study_name.rpartition("/")[0]), translate_errors(url):
        study = optuna.create_study(study_name=study_name, storage=storage, direction="maximize", load_if_exists=True)
        missing = _missing(study, lines)
        for name in sorted(lines[0], key=_PLAN[-1].__eq__):
            if name not in study.user_attrs:
                study.set_user_attr(name, lines[0][name])
        rows = TrialRows(storage, study_name)
        for line in missing:
            rows.add(_trial(line))
    return Restored(study_name, len(lines) - 1, len(missing))


def _trial(line: TrialLine) -> FrozenTrial:
    start, complete = (datetime.fromisoformat(text) if text else None for text in line["times"])
    return FrozenTrial(
        number=-1,  # Optuna gives the next one
        trial_id=-1,
        state=TrialState[line["state"]],
        value=line["value"],
        datetime_start=start,
        datetime_complete=complete,
        params=line["params"],
        distributions={name: json_to_distribution(text) for name, text in line["distributions"].items()},
        user_attrs=line["attrs"],
        system_attrs={},
        intermediate_values=dict(line["steps"]),
    )
