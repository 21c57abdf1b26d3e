"""What a person can ask of the service, for its API and its pages alike, from queue and ledger. Runs nothing."""

import hashlib
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from sqlalchemy import select

from mnist_ablate.errors import AblateError, SweepError
from mnist_ablate.execution import recorded_report
from mnist_ablate.execution.preview import Preview, outline
from mnist_ablate.ledger import backup
from mnist_ablate.ledger.ledger import Ledger, Record
from mnist_ablate.reports.report import Report
from mnist_ablate.service import code_paths
from mnist_ablate.service.accounts import Account
from mnist_ablate.service.limits import LimitsFile
from mnist_ablate.service.messages import Asked, ShippedSweep
from mnist_ablate.service.queue import Queue
from mnist_ablate.service.submissions import SUBMISSIONS, AuditEntry, State, Submission, submission
from mnist_ablate.settings import Settings
from mnist_ablate.sweep import sweep_file
from mnist_ablate.sweep.plan import make_plan
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.text import hint, plainly, shortened, shown

Form = Literal["json", "html", "svg"]
Change = Literal["cancel", "pause", "resume"]
MEDIA_TYPES: dict[Form, str] = {"json": "application/json", "html": "text/html", "svg": "image/svg+xml"}
_MOST_PLANS, _MOST_DOCUMENTS = 500, 200
T = TypeVar("T")


class NotFoundError(AblateError, exit_code=2):
    """There is nothing of this name or id."""


class NotAllowedError(AblateError, exit_code=3):
    """The account may not do this."""


@dataclass(frozen=True)
class Document:
    """A report as it is sent. The `etag` is another one as soon as another trial is recorded."""

    content: bytes
    media_type: str
    etag: str


class _Latest(Generic[T]):
    """The last values that were asked for, each made once."""

    def __init__(self, most: int) -> None:
        self._most, self._kept, self._lock = most, OrderedDict[Any, T](), threading.Lock()

    def get(self, key: object, make: Callable[[], T]) -> T:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return made


