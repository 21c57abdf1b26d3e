"""A bundle's verdicts follow from its trials, or a line says what does not fit; nothing in the file is trusted."""

import copy
import hashlib
import io
import json
import random
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from judged_sweep import as_json
from ledger_records import outcome, recorded
from sweep_runs import SWEEP, small

from mnist_ablate.execution import recorded_report
from mnist_ablate.ledger.ledger import Ledger
from mnist_ablate.ledger.preregistration import digests
from mnist_ablate.ledger.progress import due
from mnist_ablate.reports import bundle, judging
from mnist_ablate.settings import Settings
from mnist_ablate.sweep.plan import make_plan
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.verification.bundle_check import Checked, check
from mnist_ablate.workloads import versions
from mnist_ablate.workloads.workload import default_workload, trial_of

DATA = "d1" * 32
ALLOWED = {
    *("numpy", "scipy", "pydantic", "yaml", "typer", "rich", "mnist_ablate"),
    *("pydantic_core", "annotated_types", "typing_extensions", "typing_inspection", "_yaml"),
    *("annotated_doc", "click", "shellingham", "markdown_it", "mdurl", "pygments"),
}
"""What the README says that verifying needs, and what that needs itself."""

Members = dict[str, Any]
"""What a bundle holds, as Python values; the trials as a list."""
Tamper = Callable[[Members], None]


def trained(home: Path, sweep: Sweep) -> Settings:
    """Every round of a sweep, whatever it asks for next."""
    settings, plan = Settings(home=home), make_plan(sweep, DATA)
    record = Ledger(settings.ledger_url).begin(plan, fresh=False)
    for place in range(sweep.tuning_trials if sweep.design == "search" else 0):
        each = plan.searched({"activation": ["tanh", "relu"][place % 2], "width": 50 + place})
        record.add(each, outcome(each))
    while trials := due(plan, record.entries()):
        for each in trials:
            record.add(each, outcome(each))
    return settings


def packed(settings: Settings) -> bytes:
    report, record = recorded_report.report("small", settings)
    return recorded_report.bundle(record, settings, report)[0]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return packed(recorded(tmp_path_factory.mktemp("whole"), small(seeds=7, negative_control="baseline")))


def opened(content: bytes) -> Members:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    found: Members = {name: json.loads(text) for name, text in texts.items() if name != bundle.TRIALS}
    return {**found, bundle.TRIALS: [json.loads(line) for line in texts[bundle.TRIALS].splitlines()]}


def texts(members: Members) -> dict[str, bytes]:
    trials = "".join(f"{json.dumps(line)}\n" for line in members[bundle.TRIALS])
    rest = {name: f"{json.dumps(value, indent=1)}\n" for name, value in members.items() if name != bundle.TRIALS}
    return {name: text.encode() for name, text in {**rest, bundle.TRIALS: trials}.items()}


def closed(members: Members, *, manifest: bool = True) -> bytes:
    """The zip again, with a manifest of what is in it now unless told."""
    if manifest:
        found = {name: hashlib.sha256(text).hexdigest() for name, text in texts(members).items()}
        sha256 = {name: found[name] for name in bundle.MEMBERS}
        members = {**members, bundle.MANIFEST: {**members[bundle.MANIFEST], "sha256": sha256}}
    return bundle.zipped(texts(members))


def rejudged(members: Members, folder: Path) -> Members:
    """With the verdicts that follow from the rest, as a forger would write them."""
    (folder / "x.zip").write_bytes(closed(members))
    forged = bundle.unpack(folder / "x.zip")
    return {**members, bundle.VERDICTS: as_json(judging.of_raw(forged.study, forged.earlier, forged.fingerprints))}


def said(content: bytes, folder: Path) -> Checked:
    path = folder / "x.zip"
    path.write_bytes(content)
    return check(path)


def change(place: str, value: Any) -> Tamper:
    """Change one value, given by its keys; a function is given what is there."""

    def changed(members: Members) -> None:
        *keys, last = [int(key) if key.isdecimal() else key for key in place.split("/")]
        holder: Any = members
        for key in keys:
            holder = holder[key]
        holder[last] = value(holder[last]) if callable(value) else value

    return changed


