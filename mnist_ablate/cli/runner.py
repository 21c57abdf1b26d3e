"""The command `runner`: takes sweeps from the queue and runs them, until it is stopped. Parses, calls, prints."""

from pathlib import Path
from typing import Annotated

import typer

from mnist_ablate.cli import options
from mnist_ablate.settings import MAX_TRIALS, Settings, default_home

Sweeps = Annotated[int, typer.Option(min=1, max=100, help="Sweeps that run side by side.")]
LimitsOption = Annotated[
    Path | None, typer.Option("--limits", metavar="FILE", help="What each user may have at once, as YAML.")
]
CodePaths = Annotated[
    list[Path] | None,
    typer.Option("--code-path", metavar="FOLDER", help="Where submitted sweeps may have code and data; repeatable."),
]


def runner(  # noqa: PLR0913, PLR0917 - one parameter an option
    cluster: Annotated[str | None, typer.Option(metavar="ADDR", help="A Dask scheduler: tcp://host:8786.")] = None,
    jobs: options.Jobs = None,
    sweeps: Sweeps = 4,
    name: Annotated[str, typer.Option(help="Name of this runner [the host's name].")] = "",
    limits: LimitsOption = None,
    code_path: CodePaths = None,
    home: options.Home = None,
    data: options.Data = None,
    weights: options.Weights = None,
    max_trials: options.MaxTrials = MAX_TRIALS,
    tls_ca_file: options.TlsCaFile = None,
    tls_cert: options.TlsCert = None,
    tls_key: options.TlsKey = None,
) -> None:
    """Run the sweeps that were submitted to the service, until stopped; several runners share them."""
    from mnist_ablate.execution.dask_settings import tls_from_options
    from mnist_ablate.service.dask_service import check_address
    from mnist_ablate.service.runner import Runner, serve_runner

    if cluster is not None:
        check_address(cluster)
    tls = tls_from_options(cluster, tls_ca_file, tls_cert, tls_key)
    where = (home or default_home(), data, weights, jobs, cluster, tls)
    settings = Settings(*where, max_trials=max_trials, lanes=None)
    found = Runner(settings, limits, sweeps, name, code_path or (), lambda line: typer.echo(line, err=True))
    raise typer.Exit(serve_runner(found))