class SweepService:
    """Asks the `queue` and the ledger of `settings`. Every method may wait for the database, and threads share it.

    Sweeps may name code and data that lie in `folders`. `limits` is the operator's file: SweepError if it is wrong.
    """

    def __init__(
        self, queue: Queue, settings: Settings, folders: Sequence[Path] = (), limits: Path | None = None
    ) -> None:
        self.queue, self.settings = queue, settings
        self._limits = LimitsFile(limits)
        self._folders = [folder.resolve() for folder in folders]
        self._plans = _Latest[Preview](_MOST_PLANS)
        self._documents = _Latest[Document](_MOST_DOCUMENTS)
        self._inputs: tuple[Any] | None = None
        self._ledger = Ledger(settings.ledger_url)
        self._opening, self._drawing = threading.Lock(), threading.Lock()

    def read(self, asked: Asked) -> Sweep:
        """The sweep that somebody asks for. Raises SweepError with the place of every problem."""
        text: str | bytes = asked.file
        if not asked.file.strip():
            known = sweep_file.shipped()
            if asked.name not in known:
                rest = f"{hint(asked.name, known, 'shipped')}; or send the text of a sweep file"
                raise SweepError(f"no sweep named {shown(asked.name)}: {rest}")
            text = known[asked.name].read_bytes()
        return code_paths.load(
            text, asked.name, self._folders, overrides=asked.set, seeds=asked.seeds, quick=asked.quick
        )

    def check(self, asked: Asked) -> Preview:
        """What a sweep would train, at once: nothing is timed, nothing is registered."""
        return self._outline(self.read(asked))

    def submit(self, asked: Asked, account: Account, where: str) -> tuple[Submission, bool]:
        """Register a sweep, and say whether it is new. The same question twice is the same submission."""
        if not account.may_submit:
            raise NotAllowedError(f"{account.name} may look, not submit: ask the operator for another role")
        sweep = self.read(asked)
        planned = self._outline(sweep).trials
        return self.queue.submit(
            sweep,
            owner=account.name,
            priority=asked.priority,
            planned=planned,
            where=where,
            limits=self._limits.current(),
        )

    def submissions(
        self, state: State | None = None, owner: str | None = None, limit: int = 50, before: int | None = None
    ) -> Sequence[Submission]:
        """The latest submissions, without their texts."""
        return self.queue.list(state=state, owner=owner, limit=limit, before=before)

    def submission(self, id_or_name: str) -> Submission:
        """One submission by its id, or the latest of a name."""
        is_id = SUBMISSIONS.c.id == id_or_name
        query = select(SUBMISSIONS).where(is_id | (SUBMISSIONS.c.name == id_or_name))
        with self.queue.reading() as connection:
            row = connection.execute(query.order_by(is_id.desc(), SUBMISSIONS.c.number.desc()).limit(1)).one_or_none()
        if row is None:
            raise NotFoundError(f"{plainly(shortened(id_or_name))}: no such submission: list them to see their ids")
        return submission(row)

    def change(self, id_: str, change: Change, account: Account, where: str) -> Submission:
        """Cancel, pause or resume a submission. Raises ConflictError where that makes no sense."""
        found = self._owned(id_, account)
        ask = {"cancel": self.queue.cancel, "pause": self.queue.pause, "resume": self.queue.resume}[change]
        return ask(found.id, by=account.name, where=where)

    def set_priority(self, id_: str, priority: int, account: Account, where: str) -> Submission:
        """Say which of one user's sweeps goes first."""
        found = self._owned(id_, account)
        return self.queue.set_priority(found.id, priority, by=account.name, where=where)

    def _owned(self, id_: str, account: Account) -> Submission:
        """A submission that the account may change. Raises NotAllowedError for another one."""
        found = self.submission(id_)
        if not account.may_change(found.owner):
            whose = f"{account.name} may not change a sweep of {found.owner}"
            raise NotAllowedError(f"{whose}: ask {found.owner} or an operator")
        return found

    def audit(self, account: Account, limit: int = 100, before: int | None = None) -> Sequence[AuditEntry]:
        """Who asked for what, and from where; for operators."""
        if not account.is_operator:
            raise NotAllowedError(f"{account.name} may not read the audit record: only operators may")
        return self.queue.audit(limit=limit, before=before)

    @cached_property
    def catalog(self) -> Sequence[ShippedSweep]:
        """The sweeps that ship, by name."""
        paths = sweep_file.shipped()
        texts = {name: path.read_text(encoding="utf-8") for name, path in paths.items()}
        return [
            ShippedSweep(name=name, question=sweep_file.load(name).question, file=text) for name, text in texts.items()
        ]

    def plan(self, id_: str) -> Preview:
        """What a submission trains."""
        found = self.submission(id_)
        return self._plans.get(found.id, lambda: self._outline(code_paths.load(found.text, found.name, self._folders)))

    def report(self, id_: str) -> Report:
        """What is recorded of a submission, judged. Raises NotFoundError before its first trial."""
        return recorded_report.report_of(self._record(self.submission(id_)))

    def document(self, id_: str, form: Form) -> Document:
        """A report in a format, kept until another trial is recorded."""
        record = self._record(self.submission(id_))
        version = f"{record.name} {record.registered} {record.count()} {form}"
        etag = hashlib.sha256(version.encode()).hexdigest()[:32]
        return self._documents.get(etag, lambda: Document(self._written(record, form), MEDIA_TYPES[form], etag))

    def records(self, id_: str) -> bytes:
        """Everything that is recorded under the name of a submission, as `export` writes it."""
        found = self._record(self.submission(id_))
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "records.zip"
            backup.export(self.settings.ledger_url, [found.sweep.name], target)
            return target.read_bytes()

    def _written(self, record: Record, form: Form) -> bytes:
        found = recorded_report.report_of(record)
        if form == "json":
            return found.model_dump_json().encode()
        with self._drawing:  # matplotlib draws in one thread at a time
            from mnist_ablate.reports import charts, drawing, html  # here, because they import matplotlib

            shown_ = recorded_report.recorded_sweep(record)
            if form == "html":
                return html.html(found, shown_).encode()
            try:
                return drawing.to_svg_file(charts.main_chart(found, shown_)).encode()
            except SweepError as error:  # it has no claims, and no trial to show
                raise NotFoundError(str(error)) from None

    def _record(self, found: Submission) -> Record:
        nothing = NotFoundError(f"{found.name}: no trial is recorded yet: it is {found.state}")
        try:
            record = self._ledger.find(found.name)
        except SweepError:
            raise nothing from None
        if record.sweep.digest != found.digest or not record.count():
            raise nothing
        return record

    def _outline(self, sweep: Sweep) -> Preview:
        data = code_paths.data_for(sweep, self.settings.data)
        inputs = sweep.workload.load(data, run_code=False) if self._is_own(sweep) else self._usual_inputs(sweep)
        return outline(make_plan(sweep, inputs.digest, self.settings.max_trials), inputs, self.settings.weights)

    @staticmethod
    def _is_own(sweep: Sweep) -> bool:
        return bool(sweep.train or sweep.data or sweep.choices)

    def _usual_inputs(self, sweep: Sweep) -> Any:
        """The images of all sweeps that bring none, loaded once."""
        with self._opening:
            if self._inputs is None:
                self._inputs = (sweep.workload.load(self.settings.data, run_code=False),)
            return self._inputs[0]
