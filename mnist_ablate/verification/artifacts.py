"""Can every artifact that MLflow lists be fetched? Reads the files of a store in a home, asks a server for others."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from mnist_ablate.errors import UnreachableError, one_line
from mnist_ablate.tracking.client import translate_errors
from mnist_ablate.tracking.home_store import ARTIFACTS

_CHUNK = 1 << 20


def in_home(store: Path, artifact_uri: str) -> dict[str, str]:
    """The artifacts of a run of a store in a home, each with what keeps it from being fetched, '' for nothing.

    An address from before the home was moved is read where the home is now.
    """
    path = unquote(urlsplit(artifact_uri).path) if artifact_uri.startswith("file:") else artifact_uri
    before, moved, rest = path.partition(f"/{ARTIFACTS}/")
    folder = store.parent / ARTIFACTS / rest if moved else Path(before)
    return {str(file.relative_to(folder)): _unreadable(file) for file in sorted(folder.rglob("*")) if not file.is_dir()}


def _unreadable(file: Path) -> str:
    try:
        with file.open("rb") as content:
            while content.read(_CHUNK):
                pass
    except OSError as error:
        return str(error.strerror)
    return ""


def of_server(client: Any, uri: str, run_id: str) -> dict[str, str]:
    """The same of a run that a server has, fetched from it."""
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for path in _listed(client, uri, run_id):
            try:
                with translate_errors(uri):
                    client.download_artifacts(run_id, path, folder)
                found[path] = ""
            except UnreachableError as error:
                found[path] = one_line(str(error))
    return found


def _listed(client: Any, uri: str, run_id: str) -> Iterator[str]:
    folders: list[str | None] = [None]
    while folders:
        with translate_errors(uri):
            files = client.list_artifacts(run_id, folders.pop())
        for file in files:
            if file.is_dir:
                folders.append(file.path)
            else:
                yield file.path
