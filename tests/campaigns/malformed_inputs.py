"""Malformed sweep files and tables by the hundred thousand: mutations of valid ones, grammar-made and hostile ones.

Run as a program in a process of its own, so that its memory is the loader's.
"""

import gc
import json
import random
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from sweep_texts import EXAMPLE, ONE_FACTOR, SMALL

from mnist_ablate.errors import SweepError
from mnist_ablate.ledger import results_table
from mnist_ablate.reports import judging
from mnist_ablate.sweep import sweep_file
from mnist_ablate.sweep.sweep import Sweep

# fmt: off
_PIECES = (
    "\t", "*a", "&a ", "!!python/object/apply:os.system [id]", "!!int ", ": ", "- ", "[", "]", "{", "}", "'", '"',
    "~", "010", "0x1f", "1_000", "1:30", ".nan", ".inf", "1e999", "-0", "null", "yes", "2026-11-24", "\n  ", "\n",
    "#", "|", ">", "%YAML 1.2\n", "---\n", "...\n", "<<: ", "? ", "@", "`", "\ufeff", "\u202e", "\u2028", "\x85",
    "\0", "é", "名前", "../x", "x" * 300, "9" * 400, "1e-400", "true", "epochs", "normalizer", "claims", "nuisance",
)
_KEYS = (
    "question", "source", "design", "baseline", "scientific", "nuisance", "tuning_trials", "fixed", "seeds", "claims",
    "configurations", "name", "Question", "", "seed", "<<", "activation", "normalizer", "epochs", "low", "high", "log",
    "treatment", "control", "where", "versus", "metric", "direction", "margin", "statement", "reference", "é" * 50,
)
_SCALARS = (
    "relu", "tanh", "unit", "centered", "q", "3", "0", "-1", "1e-3", "1e308", "0.5", "true", "~", "''", "nan",
    "factorial", "one_factor", "search", "configurations", "lower", "same", "test_accuracy", "99999999999999999999",
    "&a 1", "*a", '"\\u0000"', "'it''s'", "0o17", "mlp", "adam", "[1, 2", "{a: 1", "!!set {a}", "|\n  x", "-", "?",
    "12e", "\uff11\uff12",
)
_CELLS = (
    "", " ", "nan", "inf", "-inf", "1e309", "0.5", "1", "-1", "True", "0x10", "1_0", "\u0661", "relu", "tanh", "unit",
    "3.0", "3.5", "failed", "lost", "diverged", "complete", "done", '"', '"a""b"', "1" * 400, "=cmd()", "\ufeff", "\0",
    "é", "1,5", "1e-400",
)
# fmt: on
VALID = (EXAMPLE, ONE_FACTOR, SMALL)
_TABLE = "activation,normalizer,seed,test_accuracy,outcome\n" + "".join(
    f"{activation},{normalizer},{seed},0.9{seed}{len(normalizer)},complete\n"
    for activation in ("relu", "tanh")
    for normalizer in ("unit", "centered", "centered_uint8", "inverted")
    for seed in range(8)
)


def mutated(text: str, random_: random.Random, pieces: tuple[str, ...]) -> bytes:
    """The text with some characters, lines or bytes replaced, doubled, moved or lost."""
    data = bytearray(text.encode())
    for _ in range(random_.randint(1, 6)):
        start = random_.randrange(len(data) + 1)
        end = min(len(data), start + random_.choice([0, 0, 1, 1, 2, 5, 40, 400]))
        other = random_.randrange(len(data) + 1)
        data[start:end] = random_.choice(
            [random_.choice(pieces).encode(), b"", bytes([random_.randrange(256)]), data[other : other + 30]]
        )
    return bytes(data)


def _picked(values: tuple[str, ...], draw: Callable[[], float]) -> str:
    """One of the values; `random.choice` takes thrice as long."""
    return values[int(len(values) * draw())]


def grown(random_: random.Random, depth: int = 0) -> str:
    """A document from the grammar of sweep files, with anything anywhere."""
    draw = random_.random
    if depth > 1 + int(9 * draw()) or draw() < 0.15 * depth:
        return _picked(_SCALARS, draw)
    if draw() < 0.3:
        items = [grown(random_, depth + 1) for _ in range(int(6 * draw()))]
        return "[" + ", ".join(items) + "]"
    pairs = [f"{_picked(_KEYS, draw)}: {grown(random_, depth + 1)}" for _ in range(int(9 * draw()))]
    return "\n".join(pairs) if depth == 0 else "{" + ", ".join(pairs) + "}"


