"""The package for notebooks and scripts: `import mnist_ablate as ma`. Calls what the commands call; prints nothing."""

import json
import signal
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from mnist_ablate.cli.options import name_of
from mnist_ablate.cli.python_report import Report
from mnist_ablate.cli.python_service import connect
from mnist_ablate.errors import ConflictError, SweepError
from mnist_ablate.processes import Interrupted
from mnist_ablate.settings import MAX_TRIALS, Settings, default_home
from mnist_ablate.sweep import checks, claim, sweep, sweep_file
from mnist_ablate.sweep.claim import keys_of
from mnist_ablate.sweep.sweep import NAME_RULE, Range, is_name
from mnist_ablate.sweep.yaml_reader import Finding, Mark, SourceFile, raise_if_any
from mnist_ablate.text import plainly, shown
from mnist_ablate.workloads.own_code.notebook_function import NotebookFunction, notebook_function

if TYPE_CHECKING:
    from mnist_ablate.cli.live_view import Watch
    from mnist_ablate.execution.driver import Run
    from mnist_ablate.execution.preview import Preview
    from mnist_ablate.ledger.table_file import TableFile

__all__ = ["Claim", "Plan", "Range", "Report", "Sweep", "connect", "judge", "load", "open_report", "plan", "run"]

Train = Callable[..., Any] | str | Sequence[str]
"""A function, `module:function` of a file, or the parts of a command."""


class Claim(claim.Claim):
    """A statement about the mean difference of `metric`, treatment minus control, over pairs of seeds.

    `direction` is `lower`, `higher`, `not_lower`, `not_higher` or `same`. `margin` is the smallest difference that
    matters, in the metric's own unit: of a share, 0.002 is 0.2 percentage points. `reference` is a number that is
    claimed, in place of `control`. `where` and `versus` restrict other factors.

    Raises:
        SweepError: a value is of another kind; a line for each problem.
    """

    def __new__(cls, name: str = "", statement: str = "", **about: Any) -> Any:
        """A claim of another kind than a comparison is of the class of its kind."""
        return super().__new__(cls) if about.get("kind", "compare") == "compare" else _claim(name, statement, about)

    def __init__(self, name: str, statement: str, **about: Any) -> None:
        super().__init__(**_claim(name, statement, about).model_dump(exclude_unset=True))


class Sweep(sweep.Sweep):
    """A question and the runs that answer it. The keywords are the keys of a sweep file.

    Values may be lists, tuples or NumPy arrays, and ranges `Range(low=1e-4, high=1e-1, log=True)`.

    Args:
        name: under which the sweep is recorded in the home.
        question: what it asks, in a sentence.
        train: your own training code; by default the networks of this package are trained.
        about: `scientific`, `baseline`, `fixed`, `seeds`, `claims`, `metrics` and so on.

    Raises:
        SweepError: a line for each problem, with the key that it is under. Without `train`, whether the factors are
            settings is checked by `plan` and `run`: for `judge` they may be any columns of a table.
    """

    def __init__(self, name: str, question: str, train: Train | None = None, **about: Any) -> None:
        function = notebook_function(train) if callable(train) else None
        content: dict[str, Any] = _plain({"question": question, **about})
        if train is not None:
            content["train"] = function.text if function else _plain(train)
        found = _checked(name, content, Path.cwd(), function, any_factors=train is None)
        claims = content.pop("claims", [])
        super().__init__(name=name, **content, claims=[keys_of(each)(**each) for each in claims])
        self._folder, self._function = found._folder, function  # noqa: SLF001 - the base class's own


def _claim(name: str, statement: str, about: Mapping[str, Any]) -> claim.Claim:
    """A claim by the keys of its kind. Raises SweepError."""
    content = _plain({"name": name, "statement": statement, **about})
    _raise_found(f"claim {plainly(str(name))}", content, checks.claim_findings(content))
    return keys_of(content)(**content)


