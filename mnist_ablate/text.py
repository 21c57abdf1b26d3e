"""Counts, arms and values as text, for reports and messages alike; knows no metrics and no verdicts."""

import difflib
import re
from collections.abc import Iterable, Mapping

_MAX_SHOWN = 60
_MAX_LISTED = 30


def counted(n: int, noun: str) -> str:
    """How many of what: `1 seed`, `2 seeds`, `1,000 seeds`."""
    return f"{n:,} {noun}{'s' * (n != 1)}"


def arm_name(params: Mapping[str, object]) -> str:
    """An arm in words: those as they are, other values with their factor: `centered dropout=0.5`."""
    return " ".join(v if isinstance(v, str) else f"{name}={value_name(v)}" for name, v in params.items())


def value_name(value: object) -> str:
    """A factor's value; of a number the digits that matter."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def rate(share: float) -> str:
    """A share of all trainings in percent: `31%`; of a small one, the first digit that is not zero: `0.006%`."""
    return f"{share:.0%}" if share >= 0.01 else f"{100 * share:.1g}%"  # noqa: PLR2004 - a percent


def shown(value: object) -> str:
    """A value as an error line can hold it: short, on one line, invisible characters escaped."""
    if isinstance(value, list | tuple | dict):
        return "a mapping" if isinstance(value, dict) else "a list"
    if isinstance(value, str):
        return repr(shortened(value))
    return "nothing" if value is None else shortened(str(value).lower() if isinstance(value, bool) else str(value))


def shortened(text: str) -> str:
    """The first characters of a text of any length."""
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"


def plainly(text: str) -> str:
    """A name or a path without quotes, unless it is long or a terminal would not show all of it."""
    return text if text.isprintable() and 0 < len(text) <= 4 * _MAX_SHOWN else shown(text)


def listed(allowed: Iterable[object]) -> str:
    """What is allowed, comma-separated, in its own order."""
    names = [plainly(name) if isinstance(name, str) else shown(name) for name in allowed]
    rest = len(names) - _MAX_LISTED
    return ", ".join(names[:_MAX_LISTED]) + (f" and {rest} more" if rest > 0 else "")


_SHORT_NAMES = {
    **dict.fromkeys(("lr", "eta", "step_size", "alpha"), "learning_rate"),
    **dict.fromkeys(("bs", "batch", "minibatch"), "batch_size"),
    **dict.fromkeys(("wd", "decay", "l2"), "weight_decay"),
    **dict.fromkeys(("act", "nonlinearity"), "activation"),
    **dict.fromkeys(("opt", "optim", "momentum"), "optimizer"),
    **dict.fromkeys(("norm", "bn", "batch_norm", "batchnorm", "layer_norm"), "norm_layer"),
    **dict.fromkeys(("init", "kernel_initializer"), "initializer"),
    **dict.fromkeys(("p_drop", "drop", "dropout_rate"), "dropout"),
    **dict.fromkeys(("hidden", "units", "hidden_size", "n_hidden"), "width"),
    **dict.fromkeys(("n_epochs", "num_epochs", "max_epochs"), "epochs"),
    **dict.fromkeys(("arch", "architecture", "net", "network"), "model"),
    **dict.fromkeys(("scaling", "scaler", "preprocessing"), "normalizer"),
    **dict.fromkeys(("acc", "test_acc"), "test_accuracy"),
    **dict.fromkeys(("random_state", "random_seed", "rng_seed"), "seed"),
}
"""What other tools call a setting, and what it is called here."""


_PART_OF = {"weight_decay": "optimizer"}  # what has no setting of its own


def full_name(name: str) -> str:
    """A name as it is compared: `LRs` and `Learning Rate` are `learning_rate`."""
    folded = re.sub(r"[\s-]+", "_", name.strip()).casefold()
    single = folded.removesuffix("s")
    return _SHORT_NAMES.get(folded) or _SHORT_NAMES.get(single) or single


def guess(word: object, allowed: Iterable[object]) -> str:
    """`did you mean 'relu'?` when something allowed is close to the word or another name of it, else nothing."""
    names = [name for name in allowed if isinstance(name, str)]
    if isinstance(word, str) and len(word) <= _MAX_SHOWN:
        meant = full_name(word)
        for each in (meant, _PART_OF.get(meant)):
            same = [name for name in names if full_name(name) == each]
            if len(same) == 1:
                return f"did you mean {shown(same[0])}?"
    by_folded = {name.casefold(): name for name in names}
    folded = word[:_MAX_SHOWN].casefold() if isinstance(word, str) else ""
    close = difflib.get_close_matches(folded, by_folded, n=1)
    return f"did you mean {shown(by_folded[close[0]])}?" if close else ""


def hint(word: object, allowed: Iterable[object], label: str = "allowed") -> str:
    """The guess, then everything that is allowed."""
    allowed = tuple(allowed)
    return f"{guess(word, allowed)} {label}: {listed(allowed) or 'none'}".lstrip()
