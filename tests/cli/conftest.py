"""Which fixtures the tests of this folder share."""

from in_process import call

__all__ = ["call"]
