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
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from mnist_ablate.errors import ConflictError, SweepError, mask
from mnist_ablate.ledger.database import sqlite_file, translate_errors
from mnist_ablate.ledger.ledger import Ledger
from mnist_ablate.ledger.optuna_rows import TrialRows
from mnist_ablate.ledger.raw_records import RawTrial, record_problems
from mnist_ablate.processes import whole_file
from mnist_ablate.sweep.sweep import Sweep, is_name

FORMAT = 1
_MANIFEST, _QUEUE = "manifest.json", "queue.jsonl"
_PLAN = ("sweep", "digest", "registered", "content")
"""What must be registered of a sweep; the content is written last and says that all is there."""
_ELSEWHERE = "mirrored"  # what a tracker was seen to have, which is not the ledger's
_LONGEST_LINE = 64_000_000
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, KeyError, TypeError)
"""What reading a damaged zip, or lines that are not ours, can raise."""
Line = dict[str, Any]  # a line of the file: what was registered, by name, or a trial as `_line` writes it


def export(url: str, names: Sequence[str], target: Path, queue: bytes = b"") -> tuple[dict[str, int], str]:
    """Write every record of these sweeps to a new file; the trials of each by its name, and the file's sha256.

    `queue` is the content of a service's queue, which the file carries beside them.

    Raises SweepError if the file is there, no sweep is named or one is not recorded, ConflictError if the ledger is
    damaged.
    """
    if target.exists():
        raise SweepError(f"{target}: exists already and was not changed: choose another file name")
    ledger = Ledger(url)
    if not names and not queue:
        where = sqlite_file(url) or mask(url)
        raise SweepError(f"{where}: no sweep is recorded there: check --home and OPTUNA_STORAGE")
    for name in names:
        ledger.find(name)
    counts: dict[str, int] = {}
    records: dict[str, dict[str, str]] = {}
    with whole_file(target) as part, translate_errors(url), zipfile.ZipFile(part, "x") as archive:
        for study in (each for each in ledger.studies() if each.sweep in names):
            if study.is_registered:
                text = _text(optuna.load_study(study_name=study.name, storage=ledger.storage))
                member = f"{len(records):04}.jsonl"
                archive.writestr(zipfile.ZipInfo(member), text, zipfile.ZIP_DEFLATED)  # without the time of day
                records[study.name] = {"member": member, "sha256": hashlib.sha256(text).hexdigest()}
                counts[study.name] = text.count(b"\n") - 1
        about: dict[str, object] = {"format": FORMAT, "records": records}
        if queue:
            archive.writestr(zipfile.ZipInfo(_QUEUE), queue, zipfile.ZIP_DEFLATED)
            about["queue"] = hashlib.sha256(queue).hexdigest()
        manifest = json.dumps(about, indent=1)
        archive.writestr(zipfile.ZipInfo(_MANIFEST), manifest, zipfile.ZIP_DEFLATED)
    with target.open("rb") as file:
        return counts, hashlib.file_digest(file, "sha256").hexdigest()


def _text(study: optuna.Study) -> bytes:
    """The record of a study. Raises ConflictError if it is damaged."""
    about = {key: value for key, value in study.user_attrs.items() if key != _ELSEWHERE}
    lines = [about, *map(_line, study.get_trials(deepcopy=False))]
    try:
        _check(study.study_name, iter(lines))
    except (SweepError, *_BROKEN) as error:
        name = study.study_name.rpartition("/")[0]
        raise ConflictError(f"ledger: {error}: run mnist-ablate verify {name}, and restore a backup") from None
    return "".join(f"{json.dumps(line, allow_nan=False)}\n" for line in lines).encode()


def _line(trial: FrozenTrial) -> Line:
    return {
        "state": trial.state.name,
        "value": None if trial.values is None else trial.values[0],
        "params": trial.params,
        "distributions": {name: distribution_to_json(each) for name, each in trial.distributions.items()},
        "attrs": trial.user_attrs,
        "steps": sorted(trial.intermediate_values.items()),
        "times": [time.isoformat() if time else None for time in (trial.datetime_start, trial.datetime_complete)],
    }


def _trial(line: Line) -> FrozenTrial:
    trial = create_trial(
        state=TrialState[line["state"]],
        value=line["value"],
        params=line["params"],
        distributions={name: json_to_distribution(text) for name, text in line["distributions"].items()},
        user_attrs=line["attrs"],
        intermediate_values=dict(line["steps"]),
    )
    times = [datetime.fromisoformat(text) if text else None for text in line["times"]]
    trial.datetime_start, trial.datetime_complete = times
    return trial


