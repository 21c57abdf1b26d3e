"""What is recorded of a sweep: its report, its bundle, and MLflow brought in step with it. Trains nothing."""

import getpass
import math
import platform
import shlex
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from mnist_ablate.errors import SweepError, mask
from mnist_ablate.ledger import progress
from mnist_ablate.ledger.ledger import Ledger, Mirrored, Record
from mnist_ablate.reports import judging, trial_table
from mnist_ablate.reports.bundle import pack
from mnist_ablate.reports.markdown import headline, markdown
from mnist_ablate.reports.report import RecordedSweep, Report
from mnist_ablate.reports.training_times import ended_ms, trained
from mnist_ablate.settings import Settings
from mnist_ablate.sweep.plan import planned_settings
from mnist_ablate.sweep.sweep_file import as_yaml, reproduction
from mnist_ablate.tracking.mirror import FinishedTrial, Mirror
from mnist_ablate.tracking.page_view import page_view
from mnist_ablate.tracking.run_format import Data, claim_key
from mnist_ablate.verification import raw_stores
from mnist_ablate.workloads.versions import installed_versions

_PICTURE = "verdicts.png"
_PICTURE_WIDTH = 760  # MLflow's page scales none, and a wider one pushes what it says about a run off the screen
_OPEN = " Open this line: each claim, its interval and the picture."
_LINKS = (
    "[The sweep's run](page:) · [report](page:report.html) · [trials](page:trials.csv) · [sweep file](page:sweep.yaml)"
)


def report(name: str, settings: Settings) -> tuple[Report, Record]:
    """The report on what is recorded of a sweep, and the record."""
    record = Ledger(settings.ledger_url).find(name)
    return report_of(record), record


def sync(name: str, settings: Settings) -> tuple[int, int, str]:
    """Send MLflow what it lacks of a recorded sweep: how many runs were sent, how many there are, what to tell.

    Raises UnreachableError if MLflow cannot be reached.
    """
    record = Ledger(settings.ledger_url).find(name)
    mirror, records = open_mirror(record, settings), record.records()
    entries = {entry.trial.id: entry for entry in records}
    ended = [FinishedTrial(each.trial, each.params, each.outcome, each.stage) for each in entries.values()]
    sent = mirror.outcomes_together(ended)
    alone = [mirror.outcome(*each) for each in ended if each[0].id not in sent]
    publish(record, len(records), mirror, settings, report_of(record))
    return sum(sent.values()) + sum(alone), len(entries), mirror.notice


def report_of(record: Record) -> Report:
    """The report on a record. Inputs that were never described are looked at now if they are those that ship."""
    plan, found, workload = record.plan, record.fingerprints, record.sweep.workload
    if not found and record.data_digest == workload.shipped_digest:
        found = workload.fingerprints(workload.load(None), planned_settings(plan))
    return judging.of_records(plan, record.entries(), record.registration, found)


def open_mirror(record: Record, settings: Settings) -> Mirror:
    """The mirror of a record; it connects when it is first used."""
    sweep = record.sweep
    where, run_tags = settings.tracking_uri, {**provenance(record.data_digest), **_source(record)}
    digest = sweep.digest_with(record.data_digest)
    started_ms = round(datetime.fromisoformat(record.registered).timestamp() * 1000)
    return Mirror(
        where,
        sweep.name,
        digest,
        sweep.question,
        run_tags,
        sweep.workload,
        started_ms,
        page_view(record.plan, digest, started_ms),
        _data(record, settings),
    )


def origin() -> dict[str, str]:
    """Who begins a sweep now, and how. In a notebook no command was typed."""
    program, *words = sys.argv
    typed = shlex.join([Path(program).name, *words]) if Path(program).name.startswith("mnist-ablate") else ""
    with suppress(OSError, KeyError, ImportError):
        return {"command": mask(typed), "user": getpass.getuser(), "commit": _git_commit()}
    return {"command": mask(typed), "commit": _git_commit()}


def _source(record: Record) -> dict[str, str]:
    """Where MLflow's page says that runs come from: the command that began the sweep, else one that runs the same."""
    who, again = record.origin, reproduction(record.sweep, record.data_digest)[0]
    commit = who.get("commit", "unknown")
    return {
        "mlflow.source.name": who.get("command") or again,
        "mlflow.source.type": "LOCAL",
        **({"mlflow.source.git.commit": commit} if commit != "unknown" else {}),
        **({"mlflow.user": who["user"]} if "user" in who else {}),
    }


