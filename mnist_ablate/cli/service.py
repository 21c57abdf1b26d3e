"""The commands that use a sweep service elsewhere: `submit`, `queue`, `attach`, `cancel` and so on. None trains."""

import atexit
import io
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnist_ablate.cli import options
from mnist_ablate.cli.sweeps import show
from mnist_ablate.errors import SweepError, mask
from mnist_ablate.processes import Interrupted
from mnist_ablate.settings import Settings
from mnist_ablate.text import counted, plainly

if TYPE_CHECKING:
    from mnist_ablate.cli.live_view import Watch
    from mnist_ablate.ledger.ledger import Record
    from mnist_ablate.reports.report import Report
    from mnist_ablate.service.client import Change, RemoteSweep, ServiceClient


STOPPED = 128 + signal.SIGINT
Which = Annotated[str, typer.Argument(metavar="ID|NAME", help="Its id; or its name, for the latest of that name.")]
Priority = Annotated[int, typer.Option(help="From -10 to 10: the higher ones of yours run first.")]


def submit(  # noqa: PLR0913, PLR0917 - one parameter an option
    source: options.Source,
    overrides: options.Overrides = None,
    seeds: options.Seeds = None,
    quick: options.Quick = False,
    priority: Priority = 0,
    service: options.Service = None,
    as_json: options.Json = False,
) -> None:
    """Hand a sweep to a service, which runs it whether or not this machine stays on."""
    client = _connected(service)
    sweep, is_new = client.submit(asked(source, overrides, seeds, quick=quick, priority=priority))
    if as_json:
        typer.echo(sweep.model_dump_json())
        return
    _say_submitted(client, sweep, is_new=is_new)
    _say(f"see it run: mnist-ablate attach {sweep.id}")
    typer.echo(sweep.id)


def queue(
    state: Annotated[str | None, typer.Option(metavar="STATE", help="Only these: waiting, running, done...")] = None,
    owner: Annotated[str | None, typer.Option(metavar="NAME", help="Only those of this person.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many of the latest.")] = 20,
    service: options.Service = None,
    as_json: options.Json = False,
) -> None:
    """List the sweeps of a service, the latest first."""
    found = _connected(service).sweeps(state, owner, limit)
    if as_json:
        typer.echo(f"[{', '.join(each.model_dump_json() for each in found)}]")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("id", "sweep", "owner", "state", "trials", "verdicts"):
        table.add_column(column, justify="right" if column == "trials" else "left")
    for each in found:
        verdicts = ", ".join(f"{n} {verdict}" for verdict, n in Counter(each.verdicts.values()).most_common())
        row = (each.id, each.name, each.owner, _in_words(each), f"{each.recorded} of {each.planned}", verdicts)
        table.add_row(*map(Text, row))
    Console().print(table if found else "no sweeps")


def attach(which: Which, service: options.Service = None, as_json: options.Json = False) -> None:
    """Show a sweep of a service live, and its verdicts at the end. Ctrl-C leaves it running."""
    client = _connected(service)
    sweep = client.sweep(which)
    with _left_running(client, sweep, may_cancel=False):
        ended = _shown_live(client, sweep)
    _end(client, ended, as_json=as_json)


def cancel(which: Which, service: options.Service = None) -> None:
    """End a sweep of a service. What is recorded of it stays."""
    _change(which, "cancel", service)


def pause(which: Which, service: options.Service = None) -> None:
    """Let the running trials of a sweep of a service finish, and start no others until `resume`."""
    _change(which, "pause", service)


def resume(which: Which, service: options.Service = None) -> None:
    """Go on with a sweep of a service that was paused."""
    _change(which, "resume", service)


def prioritize(
    which: Which,
    priority: Annotated[int, typer.Argument(metavar="N", help="From -10 to 10; 0 is usual.")],
    service: options.Service = None,
) -> None:
    """Say which of your sweeps in a service run first: those of a higher priority."""
    client = _connected(service)
    found = client.prioritize(client.sweep(which).id, priority)
    typer.echo(f"{found.name}: priority {found.priority}")


def sweep_elsewhere(  # noqa: PLR0913 - what the options of `sweep` say
    source: str,
    address: str,
    overrides: list[str] | None,
    seeds: int | None,
    here: list[str],
    *,
    quick: bool,
    as_json: bool,
) -> None:
    """Do what `sweep` does, in a service. `here` are the options given that only make sense on this machine."""
    if here:
        where = f"no meaning for the service at {mask(address)}"
        raise SweepError(f"{', '.join(here)}: {where}; leave it out, or run the sweep here with --service ''")
    client = _connected(address)
    sweep, is_new = client.submit(asked(source, overrides, seeds, quick=quick))
    with _left_running(client, sweep, may_cancel=True):
        _say_submitted(client, sweep, is_new=is_new)
        ended = _shown_live(client, sweep)
    _end(client, ended, as_json=as_json)


