"""One zip with everything that a sweep's verdicts rest on: packed, and unpacked with distrust; judges nothing.

The same records and versions make the same bytes. The digest of a bundle is the sha256 of its manifest, which has that
of every other member. Whoever can write the file can write checksums too: compare the digest with a published one.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from pydantic import JsonValue

from mnist_ablate.ledger.preregistration import Earlier
from mnist_ablate.ledger.raw_records import RawStudy, RawTrial
from mnist_ablate.reports.report import Report
from mnist_ablate.text import plainly

FORMAT = 1
MANIFEST = "manifest.json"
REGISTRATION, EARLIER, TRIALS = "registration.json", "earlier.json", "trials.jsonl"
FINGERPRINTS, VERDICTS, VERSIONS = "fingerprints.json", "verdicts.json", "versions.json"
MEMBERS = (REGISTRATION, EARLIER, TRIALS, FINGERPRINTS, VERDICTS, VERSIONS)
MOST_BYTES = 256_000_000  # of all members together; 10,000 trials of 50 epochs take half of it
MOST_TIMES = 100  # that the members may be larger than the file: JSON of trials is 5 to 20 times
_ALWAYS = 1_000_000  # bytes that a small file may unpack to
_UNIX, _MODE = 3, 0o644 << 16
_NOT_REGISTERED = ("mirrored", "fingerprints")
"""What a tracker was seen to have, which is no part of the record; what has a member of its own."""
_HOW = "mnist-ablate verify FILE.zip recomputes the verdicts from the trials; it needs neither TensorFlow nor MLflow"


@dataclass(frozen=True)
class Bundle:
    """What a bundle holds: the record, those begun before it, what was said of it, and the bundle's digest."""

    study: RawStudy
    earlier: list[Earlier]
    fingerprints: list[dict[str, JsonValue]]
    verdicts: dict[str, JsonValue]
    versions: dict[str, str]
    digest: str


def pack(study: RawStudy, earlier: Sequence[Earlier], report: Report, versions: Mapping[str, str]) -> tuple[bytes, str]:
    """The zip of a record and of what is to be known of those before it, and its digest."""
    attrs = _values({key: value for key, value in study.attrs.items() if key not in _NOT_REGISTERED})
    contents = {
        REGISTRATION: {"record": study.name, "attributes": attrs},
        EARLIER: [each.model_dump(mode="json") for each in earlier],
        FINGERPRINTS: [dict(each) for each in report.fingerprints],
        VERDICTS: json.loads(report.model_dump_json()),
        VERSIONS: dict(versions),
    }
    members = {name: _text(content, indent=1) for name, content in contents.items()}
    members[TRIALS] = b"".join(_text({**vars(trial), "attrs": _values(trial.attrs)}) for trial in study.trials)
    digests = {name: hashlib.sha256(members[name]).hexdigest() for name in MEMBERS}
    manifest = _text({"format": FORMAT, "record": study.name, "how": _HOW, "sha256": digests}, indent=1)
    return zipped({MANIFEST: manifest, **members}), hashlib.sha256(manifest).hexdigest()


def zipped(members: Mapping[str, bytes]) -> bytes:
    """A zip without the time of day, the machine or its user."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, _UNIX, _MODE
            archive.writestr(entry, content)
    return stream.getvalue()


def unpack(source: Path) -> Bundle:
    """What a file holds, each member as its manifest says; nothing is written anywhere.

    Raises ValueError, or whatever a damaged zip raises, if it is no whole bundle; OSError if it cannot be read.
    """
    if (size := source.stat().st_size) > MOST_BYTES:
        raise ValueError(f"its {size:,} bytes are no bundle")
    with zipfile.ZipFile(io.BytesIO(source.read_bytes())) as archive:
        _must_be_a_bundle(archive)
        texts = {name: archive.read(name) for name in (MANIFEST, *MEMBERS)}
    manifest = _json(texts[MANIFEST])
    if manifest["format"] != FORMAT:
        raise ValueError(f"it has format {manifest['format']}, not {FORMAT}: another version of mnist-ablate reads it")
    for name in MEMBERS:
        if hashlib.sha256(texts[name]).hexdigest() != manifest["sha256"][name]:
            raise ValueError(f"{name} is not the one that the manifest was written for")
    registration, trials = _json(texts[REGISTRATION]), [*map(_trial, texts[TRIALS].splitlines())]
    return Bundle(
        RawStudy(registration["record"], _texts(registration["attributes"]), tuple(trials)),
        earlier=[Earlier.model_validate(each) for each in _json(texts[EARLIER])],
        fingerprints=_json(texts[FINGERPRINTS]),
        verdicts=_json(texts[VERDICTS]),
        versions=_json(texts[VERSIONS]),
        digest=hashlib.sha256(texts[MANIFEST]).hexdigest(),
    )


def _must_be_a_bundle(archive: zipfile.ZipFile) -> None:
    """Raises ValueError unless its members are those of a bundle, once each, and of a size that can be read."""
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    for name in names:
        if name not in {MANIFEST, *MEMBERS}:
            raise ValueError(f"it holds {plainly(name)}, which is no part of a bundle")
    for name in (MANIFEST, *MEMBERS):
        if names.count(name) != 1:
            raise ValueError(f"it {'lacks' if name not in names else 'holds more than one'} {name}")
    size, packed = sum(entry.file_size for entry in entries), sum(entry.compress_size for entry in entries)
    if size > min(MOST_BYTES, _ALWAYS + MOST_TIMES * packed):
        raise ValueError(f"its {packed:,} bytes would become {size:,}: that is no bundle")


def _trial(text: bytes) -> RawTrial:
    line = _json(text)
    steps = {int(step): value for step, value in line["steps"].items()}
    return RawTrial(**{**line, "values": tuple(line["values"]), "steps": steps, "attrs": _texts(line["attrs"])})


def _text(content: object, indent: int | None = None) -> bytes:
    return f"{json.dumps(content, indent=indent, allow_nan=False)}\n".encode()


def _values(attrs: Mapping[str, str]) -> dict[str, JsonValue]:
    return {key: json.loads(value) for key, value in sorted(attrs.items())}


def _texts(attrs: Mapping[str, JsonValue]) -> dict[str, str]:
    return {key: json.dumps(value) for key, value in attrs.items()}


def _json(text: bytes) -> Any:
    """JSON that means one thing to every reader: no key twice, no NaN."""
    return json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)


def _once(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key stands twice in one of its objects")
    return content


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