RECORD = "trials.jsonl/3"
OUTCOME = f"{RECORD}/attrs/outcome"
ASKED = "registration.json/attributes/content/sweep"
CLAIM = "verdicts.json/claims/0"
ACCURACY = f"{OUTCOME}/metrics/test_accuracy"


def seal(members: Members, place: int = 3) -> None:
    """The checksum inside a record, as a forger would write it."""
    attrs = members[bundle.TRIALS][place]["attrs"]
    content = {part: attrs[part] for part in ("trial", "stage", "outcome")}
    attrs["sha256"] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def register_again(members: Members) -> None:
    attributes = members[bundle.REGISTRATION]["attributes"]
    sweep = Sweep.model_validate(attributes["content"]["sweep"])
    attributes |= {"digest": sweep.digest, "preregistration": digests(make_plan(sweep, DATA))}


def identify(members: Members) -> None:
    attrs = members[bundle.TRIALS][3]["attrs"]
    asked = attrs["trial"]
    id_ = trial_of(default_workload(), asked["recipe"], asked["seed"], asked["data_digest"]).id
    attrs["trial_id"] = attrs["outcome"]["trial_id"] = id_


def swap_outcomes(members: Members) -> None:
    """Of the two arms at one seed, with every checksum."""
    for place, given in ((2, copy.deepcopy(members[bundle.TRIALS][3])), (3, copy.deepcopy(members[bundle.TRIALS][2]))):
        line = members[bundle.TRIALS][place]
        line["attrs"]["outcome"] = {**given["attrs"]["outcome"], "trial_id": line["attrs"]["trial_id"]}
        line["values"], line["steps"] = given["values"], given["steps"]
        seal(members, place)


def exchanged(lines: list[Any]) -> list[Any]:
    one, other = lines[2:4]
    return [*lines[:2], {**one, "params": other["params"]}, {**other, "params": one["params"]}, *lines[4:]]


LINES = bundle.TRIALS
REMOVE = change(LINES, lambda lines: [*lines[:3], *lines[4:]])
REPEAT = change(LINES, lambda lines: [*lines, lines[3]])
RENUMBER = change(LINES, lambda lines: [{**line, "number": number} for number, line in enumerate(lines)])
NO_ARMS = change(LINES, lambda lines: [{**x, "params": {"seed": x["params"]["seed"]}} for x in lines])
MORE = change(ACCURACY, lambda value: value + 0.01)
SEED = [change(f"{RECORD}/attrs/trial/seed", 99), change(f"{RECORD}/params/seed", 99)]
MARGIN = change(f"{ASKED}/claims/0/margin", 0.0001)
DIVERGED = [change(f"{OUTCOME}/status", "diverged"), seal]
ENDED = [change(f"{OUTCOME}/epochs", lambda found: found[:1]), change(f"{RECORD}/steps", lambda it: {"1": it["1"]})]
VALUE = change(f"{RECORD}/values", lambda found: [found[0] + 0.01])
GIANT = {name: [*range(1000)] for name in ("width", "epochs", "batch_size", "dropout")}
SAY = "in verdicts.json, the records say"
TAMPERED: dict[str, tuple[list[Tamper], str]] = {
    "metric": ([MORE], r"record 3 \(trial [0-9a-f]{16}\) was altered after it was written"),
    "metric sealed": ([MORE, seal], "record 3 .* has another value in Optuna than its test_accuracy"),
    "metric everywhere": ([MORE, seal, VALUE], rf"arms\[relu\].mean is 0.9\d+ {SAY} 0.9|claims|arms"),
    "removed": ([REMOVE], "there is no record 3 among the 20 that it holds"),
    "removed, renumbered": ([REMOVE, RENUMBER], "1 of 21 planned trials are not recorded"),
    "doubled": ([REPEAT], "two records have one number"),
    "doubled, renumbered": ([REPEAT, RENUMBER], "record 21: trial .* had its result in record 3 already"),
    "verdict": ([change(f"{CLAIM}/verdict", "refuted")], rf"claims\[tanh-hurts\].verdict is 'refuted' {SAY} '\w+'"),
    "effect": ([change(f"{CLAIM}/effect", lambda v: v + 1e-7)], rf"claims\[tanh-hurts\].effect is .* {SAY}"),
    "alarm hidden": ([change("verdicts.json/negative_control", None)], f"control is nothing {SAY} a mapping"),
    "margin": ([MARGIN], "small/1: its digest does not match the sweep it holds"),
    "margin registered": ([MARGIN, register_again], rf"digest is .* {SAY}|claims\[tanh-hurts\]"),
    "question": ([change(f"{ASKED}/question", "Why?")], "small/1: its digest does not match the sweep it holds"),
    "claim dropped": ([change(f"{ASKED}/claims", []), register_again], "planned|digest is|claims is"),
    "seed": ([*SEED, seal], "record 3 .* has content that does not match its id"),
    "seed and id": ([*SEED, identify, seal], "1 of 21 planned trials are not recorded"),
    "swapped arms": (
        [change(LINES, exchanged)],
        "record 2 .* (has seed|was trained with other factors than its arm's)",
    ),
    "swapped outcomes": ([swap_outcomes], SAY),
    "lost": ([change(f"{OUTCOME}/status", "lost"), seal], "record 3 .* is COMPLETE in Optuna, lost by its outcome"),
    "curve": ([change(f"{OUTCOME}/metrics/val_accuracy", 0.5), seal], "another val_accuracy than its epochs give"),
    "diverged": (DIVERGED, "record 3 .* is diverged with 2 of 2 epochs"),
    "above chance": ([*ENDED, *DIVERGED], "has another test_accuracy and .* than chance and its epochs give"),
    "control without arm": ([NO_ARMS], "is recorded in another arm than planned"),
    "epoch": ([change(f"{OUTCOME}/epochs", lambda found: found[1:]), seal], "lacks an epoch, or has one twice"),
    "fingerprint": ([change("fingerprints.json", [{"normalizer": "unit", "flags": []}])], f"is a list {SAY} a list"),
    "giant": ([change(f"{ASKED}/scientific", GIANT)], "7,000,000,000,007 trials; up to 200,000 can be verified"),
    "name": ([change("registration.json/record", "\x1b/1")], r"'\\x1b/1' is not the name of its sweep, 'small'"),
    "no number": ([change(ACCURACY, float("nan"))], "NaN is no number"),
    "text for a number": ([change(f"{RECORD}/values", ["0.9"])], "record 3 .* has another value in Optuna"),
    "unknown part": ([change(RECORD, lambda line: {**line, "more": 1})], "unexpected keyword argument 'more'"),
}


