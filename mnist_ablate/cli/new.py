"""`new` begins a sweep file, `schema` prints what editors check one with; nothing is trained or recorded."""

import json
import unicodedata
from pathlib import Path
from typing import Annotated

import typer

from mnist_ablate.errors import SweepError

SCHEMA_FILE = "mnist-ablate.schema.json"


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the sweep is called; NAME.yaml is written.")],
) -> None:
    """Begin a sweep file: NAME.yaml with every key explained, ready for `plan`."""
    from mnist_ablate.sweep import json_schema, sweep_file
    from mnist_ablate.sweep.sweep import NAME_RULE, is_name
    from mnist_ablate.text import plainly

    name = unicodedata.normalize("NFC", name.removesuffix(".yaml"))
    if not is_name(name):
        raise SweepError(f"{plainly(name)}: {NAME_RULE}")
    if name in sweep_file.shipped():
        raise SweepError(f"{name}: a shipped sweep has this name: choose another")
    path = Path(f"{name}.yaml")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(sweep_file.template(name, SCHEMA_FILE))
    except FileExistsError:
        raise SweepError(f"{path}: exists already and is left as it is: choose another name") from None
    if not Path(SCHEMA_FILE).exists():
        Path(SCHEMA_FILE).write_text(_text(json_schema.schema()), encoding="utf-8")
    typer.echo(path)
    typer.echo(f"edit it, then: mnist-ablate plan {path}", err=True)


def schema() -> None:
    """Print the JSON schema of sweep files, for editors."""
    from mnist_ablate.sweep import json_schema

    typer.echo(_text(json_schema.schema()), nl=False)


def _text(content: object) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
