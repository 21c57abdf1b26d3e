"""MLflow's page after a real sweep, in Chromium: runs, charts, verdicts and report are where the printed link says."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import browser as chromium
import pytest
from browser import Browser, browser
from command import Command, base_environment, wait_for
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow_helpers import free_port, new_home
from sweep_runs import sweep_file
from tiny_images import SUPPORT, write_images

pytestmark = [pytest.mark.browser, pytest.mark.skipif(not chromium.FOUND, reason="no Chromium: install it")]
CARDS = "document.querySelectorAll('[data-testid=experiment-view-compare-runs-card]').length"
PLOTS = "document.querySelectorAll('.js-plotly-plot .main-svg').length"
POINTS = """
Math.max(0, ...[...document.querySelectorAll('.js-plotly-plot')].flatMap(
    plot => (plot.data ?? []).map(line => line.x?.length ?? 0)))
"""
BARS = """
[...document.querySelectorAll('.js-plotly-plot')].flatMap(plot => (plot.data ?? []).filter(each => each.type === 'bar'))
    .flatMap(each => each.names ?? each.y).map(name => String(name))
"""
ERRORS = """
window.seenErrors = [];
addEventListener('error', event => seenErrors.push(String(event.message)));
addEventListener('unhandledrejection', event => seenErrors.push(String(event.reason)));
const tell = console.error;
console.error = (...words) => { seenErrors.push(words.map(String).join(' ')); tell(...words); };
"""
RUNNING = "attributes.status = 'RUNNING' and tags.kind = 'trial'"
NOTE = "[...document.querySelectorAll('td')].map(cell => cell.innerText)"


class Site(NamedTuple):
    """A home with a finished sweep, which was elsewhere while it was trained, and its page."""

    command: Command
    images: Path
    link: str
    address: str

    def runs(self, query: str, experiment: str = "1") -> list[Run]:
        return list(MlflowClient(tracking_uri=self.address).search_runs([experiment], query))

    def page(self, run: Run, tab: str = "") -> str:
        return f"{self.address}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}{tab}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    first = folder / "100% else?where"
    new_home(first)
    path = os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")])
    fake = {"MNIST_ABLATE_TRAINER": "fake_trainer:factory", "PYTHONPATH": path, "FAKE_DIR": str(folder)}
    command = Command(folder, base_environment(**fake, MLFLOW_TRACKING_URI=""))
    images = write_images(folder / "tiny.npz")
    sweep_file(folder, seeds=6)
    done = command("sweep", "small.yaml", "--data", str(images), "--home", str(first))
    assert done.code == 0, done.err
    assert sorted(each.name for each in folder.iterdir() if each.is_dir()) == [first.name]
    first.rename(folder / ".mnist-ablate")
    port = free_port()
    page = command.start("ui", "--no-open", "--port", str(port))
    try:
        assert page.stdout is not None
        name, _, link = page.stdout.readline().strip().partition(": ")
        assert name == "small"
        printed = re.findall(r"runs: (\S+)", done.err)
        assert [each.replace(":5000/", f":{port}/") for each in printed] == [link]
        yield Site(command, images, link, f"http://127.0.0.1:{port}")
    finally:
        page.terminate()  # it takes its server along
        page.communicate(timeout=10)


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Browser]:
    with browser(tmp_path) as made:
        yield made


def test_printed_link_shows_a_bar_of_each_arm_first_and_no_error(site: Site, tab: Browser) -> None:
    tab.call("Page.addScriptToEvaluateOnNewDocument", source=ERRORS)
    tab.open(site.link)
    tab.shows("test_accuracy by arm")
    for arm in ("relu", "tanh"):
        tab.shows(f"Group: {arm}")
    assert sorted(tab.until(f"(bars => bars.length === 2 && bars)({BARS})")) == ["relu", "tanh"]
    tab.shows("epoch by epoch")
    tab.shows("1 claim: 1 supported.")
    late = "ResizeObserver loop completed with undelivered notifications."  # Chromium's, of a layout on a busy machine
    assert {*tab.value("window.seenErrors")} <= {late, f"null {late}"}  # MLflow's page writes it to the console, too


def test_charts_of_every_metric_are_found_from_the_printed_link(site: Site, tab: Browser) -> None:
    tab.open(site.link)
    tab.shows("Does tanh hurt?")
    tab.shows("Model metrics")
    tab.until(CARDS)
    tab.until(PLOTS)
    tab.until("document.querySelector('input[placeholder=\"Search metric charts\"]')?.focus() ?? true")
    tab.call("Input.insertText", text="val_accuracy")
    tab.until(f"{CARDS} === 1 && {PLOTS} > 0")
    tab.shows("val_accuracy")


def test_note_of_the_parent_is_a_table_of_verdicts_and_its_report_opens(site: Site, tab: Browser) -> None:
    (parent,) = site.runs("tags.kind = 'sweep'")
    tab.open(site.page(parent))
    tab.shows("Show more")
    tab.click("[...document.querySelectorAll('button, a, span')].find(each => each.innerText === 'Show more')")
    tab.until(f"{NOTE}.includes('Tanh hurts.')")
    row = tab.value(f"{NOTE}.slice({NOTE}.indexOf('Tanh hurts.'), {NOTE}.indexOf('Tanh hurts.') + 3)")
    assert row[1] == "supported"
    assert re.fullmatch(r"-\d\.\d\d pp", row[2])
    tab.open(site.page(parent, "/artifacts/report.html"))
    assert "Does tanh hurt?" in tab.framed("Verdicts")


def test_epochs_appear_while_a_sweep_trains(site: Site, tab: Browser) -> None:
    sweep_file(site.command.folder, name="slow", seeds=1, fixed={"epochs": 60})
    words = ("sweep", "slow.yaml", "--data", str(site.images), "--jobs", "1")
    training = site.command.start(*words, FAKE_EPOCH_S="1")
    try:
        wait_for(lambda: site.runs(RUNNING, "2"), 90)
        (run,) = site.runs(RUNNING, "2")
        seen = []
        while len(seen) < 2:
            tab.open(site.page(run, "/model-metrics"))
            tab.until(f"{PLOTS} > 0 && {POINTS} > {seen[-1] if seen else 0}", 30)
            seen.append(tab.value(POINTS))
            assert site.runs(RUNNING, "2"), "it ended too soon to tell"
    finally:
        training.terminate()
        training.communicate(timeout=60)
    assert 0 < seen[0] < seen[1] <= 60