@pytest.mark.parametrize(("tampers", "expected"), TAMPERED.values(), ids=TAMPERED)
def test_what_was_tampered_with_is_told_in_a_line(
    tampers: list[Tamper], expected: str, whole: bytes, tmp_path: Path
) -> None:
    members = opened(whole)
    for tamper in tampers:
        tamper(members)
    untold = said(closed(members, manifest=False), tmp_path).problems
    assert len(untold) == 1
    assert re.search(r"\.jsonl? is not the one that the manifest was written for", untold[0])
    told = said(closed(members), tmp_path).problems
    assert told
    assert re.search(expected, told[0]), told
    for line in told:
        assert line.isprintable()
        assert line.startswith("bundle: ")
        assert line.endswith("get the bundle again from whoever made it")


def test_a_whole_bundle_is_found_whole_and_packed_again_the_same(whole: bytes, tmp_path: Path) -> None:
    checked = said(whole, tmp_path)
    assert (checked.problems, checked.trials, checked.claims) == ([], 21, 1)
    assert closed(opened(whole)) == whole
    settings = recorded(tmp_path / "home", small())
    assert packed(settings) == packed(settings)
    with zipfile.ZipFile(io.BytesIO(packed(settings))) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_a_forger_who_makes_everything_fit_is_found_by_the_digest_alone(whole: bytes, tmp_path: Path) -> None:
    members = opened(whole)
    for tamper in TAMPERED["metric everywhere"][0]:
        tamper(members)
    honest = said(whole, tmp_path)
    checked = said(closed(rejudged(members, tmp_path)), tmp_path)
    assert checked.problems == []
    assert checked.digest != honest.digest


