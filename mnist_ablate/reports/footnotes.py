"""The end of the page: trials that went wrong, what the verdicts rest on, where the numbers come from."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from mnist_ablate.errors import mask
from mnist_ablate.reports import sentences
from mnist_ablate.reports.markup import Markup, element, join, table
from mnist_ablate.reports.recorded import Recorded
from mnist_ablate.reports.sentences import Document
from mnist_ablate.sweep.reproduction import reproduction
from mnist_ablate.text import arm_name
from mnist_ablate.workloads.workload import default_workload

MOST_FAILURES = 100
_LONGEST_REASON = 300
_CONFIDENCE = 0.95
_SAME = "A trial with the same recipe, seed, data and versions gives the same numbers."
_VERIFIED = (
    "Or recompute the verdicts from the recorded trials, without training and without TensorFlow. The bundle stands"
    " beside this page where MLflow keeps it, and its digest is a tag of that run."
)
_MOST_LEFT_OUT = 20


def failures(document: Document, recorded: Recorded) -> Markup:
    """Every trial that diverged, failed or was lost, by arm and reason, and the pairs left out for them."""
    groups: dict[tuple[str, str, str], list[int]] = {}
    for entry in (each for arm in recorded.by_arm.values() for each in arm):
        if entry.outcome.status != "complete":
            reason = mask(entry.outcome.reason)[:_LONGEST_REASON]
            groups.setdefault((arm_name(entry.params), entry.outcome.status, reason), []).append(entry.trial.seed)
    if not groups:
        return element("p", "None: every recorded trial completed.")
    rows = [(arm, status, seeds_in_words(seeds), reason) for (arm, status, reason), seeds in groups.items()]
    rest = len(rows) - MOST_FAILURES
    parts = [table(("arm", "outcome", "seeds", "reason"), rows[:MOST_FAILURES], numbers_from=4, caption="")]
    parts += [element("p", f"and {rest:,} more arms and reasons", class_="fine")] if rest > 0 else []
    note = (
        "A diverged trial counts with what it reached, chance level at worst; a failed or lost one leaves its pair out."
    )
    left = [(claim["name"], sentences.left_out(claim, _MOST_LEFT_OUT)) for claim in document["claims"]]
    named = [element("li", element("strong", name), f": {text}") for name, text in left if text]
    pairs = [element("ul", *named, class_="fine")] if named else []
    return join([*parts, element("p", note, class_="fine"), *pairs])


def seeds_in_words(seeds: Sequence[int]) -> str:
    """`0 to 4, 7`."""
    runs: list[list[int]] = []
    for seed in sorted(seeds):
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)


def caveats(document: Document, recorded: Recorded) -> Markup:
    """What was held fixed, what the method assumes, and what so many seeds can miss."""
    level, n = sentences.level(document), recorded.sweep.min_seeds
    none = f"none of whose {n} seeds collapsed" if n > 1 else "whose one seed did not collapse"
    missed = 1 - (1 - _CONFIDENCE) ** (1 / n)
    fixed = [part for name, value in _fixed(recorded) for part in (element("dt", name), element("dd", value))]
    return join(
        [
            element("p", "The verdicts hold for this recipe and this data set. What every arm had in common:"),
            element("dl", *fixed, class_="chips"),
            *([element("p", _method(document, level))] if document["claims"] else []),
            element(
                "p",
                f"Rare collapses can go unseen: an arm {none} may still collapse in up to"
                f" {missed:.0%} of trainings ({_CONFIDENCE:.0%} confidence). The seeds vary the initial weights, the"
                " order of the images and the dropout masks; the images and their split are the same in every trial.",
            ),
        ]
    )


def _method(document: Document, level: str) -> str:
    claims = len(document["claims"])
    together = f", so that all {claims} hold at once at {1 - document['alpha']:.0%}" if claims > 1 else ""
    holm = " with Holm's correction" if claims > 1 else ""
    return (
        f"Each claim is judged by the {level} t interval of its differences between trials with the same seed"
        f"{together}; it assumes that the seeds are independent and that their differences are not far from normal."
        " An effect must also be backed by an exact sign-flip test"
        f"{holm}, which assumes only that, without an effect, each"
        " difference would be as likely to have the other sign."
    )


def _fixed(recorded: Recorded) -> Iterator[tuple[str, str]]:
    """The settings that all trials share; before any trial, those of the sweep."""
    recipes = [entry.trial.settings for entry in recorded.entries]
    if not recipes:
        yield from ((name, str(value)) for name, value in recorded.sweep.fixed.items())
    for name in default_workload().settings.model_fields:
        values = {recipe[name] for recipe in recipes}
        used = all(default_workload().is_used(name, recipe) for recipe in recipes)
        if len(values) == 1 and used and name not in recorded.sweep.factors:
            yield name, str(values.pop())


def provenance(recorded: Recorded) -> Markup:
    """Digests, times, versions."""
    ships = recorded.data_digest == default_workload().shipped_digest
    data = f"{recorded.data_digest}{' (the MNIST that ships)' if ships else ''}"
    rows = {
        "sweep": recorded.sweep.name,
        "digest of the sweep": recorded.sweep.digest,
        "registered, before the first trial": recorded.registered,
        "trained": _trained(recorded),
        "data digest": data,
        "trainer": f"version {default_workload().version}",
        **{
            name.removeprefix("version."): value for name, value in recorded.provenance.items() if name != "data_digest"
        },
    }
    cells = [(name, element("code", mask(value))) for name, value in rows.items() if value]
    note = element("p", "The versions are those that wrote this page.", class_="fine")
    return join([table(("what", "value"), cells, numbers_from=2, caption=""), note])


def _trained(recorded: Recorded) -> str:
    outcomes = [
        entry.outcome for entry in (*recorded.entries, *recorded.tuning, *recorded.control) if entry.outcome.started_ms
    ]
    if not outcomes:
        return ""
    first = min(outcome.started_ms for outcome in outcomes)
    last = max(outcome.started_ms + 1000 * outcome.seconds for outcome in outcomes)
    minutes = sum(outcome.seconds for outcome in outcomes) / 60
    return f"{_time(first)} to {_time(last)}, {minutes:,.1f} minutes of training in {len(outcomes):,} trials"


def _time(ms: float) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def how_to_run(recorded: Recorded) -> Markup:
    """The command with the file it needs unless it is a shipped one, and how to check the verdicts without it."""
    again = reproduction(recorded.sweep, recorded.data_digest)
    same = element("p", _SAME, class_="fine")
    parts = [element("pre", element("code", again.command)), same]
    if again.file_text:
        saved = element("summary", "with this file, saved as ", element("code", again.file_name))
        parts.insert(1, element("details", saved, element("pre", element("code", again.file_text))))
    name = recorded.sweep.name
    verify = f"mnist-ablate report {name} --format bundle --output {name}.zip\nmnist-ablate verify {name}.zip"
    return join([*parts, element("p", _VERIFIED), element("pre", element("code", verify))])