@dataclass(frozen=True)
class Plan:
    """What a sweep would train. It shows what `mnist-ablate plan` prints; `preview` has the numbers."""

    sweep: sweep.Sweep
    preview: "Preview"

    def __str__(self) -> str:
        return self.preview.text(self.sweep)

    __repr__ = __str__


def load(
    source: str | Path,
    *,
    overrides: Mapping[str, Any] | Iterable[str] = (),
    seeds: int | None = None,
    quick: bool = False,
    train: Train | None = None,
) -> sweep.Sweep:
    """The sweep of a shipped name or of a sweep file.

    Args:
        source: a shipped name such as `normalization`, or the path of a `.yaml` file.
        overrides: values to change by their path: `{"fixed.epochs": 2}`, or as texts `["fixed.epochs=2"]`.
        seeds: how often each arm is trained, in place of the file's.
        quick: the same for a first answer, recorded under another name: 1 epoch, 3 to 6 seeds.
        train: your own training code, in place of what the file trains.

    Raises:
        SweepError: a line for each problem, with its place in the file.
    """
    return _from_file(source, overrides, seeds, train, quick=quick)


def plan(  # noqa: PLR0913 - what the options of `plan` say
    asked: str | Path | sweep.Sweep,
    *,
    train: Train | None = None,
    seeds: int | None = None,
    quick: bool = False,
    data: str | Path | None = None,
    weights: str | Path | None = None,
    max_trials: int = MAX_TRIALS,
) -> Plan:
    """What a sweep would train, how long it takes here, and the smallest effect it can find. Runs none of your code.

    Raises:
        SweepError: the sweep is wrong, or has more than `max_trials` trials.
        DataError: the data file is missing, damaged or of another shape.
    """
    question = _ready(asked, train, seeds, quick=quick)
    from mnist_ablate.execution.preview import preview

    return Plan(question, preview(question, None if data is None else str(data), max_trials, _path(weights)))


def run(  # noqa: PLR0913 - what the options of `sweep` say
    asked: str | Path | sweep.Sweep,
    *,
    train: Train | None = None,
    seeds: int | None = None,
    quick: bool = False,
    home: str | Path | None = None,
    jobs: int | None = None,
    lanes: int | None = None,
    cluster: str | None = None,
    data: str | Path | None = None,
    weights: str | Path | None = None,
    fresh: bool = False,
    progress: bool = True,
    trial_timeout_s: float | None = None,
    max_trials: int = MAX_TRIALS,
    require_mlflow: bool = False,
    tls: Sequence[str | Path] | None = None,
) -> Report:
    """Train what is not yet recorded of a sweep, judge its claims, and give the report.

    Works in scripts without `if __name__ == "__main__"`, in notebooks, and in threads. Ctrl-C or the stop button lets
    running trials finish, 30 s at most, and raises KeyboardInterrupt. What is recorded stays: the same call goes on.

    Args:
        asked: a sweep, a shipped name, or the path of a sweep file.
        train: your own training code: a function, also of a notebook's cell; `module:function`; parts of a command.
        seeds: how often each arm is trained, in place of the sweep's own number.
        quick: a first answer, recorded under another name: 1 epoch, 3 to 6 seeds.
        home: where results are kept; by default MNIST_ABLATE_HOME, else `.mnist-ablate` in the current folder.
        jobs: worker processes on this machine; by default one a core, or one a GPU.
        lanes: how many trials a worker trains at once; by default 1, on a GPU 32.
        cluster: a Dask scheduler in place of local workers: `tcp://host:8786`.
        data: a file of arrays `x_train`, `y_train`, `x_test`, `y_test`, as Keras's.
        weights: a file of pretrained weights.
        fresh: begin a new record, and keep the old one. Needed if the question was changed under its old name.
        progress: whether progress is shown: in a notebook below the cell, elsewhere on stderr.
        trial_timeout_s: the longest wait for news of a trial, in seconds.
        max_trials: a larger plan is refused.
        require_mlflow: do not start without MLflow.
        tls: for a cluster at `tls://`: the PEM files of its authority, your certificate, and its key.

    Raises:
        SweepError: the sweep is wrong, or the function cannot be sent to a worker; names the variable at fault.
        ConflictError: the recorded sweep of this name differs, or another process runs it.
        DataError, UnreachableError, DiskError: as their texts say.
        AblateError: the sweep cannot go on, such as when three trials failed alike.
        KeyboardInterrupt: it was stopped.
    """
    question = _ready(asked, train, seeds, quick=quick)
    _import_optuna()
    from mnist_ablate.cli.live_view import watch_here
    from mnist_ablate.execution.dask_settings import tls_from_options
    from mnist_ablate.execution.driver import drive
    from mnist_ablate.service import webhook
    from mnist_ablate.service.dask_service import check_address

    if cluster is not None:
        check_address(cluster)
    files = [*map(Path, tls or ())][:3]
    encryption = tls_from_options(cluster, *files, *[None] * (3 - len(files)))
    images = None if data is None else str(data)
    where = (_path(home) or default_home(), images, _path(weights), jobs, cluster, encryption)
    settings = Settings(*where, trial_timeout_s, max_trials, fresh, require_mlflow, lanes=lanes)
    with _python_words(), webhook.failing(settings.webhook, question.name), watch_here(progress=progress) as watch:
        try:
            done = drive(question, settings, watch)
        except Interrupted as error:
            raise _stopped(error) from None
        found = _finished(done, settings, watch)
    if done.interrupted:
        counts = f"{done.recorded} of {done.plan.size} trials are recorded"
        raise KeyboardInterrupt(f"stopped: {counts}; the same call goes on")
    return found