@pytest.mark.parametrize("status", ["diverged", "failed", "lost"])
def test_trials_that_did_not_complete_are_no_tampering_and_those_that_did_not_run_are_told(
    status: str, tmp_path: Path
) -> None:
    settings, plan = Settings(home=tmp_path / "home"), make_plan(small(), DATA)
    record = Ledger(settings.ledger_url).begin(plan, fresh=False)
    first, *rest, last = plan.verdict_trials()
    for each in (first, *rest):
        record.add(each, outcome(each))
    (line,) = said(packed(settings), tmp_path).problems
    assert line.startswith("bundle: 1 of 6 planned trials are not recorded: ")
    for _ in range(1 if status == "diverged" else 2):
        record.add(last, outcome(last, status))
    assert said(packed(settings), tmp_path).problems == []


TUNED: dict[str, Any] = {
    "nuisance": {"learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}},
    "tuning_trials": 3,
    "fixed": {"epochs": 2, "learning_rate": 0.05},
    "as_written": True,
}
SEARCHED: dict[str, Any] = {
    "design": "search",
    "baseline": {"activation": "relu"},
    "nuisance": {"width": {"low": 10, "high": 100, "integer": True}},
    "tuning_trials": 4,
    "claims": [],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"negative_control": "baseline"},
        TUNED,
        {"seeds": {"min": 4, "max": 12}},
        {"design": "one_factor", "baseline": {"activation": "relu"}},
        {"claims": []},
        SEARCHED,
    ],
    ids=["control", "tuned", "adaptive", "one factor", "no claims", "search"],
)
def test_bundles_of_every_kind_of_sweep_are_found_whole_even_from_before_a_setting_existed(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    content = packed(trained(tmp_path / "home", small(**changes)))
    assert said(content, tmp_path).problems == []
    members = opened(content)
    for place, line in enumerate(members[bundle.TRIALS]):
        del line["attrs"]["trial"]["recipe"]["initializer"]
        seal(members, place)
    assert said(closed(members), tmp_path).problems == []
    members[bundle.VERDICTS]["arms"][1]["mean"] += 1e-6
    assert re.search(r"arms\[(tanh|winner)\].mean is", said(closed(members), tmp_path).problems[0])


@pytest.mark.slow
def test_what_was_known_before_a_record_was_begun_comes_along(tmp_path: Path) -> None:
    changed = small(claims=[{**SWEEP["claims"][0], "margin": 0.001}])
    content = packed(recorded(tmp_path / "home", small(), changed))
    members = opened(content)
    assert members[bundle.VERDICTS]["preregistration"]["status"] == "exploratory"
    assert said(content, tmp_path).problems == []
    members[bundle.EARLIER][0]["trials"] = 0
    told = said(closed(members), tmp_path).problems
    assert "preregistration.status is 'exploratory' in verdicts.json, the records say 'preregistered'" in told[0]


@pytest.mark.slow
@pytest.mark.parametrize("left", [lambda found: found[1:], lambda _: [], lambda found: found[::-1]])
def test_earlier_records_are_all_there_in_order(left: Callable[[list[Any]], list[Any]], tmp_path: Path) -> None:
    members = opened(packed(recorded(tmp_path / "home", small(), small(seeds=2), small())))
    members[bundle.EARLIER] = left(members[bundle.EARLIER])
    (line,) = said(closed(rejudged(members, tmp_path)), tmp_path).problems
    assert line.startswith("bundle: its earlier records are not all that were begun before 'small/3', in order: ")


def test_another_version_of_the_program_is_named(whole: bytes, tmp_path: Path) -> None:
    members = opened(whole)
    members[bundle.VERDICTS]["metric"] = "other"
    members[bundle.VERSIONS]["version.mnist-ablate"] = "9.9"
    (line,) = said(closed(members), tmp_path).problems
    here = versions.deciding_versions()["mnist-ablate"]
    assert line.endswith(f"it was packed by mnist-ablate '9.9', this is {here}: verify it with that one")


def damaged(whole: bytes) -> Iterator[tuple[str, bytes, str]]:
    members = texts(opened(whole))

    def zipped(**more: bytes) -> bytes:
        return bundle.zipped({**members, **more})

    def twice() -> bytes:
        stream = io.BytesIO(whole)
        with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(stream, "a") as archive:
            archive.writestr(bundle.VERDICTS, members[bundle.VERDICTS])
        return stream.getvalue()

    middle = whole.index(bundle.TRIALS.encode()) + 3000
    yield "truncated", whole[:-100], "File is not a zip file"
    yield "empty", b"", "File is not a zip file"
    yield "no zip", b"name,seed\n" * 100, "File is not a zip file"
    yield "cut out", whole[:middle] + whole[middle + 50 :], "."
    yield "flipped bit", whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :], "."
    yield "zip bomb", zipped(**{bundle.TRIALS: b" " * 30_000_000}), "bytes would become 30.*: that is no bundle"
    yield "parent folder", zipped(**{"../../evil.py": b""}), r"it holds \.\./\.\./evil.py, which is no part of a bundle"
    yield "absolute path", zipped(**{"/etc/passwd": b""}), "it holds /etc/passwd, which is no part of a bundle"
    yield "control characters", zipped(**{"\x1b]0;owned\x07": b""}), r"it holds '\\x1b\]0;owned\\x07', which is no"
    yield "two of one name", twice(), "it holds more than one verdicts.json"
    yield "lacking", bundle.zipped({k: v for k, v in members.items() if k != bundle.TRIALS}), "it lacks trials.jsonl"
    yield "format", zipped(**{bundle.MANIFEST: b'{"format": 2}'}), "it has format 2, not 1"
    yield "manifest of nothing", zipped(**{bundle.MANIFEST: b'{"format": 1, "sha256": {}}'}), "registration.json"
    yield "deep", zipped(**{bundle.MANIFEST: b"[" * 100_000}), "."
    yield "key twice", zipped(**{bundle.MANIFEST: b'{"format": 1, "format": 1}'}), "a key stands twice"
    yield "backup", bundle.zipped({"manifest.json": b"{}", "0000.jsonl": b""}), "it holds 0000.jsonl, which is no part"


