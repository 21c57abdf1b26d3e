"""The command `serve`: the sweep service on a port, with its accounts and its runner. Options only."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from mnist_ablate.cli import options
from mnist_ablate.cli.runner import CodePaths, LimitsOption, Sweeps
from mnist_ablate.errors import SweepError
from mnist_ablate.settings import MAX_TRIALS, Settings, default_home


def serve(  # noqa: PLR0913, PLR0917 - one parameter an option
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="The port to listen on.")] = 8080,
    url: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="How people reach it: https://sweeps.example.org.")
    ] = None,
    open_page: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page.")] = True,
    accounts: Annotated[
        Literal["none", "mlflow", "proxy"], typer.Option(help="How people are known: by nothing, MLflow, a proxy.")
    ] = "none",
    user_header: Annotated[
        str, typer.Option(metavar="NAME", help="The header in which the proxy names the person.")
    ] = "X-Forwarded-User",
    trusted_proxy: Annotated[
        list[str] | None, typer.Option(metavar="ADDR", help="The proxy's address or network: 10.0.0.0/24.")
    ] = None,
    roles: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A YAML file: who is viewer, submitter, operator.")
    ] = None,
    limits: LimitsOption = None,
    code_path: CodePaths = None,
    runner: Annotated[bool, typer.Option("--runner/--no-runner", help="Run sweeps in this process too.")] = True,
    sweeps: Sweeps = 2,
    jobs: options.Jobs = None,
    cluster: Annotated[str | None, typer.Option(metavar="ADDR", help="A Dask scheduler: tcp://host:8786.")] = None,
    home: options.Home = None,
    data: options.Data = None,
    weights: options.Weights = None,
    max_trials: options.MaxTrials = MAX_TRIALS,
    tls_cert: Annotated[Path | None, typer.Option(metavar="PEM", help="Serve https with this certificate.")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="PEM", help="Its private key.")] = None,
    cluster_tls_ca_file: options.TlsCaFile = None,
    cluster_tls_cert: options.TlsCert = None,
    cluster_tls_key: options.TlsKey = None,
    log_json: Annotated[
        bool | None, typer.Option("--log-json/--log-text", help="How to log [JSON unless stderr is a terminal].")
    ] = None,
) -> None:
    """Serve sweeps: submit them and go home. A page and an API, a queue, and a runner, until stopped."""
    if bool(tls_cert) != bool(tls_key):
        raise SweepError("--tls-cert and --tls-key belong together: give both")
    for folder in code_path or ():
        if not folder.is_dir():
            raise SweepError(f"--code-path {folder}: no such folder")
    from mnist_ablate.execution.dask_settings import tls_from_options
    from mnist_ablate.service import serving
    from mnist_ablate.service.dask_service import check_address
    from mnist_ablate.service.runner import Runner

    tls = tls_from_options(cluster, cluster_tls_ca_file, cluster_tls_cert, cluster_tls_key)
    if cluster is not None:
        check_address(cluster)
    settings = Settings(home or default_home(), data, weights, jobs, cluster, tls, None, max_trials, lanes=None)
    listening = serving.Listening(
        host,
        port,
        urls=url or (),
        accounts=accounts,
        user_header=user_header,
        proxies=trusted_proxy or (),
        roles=roles,
        limits=limits,
        folders=code_path or (),
        tls_cert=tls_cert,
        tls_key=tls_key,
        log_json=not sys.stderr.isatty() if log_json is None else log_json,
    )

    def say(line: str) -> None:
        typer.echo(line, err=True)

    own = Runner(settings, limits, sweeps, "", code_path or (), say) if runner else None
    is_for_people = open_page and sys.stderr.isatty()
    raise typer.Exit(serving.serve(settings, listening, own, say, open_page=is_for_people))