def open_report(name: str | Path, *, home: str | Path | None = None) -> Report:
    """The report on what is recorded of a sweep. Trains nothing, and needs no function that it was run with.

    Raises:
        SweepError: nothing is recorded under this name.
    """
    _import_optuna()
    from mnist_ablate.execution import recorded_report

    settings = Settings(_path(home) or default_home())
    found, record = recorded_report.report(name_of(str(name)), settings)
    return Report.of_record(found, record, settings)


def judge(
    table: Any,
    asked: str | Path | sweep.Sweep,
    *,
    columns: Mapping[str, str] = MappingProxyType({}),
    accept_confounded: Sequence[str] = (),
) -> Report:
    """Judge the claims of a sweep on results from anywhere.

    Args:
        table: a DataFrame, whatever makes one, or the path of a file that `mnist-ablate judge` reads: a row for each
            trial, with a column for each factor and metric, and optionally `seed` and `outcome`.
        asked: the sweep with the claims. Its factors may be any columns.
        columns: where a factor, a metric, `seed` or `outcome` is found, if it has another name in the table.
        accept_confounded: columns in which arms may differ too.

    Raises:
        SweepError: the table or the sweep is wrong; names row and column.
    """
    question = _ready(asked, None, None, any_factors=True)
    from mnist_ablate.ledger import results_table
    from mnist_ablate.reports import judging

    source = Path(table) if isinstance(table, str | Path) else _as_table(table)
    found = results_table.read(source, question.columns, results_table.metrics_of(question), columns)
    return Report(judging.of_table(question, found, accept_confounded), None, tuple(found.rows))


def _as_table(table: Any) -> "TableFile":
    import pandas as pd

    from mnist_ablate.ledger.table_file import of_frame

    frame = table if isinstance(table, pd.DataFrame) else pd.DataFrame(table)
    if any(name is not None for name in frame.index.names):  # as `groupby` leaves it
        frame = frame.reset_index()
    return of_frame(frame, ("a DataFrame",))


