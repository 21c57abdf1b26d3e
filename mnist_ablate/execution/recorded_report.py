"""What is recorded of a sweep: its report, its bundle, and MLflow brought in step with it. Trains nothing."""

import math
import platform
import subprocess
import tempfile
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from mnist_ablate.errors import mask
from mnist_ablate.ledger import progress
from mnist_ablate.ledger.ledger import Ledger, Mirrored, Record
from mnist_ablate.reports import judging
from mnist_ablate.reports.bundle import pack
from mnist_ablate.reports.markdown import markdown
from mnist_ablate.reports.report import RecordedSweep, Report
from mnist_ablate.settings import Settings
from mnist_ablate.sweep.plan import planned_settings
from mnist_ablate.tracking.mirror import FinishedTrial, Mirror
from mnist_ablate.tracking.page_view import page_view
from mnist_ablate.tracking.run_format import ended_ms, verdict_tag
from mnist_ablate.verification import raw_stores
from mnist_ablate.workloads.versions import installed_versions


def report(name: str, settings: Settings) -> tuple[Report, Record]:
    """The report on what is recorded of a sweep, and the record."""
    record = Ledger(settings.ledger_url, reading=True).find(name)
    return _report(record), record


def sync(name: str, settings: Settings) -> tuple[int, int]:
    """Send MLflow what it lacks of a recorded sweep; how many runs were sent, and how many there are.

    Raises UnreachableError if MLflow cannot be reached.
    """
    record = Ledger(settings.ledger_url, reading=True).find(name)
    mirror, records = open_mirror(record, settings), record.records()
    entries = {entry.trial.id: entry for entry in records}
    ended = [FinishedTrial(each.trial, each.params, each.outcome, each.stage) for each in entries.values()]
    sent = mirror.outcomes_together(ended)
    alone = [mirror.outcome(*each) for each in ended if each[0].id not in sent]
    publish(record, len(records), mirror, settings, _report(record))
    return sum(sent.values()) + sum(alone), len(entries)


def _report(record: Record) -> Report:
    """Inputs that were never described are looked at now if they are those that ship."""
    plan, found, workload = record.plan, record.fingerprints, record.sweep.workload
    if not found and record.data_digest == workload.shipped_digest:
        found = workload.fingerprints(workload.load(None), planned_settings(plan))
    return judging.of_records(plan, record.entries(), record.registration, found)


def open_mirror(record: Record, settings: Settings) -> Mirror:
    """The mirror of a record; it connects when it is first used."""
    sweep = record.sweep
    where, run_tags = settings.tracking_uri, provenance(record.data_digest)
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
    )


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


def publish(record: Record, records: int, mirror: Mirror, settings: Settings, report: Report) -> None:
    """Write the verdicts on the parent run, then note in the record that MLflow has its first `records` records.

    The run gets the bundle's digest as a tag: whoever has the bundle can compare. Raises UnreachableError if MLflow
    cannot be reached.
    """
    from mnist_ablate.reports import html  # here, because it imports matplotlib

    effects = {f"effect.{claim.name}": claim.effect for claim in report.claims if math.isfinite(claim.effect)}
    with tempfile.TemporaryDirectory() as folder:
        page, packed = Path(folder) / "report.html", Path(folder) / "bundle.zip"
        html.write(report, recorded_sweep(record), page)
        content, digest = bundle(record, settings, report)
        packed.write_bytes(content)
        note = markdown(report, record.sweep.question)
        said = {verdict_tag(claim.name): claim.verdict for claim in report.claims}
        ends = [ended_ms(entry.outcome) or 0 for entry in record.records()]
        mirror.verdicts(note, effects, [page, packed], {"bundle_digest": digest, **said}, max(ends, default=0) or None)
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