def hostile(random_: random.Random) -> bytes:
    """Files made to cost time or memory, beside those that the reader's own tests know."""
    many = random_.choice([10, 100, 1_000, 10_000])
    shapes: tuple[Callable[[], str], ...] = (
        lambda: "a: &a [x]\n" + "".join(f"b{n}: &b{n} [*a, *a]\n" for n in range(min(many, 2_000))),
        lambda: SMALL + "fixed:\n" + "".join(f"  epoch{n}: 1\n" for n in range(min(many, 10_000))),
        lambda: SMALL + "claims:\n" + "- {}\n" * min(many, 20_000),
        lambda: "question: " + "x" * (20 * many),
        lambda: "? " + "x" * (20 * many) + "\n: 1",
        lambda: "question: |\n" + "  line\n" * many,
        lambda: '"' + "\\u0041" * many + '": 1',
        lambda: "scientific: {epochs: [" + ",".join(str(random_.random()) for _ in range(many)) + "]}",
        lambda: "# " + "\t#" * many + "\n" + SMALL,
        lambda: "\n" * many + "a",
        lambda: "'" + "''" * many,
        lambda: f"{SMALL}nuisance: {{width: [{'5,' * many}]}}",
    )
    return random_.choice(shapes)().encode()


def made_sweep(random_: random.Random) -> bytes:
    """A sweep file; one in fifty is of the hostile kind."""
    kind = random_.random()
    if kind < 0.6:
        return mutated(random_.choice(VALID), random_, _PIECES)
    return grown(random_).encode() if kind < 0.98 else hostile(random_)


def made_table(random_: random.Random) -> bytes:
    """A table for `judge`."""
    kind = random_.random()
    if kind < 0.6:
        head, *lines = _TABLE.splitlines(keepends=True)
        kept = random_.sample(lines, random_.randint(0, len(lines)))
        return mutated("".join([head, *kept]), random_, _CELLS)
    return _cells(random_, random_.randint(0, 40) if kind < 0.99 else random_.choice([100, 300, 3_000])).encode()


def _cells(random_: random.Random, rows: int) -> str:
    """Plausible rows in which any cell may be anything, and some rows are too short or too long."""
    lines = ["activation,normalizer,seed,test_accuracy" + random_.choice(["", ",outcome", ",outcome,seed", ",x,x"])]
    damage, draw = random_.choice([0.0, 0.001, 0.02, 0.3]), random_.random
    outcome = ["complete"] * lines[0].count(",outcome")
    for row in range(rows):
        cells = [_picked(("relu", "tanh"), draw), _picked(("unit", "centered"), draw), str(row), str(draw()), *outcome]
        if damage:
            cells = [_picked(_CELLS, draw) if draw() < damage else cell for cell in cells]
        lines.append(",".join(cells[: len(cells) - (draw() < damage)]))
    return random_.choice(["\n", "\r\n", "\r"]).join(lines)


def load(path: Path, _question: Sweep) -> None:
    sweep_file.load(str(path))


def judge(path: Path, question: Sweep) -> None:
    """As the command `judge` does."""
    table = results_table.read(path, question.factors, results_table.metrics_of(question))
    report = judging.of_table(question, table)
    assert all(claim.verdict for claim in report.claims)
    json.loads(report.model_dump_json(), parse_constant=_refuse)


def _refuse(name: str) -> None:
    raise AssertionError(name)


def fuzz(kind: str, seed: int, files: int) -> dict[str, object]:
    """Load so many files: every one must be taken, or refused with a SweepError that can be printed."""
    random_ = random.Random(f"{kind}{seed}")
    made, use = (made_sweep, load) if kind == "sweeps" else (made_table, judge)
    raised: list[str] = []
    spent_ms: list[float] = []
    refused, slowest = 0, (0.0, b"")
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        example, path = Path(folder) / "example.yaml", Path(folder) / ("x.yaml" if kind == "sweeps" else "x.csv")
        example.write_text(EXAMPLE)
        path.write_text(_TABLE)
        question = sweep_file.load(str(example))
        judge(path, question)  # imports what the first file would import
        gc.collect()
        gc.freeze()  # what is imported is not looked through again and again
        for _ in range(files):
            data = made(random_)
            path.write_bytes(data)
            began = time.perf_counter()
            try:
                use(path, question)
            except SweepError as error:
                refused += 1
                if not all(line.isprintable() for line in str(error).split("\n")):
                    raised.append(f"not printable: {error!r:.300}")
            except Exception:  # noqa: BLE001 - this is what is looked for
                raised.append(f"{data[:300]!r}: {traceback.format_exc()[-600:]}")
            spent_ms.append(1_000 * (time.perf_counter() - began))
            slowest = max(slowest, (spent_ms[-1], data[:200]))
    return {
        "files": files,
        "refused": refused,
        "tracebacks": raised[:5],
        "worst_ms": slowest[0],
        "p99_ms": sorted(spent_ms)[files * 99 // 100],
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "slowest": repr(slowest[1]),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(fuzz(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))) + "\n")
