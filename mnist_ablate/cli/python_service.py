"""A sweep service for notebooks and scripts: connect, submit, wait, report. Shows a sweep live; trains nothing."""

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_ablate.cli.python_report import Report
from mnist_ablate.cli.service import asked, follow, recorded
from mnist_ablate.errors import AblateError, SweepError
from mnist_ablate.service import client as remote
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.sweep.sweep_file import as_yaml
from mnist_ablate.workloads.own_code.notebook_function import MARK

if TYPE_CHECKING:
    from mnist_ablate.cli.live_view import Watch


def connect(url: str | None = None) -> "Service":
    """A sweep service, which runs sweeps whether or not this machine stays on.

    Args:
        url: its address; by default MNIST_ABLATE_SERVICE. The account is that of the address, else that of
            MNIST_ABLATE_SERVICE_USERNAME and MNIST_ABLATE_SERVICE_PASSWORD, else MLflow's.

    Raises:
        SweepError: there is no address, or it is none.
    """
    return Service(remote.connect(url))


class Service:
    """The sweeps of a service, as `connect` gives it."""

    def __init__(self, client: remote.ServiceClient) -> None:
        self._client = client

    def __repr__(self) -> str:
        return f"Service({self._client.url!r})"

    def submit(
        self,
        question: str | Path | Sweep,
        *,
        overrides: Iterable[str] = (),
        seeds: int | None = None,
        quick: bool = False,
        priority: int = 0,
    ) -> "SubmittedSweep":
        """Hand in a sweep, a shipped name, or the path of a sweep file. The same question twice is the same sweep.

        Args:
            question: what to run. It names only code that the service's operator has there.
            overrides: values to change, as `fixed.epochs=2`.
            seeds: how often each arm is trained, in place of the sweep's own number.
            quick: a first answer, recorded under another name: 1 epoch, 3 to 6 seeds.
            priority: from -10 to 10; of your sweeps the higher ones run first.

        Raises:
            SweepError: the sweep is wrong, a line for each problem; or its code is not in the service.
            ConflictError: another question has this name there.
            UnreachableError: the service does not answer, or refuses the account.
        """
        words = {"seeds": seeds, "quick": quick, "priority": priority}
        if isinstance(question, Sweep):
            if isinstance(question.train, str) and question.train.startswith(MARK):
                raise SweepError(f"{question.name}: its function lives here, and a service runs only its own code")
            content: dict[str, Any] = {"name": question.name, "file": as_yaml(question), "set": [*overrides], **words}
        else:
            content = asked(str(question), [*overrides], seeds, quick=quick, priority=priority)
        sweep, _ = self._client.submit(content)
        return SubmittedSweep(self._client, sweep)

    def sweep(self, id_or_name: str) -> "SubmittedSweep":
        """One that was submitted, by its id; by a name the latest of it."""
        return SubmittedSweep(self._client, self._client.sweep(id_or_name))

    def sweeps(self, *, state: str | None = None, owner: str | None = None, limit: int = 50) -> "list[SubmittedSweep]":
        """The latest, the newest first."""
        return [SubmittedSweep(self._client, each) for each in self._client.sweeps(state, owner, limit)]


class SubmittedSweep:
    """A sweep in a service. A notebook shows it live, below the cell."""

    def __init__(self, client: remote.ServiceClient, sweep: remote.RemoteSweep) -> None:
        self._client, self._sweep = client, sweep
        self.id, self.name, self.page = sweep.id, sweep.name, client.page(sweep.id)

    def __repr__(self) -> str:
        found = self.status
        return f"{found.name}: {found.state}, {found.recorded} of {found.planned} trials: {self.page}"

    @property
    def status(self) -> remote.RemoteSweep:
        """Its state, trials, verdicts, owner and so on, as they are now."""
        self._sweep = self._client.sweep(self.id)
        return self._sweep

    @property
    def report(self) -> Report:
        """The report on what is recorded by now. Raises SweepError if no trial is."""
        found = recorded(self._client, self.status)
        if found is None:
            raise SweepError(f"{self.name}: no trial is recorded yet: wait for it with .wait()")
        return Report.of_record(*found)

    def wait(self, *, progress: bool = True) -> Report:
        """Show progress until it has ended, and give the report. Ctrl-C ends the waiting; the sweep goes on.

        Raises:
            AblateError: it failed or was cancelled, for the reason that it says.
            UnreachableError: the service was away for ten minutes.
        """
        from mnist_ablate.cli.live_view import watch_here

        with watch_here(progress=progress) as watch:
            found = follow(self._client, self.id, watch)
        if found.state != "done":
            raise AblateError(f"{found.name}: {found.state}{f': {found.reason}' if found.reason else ''}")
        return self.report

    def cancel(self) -> None:
        """End it. What is recorded stays."""
        self._sweep = self._client.change(self.id, "cancel")

    def pause(self) -> None:
        """Let its running trials finish, and start no others."""
        self._sweep = self._client.change(self.id, "pause")

    def resume(self) -> None:
        """Go on with it."""
        self._sweep = self._client.change(self.id, "resume")

    def _ipython_display_(self) -> None:
        """Show it live. The cell ends at once; what it shows goes on."""
        from mnist_ablate.cli.live_view import NotebookWatch

        watch = NotebookWatch()
        watch.message(repr(self))
        threading.Thread(target=_show, args=(self._client, self.id, watch), name="show-sweep", daemon=True).start()


def _show(client: remote.ServiceClient, id_: str, watch: "Watch") -> None:
    with watch:
        try:
            found = follow(client, id_, watch)
        except AblateError as error:
            watch.message(str(error))
        else:
            for claim, verdict in found.verdicts.items():
                watch.message(f"{claim}: {verdict}")