def asked(
    source: str, overrides: list[str] | None = None, seeds: int | None = None, *, quick: bool = False, priority: int = 0
) -> dict[str, Any]:
    """What is sent of a sweep: the text of a file, else a shipped name, and what changes it."""
    from mnist_ablate.sweep.sweep_file import name_and_text

    name, text = name_and_text(source)
    changes = {"set": overrides or [], "seeds": seeds, "quick": quick, "priority": priority}
    return {"name": name, **({"file": text} if text else {}), **changes}


def follow(client: "ServiceClient", id_: str, watch: "Watch") -> "RemoteSweep":
    """Show what happens to a sweep until it has ended."""
    from mnist_ablate.execution.live_progress import Snapshot

    for each in client.events(id_):
        if each.kind == "snapshot":
            watch.show(Snapshot.model_validate(each.data))
        elif each.kind == "state":
            watch.message(_state_in_words(str(each.data["state"]), str(each.data["reason"])))
        else:
            watch.message(str(each.data.get("text", "")))
    return client.sweep(id_)


def recorded(client: "ServiceClient", sweep: "RemoteSweep") -> "tuple[Report, Record, Settings] | None":
    """The report on what a service has recorded of a sweep, made here from its records; None if there are none.

    They stay in a temporary folder until this process ends.
    """
    if not sweep.recorded:
        return None
    from mnist_ablate.execution import recorded_report
    from mnist_ablate.ledger import backup

    folder = Path(tempfile.mkdtemp(prefix="mnist-ablate-report-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    settings = _Copy(folder)
    (folder / "records.zip").write_bytes(client.records(sweep.id))
    backup.restore(settings.ledger_url, folder / "records.zip")
    return *recorded_report.report(sweep.name, settings), settings


@dataclass(frozen=True)
class _Copy(Settings):
    """A ledger in its home, whatever OPTUNA_STORAGE says."""

    @property
    def ledger_url(self) -> str:
        """That of the home."""
        return f"sqlite:///{self.home}/ledger.db"


@contextmanager
def _left_running(client: "ServiceClient", sweep: "RemoteSweep", *, may_cancel: bool) -> Iterator[None]:
    """An interrupt inside ends the command, and the sweep goes on, unless the person says otherwise."""
    try:
        yield
    except Interrupted as stop:
        if may_cancel and stop.exit_code == STOPPED and not _is_wanted():
            client.change(sweep.id, "cancel")
            _say(f"{sweep.name}: cancelled; what is recorded stays")
        else:
            _say(f"{sweep.name} goes on in the service; see it: mnist-ablate attach {sweep.id}")
            _say(f"end it: mnist-ablate cancel {sweep.id}")
        raise typer.Exit(stop.exit_code) from None


def _shown_live(client: "ServiceClient", sweep: "RemoteSweep") -> "RemoteSweep":
    from rich.console import Console

    from mnist_ablate.cli.live_view import Watch

    with Watch(Console(stderr=True)) as watch:
        return follow(client, sweep.id, watch)


def _end(client: "ServiceClient", sweep: "RemoteSweep", *, as_json: bool) -> None:
    """The end as `sweep` has it."""
    if found := recorded(client, sweep):
        show(found[0], as_json=as_json)
    if sweep.link:
        _say(f"runs: {sweep.link}")
    _say(f"report: {client.page(sweep.id)}")
    if sweep.state != "done":
        _say(f"{sweep.name}: {_in_words(sweep)}")
    raise typer.Exit(sweep.exit_code if sweep.exit_code is not None else STOPPED)


def _say_submitted(client: "ServiceClient", sweep: "RemoteSweep", *, is_new: bool) -> None:
    size = counted(sweep.planned, "trial") if is_new else "asked before"
    _say(f"{sweep.name}: {_in_words(sweep)}, {size}: {client.page(sweep.id)}")


def _is_wanted() -> bool:
    """Ask. It is left running unless the person says no, and where there is nobody to ask."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    try:
        sys.stderr.write("\nleave it running in the service? [Y/n] ")
        sys.stderr.flush()
        return not sys.stdin.readline().strip().lower().startswith("n")
    except (Interrupted, io.UnsupportedOperation):
        return True


def _change(which: str, change: "Change", service: str | None) -> None:
    client = _connected(service)
    found = client.change(client.sweep(which).id, change)
    typer.echo(f"{found.name}: {_in_words(found)}")


def _in_words(sweep: "RemoteSweep") -> str:
    """Its state and why; of one that is being stopped, that."""
    return _state_in_words({"cancel": "cancelling", "pause": "pausing"}.get(sweep.wanted, sweep.state), sweep.reason)


def _state_in_words(state: str, reason: str) -> str:
    if not reason or reason.startswith(state):
        return plainly(reason or state)
    return f"{state}: {plainly(reason)}"


def _connected(address: str | None) -> "ServiceClient":
    from mnist_ablate.service.client import connect  # takes half a second with what it needs

    return connect(address, _say)


def _say(text: str) -> None:
    typer.echo(text, err=True)