def _data(record: Record, settings: Settings) -> Data | None:
    """What trials are trained on. Nothing is known of what users' own code reads."""
    sweep, digest = record.sweep, record.data_digest
    if sweep.train:
        return None
    if digest == sweep.workload.shipped_digest:
        return Data(sweep.workload.shipped_name.removeprefix("the "), digest, "mnist-ablate")
    source = mask(str(sweep.data or settings.data or "own images"))
    return Data(Path(source).name, digest, source)


def provenance(data_digest: str) -> dict[str, str]:
    """Where results come from: versions, git commit if there is one, machine, data."""
    return {
        **{f"version.{name}": value for name, value in installed_versions().items()},
        "git_commit": _git_commit(),
        "platform": platform.platform(),
        "data_digest": data_digest,
    }


def _git_commit() -> str:
    command, here = ("git", "rev-parse", "HEAD"), Path(__file__).parent
    try:
        answer = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=5, check=True)  # noqa: S603 - fixed words
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.stdout.strip()


def import_charts() -> None:
    """Import what a result is shown with. A sweep does it beside its first trials, because it takes half a second."""
    from mnist_ablate.reports import html

    html.template()


def publish(record: Record, records: int, mirror: Mirror, settings: Settings, report: Report) -> None:
    """Write the verdicts on the parent run, then note in the record that MLflow has its first `records` records.

    The run gets the bundle's digest as a tag: whoever has the bundle can compare. Raises UnreachableError if MLflow
    cannot be reached.
    """
    from mnist_ablate.reports import charts, drawing, html  # here, because they import matplotlib

    shown = recorded_sweep(record)
    effects = {claim_key("effect", claim.name): claim.effect for claim in report.claims if math.isfinite(claim.effect)}
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / name for name in ("report.html", "bundle.zip", "sweep.yaml", "trials.csv")}
        html.write(report, shown, files["report.html"])
        content, digest = bundle(record, settings, report)
        files["bundle.zip"].write_bytes(content)
        files["sweep.yaml"].write_text(as_yaml(record.sweep), encoding="utf-8")
        files["trials.csv"].write_text(trial_table.table(record.plan, record.entries()), encoding="utf-8")
        with suppress(SweepError):  # nothing is recorded that could be drawn
            drawing.to_png(charts.main_chart(report, shown), Path(folder) / _PICTURE, _PICTURE_WIDTH)
            files[_PICTURE] = Path(folder) / _PICTURE
        description = headline(report, record.sweep.question, f"artifact:{_PICTURE}" if _PICTURE in files else "")
        outcomes = [entry.outcome for entry in shown.every]
        when = f"Trained from {times}." if (times := trained(outcomes)) else ""
        note = "\n\n".join((description, _LINKS, when, markdown(report, "")))
        said = {claim_key("verdict", claim.name): claim.verdict for claim in report.claims}
        # MLflow's page shows the first line of an experiment's description, folded.
        first, blank, rest = description.partition("\n\n")
        folded = f"{first}{_OPEN if report.claims else ''}{blank}{rest}\n{_LINKS}"
        texts, tags = (note, folded), {"bundle_digest": digest, **said}
        mirror.verdicts(texts, effects, [*files.values()], tags, ended_ms(outcomes))
    record.mirrored = Mirrored(records, mask(settings.tracking_uri), mirror.link)


def recorded_sweep(record: Record) -> RecordedSweep:
    """A sweep and all that is recorded of it, as a page shows it."""
    entries, plan = record.entries(), record.plan
    judged = (each for each in progress.verdict_trials(plan, entries) if each.id in entries)
    return RecordedSweep(
        sweep=record.sweep,
        entries=tuple(replace(entries[each.id], params=each.arm.params) for each in judged),
        tuning=tuple(entry for entry in entries.values() if entry.stage == "tuning"),
        registered=record.registered,
        data_digest=record.data_digest,
        provenance=provenance(record.data_digest),
        control=tuple(entry for entry in entries.values() if entry.stage == "control"),
    )


def bundle(record: Record, settings: Settings, report: Report) -> tuple[bytes, str]:
    """Everything that the verdicts of a record rest on as one zip, and its digest.

    The verdicts in it are those of the records in it: others may have been written since the report was made.
    """
    studies = {study.name: study for study in raw_stores.read_ledger(settings.ledger_url, record.sweep.name)}
    study, earlier = studies[record.name], record.registration.earlier
    judged = judging.of_raw(study, earlier, report.fingerprints)
    versions = {name: mask(value) for name, value in provenance(record.data_digest).items()}
    return pack(study, earlier, judged, versions)
