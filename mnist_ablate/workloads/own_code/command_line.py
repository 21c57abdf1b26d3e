"""The arguments of a users' program from a template: `--lr={lr}`, `{amp?--amp}`; starts nothing."""

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mnist_ablate.trial import Scalar

_PLACE = re.compile(r"\{\{|\}\}|\{(\w+)(?:\?([^{}:]*)(?::([^{}]*))?)?\}")
GIVEN = ("seed", "trial_dir", "settings", "settings_file", "python")
"""Places that are filled in beside those of settings."""


def named_settings(command: Sequence[str]) -> list[str]:
    """The settings that a command names, in its order."""
    names = (match[1] for part in command for match in _PLACE.finditer(part))
    return list(dict.fromkeys(name for name in names if name and name not in GIVEN))


def takes_all(command: Sequence[str]) -> bool:
    """Whether the program can read any setting: from `{settings}` or `{settings_file}`, or because it names none."""
    names = {match[1] for part in command for match in _PLACE.finditer(part)}
    return bool(names & {"settings", "settings_file"}) or not named_settings(command)


def arguments(command: Sequence[str], settings: Mapping[str, Scalar], seed: int, trial_dir: Path) -> list[str]:
    """The command with every place filled in. `{settings_file}` is written as JSON, which YAML readers read too."""
    whole = json.dumps(settings)
    path = trial_dir / "settings.json"
    if any("{settings_file}" in part for part in command):
        trial_dir.mkdir(parents=True, exist_ok=True)
        path.write_text(whole, encoding="utf-8")
    known = {
        **settings,
        "seed": seed,
        "trial_dir": str(trial_dir),
        "settings": whole,
        "settings_file": str(path),
        "python": sys.executable,
    }
    return [*_filled(command, known)]


def _filled(command: Sequence[str], known: Mapping[str, Scalar]) -> Iterator[str]:
    """A part that consists of places alone and comes out empty is left out: `{amp?--amp}` where amp is false."""

    def text(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0][0]
        value = known[match[1]]
        if match[2] is not None:
            return match[2] if value else match[3] or ""
        return str(value).lower() if isinstance(value, bool) else str(value)

    for part in command:
        filled = _PLACE.sub(text, part)
        if filled or _PLACE.sub("", part):
            yield filled
