"""How to run a recorded sweep again: the exact command and, unless the sweep is a shipped one, its file."""

from dataclasses import dataclass

import yaml

from mnist_ablate.errors import SweepError
from mnist_ablate.sweep import sweep_file
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.workloads.workload import default_workload

_QUICK = "-quick"


@dataclass(frozen=True)
class Reproduction:
    """The command, and the text of the file that it reads; empty if the sweep is shipped as it was run."""

    command: str
    file_name: str = ""
    file_text: str = ""


def reproduction(sweep: Sweep, data_digest: str) -> Reproduction:
    """What runs the same trials: a shipped sweep by its name, any other from its own content."""
    data = "" if data_digest == default_workload().shipped_digest else " --data FILE.npz"
    shipped = _shipped(sweep)
    if shipped:
        return Reproduction(f"mnist-ablate sweep {shipped}{data}")
    return Reproduction(f"mnist-ablate sweep {sweep.name}.yaml{data}", f"{sweep.name}.yaml", as_yaml(sweep))


def as_yaml(sweep: Sweep) -> str:
    """A sweep file of the same digest, if it has the sweep's name."""
    content = sweep.model_dump(mode="json", exclude={"name"}, exclude_defaults=True)
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)


def _shipped(sweep: Sweep) -> str:
    """The arguments that give this very sweep, with the number of seeds if only that was changed; else empty."""
    quick = sweep.name.endswith(_QUICK)
    name = sweep.name.removesuffix(_QUICK) if quick else sweep.name
    if name not in sweep_file.shipped():
        return ""
    flag = " --quick" if quick else ""
    fixed = [] if sweep.looks else [(sweep.max_seeds, f" --seeds {sweep.max_seeds}")]
    for seeds, option in ((None, ""), *fixed):
        try:
            if sweep_file.load(name, seeds=seeds, quick=quick).digest == sweep.digest:
                return name + option + flag
        except SweepError:
            return ""
    return ""
