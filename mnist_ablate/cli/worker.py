"""`mnist-ablate worker`: this machine's cores for the Dask scheduler of a sweep."""

import socket
from pathlib import Path
from typing import Annotated

import typer

TlsCaFile = Annotated[Path | None, typer.Option(metavar="PEM", help="TLS: the authority that signed the cluster's.")]
TlsCert = Annotated[Path | None, typer.Option(metavar="PEM", help="TLS: the certificate to show.")]
TlsKey = Annotated[Path | None, typer.Option(metavar="PEM", help="TLS: its private key.")]


def worker(  # noqa: PLR0913, PLR0917 - one parameter an option
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="The scheduler: tcp://host:8786, tls://host:8786.")],
    jobs: Annotated[int | None, typer.Option(min=1, help="Worker processes [one a core].")] = None,
    name: Annotated[str | None, typer.Option(help="What sweeps call it [the host's name].")] = None,
    memory: Annotated[str, typer.Option(metavar="SIZE", help="Of each process: 4GB, or auto for its share.")] = "auto",
    tls_ca_file: TlsCaFile = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
) -> None:
    """Train trials here for the sweeps of a cluster, until stopped."""
    from mnist_ablate.execution import tls
    from mnist_ablate.execution.cluster import default_jobs
    from mnist_ablate.service.dask_service import must_be_address, must_be_size, serve_workers

    must_be_address(address)
    must_be_size(memory)
    certificates = tls.chosen(address, tls_ca_file, tls_cert, tls_key)
    label, count = name or socket.gethostname(), jobs or default_jobs()
    names = [label] if count == 1 else [f"{label}-{number}" for number in range(count)]
    raise typer.Exit(serve_workers(address, names, memory, certificates, lambda line: typer.echo(line, err=True)))
