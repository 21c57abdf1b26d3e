"""`plan` shows what a sweep would train, how long that takes here, and what it can find. Records nothing."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from mnist_ablate.cli.options import Data, Json, MaxTrials, Overrides, Quick, Seeds, Source, Weights, load_sweep

if TYPE_CHECKING:
    from mnist_ablate.execution.preview import Preview


def plan(  # noqa: PLR0913, PLR0917 - one parameter an option
    source: Source,
    overrides: Overrides = None,
    seeds: Seeds = None,
    data: Data = None,
    weights: Weights = None,
    quick: Quick = False,
    max_trials: MaxTrials = 10_000,
    as_json: Json = False,
) -> None:
    """Show what a sweep would train, how long it takes here, and the smallest effect it can find."""
    sweep = load_sweep(source, overrides, seeds, quick)
    from mnist_ablate.execution.preview import preview  # takes a second, so only after the file is found good

    found = preview(sweep, data, max_trials, weights)
    typer.echo(json.dumps(asdict(found)) if as_json else "\n".join(lines(found)))


def lines(found: "Preview") -> Iterator[str]:
    """A preview for a person."""
    from mnist_ablate.reports.wording import number
    from mnist_ablate.text import counted
    from mnist_ablate.workloads.workload import default_workload

    adaptive = found.least_seeds < found.seeds
    seeds = f"{found.least_seeds} to " * adaptive + counted(found.seeds, "seed")
    trials = f"from {found.least_trials:,} to " * adaptive + counted(found.trials, "trial")
    tuning = f", {found.tuning_trials} of them tuning" if found.tuning_trials else ""
    as_written = f", {found.as_written_trials} as written" if found.as_written_trials else ""
    control = f", {found.control_trials} of them the negative control" if found.control_trials else ""
    yield f"{found.sweep}: {counted(len(found.arms), 'arm')} x {seeds}, {trials}{tuning}{as_written}{control}"
    yield from (f"  {arm}" for arm in found.arms)
    about, jobs = "at most" if adaptive else "about", counted(found.jobs, "job")
    yield f"{about} {found.estimated_s / 60:.1f} min with {jobs} (one short trial of each kind was timed)"
    for claim in found.claims:
        if claim.smallest_effect is not None:
            size, margin = (number(claim.metric, value) for value in (claim.smallest_effect, claim.margin))
            yield f"  {claim.name}: finds effects {size} beyond its margin of {margin} (80% power)"
    if found.assumed_sd is not None:
        sd = number(found.claims[0].metric, found.assumed_sd)
        yield f"  (if paired differences between seeds have a standard deviation of {sd})"
    if found.fingerprints:
        section = default_workload().input_section(found.fingerprints)
        yield f"{section.intro.removesuffix('.')}:"
        for subject, texts in section.short.items():
            yield f"  {subject}"
            yield from (f"    {text}" for text in texts)
    yield from (f"warning: {warning}" for warning in found.warnings)
