"""A sweep's record on its way to MLflow: the mirror of a record, where results come from, the verdicts' note."""

import math
import platform
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

from mnist_ablate.errors import UnreachableError, mask
from mnist_ablate.ledger import progress
from mnist_ablate.ledger.ledger import Mirrored, Record
from mnist_ablate.reports import judging
from mnist_ablate.reports.bundle import begun, pack
from mnist_ablate.reports.markdown import markdown
from mnist_ablate.reports.report import RecordedSweep, Report
from mnist_ablate.settings import Settings
from mnist_ablate.tracking.mirror import Mirror
from mnist_ablate.verification import raw_ledger
from mnist_ablate.workloads.versions import installed_versions

_COMMIT = ("git", "rev-parse", "HEAD")
_BUNDLE_DIGEST = "bundle_digest"
"""A tag of the parent run: whoever has the bundle can compare."""


def open_mirror(record: Record, settings: Settings) -> Mirror:
    """The mirror of a record; it connects when it is first used."""
    sweep = record.sweep
    return Mirror(settings.tracking_uri, sweep.name, sweep.digest, sweep.question, provenance(record.data_digest))


def provenance(data_digest: str) -> dict[str, str]:
    """Where results come from: versions, git commit if there is one, machine, data."""
    return {
        **{f"version.{name}": value for name, value in installed_versions().items()},
        "git_commit": _git_commit(),
        "platform": platform.platform(),
        "data_digest": data_digest,
    }


def in_step(record: Record, records: int, settings: Settings) -> bool:
    """Whether this tracker was seen to have that many records of the sweep, and its verdicts."""
    seen = record.mirrored
    return (seen.records, seen.tracker) == (records, mask(settings.tracking_uri))


def publish(record: Record, records: int, mirror: Mirror, settings: Settings, report: Report) -> None:
    """Write the verdicts on the parent run, then note in the record that MLflow has its first `records` records.

    Raises UnreachableError if MLflow cannot be reached.
    """
    from mnist_ablate.reports import html  # here, because it imports matplotlib

    effects = {f"effect.{claim.name}": claim.effect for claim in report.claims if math.isfinite(claim.effect)}
    with tempfile.TemporaryDirectory() as folder:
        page, packed = Path(folder) / "report.html", Path(folder) / "bundle.zip"
        html.write(report, recorded_sweep(record), page)
        content, digest = bundle(record, settings, report)
        packed.write_bytes(content)
        tags = {_BUNDLE_DIGEST: digest}
        mirror.verdicts(markdown(report, record.sweep.question), effects, [page, packed], tags)
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
    studies = [each for each in raw_ledger.read(settings.ledger_url, record.sweep.name) if "content" in each.attrs]
    place = [each.name for each in studies].index(record.name)
    study, earlier = studies[place], [*map(begun, studies[:place])]
    judged = judging.of_raw(study, earlier, report.fingerprints)
    versions = {name: mask(value) for name, value in provenance(record.data_digest).items()}
    return pack(study, earlier, judged, versions)


def try_to_publish(record: Record, records: int, mirror: Mirror, settings: Settings, report: Report) -> bool:
    """As `publish`; False if MLflow cannot be reached."""
    try:
        publish(record, records, mirror, settings, report)
    except UnreachableError:
        return False
    return True


def _git_commit() -> str:
    here = Path(__file__).parent
    try:
        answer = subprocess.run(_COMMIT, cwd=here, capture_output=True, text=True, timeout=5, check=True)  # noqa: S603 - fixed words
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.stdout.strip()
