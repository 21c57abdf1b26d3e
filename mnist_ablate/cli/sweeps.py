"""The commands that ask: `list`, `new`, `schema`, `plan`, `sweep` with its end, `judge` on a table, `selftest`."""

import json
import unicodedata
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mnist_ablate.cli import options
from mnist_ablate.errors import SweepError, UnreachableError
from mnist_ablate.settings import MAX_TRIALS, Settings, default_home, service_address
from mnist_ablate.text import plainly

if TYPE_CHECKING:
    from mnist_ablate.execution.driver import Run
    from mnist_ablate.ledger.table_file import TableFile
    from mnist_ablate.reports.report import Report

SCHEMA_FILE = "mnist-ablate.schema.json"
FAILED_TRIALS, NOT_IN_STEP = 1, 7


def list_(what: Annotated[Literal["sweeps", "choices"] | None, typer.Argument()] = None) -> None:
    """List the shipped sweeps, and the values that a setting can have."""
    from mnist_ablate.sweep.sweep_file import load, shipped
    from mnist_ablate.workloads.workload import default_workload

    sweeps = {} if what == "choices" else {"sweeps": {name: load(name).question for name in shipped()}}
    choices = {} if what == "sweeps" else default_workload().choices
    for subject, known in {**sweeps, **choices}.items():
        typer.echo(subject)
        for name, meaning in known.items():
            typer.echo(f"  {name:22} {meaning}")


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the sweep is called; NAME.yaml is written.")],
    kind: Annotated[
        str | None, typer.Option(metavar="KIND", help="For one kind of claim: best, trend, spread and so on.")
    ] = None,
) -> None:
    """Begin a sweep file: NAME.yaml with every key explained, ready for `plan`."""
    from mnist_ablate.sweep import sweep_file
    from mnist_ablate.sweep.sweep import NAME_RULE, is_name

    name = unicodedata.normalize("NFC", name.removesuffix(".yaml"))
    if not is_name(name):
        raise SweepError(f"{plainly(name)}: {NAME_RULE}")
    if name in sweep_file.shipped():
        raise SweepError(f"{name}: a shipped sweep has this name: choose another")
    path, text = Path(f"{name}.yaml"), sweep_file.template(name, SCHEMA_FILE, kind)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise SweepError(f"{path}: exists already and is left as it is: choose another name") from None
    if not Path(SCHEMA_FILE).exists():
        Path(SCHEMA_FILE).write_text(_schema(), encoding="utf-8")
    typer.echo(path)
    typer.echo(f"edit it, then: mnist-ablate plan {path}", err=True)


def schema() -> None:
    """Print the JSON schema of sweep files, for editors."""
    typer.echo(_schema(), nl=False)


def _schema() -> str:
    from mnist_ablate.sweep import json_schema

    return json.dumps(json_schema.schema(), indent=1, ensure_ascii=False) + "\n"