def restore(url: str, source: Path) -> dict[str, tuple[int, int]]:
    """Write what the ledger lacks of a file's records; what is there already stays, and doing it twice adds nothing.

    Returns of each record, by its name, how many trials the file has and how many were written now.
    Raises SweepError if the file is damaged or was altered, ConflictError if the ledger has other records of a name.
    """
    with ExitStack() as stack:
        try:
            archive = stack.enter_context(zipfile.ZipFile(source))
            members = _members(archive)
        except SweepError as error:
            raise SweepError(f"{source}: {error}: nothing was restored; use another copy") from None
        except (OSError, *_BROKEN) as error:
            if isinstance(error, OSError) and error.errno != errno.EINVAL:  # what seeking to before the file gives
                raise
            why = str(error).partition("\n")[0] or type(error).__name__
            raise SweepError(f"{source}: not a complete mnist-ablate backup ({why}): use another copy") from None
        ledger = Ledger(url)
        with translate_errors(url):
            for name in members.keys() & optuna.get_all_study_names(ledger.storage):
                _missing(optuna.load_study(study_name=name, storage=ledger.storage), [*_lines(archive, members[name])])
        return {name: _written(ledger, name, [*_lines(archive, member)]) for name, member in members.items()}


def queue_in(source: Path) -> bytes:
    """The content of a service's queue in a file that `restore` has read; empty if there is none in it.

    Raises SweepError if it was altered.
    """
    with zipfile.ZipFile(source) as archive:
        told = json.loads(archive.read(_MANIFEST)).get("queue")
        content = archive.read(_QUEUE) if told else b""
    if told and hashlib.sha256(content).hexdigest() != told:
        raise SweepError(f"{source}: the queue was altered: it was not restored; use another copy")
    return content


def _members(archive: zipfile.ZipFile) -> dict[str, str]:
    """The member of each record, once its checksum and its content are seen to be right."""
    manifest = json.loads(archive.read(_MANIFEST))
    if manifest["format"] != FORMAT:
        raise SweepError(f"has format {manifest['format']}, not {FORMAT}, and needs another version of mnist-ablate")
    for name, about in manifest["records"].items():
        with archive.open(about["member"]) as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != about["sha256"]:  # type: ignore[arg-type]
                raise SweepError(f"{name} was altered")
        _check(name, _lines(archive, about["member"]))
    return {name: about["member"] for name, about in manifest["records"].items()}


def _lines(archive: zipfile.ZipFile, member: str) -> Iterator[Line]:
    with archive.open(member) as file:
        while text := file.readline(_LONGEST_LINE):
            yield json.loads(text)


def _check(study_name: str, lines: Iterator[Line]) -> None:
    """Raises SweepError if a record is not what it says it is."""
    name, _, number = study_name.rpartition("/")
    about = next(lines, {})
    sweep = Sweep.model_validate(about["content"]["sweep"])
    if not is_name(name) or not number.isdecimal() or {name, about["sweep"]} != {sweep.name}:
        raise SweepError(f"{study_name!r} is not the name of its sweep")
    if sweep.digest != about["digest"]:
        raise SweepError(f"{study_name}: the sweep was altered")
    for place, line in enumerate(lines):
        attrs = {key: json.dumps(value) for key, value in line["attrs"].items()}
        values = () if line["value"] is None else (line["value"],)
        trial = RawTrial(place, line["state"], line["params"], values, dict(line["steps"]), attrs)
        if found := record_problems(trial, sweep.workload):
            raise SweepError(f"{study_name}: record {place} {found[0]}")


def _missing(study: optuna.Study, lines: Sequence[Line]) -> Sequence[Line]:
    """The trials that the ledger lacks of a record that it has. Raises ConflictError if it has others."""
    (about, *trials), attrs = lines, study.user_attrs
    there = [(each.user_attrs.get("sha256", ""), each.state.name) for each in study.get_trials(deepcopy=False)]
    told = [(line["attrs"].get("sha256", ""), line["state"]) for line in trials]
    both = min(len(there), len(told))
    if any(attrs.get(name, about[name]) != about[name] for name in _PLAN) or there[:both] != told[:both]:
        raise ConflictError(
            f"{study.study_name}: the ledger has a different record of this name and keeps it; nothing was restored: "
            "restore to another --home or OPTUNA_STORAGE"
        )
    return trials[both:]


def _written(ledger: Ledger, name: str, lines: Sequence[Line]) -> tuple[int, int]:
    """Write a record, or the rest of it, under the lock of its sweep."""
    storage = ledger.storage
    with ledger.driving(name.rpartition("/")[0]), translate_errors(ledger.url):
        study = optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True)
        missing = _missing(study, lines)
        for key in sorted(lines[0], key=_PLAN[-1].__eq__):
            if key not in study.user_attrs:
                study.set_user_attr(key, lines[0][key])
        rows = TrialRows(storage.engine, storage.get_study_id_from_name(name))
        for line in missing:
            rows.add(_trial(line))
    return len(lines) - 1, len(missing)
