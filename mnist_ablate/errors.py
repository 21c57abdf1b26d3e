"""Every error a user can meet, each with the exit code of the command; no recovery logic."""


class AblateError(Exception):
    """One line: what is wrong, where, and what to do next."""

    exit_code = 1


class SweepError(AblateError):
    """The command or the sweep file is wrong; nothing was created."""

    exit_code = 2


class UnreachableError(AblateError):
    """The tracker, the database or the cluster does not answer, or refused the credentials."""

    exit_code = 3


class DataError(AblateError):
    """The data set or a weights file is missing, damaged or of another shape."""

    exit_code = 4


class DiskError(AblateError):
    """The disk is full or read-only."""

    exit_code = 5


class ConflictError(AblateError):
    """Another driver holds the sweep, or the stored sweep differs from the file."""

    exit_code = 6
