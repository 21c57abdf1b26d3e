"""Where a command keeps and finds things: by its option, else by the environment, else by default. Reads no files."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mnist_ablate.execution.dask_settings import Tls

MAX_TRIALS = 10_000


def default_home() -> Path:
    """MNIST_ABLATE_HOME, else `.mnist-ablate` in the current folder."""
    return Path(os.environ.get("MNIST_ABLATE_HOME") or ".mnist-ablate")


def service_address(given: str | None = None) -> str:
    """The sweep service to use: that of the option, else MNIST_ABLATE_SERVICE. Empty for none."""
    return given if given is not None else os.environ.get("MNIST_ABLATE_SERVICE") or ""


def user_cache() -> Path:
    """What this program keeps for the user between homes: in XDG_CACHE_HOME, else in `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "mnist-ablate"


def _sqlite(path: Path) -> str:
    return "sqlite:///" + str(path.absolute()).replace("%", "%25").replace("?", "%3F")


@dataclass(frozen=True)
class Settings:
    """The settings of a command. `data` has inputs, None for those that ship; `weights` are what trials begin with.

    `jobs` are the workers of this machine, and each trains as many trials at once as there are `lanes`; None for what
    suits the machine. `share` says how many of so many workers the sweep may use now; all of them unless others share
    them.
    """

    home: Path = field(default_factory=default_home)
    data: str | None = None
    weights: Path | None = None
    jobs: int | None = 1
    cluster: str | None = None
    tls: "Tls | None" = None
    trial_timeout_s: float | None = None
    max_trials: int = MAX_TRIALS
    fresh: bool = False
    require_mlflow: bool = False
    share: Callable[[int], int] = int
    lanes: int | None = 1

    @property
    def ledger_url(self) -> str:
        """SQLAlchemy URL of the ledger: OPTUNA_STORAGE, or a SQLite file in the home."""
        url = os.environ.get("OPTUNA_STORAGE") or _sqlite(self.home / "ledger.db")
        return re.sub(r"^postgres(ql)?://", "postgresql+psycopg2://", url)  # SQLAlchemy would look for another driver

    @property
    def trains_here_first(self) -> bool:
        """Whether a sweep will train for sure, here and from the first trial on: nothing was ever recorded here."""
        is_old = os.path.exists(self.home / "ledger.db")  # noqa: PTH110 - it does not raise where it may not look
        return not (self.cluster or os.environ.get("OPTUNA_STORAGE") or is_old)

    @property
    def tracking_uri(self) -> str:
        """MLFLOW_TRACKING_URI, or the embedded store in the home."""
        return os.environ.get("MLFLOW_TRACKING_URI") or self.embedded_uri

    @property
    def embedded_uri(self) -> str:
        """The MLflow store in the home, which `ui` serves."""
        return _sqlite(self.home / "mlflow.db")

    @property
    def database_wait_s(self) -> float:
        """MNIST_ABLATE_DATABASE_WAIT_S: how long a sweep waits for a database that went down, in seconds."""
        return float(os.environ.get("MNIST_ABLATE_DATABASE_WAIT_S") or 600)

    @property
    def webhook(self) -> str:
        """MNIST_ABLATE_WEBHOOK: the address that is told when a sweep ends. Empty for none."""
        return os.environ.get("MNIST_ABLATE_WEBHOOK") or ""

    @property
    def service_url(self) -> str:
        """MNIST_ABLATE_SERVICE_URL: how people reach the sweep service, for links. May be empty."""
        return os.environ.get("MNIST_ABLATE_SERVICE_URL") or ""

    @property
    def log_dir(self) -> Path:
        """Where workers and failed trials leave their logs."""
        return self.home / "logs"

    @property
    def trainer(self) -> str:
        """MNIST_ABLATE_TRAINER, `module:factory`, which tests put in the place of the workload's. Empty if not set."""
        return os.environ.get("MNIST_ABLATE_TRAINER") or ""