def _from_file(
    source: str | Path,
    overrides: Mapping[str, Any] | Iterable[str],
    seeds: int | None,
    train: Train | None,
    **how: bool,
) -> sweep.Sweep:
    given = overrides.items() if isinstance(overrides, Mapping) else ()
    texts = [f"{path}={json.dumps(_plain(value))}" for path, value in given] or [*overrides]
    function = notebook_function(train) if callable(train) else None
    if train is not None and function is None:
        texts.append(f"train={json.dumps(_plain(train))}")
    return sweep_file.load(str(source), overrides=texts, seeds=seeds, function=function, **how)


def _ready(
    asked: str | Path | sweep.Sweep,
    train: Train | None,
    seeds: int | None,
    *,
    quick: bool = False,
    any_factors: bool = False,
) -> sweep.Sweep:
    """A sweep that is checked and can be planned, or judged if it has `any_factors`."""
    if isinstance(asked, str | Path):
        return _from_file(asked, (), seeds, train, quick=quick, any_factors=any_factors)
    if not isinstance(asked, sweep.Sweep):
        raise SweepError(f"give a Sweep, the name of a shipped one or the path of a sweep file, not {shown(asked)}")
    content = _plain(asked.model_dump(exclude_unset=True, exclude={"name", "found_settings"}))
    function: NotebookFunction | None = asked._function  # noqa: SLF001 - as `located` sets it
    if train is not None:
        function = notebook_function(train) if callable(train) else None
        content["train"] = function.text if function else _plain(train)
    if seeds is not None:
        content["seeds"] = seeds
    found = _checked(asked.name, content, asked._folder, function, any_factors=any_factors)  # noqa: SLF001 - as above
    found = found if any_factors else found.with_found_settings()
    return found.quick() if quick else found


def _checked(
    name: str, content: Mapping[str, Any], folder: Path, function: NotebookFunction | None, *, any_factors: bool
) -> sweep.Sweep:
    """A sweep of these values. Raises SweepError with a line for each problem."""
    if not (isinstance(name, str) and is_name(name)):
        raise SweepError(f"{shown(name)}: {NAME_RULE}")
    found, wrong = checks.check(name, dict(content), folder, any_factors=any_factors, function=function)
    _raise_found(f"sweep {name}", content, wrong)
    return found


def _raise_found(source: str, content: Mapping[str, Any], wrong: Sequence[Finding]) -> None:
    file = SourceFile(source, dict(content), marks={(): Mark(source)})
    raise_if_any(map(file.located, wrong))


def _plain(value: Any) -> Any:
    """The values of a sweep file: from models, tuples, arrays and paths."""
    if isinstance(value, BaseModel):
        return _plain(value.model_dump(exclude_unset=True))
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if hasattr(value, "tolist"):  # NumPy's, pandas's
        return value.tolist()
    if isinstance(value, list | tuple | range):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def _import_optuna() -> None:
    """Import Optuna, whose own progress bar, which is not used, warns in a notebook that it lacks a widget."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")
        import_module("optuna")


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)


@contextmanager
def _python_words() -> Iterator[None]:
    """An error that advises an option of the command advises the argument in its place."""
    try:
        yield
    except ConflictError as error:
        error.args = (str(error).replace("--fresh", "fresh=True"),)
        raise


def _stopped(error: Interrupted) -> KeyboardInterrupt:
    """What ends a run that was stopped at once. Any signal but Ctrl-C does what it does without this package."""
    number = error.exit_code - 128
    if number != signal.SIGINT:
        signal.raise_signal(number)
    return KeyboardInterrupt("stopped at once; the same call goes on")


def _finished(done: "Run", settings: Settings, watch: "Watch") -> Report:
    """Publish and tell what came out."""
    from mnist_ablate.service import webhook

    if not done.publish():
        watch.message(f"MLflow is not up to date: run: mnist-ablate sync {done.report.sweep}")
    code = 128 + done.interrupted if done.interrupted else int(done.broken)
    if settings.webhook and (failure := webhook.ended(settings.webhook, done.report, done.link, code)):
        watch.message(failure)
    return Report.of_record(done.report, done.record, settings)
