"""Settings that mean nothing beside the others of an arm, found before anything trains. A workload says which."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING

from mnist_ablate.sweep.designs import DESIGNS
from mnist_ablate.sweep.yaml_reader import Address, Finding
from mnist_ablate.text import plainly
from mnist_ablate.trial import Params, Scalar
from mnist_ablate.workloads.workload import Workload

if TYPE_CHECKING:
    from mnist_ablate.sweep.sweep import Choice, Sweep

_MOST = 2000  # arms that are looked at


def findings(sweep: "Sweep", workload: Workload | None) -> Iterator[Finding]:
    """The first arm with each conflict, at the place that gives the setting its value. All else must make sense."""
    seen: set[tuple[str, str]] = set()
    for settings, tried in islice(_each(sweep), _MOST) if workload else ():
        every = workload.complete({**sweep.fixed, **settings}) if workload else {}
        for setting, text in workload.conflicts(every) if workload and sweep.is_active(tried, every) else ():
            if (setting, text) not in seen:
                seen.add((setting, text))
                yield Finding(_place(sweep, setting, settings), text, at_key=True)


def _each(sweep: "Sweep") -> Iterator[tuple[Params, str]]:
    """What arms have: as written, in the settings of `across`, and with one value of each factor that is tried."""
    design = DESIGNS[sweep.design]
    for _, settings in design.arms(sweep):
        yield from (({**settings, **setting}, "") for setting in sweep.settings_across)
        for name, choice in design.tried(sweep).items():
            tried = {**settings, name: _one(choice)}
            others = sweep.scientific if design.searches else {}
            yield from ((each, name) for each in (tried, *_varied(tried, others)))


def _varied(settings: Params, others: Mapping[str, list[Scalar]]) -> Iterator[Params]:
    yield from ({**settings, other: value} for other, values in others.items() for value in values)


def _one(choice: "Choice") -> Scalar:
    """A value that is not the usual one, if any is."""
    if isinstance(choice, list):
        return max(choice) if all(isinstance(each, int | float) for each in choice) else choice[-1]
    return round(choice.high) if choice.integer else choice.high


def _place(sweep: "Sweep", setting: str, settings: Params) -> Address:
    for name, params in sweep.configurations.items():
        if params.items() <= settings.items() and setting in params:
            return ("configurations", name, plainly(setting))
    sections = ("scientific", "target", "nuisance", "across", "baseline", "fixed")
    return (next((section for section in sections if setting in getattr(sweep, section)), "fixed"), setting)
