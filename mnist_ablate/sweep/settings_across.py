"""How far a verdict reaches: the settings over which the claims of a sweep are asked again. Plans no trial."""

from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING

from mnist_ablate.sweep.yaml_reader import Address, Finding
from mnist_ablate.text import shown
from mnist_ablate.trial import Params

if TYPE_CHECKING:
    from mnist_ablate.sweep.sweep import Sweep


def settings_across(sweep: "Sweep") -> tuple[Params, ...]:
    """Every setting of `across`, the usual one first: one value changed at a time or, crossed, all combinations.

    The usual value is that under fixed; without it the first in the list. One setting without values if there is none.
    """
    usual = {name: sweep.fixed.get(name, values[0]) for name, values in sweep.across.items() if values}
    if sweep.crossed:
        found = [dict(zip(usual, values, strict=True)) for values in product(*map(sweep.across.__getitem__, usual))]
        return (usual, *(each for each in found if each != usual))
    changed = [{**usual, name: value} for name in usual for value in sweep.across[name] if value != usual[name]]
    return (usual, *changed)


def changes(sweep: "Sweep", setting: Params) -> Params:
    """What a setting has in place of the usual one; nothing for the usual one itself."""
    usual = settings_across(sweep)[0]
    return {name: value for name, value in setting.items() if value != usual[name]}


def findings(sweep: "Sweep") -> Iterator[Finding]:
    """What is wrong with `across` beside its names and values."""
    place: Address = ("across",)
    if sweep.crossed and not sweep.across:
        yield Finding(("crossed",), "is about the settings under across, and there are none; add across", at_key=True)
    if not sweep.across:
        return
    if sweep.nuisance or sweep.design in ("search", "ablation_path"):
        what = f"design: {sweep.design} chooses" if sweep.design in ("search", "ablation_path") else "nuisance tunes"
        yield Finding(
            place, f"{what} settings for each arm, which across cannot repeat; remove one of them", at_key=True
        )
    if not sweep.claims:
        yield Finding(place, "asks claims again, and there is no claim; add one or remove it", at_key=True)
    for name, values in sweep.across.items():
        if name in sweep.fixed and sweep.fixed[name] not in values:
            text = f"lacks the value under fixed, {shown(sweep.fixed[name])}; add it: the claims are asked there first"
            yield Finding((*place, name), text)
        for arm in (arm for arm, params in sweep.configurations.items() if name in params):
            yield Finding((*place, name), f"is in configurations.{arm} too; remove it from one of them", at_key=True)
