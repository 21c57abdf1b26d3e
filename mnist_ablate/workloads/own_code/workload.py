"""Users' own training code behind the seam: what a sweep file declares of it, and what it is sent to workers as.

Nothing here runs it. A worker's `trainer` does, in a process of its own.
"""

import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, JsonValue

from mnist_ablate.errors import DataError, SweepError
from mnist_ablate.text import guess, hint, listed, plainly
from mnist_ablate.trial import SOURCES, Outcome, Params, RecordedTrial, Scalar, Source, Status, Trial
from mnist_ablate.workloads.own_code import command_line, signature, source_code
from mnist_ablate.workloads.own_code.declaration import MetricDeclaration, Setting, kind_of, settings_model
from mnist_ablate.workloads.own_code.notebook_function import MARK, NotebookFunction, SentFunction
from mnist_ablate.workloads.workload import Contents, Cost, Inputs, Metric, PlannedSettings, Section, Table


@dataclass(frozen=True)
class OwnCode:
    """See `workloads.workload.Workload`.

    `train` is `module:function` or the parts of a command. `declared` has the settings and `declared_metrics` the
    metrics of the sweep file; `written` has every value that the file gives a setting. `claimed` are the metrics of
    the claims, the first of them the main one. `code` names more files that decide what a trial does. `folder` is that
    of the sweep file. A trial fails after `timeout_s` seconds. `found` are the settings as read from the code.
    `given` is the function itself if it lives in no file; only the process that begins the sweep has it.
    """

    train: str | tuple[str, ...]
    declared: Mapping[str, Setting] = field(default_factory=dict)
    declared_metrics: Mapping[str, MetricDeclaration] = field(default_factory=dict)
    written: Mapping[str, Sequence[Scalar]] = field(default_factory=dict)
    claimed: tuple[str, ...] = ()
    selection_metric: str = ""
    code: tuple[str, ...] = ()
    folder: Path = Path()
    timeout_s: float | None = None
    found: Mapping[str, Setting] | None = None
    given: NotebookFunction | None = None

    name = "own_code"
    version = 1
    fixed_defaults = False
    budget = "epochs"
    derived: Mapping[str, str] = field(default_factory=dict, init=False)
    trainer = "mnist_ablate.workloads.own_code.trainer:trainer"
    shipped_digest = ""
    shipped_name = "the code"
    sources = SOURCES[:0]  # the code gets a seed and decides itself what follows it
    trains_on_gpus = False  # it may, but only it knows

    def __getstate__(self) -> dict[str, Any]:
        """Without what was worked out: a model that was made here cannot be sent to a worker, nor can the function."""
        kept = {name: vars(self)[name] for name in self.__dataclass_fields__ if name in vars(self)}
        return {**kept, "given": None}

    @property
    def template(self) -> str:
        """No new sweep file is made for code that is not there yet."""
        return ""

    @cached_property
    def known_settings(self) -> Mapping[str, Setting]:
        """The settings that the code has: those of its signature or command line, completed by the sweep file.

        Raises SweepError if the function cannot be used.
        """
        if self.found is not None:
            return self.found
        found, is_open = self._own_settings()
        names = [*found, *self.declared, *(self.written if is_open else ())]
        return {name: self._merged(name, found.get(name)) for name in dict.fromkeys(names)}

    def _own_settings(self) -> tuple[Mapping[str, Setting], bool]:
        """What the code itself says of its settings, and whether it takes others."""
        if not isinstance(self.train, str):
            names = command_line.named_settings(self.train)
            return dict.fromkeys(names, Setting()), command_line.takes_all(self.train)
        found, named = self._signature(), {*self.written, *self.declared}
        optional = {name: about for name, about in found.optional.items() if name in named}
        return {**found.settings, **optional}, found.is_open

    def _signature(self) -> signature.Signature:
        if self.given is not None:
            return self.given.signature
        if self.module == MARK.rstrip(":"):
            where = f"{plainly(self.function)} is a function of a notebook or a script, and no file has it"
            raise SweepError(f"{where}: run the sweep there, or move it into a file: train: module:{self.function}")
        path = source_code.module_path(self.folder, self.module)
        if path is None:
            known = hint(self.module, sorted(each.stem for each in self.folder.glob("*.py")), "beside it")
            raise SweepError(f"no module {plainly(self.module)} beside the sweep file, and none is installed; {known}")
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SweepError(f"{plainly(path.name)}: cannot be read: {error}") from None
        return signature.read_signature(text, path.name, self.function)

    def _merged(self, name: str, own: Setting | None) -> Setting:
        """A setting as the code and the sweep file say; a type that neither says is that of the values."""
        given = self.declared.get(name)
        content = own.model_dump(exclude_defaults=True) if own else {}
        content |= given.model_dump(exclude_defaults=True) if given else {}
        if content.get("type") is None:
            values = [*self.written.get(name, ()), *content.get("choices", ())]
            default = content.get("default")
            content["type"] = kind_of([*values, *([] if default is None else [default])])
        return Setting.model_validate(content)

    @property
    def module(self) -> str:
        """The module of the function; empty for a program."""
        return self.train.partition(":")[0].removesuffix(".py") if isinstance(self.train, str) else ""

    @property
    def function(self) -> str:
        """The name of the function; empty for a program."""
        return self.train.partition(":")[2] if isinstance(self.train, str) else ""

    @cached_property
    def settings(self) -> type[BaseModel]:
        """A model with a field for each setting."""
        return settings_model(self.known_settings)

    @cached_property
    def metrics(self) -> Mapping[str, Metric]:
        """What is declared, and what claims name."""
        declared = {name: about.metric(name) for name, about in self.declared_metrics.items()}
        return {**{name: Metric(name) for name in self.claimed}, **declared}

    @property
    def runs_code(self) -> str:
        """What is called."""
        if self.module == MARK.rstrip(":"):
            return f"the function {self.function}"
        return self.train if isinstance(self.train, str) else " ".join(self.train)

    @property
    def main_metric(self) -> str:
        """That of the first claim, else the first that is declared."""
        return next(iter((*self.claimed, *self.declared_metrics)), "")

    @property
    def choices(self) -> Mapping[str, Mapping[str, str]]:
        """The texts that settings can have, which have no description."""
        texts = {name: [str(each) for each in about.choices] for name, about in self.known_settings.items()}
        return {
            name: dict.fromkeys(names, "")
            for name, names in texts.items()
            if names and all(isinstance(each, str) for each in self.known_settings[name].choices)
        }

    def complete(self, settings: Mapping[str, Scalar]) -> Params:
        """The settings with the defaults of those that have one."""
        found: Params = self.settings.model_validate(settings).model_dump()
        return found

    def conflicts(self, settings: Params) -> Iterator[tuple[str, str]]:
        """Only the code knows which settings go together."""
        yield from ()

    def shares_trainings(self, settings: Mapping[str, Scalar]) -> bool:
        """The code may look at its budget."""
        return False

    def lane_group(self, trial: Trial) -> None:
        """Only the code knows what it can train at once."""

    def is_used(self, setting: str, settings: Mapping[str, Scalar]) -> bool:
        """Every setting may have a meaning."""
        return True

    def pace(self, settings: Mapping[str, Scalar]) -> str:
        """One for all."""
        return "trial"

    def load(self, source: str | Path | bytes | None, *, run_code: bool = True) -> "Code":
        """The files that decide what a trial does: those of the sweep file's folder, or packed ones, as workers get.

        Raises DataError if there is no such module.
        """
        if isinstance(source, bytes):
            files = source_code.unpack(source, Path(tempfile.mkdtemp(prefix="mnist-ablate-code-")))
            if self.module == MARK.rstrip(":"):
                return _unpacked(self, files)
            is_sent = not self.module or source_code.file_of(files.folder, self.module)
            installed = "" if is_sent else source_code.installed_digest(self.module)
            return Code(self, replace(files, installed=installed))
        if source is not None:
            raise DataError("--data: the code of this sweep reads its own data; name the files under code:")
        if not isinstance(self.train, str):
            return Code(self, source_code.of_command(self.folder, self.train, self.code))
        if self.given is not None:
            sent, files = self.given.in_folder(self.folder, self.code)
            return Code(self, files, sent)
        self._signature()  # is there
        return Code(self, source_code.of_module(self.folder, self.module, self.code))

    def check(self, inputs: Inputs, planned: PlannedSettings) -> None:
        """Only the code knows."""

    def sent(self, inputs: Inputs, source: str | None) -> bytes | None:
        """The files, packed."""
        return cast("Code", inputs).packed()

    def prepare(self, planned: PlannedSettings, given: Path | None, say: Callable[[str], None]) -> None:
        """Nothing is fetched."""

    def warnings(self, planned: PlannedSettings, given: Path | None) -> list[str]:
        """That the function takes no seed."""
        if self.function and not self._signature().takes_seed:
            return [f"{self.train} has no parameter seed: if it draws at random, its results cannot be repeated"]
        return []

    def environment(self, given: Path | None) -> dict[str, str]:
        """The variables of the driver are the worker's."""
        return {}

    def shared(self) -> AbstractContextManager[dict[str, str]]:
        """Nothing."""
        return nullcontext({})

    def fingerprints(self, inputs: Inputs, planned: PlannedSettings) -> list[dict[str, JsonValue]]:
        """Each file with its size and sha256, and a function that lives in no file."""
        code = cast("Code", inputs)
        files = code.source.described()
        if code.sent is not None:
            files.insert(0, (self.runs_code, len(code.sent.content), code.sent.digest))
        return [{"file": name, "bytes": size, "sha256": digest} for name, size, digest in files]

    def cost(self, inputs: Inputs, arms: Sequence[Params]) -> Cost | None:
        """Unknown: a plan runs no code."""
        return None

    def generalization(self, vary: Sequence[Source]) -> str:
        """The code alone knows: nothing of `vary` can be chosen."""
        return "The verdicts generalize over what the code makes of its seed; all else stays the same."

    def implied_metrics(self, settings: Mapping[str, Scalar], data_digest: str, outcome: Outcome) -> dict[str, float]:
        """Only the code knows how its metrics follow from its steps."""
        return {}

    def open_model(self, folder: Path) -> Any:
        """Users' code keeps its own models."""
        raise DataError("models of your own code are not kept; your code can write them to trial_dir")

    def input_section(self, contents: Contents) -> Section:
        """The files that decide what a trial does."""
        rows = tuple((str(each["file"]), f"{each['bytes']:,}", str(each["sha256"])[:16]) for each in contents)
        short = {file: [f"{size} bytes, sha256 {digest}"] for file, size, digest in rows}
        table = Table(("file", "bytes", "sha256"), rows)
        return Section(
            "code", "The code of the trials", "Files that decide what a trial does.", (), (table,), short=short
        )

    def input_alarms(self, contents: Contents) -> list[str]:
        """Nothing is known to be wrong with code before it runs."""
        return []

    def diagnostic_sections(self, arms: Mapping[str, Sequence[RecordedTrial]]) -> list[Section]:
        """What the code says of its trials beside the metrics, averaged for each arm."""
        names = dict.fromkeys(name for trials in arms.values() for each in trials for name in each.outcome.diagnostics)
        if not names:
            return []
        rows = tuple((arm, *(_mean_of(trials, name) for name in names)) for arm, trials in arms.items())
        return [Section("diagnostics", "Diagnostics", tables=(Table(("arm", *names), rows, "Means over the seeds."),))]


