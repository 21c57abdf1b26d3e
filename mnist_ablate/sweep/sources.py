"""What differs between the trials of an arm: whether the sources of variance under `vary` make sense. Draws nothing."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from mnist_ablate.sweep.yaml_reader import Finding
from mnist_ablate.text import listed
from mnist_ablate.trial import SOURCES, USUAL_SOURCES
from mnist_ablate.workloads.workload import Workload

if TYPE_CHECKING:
    from mnist_ablate.sweep.claim import Claim
    from mnist_ablate.sweep.sweep import Sweep

_SEEDED = tuple(source for source in SOURCES if source != "test")


def findings(
    sweep: "Sweep", claims: Mapping[int, "Claim"], lost: set[str | int], workload: Workload | None
) -> Iterator[Finding]:
    """What is wrong with `vary`. Sections and claims that are `lost` are not judged. Without a workload: of a table."""
    if "vary" not in sweep.model_fields_set or lost & {"vary", "train", "choices"}:
        return
    vary = sweep.vary
    if sweep.train or (workload and not workload.sources):
        text = "is for the networks of this package; other code gets a seed alone and decides itself what follows it"
        yield Finding(("vary",), f"{text}: remove this line", at_key=True)
        return
    for source in dict.fromkeys(each for each in vary if vary.count(each) > 1):
        yield Finding(("vary",), f"{source} is there twice; keep one")
    if not any(source in _SEEDED for source in vary):
        text = f"names nothing that differs between seeds; add one at least of {listed(_SEEDED)}"
        yield Finding(("vary",), text)
    if vary == ["dropout"] and _lacks_dropout(sweep, workload):
        text = (
            "names dropout alone, and an arm has dropout 0, so that all of its seeds are the same; add another source"
        )
        yield Finding(("vary",), text)
    if "test" in vary:
        yield from _of_images({index: claim for index, claim in claims.items() if index not in lost}, workload)


def _of_images(claims: Mapping[int, "Claim"], workload: Workload | None) -> Iterator[Finding]:
    """Why the interval cannot take in that the test images are a sample."""
    if workload is None:
        text = f"test needs what became of each test image, which a table lacks; write {listed(USUAL_SOURCES)}"
        yield Finding(("vary",), text)
        return
    known = [name for name, metric in workload.metrics.items() if metric.of_test_images]
    for index, claim in claims.items():
        if claim.metric not in known:
            text = f"vary: test needs a result of each test image, which {claim.metric} lacks; take {listed(known)}"
            yield Finding(("claims", index, "metric"), text)
        if not claim.is_sum:
            text = f"vary: test is for differences of means, and {claim.kind} asks no such; remove test from vary"
            yield Finding(("claims", index, "kind"), text)
        elif claim.is_ratio:
            yield Finding(("claims", index, "scale"), "ratio is of logarithms, and vary names test; use difference")
        if claim.estimand == "mean":
            text = "mean is of the seeds alone, and vary names test; use typical, or remove test"
            yield Finding(("claims", index, "estimand"), text)


def _lacks_dropout(sweep: "Sweep", workload: Workload | None) -> bool:
    """Whether an arm drops no units, by what the sweep file says."""
    sections = (sweep.baseline, sweep.target, sweep.fixed, *sweep.configurations.values())
    listed_values = (sweep.scientific.get("dropout", ()), sweep.across.get("dropout", ()))
    written = [section["dropout"] for section in sections if "dropout" in section]
    return workload is not None and 0 in (*written, *(value for values in listed_values for value in values))
