"""Arguments and options that several commands share, and what they stand for; no command is here."""

import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mnist_ablate.settings import Settings


def complete_source(incomplete: str) -> Iterator[str]:
    """The shipped sweeps and the sweep files that a word on the command line can become."""
    from mnist_ablate.sweep import sweep_file

    head, slash, _ = incomplete.rpartition("/")
    parent = Path(head + slash)
    files = sorted(str(path) for pattern in ("*.yaml", "*.yml") for path in parent.glob(pattern))
    yield from (name for name in [*sweep_file.shipped(), *files] if name.startswith(incomplete))


Source = Annotated[
    str,
    typer.Argument(metavar="NAME|FILE", help="A shipped sweep, or a sweep file.", autocompletion=complete_source),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and only JSON, on stdout.")]
Home = Annotated[Path | None, typer.Option(help="Where results are kept [MNIST_ABLATE_HOME, else .mnist-ablate].")]

TlsCaFile = Annotated[Path | None, typer.Option(metavar="PEM", help="TLS: the certificate of the cluster's authority.")]
TlsCert = Annotated[Path | None, typer.Option(metavar="PEM", help="TLS: the certificate to show.")]
TlsKey = Annotated[Path | None, typer.Option(metavar="PEM", help="TLS: its private key.")]


def name_of(source: str) -> str:
    """The name of a recorded sweep: a file's own, a shipped one's, or one recorded with --quick."""
    name = Path(source).name.rpartition(".")[0] if source.lower().endswith((".yaml", ".yml")) else source
    return unicodedata.normalize("NFC", name)


def settings_of(home: Path | None, data: Path | None = None, **rest: Any) -> "Settings":
    """The settings of a command; what was not given is left to environment and default."""
    from mnist_ablate.settings import Settings, default_home

    return Settings(home=home or default_home(), data=data, **rest)
