"""From a claim about training a network to evidence and a verdict; the command line is `cli`.

In Python: `import mnist_ablate as ma`, then `ma.run("normalization")`. See `cli.python_api`, which is only imported
when one of these names is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mnist_ablate import errors

if TYPE_CHECKING:
    from mnist_ablate.cli.python_api import (
        Claim,
        Plan,
        Range,
        Report,
        Sweep,
        connect,
        judge,
        load,
        open_report,
        plan,
        run,
    )

__all__ = [
    "Claim",
    "Plan",
    "Range",
    "Report",
    "Sweep",
    "connect",
    "errors",
    "judge",
    "load",
    "open_report",
    "plan",
    "run",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("mnist_ablate.cli.python_api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
