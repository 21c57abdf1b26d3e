"""`mnist-ablate scheduler`: where workers and sweeps of a cluster meet."""

from typing import Annotated

import typer

from mnist_ablate.cli.worker import TlsCaFile, TlsCert, TlsKey

_LOOPBACK = ("127.", "localhost", "::1")


def scheduler(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="The port to listen on.")] = 8786,
    tls_ca_file: TlsCaFile = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
) -> None:
    """Bring sweeps and workers of several machines together, until stopped."""
    from mnist_ablate.execution import tls
    from mnist_ablate.service.dask_service import serve_scheduler

    given = (tls_ca_file, tls_cert, tls_key)
    certificates = tls.chosen(f"{tls.SCHEME}{host}" if any(given) else None, *given)
    if certificates is None and not host.startswith(_LOOPBACK):
        typer.echo(f"whoever reaches {host}:{port} runs code here: a private network only, or --tls-cert", err=True)
    raise typer.Exit(serve_scheduler(host, port, certificates, lambda line: typer.echo(line, err=True)))
