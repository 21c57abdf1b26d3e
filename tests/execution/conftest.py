"""Which fixtures the tests of this folder share."""

from external_cluster import external

__all__ = ["external"]
