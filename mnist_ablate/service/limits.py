"""What each user may have at once, by the operator's file, which is read again when it changes. Counts nothing."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mnist_ablate.errors import SweepError, one_line


class UserLimits(BaseModel):
    """The limits of a user; None is no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sweeps: int | None = Field(default=None, ge=1, description="Sweeps that run at once.")
    trials: int | None = Field(default=None, ge=1, description="Trials of all sweeps that have not ended.")
    processor_hours: float | None = Field(default=None, ge=0, description="Hours of training in the last `days`.")
    weight: float = Field(default=1.0, ge=0.01, le=100, description="The share of workers, beside that of others.")
    mail: str = Field(default="", pattern=r"^$|^[^@\s]+@[^@\s]+$", description="Who is told when a sweep ends.")


class Limits(BaseModel):
    """`default` for everybody, and for the users named what differs from it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    days: Annotated[float, Field(gt=0)] = 30.0
    default: UserLimits = UserLimits()
    users: dict[str, UserLimits] = {}

    def of(self, user: str) -> UserLimits:
        """What holds for a user."""
        own = self.users.get(user, UserLimits())
        return self.default.model_copy(update={name: getattr(own, name) for name in own.model_fields_set})

    @property
    def weights(self) -> dict[str, float]:
        """The weights of those who are named; that of everybody else is `default.weight`."""
        return {user: self.of(user).weight / self.default.weight for user in self.users}


@dataclass
class LimitsFile:
    """The operator's file, or none. One that became wrong while it is used changes nothing: `problem` says why."""

    path: Path | None = None
    problem: str = ""
    _read: tuple[object, Limits] = field(default=(None, Limits()), init=False)

    def __post_init__(self) -> None:
        """Raises SweepError if the file is wrong from the start."""
        self.current()
        if self.problem:
            raise SweepError(self.problem)

    def current(self) -> Limits:
        """The limits as they are now."""
        if self.path is None:
            return self._read[1]
        try:
            state = self.path.stat()
            seen = (state.st_mtime_ns, state.st_size, state.st_ino)
            if seen != self._read[0]:
                content = yaml.safe_load(self.path.read_text(encoding="utf-8"))
                self._read, self.problem = (seen, Limits.model_validate(content or {})), ""
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            self.problem = f"{self.path}: {where}: {one_line(first['msg'])}"
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            self.problem = f"{self.path}: cannot be read: {one_line(str(error))}"
        return self._read[1]