def _mean_of(trials: Sequence[RecordedTrial], name: str) -> str:
    found = [each.outcome.diagnostics[name] for each in trials if name in each.outcome.diagnostics]
    return f"{sum(found) / len(found):.4g}" if found else ""


@dataclass(frozen=True)
class Code:
    """See `workloads.workload.Inputs`: the files of users' code, and what their sweep says of them.

    `sent` is a function that lives in no file.
    """

    workload: OwnCode
    source: source_code.SourceCode
    sent: SentFunction | None = None

    @property
    def digest(self) -> str:
        """That of the files, and of how they are called."""
        return self.source.digest_with(json.dumps(self.workload.train) + (self.sent.digest if self.sent else ""))

    def packed(self) -> bytes:
        """What workers get."""
        own = ((_PICKLE, self.sent.content), (_DIGEST, self.sent.digest.encode())) if self.sent else ()
        return source_code.SourceCode(self.source.folder, (*self.source.files, *own)).packed()

    @property
    def pickle(self) -> str:
        """The file of a function that was unpacked here; empty if it is imported."""
        return str(self.source.folder / _PICKLE) if self.sent else ""

    def usable_folder(self) -> Path:
        """The folder of the sweep file where it has the same files, as on this machine; else where they were unpacked.

        So a function can read data files beside it, which are not sent.
        """
        own = self.workload.folder
        return own if self.source.is_in(own) else self.source.folder

    def request(self, trial: Trial, folder: Path, trial_dir: Path) -> dict[str, Any]:
        """What the runner is told to run."""
        train = self.workload.train
        command = None if isinstance(train, str) else _with_path(train, folder)
        filled = command and command_line.arguments(command, trial.settings, trial.seed, trial_dir)
        return {
            "settings": trial.settings,
            "seed": trial.seed,
            "trial_dir": str(trial_dir),
            "folder": str(folder),
            "metric": self.workload.selection_metric if trial.is_blind else self.workload.main_metric,
            "timeout_s": self.workload.timeout_s,
            "command": filled,
        }

    def judged(self, reported: Mapping[str, float], trial: Trial) -> tuple[Status, str, dict[str, float]]:
        """The status that reported metrics give a trial, why, and the metrics that count.

        A number that is not finite is a divergence: it counts with the worse bound. Without a bound the trial failed.
        A blind trial has no metrics of the test set.
        """
        workload = self.workload
        shown = {name: value for name, value in reported.items() if not (trial.is_blind and name.startswith("test"))}
        wanted = (workload.selection_metric,) if trial.is_blind else workload.claimed
        for name in filter(None, wanted):
            if name not in shown:
                close = f"; {guess(name, shown)}" if guess(name, shown) else ""
                return "failed", f"reported {listed(shown) or 'no metric'}, not {name}{close}", {}
        counted, lacking = {}, []
        for name, value in shown.items():
            known = workload.metrics.get(name, Metric(name))
            if math.isfinite(value) and not known.low <= value <= known.high:
                return "failed", f"{name} is {value:g}, but {known.low:g} to {known.high:g} is declared", {}
            if not math.isfinite(value) and name in workload.metrics:
                lacking.append(f"{name} is {value}")
                value = known.low if known.better == "higher" else known.high  # noqa: PLW2901 - the value that counts
                if not math.isfinite(value):
                    return "failed", f"{lacking[-1]}, and metrics: declares no worst value for it (low, high)", {}
            if math.isfinite(value):
                counted[name] = value
        return ("diverged" if lacking else "complete"), "; ".join(lacking), counted


_PICKLE, _DIGEST = ".function/pickle", ".function/digest"
"""What a function that lives in no file travels as, beside the files."""


def _unpacked(workload: OwnCode, source: source_code.SourceCode) -> Code:
    """What a worker got."""
    files = dict(source.files)
    content, digest = files.pop(_PICKLE, b""), files.pop(_DIGEST, b"")
    sent = SentFunction(content, digest.decode()) if content else None
    return Code(workload, source_code.SourceCode(source.folder, tuple(files.items())), sent)


def _with_path(command: Sequence[str], folder: Path) -> list[str]:
    """The program by its path if it is a file beside the sweep file: `train.sh` as well as `./train.sh`."""
    program = folder / command[0]
    return [str(program) if program.is_file() else command[0], *command[1:]]
