"""The command line: parse, call, print. Results go to stdout, progress and messages to stderr."""

import errno
import gc
import os
import signal
import sys
import threading
import traceback
import warnings
from contextlib import suppress
from typing import NoReturn

import typer

from mnist_ablate.cli import records, service, sweeps
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
app.command(name="list")(sweeps.list_)
for command in (
    *(sweeps.plan, sweeps.sweep, records.report, sweeps.judge, records.verify, records.ui, service.worker),
    *(service.scheduler, records.compare, sweeps.new, sweeps.schema, records.sync, records.export, records.restore),
):
    app.command()(command)
app.add_typer(service.stack_app, name="stack")

_RARELY = (100_000, 20, 20)
"""Thresholds of the garbage collector. By default it takes a quarter of `report` at 10,000 trials, for nothing."""
_LEAVE_S = 1.0
_NO_SPACE = {errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT}


def main() -> None:
    """Run a command. Every error is one line on stderr and an exit code, with --debug a traceback."""
    gc.set_threshold(*_RARELY)
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
        _leave_soon(error.exit_code)
    except Exception as error:  # noqa: BLE001 - this is where all of them end
        text, code = _message_and_code(error)
        sys.stderr.write(mask(traceback.format_exc() if debug else f"{text}\n"))
        sys.exit(code)


def _leave_soon(code: int) -> NoReturn:
    """Exit in order if that takes no longer than a second. A thread may hang, and an interrupt must not wait for it."""
    deadline = threading.Timer(_LEAVE_S, os._exit, (code,))
    deadline.daemon = True
    deadline.start()
    with suppress(OSError):
        sys.stderr.write("stopped; run the same command again to continue\n")
    sys.exit(code)


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