def plan(  # noqa: PLR0913, PLR0917 - one parameter an option
    source: options.Source,
    overrides: options.Overrides = None,
    seeds: options.Seeds = None,
    data: options.Data = None,
    weights: options.Weights = None,
    quick: options.Quick = False,
    max_trials: options.MaxTrials = MAX_TRIALS,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Show what a sweep would train, how long it takes here, and the smallest effect it can find."""
    from mnist_ablate.sweep import sweep_file

    question = sweep_file.load(source, overrides=overrides or (), seeds=seeds, quick=quick)
    from mnist_ablate.execution.preview import preview  # takes a second, so only after the file is found good

    found = preview(question, data, max_trials, weights, Settings(home).ledger_url if home else "")
    typer.echo(json.dumps(asdict(found)) if as_json else found.text(question))


def check(
    source: options.Source,
    overrides: options.Overrides = None,
    data: options.Data = None,
    quick: options.Quick = False,
    as_json: options.Json = False,
) -> None:
    """Train one trial twice, with another seed and with other settings: does it repeat itself? Records nothing."""
    from mnist_ablate.sweep import sweep_file

    question = sweep_file.load(source, overrides=overrides or (), quick=quick)
    from mnist_ablate.execution import reproducibility

    found = reproducibility.check(question, data, lambda text: typer.echo(text, err=True))
    typer.echo(json.dumps(asdict(found)) if as_json else "\n".join(found.lines()))


def sweep(  # noqa: PLR0913, PLR0917 - one parameter an option
    source: options.Source,
    overrides: options.Overrides = None,
    seeds: options.Seeds = None,
    jobs: options.Jobs = None,
    lanes: options.Lanes = None,
    cluster: Annotated[str | None, typer.Option(metavar="ADDR", help="A Dask scheduler: tcp://host:8786.")] = None,
    quick: options.Quick = False,
    fresh: Annotated[bool, typer.Option(help="Begin a new record, and keep the old one.")] = False,
    as_json: options.Json = False,
    home: options.Home = None,
    data: options.Data = None,
    weights: options.Weights = None,
    trial_timeout: Annotated[
        float | None, typer.Option(min=1, metavar="S", help="Longest wait for news of a trial.")
    ] = None,
    require_mlflow: Annotated[bool, typer.Option(help="Do not start without MLflow.")] = False,
    register: Annotated[bool, typer.Option(help="Put the winner into MLflow's model registry.")] = False,
    max_trials: options.MaxTrials = MAX_TRIALS,
    tls_ca_file: options.TlsCaFile = None,
    tls_cert: options.TlsCert = None,
    tls_key: options.TlsKey = None,
    service: options.Service = None,
) -> None:
    """Train what is not yet recorded of a sweep, judge its claims, and show where to look."""
    if address := service_address(service):
        from mnist_ablate.cli.service import sweep_elsewhere

        own: dict[str, object] = {
            "--jobs": jobs,
            "--lanes": lanes,
            "--cluster": cluster,
            "--fresh": fresh,
            "--home": home,
            "--data": data,
        }
        own |= {"--weights": weights, "--trial-timeout": trial_timeout, "--require-mlflow": require_mlflow}
        own |= {"--register": register, "--max-trials": max_trials != MAX_TRIALS}
        own |= {"--tls-ca-file": tls_ca_file, "--tls-cert": tls_cert, "--tls-key": tls_key}
        here = [name for name, value in own.items() if value]
        sweep_elsewhere(source, address, overrides, seeds, here, quick=quick, as_json=as_json)
    from mnist_ablate.execution.dask_settings import tls_from_options
    from mnist_ablate.execution.worker_template import importing
    from mnist_ablate.sweep import sweep_file

    tls = tls_from_options(cluster, tls_ca_file, tls_cert, tls_key)
    question = sweep_file.load(source, overrides=overrides or (), seeds=seeds, quick=quick)
    where = (home or default_home(), data, weights, jobs, cluster, tls)
    settings = Settings(*where, trial_timeout, max_trials, fresh, require_mlflow, lanes=lanes)
    with ExitStack() as stack:
        if settings.trains_here_first:
            stack.enter_context(importing(settings.trainer or question.workload.trainer))
        # These imports take seconds, so they wait until the file is found good.
        from rich.console import Console

        from mnist_ablate.cli.live_view import Watch
        from mnist_ablate.execution.driver import drive
        from mnist_ablate.service.webhook import failing

        if cluster is not None:
            from mnist_ablate.service.dask_service import check_address

            check_address(cluster)
        stack.enter_context(failing(settings.webhook, question.name))
        result = drive(question, settings, stack.enter_context(Watch(Console(stderr=True))))
    _end(result, settings, as_json=as_json, register=register)


def _end(result: "Run", settings: Settings, *, as_json: bool, register: bool) -> None:
    """Judge, show, publish; leave with the exit code that says how it went."""
    from mnist_ablate.service import webhook
    from mnist_ablate.sweep.sweep_file import shipped
    from mnist_ablate.tracking import model_registry

    report = result.report
    show(report, as_json=as_json)
    in_step = result.publish()
    if not in_step:
        typer.echo(f"MLflow is not up to date: run: mnist-ablate sync {report.sweep}", err=True)
    if result.link:
        page = "  (start it with: mnist-ablate ui)" if settings.tracking_uri == settings.embedded_uri else ""
        typer.echo(f"runs: {result.link}{page}", err=True)
    if (wider := f"{report.sweep}_across") in shipped() and not result.interrupted:
        typer.echo(f"how far these verdicts reach: mnist-ablate sweep {wider}", err=True)
    if register and in_step and not result.interrupted:
        verdicts = {claim.name: claim.verdict for claim in report.claims}
        try:
            typer.echo(model_registry.register(result.record, result.mirror, settings, verdicts), err=True)
        except UnreachableError as error:
            typer.echo(f"{error}; the winner is not registered: run again with --register", err=True)
            in_step = False
    code = FAILED_TRIALS if result.broken else 0 if in_step else NOT_IN_STEP
    if result.interrupted:
        done = f"{result.recorded} of {result.plan.size} trials"
        typer.echo(f"stopped at {done}; run the same command again to continue", err=True)
        code = 128 + result.interrupted
    if settings.webhook and (failure := webhook.ended(settings.webhook, report, result.link, code)):
        typer.echo(failure, err=True)
    raise typer.Exit(code)


def judge(  # noqa: PLR0913, PLR0917 - one parameter an option
    source: Annotated[str, typer.Option("--sweep", metavar="FILE", help="The sweep file with the claims.")],
    words: Annotated[
        list[str] | None, typer.Argument(metavar="TABLE", help="A file of results, one trial a row; - for stdin.")
    ] = None,
    mapping: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="NAME=COLUMN", help="Where a factor, a metric, seed or outcome is found."),
    ] = None,
    accepted: Annotated[
        list[str] | None,
        typer.Option("--accept-confounded", metavar="COLUMN", help="Judge although the arms differ in this too."),
    ] = None,
    optuna: Annotated[
        tuple[str, str] | None, typer.Option(metavar="URL STUDY", help="A study of Optuna in place of a table.")
    ] = None,
    mlflow: Annotated[
        str | None, typer.Option(metavar="EXPERIMENT", help="An experiment at MLFLOW_TRACKING_URI in place of a table.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Judge the claims of a sweep file on results from anywhere."""
    from mnist_ablate.ledger import results_table
    from mnist_ablate.reports import judging
    from mnist_ablate.sweep import sweep_file

    tables = [word for word in words or () if "=" not in word or Path(word).exists()]
    if len(tables) + (optuna is not None) + (mlflow is not None) != 1:
        raise SweepError("judge takes one table, or --optuna URL STUDY, or --mlflow EXPERIMENT: judge results.csv")
    named = _mapped([*(mapping or ()), *(word for word in words or () if word not in tables)])
    question = sweep_file.load(source, any_factors=True)
    table: Path | TableFile
    if tables:
        table = Path(tables[0])
    else:
        from mnist_ablate.tracking import foreign_runs

        table = foreign_runs.of_optuna(*optuna) if optuna else foreign_runs.of_mlflow(str(mlflow))
    found = results_table.read(table, question.columns, results_table.metrics_of(question), named)
    report = judging.of_table(question, found, accepted or ())
    for line in found.reading.lines():
        typer.echo(line, err=True)
    show(report, as_json=as_json)


def _mapped(words: list[str]) -> dict[str, str]:
    """`activation=params.act` as a name and its column; several may stand in one word."""
    found: dict[str, str] = {}
    for word in words:
        for part in word.split() if word.count("=") > 1 else [word]:
            name, equals, column = part.partition("=")
            if not (equals and name.strip() and column.strip()):
                raise SweepError(f"--map {plainly(part)}: write NAME=COLUMN, for example seed=params.random_state")
            found[name.strip()] = column.strip()
    return found


def selftest(
    reduced: Annotated[bool, typer.Option(help="Fewer claims, without the convolutional network.")] = False,
    jobs: options.Jobs = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Run claims whose answers are known, and fail if one comes out wrong. Nothing is kept."""
    import json
    import tempfile
    from dataclasses import asdict

    from mnist_ablate.execution.selftest import selftest as answers

    found = []
    with tempfile.TemporaryDirectory(prefix="mnist-ablate-selftest-") as folder:
        for answer in answers(Path(folder), data, jobs, reduced=reduced):
            found.append(answer)
            if not as_json:
                mark = "right" if answer.is_right else "WRONG"
                expected = "" if answer.is_right else f", expected {answer.expected}"
                typer.echo(f"{mark}  {answer.found}{expected}: {answer.statement}")
    wrong = sum(not answer.is_right for answer in found)
    if as_json:
        typer.echo(json.dumps([{**asdict(answer), "is_right": answer.is_right} for answer in found]))
    else:
        typer.echo(f"{len(found)} known answers: {f'{wrong} came out wrong' if wrong else 'all right'}")
    raise typer.Exit(1 if wrong else 0)


def show(report: "Report", *, as_json: bool) -> None:
    """The arms and verdicts on stdout."""
    from rich.console import Console

    from mnist_ablate.reports import terminal

    if as_json:
        typer.echo(report.model_dump_json())
    else:
        Console().print(terminal.tables(report))
