"""A Dask cluster in processes of its own."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from external_cluster import Cluster
from mlflow_helpers import free_port


@pytest.fixture
def external(tmp_path: Path) -> Iterator[Cluster]:
    """One whose scheduler is up."""
    with ExitStack() as parts:
        made = Cluster(tmp_path, free_port(), parts)
        made.start()
        yield made
