"""How soon MLflow's page shows a sweep of 1,000 runs: our view of it beside MLflow's own chart page. Prints a table.

`python benchmarks/mlflow_page.py [RUNS]`; it needs Chromium, and takes two minutes of both cores. Each page is opened
in turn in a new browser, and then again in the same, which has MLflow's scripts by then. What counts is the time from
the address to the first drawn chart.
"""

import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

SUPPORT = str(Path(__file__).parents[1] / "tests" / "support")
RUNS, ROUNDS = 1_000, 5
BARS = """
[...document.querySelectorAll('.js-plotly-plot')].flatMap(plot => (plot.data ?? []).filter(each => each.type === 'bar'))
    .flatMap(each => each.names ?? each.y).length === 2
"""
PAGES = {
    "the view of the sweep, with a bar for each arm": BARS,
    "MLflow's own chart page": "document.querySelectorAll('.js-plotly-plot .main-svg').length > 0",
}


def main() -> None:
    """Record with the fake trainer, serve, open, print."""
    sys.path.insert(0, SUPPORT)
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    command, browser = import_module("command"), import_module("browser").browser
    with ExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="ablate-page-")))
        address, link = parts.enter_context(served(folder, runs, command))
        links = dict(zip(PAGES, (link, f"{address}/#/experiments/1/runs?compareRunsMode=CHART"), strict=True))
        took: dict[str, list[list[float]]] = {name: [[], []] for name in PAGES}
        for number in range(ROUNDS):
            for name, there in PAGES.items():
                with browser(folder / f"{number}-{name[:5]}") as tab:
                    for seconds in took[name]:
                        tab.open("about:blank")
                        began = time.perf_counter()
                        tab.open(links[name])
                        tab.until(there)
                        seconds.append(time.perf_counter() - began)
    print(f"\n{runs:,} runs, {ROUNDS} times each in turn; median and slowest, s\n")
    print("| page | in a new browser | again in the same |\n|---|---|---|")
    for name, times in took.items():
        print(f"| {name} | {' | '.join(f'{median(each):.1f}, {max(each):.1f}' for each in times)} |")


@contextmanager
def served(folder: Path, runs: int, command: Any) -> Iterator[tuple[str, str]]:
    """The address of `mnist-ablate ui` on a home with such a sweep, and the link that it prints."""
    fake = command.fake_trainer_environment(folder, FAKE_EPOCH_S="0", MLFLOW_TRACKING_URI="")
    run = command.Command(folder, command.base_environment(**fake))
    images = import_module("tiny_images").write_images(folder / "tiny.npz")
    import_module("sweep_runs").sweep_file(folder, seeds=runs // 2)
    done = run("sweep", "small.yaml", "--data", str(images), "--max-trials", str(runs))
    if done.code:
        sys.exit(done.err)
    port = import_module("mlflow_helpers").free_port()
    page = run.start("ui", "--no-open", "--port", str(port))
    try:
        (link,) = re.findall(r": (http\S+)", page.stdout.readline())
        yield f"http://127.0.0.1:{port}", link
    finally:
        page.terminate()
        page.communicate(timeout=10)


if __name__ == "__main__":
    main()
