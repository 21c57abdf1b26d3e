"""Arguments and options that several commands share, and what they stand for; no command is here."""

import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from mnist_ablate.settings import Settings, default_home


def complete_source(incomplete: str) -> Iterator[str]:
    """The shipped sweeps and the sweep files that a word on the command line can become."""
    from mnist_ablate.sweep import sweep_file

    head, slash, _ = incomplete.rpartition("/")
    files = sorted(str(path) for pattern in ("*.yaml", "*.yml") for path in Path(head + slash).glob(pattern))
    yield from (name for name in [*sweep_file.shipped(), *files] if name.startswith(incomplete))


def named(metavar: str, meaning: str | None = None) -> Any:
    """An argument that names a sweep, by its own name or its file's."""
    return typer.Argument(metavar=metavar, help=meaning, autocompletion=complete_source)


Source = Annotated[str, named("NAME|FILE", "A shipped sweep, or a sweep file.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and only JSON, on stdout.")]
Home = Annotated[Path | None, typer.Option(help="Where results are kept [MNIST_ABLATE_HOME, else .mnist-ablate].")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Change the sweep, e.g. fixed.epochs=2.")
]
Seeds = Annotated[int | None, typer.Option(min=1, help="Seeds per arm, in place of the file's.")]
Jobs = Annotated[int | None, typer.Option(min=1, help="Worker processes [one per core, or GPU].")]
Lanes = Annotated[int | None, typer.Option(min=1, help="Trials that a worker trains at once [1; on a GPU 32].")]
Data = Annotated[
    str | None,
    typer.Option(metavar="FILE.npz", help="Images: FILE.npz in Keras's layout, idx:FOLDER, or module:function."),
]
Weights = Annotated[
    Path | None, typer.Option(metavar="FILE", help="For weights: imagenet [MNIST_ABLATE_WEIGHTS, else Keras's cache].")
]
Quick = Annotated[
    bool, typer.Option(help="A first answer: 1 epoch, 3 to 6 seeds, exploratory, recorded under NAME-quick.")
]
MaxTrials = Annotated[int, typer.Option(min=1, help="Refuse a larger plan.")]
Service = Annotated[
    str | None, typer.Option("--service", metavar="URL", help="A sweep service [MNIST_ABLATE_SERVICE].")
]
TlsCaFile = Annotated[Path | None, typer.Option(metavar="PEM", help="TLS: the certificate of the cluster's authority.")]
TlsCert = Annotated[Path | None, typer.Option(metavar="PEM", help="TLS: the certificate to show.")]
TlsKey = Annotated[Path | None, typer.Option(metavar="PEM", help="TLS: its private key.")]


def name_of(source: str) -> str:
    """The name of a recorded sweep: a file's own, a shipped one's, or one recorded with --quick."""
    name = Path(source).name.rpartition(".")[0] if source.lower().endswith((".yaml", ".yml")) else source
    return unicodedata.normalize("NFC", name)


def settings_of(home: Path | None) -> Settings:
    """The settings of a command on what is recorded; the rest is left to environment and default."""
    return Settings(home or default_home())
