"""What is sent to the service and comes back, as far as both sides know it. Imports no server and no database."""

from pydantic import BaseModel, ConfigDict, Field

PROBLEM = "application/problem+json"


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Changes(_Message):
    """What is changed of a sweep file, as by the options of `sweep`, and when it is run."""

    set: tuple[str, ...] = Field(default=(), description="Changes, such as fixed.epochs=2.", max_length=200)
    seeds: int | None = Field(default=None, ge=1, le=1000, description="Seeds per arm, in place of the file's.")
    quick: bool = Field(default=False, description="A first answer: 1 epoch, 3 to 6 seeds, exploratory.")
    priority: int = Field(default=0, ge=-10, le=10, description="Among the sweeps of one user: higher ones first.")


class Asked(Changes):
    """A sweep as somebody asks for it: a shipped one by its `name`, or one of this `name` by the text of its `file`."""

    name: str = Field(description="That of a shipped sweep, or of the file's sweep.", max_length=200)
    file: str = Field(default="", description="The text of a sweep file. Empty for a shipped sweep.")


class InAddress(Changes):
    """What stands in the address if the body is a sweep file."""

    name: str = Field(default="", description="What the sweep of the file is called.", max_length=200)


class Priority(_Message):
    """Among the sweeps of one user the higher goes first."""

    priority: int = Field(ge=-10, le=10)


class ShippedSweep(_Message):
    """A sweep that the package has, and the text of its file."""

    name: str
    question: str
    file: str


class Place(_Message):
    """One problem of a sweep file: its line and column from 1, both 0 for that of a change, and what is wrong."""

    line: int
    column: int
    text: str


class Problem(_Message):
    """Why a request came to nothing (RFC 9457). `detail` has the lines that the command line writes.

    `exit_code` is what the command line ends with then.
    """

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    exit_code: int = 1
    places: tuple[Place, ...] = ()
