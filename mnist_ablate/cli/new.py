"""`new` begins a sweep file, `schema` prints what editors check one with; nothing is trained or recorded."""

import json
import unicodedata
from pathlib import Path
from typing import Annotated

import typer

from mnist_ablate.errors import SweepError

SCHEMA_FILE = "mnist-ablate.schema.json"
TEMPLATE = """\
# yaml-language-server: $schema={schema}
# A sweep: one question, what varies, what stays fixed, what is claimed. Data only, no code.
#   mnist-ablate plan {name}.yaml            what it would train, how long, the smallest effect it can find
#   mnist-ablate sweep {name}.yaml --quick   a smoke test: 1 epoch, 2 seeds
#   mnist-ablate sweep {name}.yaml           train, judge, show where to look
#   mnist-ablate list choices                every name that a setting can have

# What is asked, in a sentence, and where the claim was read.
question: Does dropout 0.5 help a small network?
source: replace this with the article, page and line

# design: which arms are run.
#   factorial        every combination of the scientific values
#   one_factor       the baseline, and each other value alone
#   leave_one_out    the baseline, and each factor replaced by the one value in its list
#   configurations   arms with names of their own, in place of baseline and scientific:
#                      configurations: {{small: {{width: 100}}, large: {{width: 1000}}}}
#   ablation_path    from the baseline to `target`, in place of scientific, change by change, the best one first:
#                      target: {{dropout: 0.5, norm_layer: batch_norm}}
#   search           tuning_trials settings tried out of scientific and nuisance; the best is confirmed on fresh seeds
design: factorial

# The usual value of what varies, and what varies. Any setting under `fixed` can stand here instead.
baseline: {{dropout: 0.0}}
scientific:
  dropout: [0.0, 0.5]

# nuisance: what must be tuned for each arm before the comparison is fair, on validation data; a range
# (low, high, log, integer) or a list. tuning_trials: how many trials each arm gets.
# nuisance:
#   learning_rate: {{low: 1e-4, high: 1e-1, log: true}}
# tuning_trials: 12
# as_written: true              trains and judges the values under `fixed` too: both verdicts, side by side

# A search only: a factor that has a meaning for some values of another, and trials that are stopped early.
# conditions: {{width: {{model: [mlp, mlp3]}}}}
# pruning: asha                 successive halving; or median; or none

# fixed: everything else. What is left out has the default written here. Every one is a caveat in the report.
fixed:
  model: mlp
  activation: relu
  normalizer: unit
  optimizer: adam
  learning_rate: 0.001        # 0 stands for the optimizer's own default
  norm_layer: none
  initializer: glorot_uniform
  # weights: bsds500            of a model with a frozen base (vgg16); default imagenet
  width: 100                  # default 500
  batch_size: 128
  epochs: 3                   # default 5

# How often each arm is trained. One claim needs 6 seeds at least, seven claims 9; `plan` says what they can find.
# seeds: {{min: 6, max: 30}} begins with 6 and adds more only to the arms of claims that are not decided yet.
seeds: 8

# The baseline is trained as often again with other seeds and compared with itself: if that finds an effect, something
# is wrong, and the report says so first. negative_control: none leaves it out.
negative_control: baseline

# What is claimed, and what would count. Fix margins before the first run.
claims:
  - name: dropout-helps
    statement: Dropout 0.5 helps.
    treatment: {{dropout: 0.5}}
    control: {{dropout: 0.0}}     # or, for a claim that names a number:   reference: 0.97
    # where: {{activation: relu}}    values of other factors; a factor that is not named is averaged over
    # versus: {{activation: tanh}}   in place of `where` in a second difference that is subtracted: an interaction
    metric: test_accuracy       # or test_loss, epochs_to_97, best_val_accuracy, ...
    direction: higher           # lower, higher; not_lower, not_higher (no such effect); same (none either way)
    margin: 0.002               # the smallest difference that matters: 0.2 percentage points
    # positive_control: true      known to hold: if the sweep does not find it, the report says so first
"""


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the sweep is called; NAME.yaml is written.")],
) -> None:
    """Begin a sweep file: NAME.yaml with every key explained, ready for `plan`."""
    from mnist_ablate.problems import plainly
    from mnist_ablate.sweep import json_schema, sweep_file
    from mnist_ablate.sweep.sweep import NAME_RULE, is_name

    name = unicodedata.normalize("NFC", name.removesuffix(".yaml"))
    if not is_name(name):
        raise SweepError(f"{plainly(name)}: {NAME_RULE}")
    if name in sweep_file.shipped():
        raise SweepError(f"{name}: a shipped sweep has this name: choose another")
    path = Path(f"{name}.yaml")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(TEMPLATE.format(name=name, schema=SCHEMA_FILE))
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
