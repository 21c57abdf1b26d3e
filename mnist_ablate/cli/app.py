"""The command line: its commands, those of the team's service, and how a command ends. Only results go to stdout."""

import errno
import gc
import io
import os
import signal
import socket
import sys
import threading
import traceback
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from mnist_ablate.cli import options, records, runner, serve, service, sweeps
from mnist_ablate.environment import NO_THREADS, override
from mnist_ablate.errors import AblateError, DiskError, SweepError, mask
from mnist_ablate.processes import Interrupted, raising

app = typer.Typer(
    add_completion=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Turn a claim about training a network into evidence and a verdict.",
    epilog="Add --debug to any command to see a traceback in place of a one-line error.",
)
stack_app = typer.Typer(no_args_is_help=True, help="The service for a team: tracking server, database, cluster.")
RARELY = (100_000, 20, 20)
"""Thresholds of the garbage collector. By default it takes a quarter of `report` at 10,000 trials, for nothing."""
_LEAVE_S = 1.0
_NO_SPACE = {errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT}


def worker(  # noqa: PLR0913, PLR0917 - one parameter an option
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="The scheduler: tcp://host:8786, tls://host:8786.")],
    jobs: options.Jobs = None,
    name: Annotated[str | None, typer.Option(help="Name of this machine in sweeps [the host's name].")] = None,
    memory: Annotated[
        str, typer.Option(metavar="SIZE", help="Memory of each process: 4GB, or auto for an equal share.")
    ] = "auto",
    tls_ca_file: options.TlsCaFile = None,
    tls_cert: options.TlsCert = None,
    tls_key: options.TlsKey = None,
) -> None:
    """Train trials here for the sweeps of a cluster, until stopped."""
    from mnist_ablate.execution import gpus
    from mnist_ablate.execution.dask_settings import tls_from_options
    from mnist_ablate.service.dask_service import check_address, check_memory_size, serve_workers

    check_address(address)
    check_memory_size(memory)
    tls = tls_from_options(address, tls_ca_file, tls_cert, tls_key)
    label = name or socket.gethostname()
    count, _ = gpus.workers_and_lanes(jobs, None, trains_on_gpus=True)
    names = [label] if count == 1 else [f"{label}-{number}" for number in range(count)]
    raise typer.Exit(serve_workers(address, names, memory, tls, lambda line: typer.echo(line, err=True)))


def scheduler(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="The port to listen on.")] = 8786,
    tls_ca_file: options.TlsCaFile = None,
    tls_cert: options.TlsCert = None,
    tls_key: options.TlsKey = None,
) -> None:
    """Connect sweeps with the workers of several machines, until stopped."""
    from mnist_ablate.execution.dask_settings import TLS_SCHEME, tls_from_options
    from mnist_ablate.service.dask_service import serve_scheduler

    given = (tls_ca_file, tls_cert, tls_key)
    tls = tls_from_options(f"{TLS_SCHEME}{host}" if any(given) else None, *given)
    if tls is None and not host.startswith(("127.", "localhost", "::1")):
        risk = f"anyone who can reach {host}:{port} can run code here"
        typer.echo(f"{risk}: use a private network, or --tls-cert", err=True)
    raise typer.Exit(serve_scheduler(host, port, tls, lambda line: typer.echo(line, err=True)))


@stack_app.command()
def init(
    folder: Annotated[
        Path, typer.Argument(metavar="[FOLDER]", help="Where it goes; a checkout serves as it is.")
    ] = Path(),
) -> None:
    """Write compose files and random secrets for `docker compose up`; what is there already is left as it is."""
    from mnist_ablate.service import stack as files

    written = files.init(folder)
    for path in written:
        typer.echo(f"wrote {path}", err=True)
    if not written:
        typer.echo(f"{folder}: everything is there already; nothing was changed", err=True)
    enter = "" if folder == Path() else f"cd {folder} && "
    typer.echo(f"{enter}mnist-ablate stack check && docker compose up -d")
    typer.echo(f"{enter}. secrets/client.env && mnist-ablate sweep normalization")


@stack_app.command()
def check(
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Where `stack init` wrote.")] = Path(),
) -> None:
    """Look if `docker compose up` can work here: Docker, Compose, .env, secrets, port. Says what to do, in one line."""
    from mnist_ablate.service import stack_check

    typer.echo(stack_check.check(folder))


app.command(name="list")(sweeps.list_)
for command in (
    *(sweeps.plan, sweeps.check, sweeps.sweep, records.report, sweeps.judge, records.verify, records.ui, worker),
    *(scheduler, records.compare, sweeps.new, sweeps.schema, records.sync, records.export, records.restore),
    *(sweeps.selftest, service.submit, service.queue, service.attach, service.cancel, service.pause, service.resume),
    *(serve.serve, runner.runner),
):
    app.command()(command)
app.command(context_settings={"ignore_unknown_options": True})(service.prioritize)  # -3 is a number
app.add_typer(stack_app, name="stack")


def main() -> None:
    """Run a command. Every error is one line on stderr and an exit code, with --debug a traceback."""
    gc.set_threshold(*RARELY)
    override(NO_THREADS)
    _replace_closed_streams()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # after the last line Ctrl-C ends at once, without a traceback
    debug = "--debug" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    if not debug:
        warnings.simplefilter("ignore")
    try:
        with raising():
            app()
    except Interrupted as error:
        if debug:
            sys.stderr.write(mask(traceback.format_exc()))
        # In order if that takes no longer than a second: a thread may hang, and an interrupt must not wait for it.
        deadline = threading.Timer(_LEAVE_S, os._exit, (error.exit_code,))
        deadline.daemon = True
        deadline.start()
        with suppress(OSError):
            sys.stderr.write("stopped; run the same command again to continue\n")
        sys.exit(error.exit_code)
    except Exception as error:  # noqa: BLE001 - this is where all of them end
        text, code = _message_and_code(error)
        sys.stderr.write(mask(traceback.format_exc() if debug else f"{text}\n"))
        sys.exit(code)
    finally:
        gc.freeze()  # to look for garbage in all that was imported takes half a second at the end of a sweep


class _Closed(io.TextIOBase):
    """Standard output where there is none: whoever writes a result there hears of it."""

    def write(self, _text: str) -> int:
        """Raises DiskError."""
        raise DiskError("standard output is closed: nothing can be written there")


def _replace_closed_streams() -> None:
    """Python has None for a stream that was closed before. Its number must not go to a file that is opened next."""
    for name, number, put in (("stdout", 1, _Closed()), ("stderr", 2, io.StringIO())):
        if getattr(sys, name) is None:
            nothing = os.open(os.devnull, os.O_WRONLY)
            if nothing != number:
                os.dup2(nothing, number)
            setattr(sys, name, put)


def _message_and_code(error: Exception) -> tuple[str, int]:
    if isinstance(error, AblateError):
        return str(error), error.exit_code
    if not isinstance(error, OSError):
        text = str(error).strip().partition("\n")[0]
        return f"internal error: {type(error).__name__}: {text}: run again with --debug and report it", 1
    if error.errno in _NO_SPACE:
        where = error.filename or "the disk"
        return f"no space on, or no right to write, {where}: free it and run again", DiskError.exit_code
    return f"{error.filename or 'input'}: {error.strerror or error}: check the path", SweepError.exit_code