def test_a_damaged_file_is_one_line_and_nothing_is_written(whole: bytes, tmp_path: Path) -> None:
    for name, content, wanted in damaged(whole):
        (line,) = said(content, tmp_path).problems
        assert line.startswith("bundle: x.zip is incomplete or was altered: "), name
        assert re.search(wanted, line), (name, line)
        assert line.isprintable(), name
        assert [path.name for path in tmp_path.rglob("*")] == ["x.zip"], name


LEAVES: dict[type, tuple[Any, ...]] = {
    str: ("other", "", 3, None, ["x"]),
    int: (-1, 10**400, 2.5, "3", None, [], {}),
    float: (-0.5, 1e308, "0.5", None, []),
    bool: (None, "yes", 7),
    type(None): (0.5, "x", []),
}


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every leaf below a value, as its container and its key or place there."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        if isinstance(inner, dict | list):
            yield from places(inner)
        else:
            yield value, key


@pytest.mark.slow
def test_whatever_one_value_is_changed_to_is_found(whole: bytes, tmp_path: Path) -> None:
    rng = random.Random(4)
    for _ in range(60):
        members = opened(whole)
        name = rng.choice([bundle.REGISTRATION, bundle.TRIALS, bundle.VERDICTS])
        holder, key = rng.choice([*places(members[name])])
        before = holder[key]
        holder[key] = rng.choice([each for each in LEAVES[type(before)] if each != before])
        told = said(closed(members), tmp_path).problems
        assert told or (name, key) == (bundle.REGISTRATION, "source"), (name, key, before, holder[key])
        assert all(line.isprintable() and line.startswith("bundle: ") for line in told)


def test_bytes_changed_anywhere_are_one_line_or_change_nothing(whole: bytes, tmp_path: Path) -> None:
    rng, digest = random.Random(5), said(whole, tmp_path).digest
    for _ in range(100):
        content = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        checked = said(bytes(content), tmp_path)
        assert len(checked.problems) == 1 or checked.digest == digest


def test_verifying_needs_no_heavy_library(whole: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(whole)
    code = f"""
import sys

class Only:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in {sorted(ALLOWED)!r} and not top.startswith("_"):
            raise ModuleNotFoundError(f"{{name}} is not to be imported", name=name)

sys.meta_path.insert(0, Only())
sys.argv = ["mnist-ablate", "verify", "x.zip"]
from mnist_ablate.cli.app import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.splitlines()
    assert first == "x.zip: 1 verdicts follow from 21 recorded trials"
    assert re.fullmatch("digest [0-9a-f]{64}: compare it with the one that was published", second)
