"""The example notebook runs in a real kernel, shows its report and its progress, and stops when told; the guide too."""

import asyncio
import gc
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from command import NO_TRACKER, base_environment
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook

NOTEBOOK = Path(__file__).parents[2] / "examples" / "notebook.ipynb"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NO_TRACKER)
    for name in ("MNIST_ABLATE_HOME", "OPTUNA_STORAGE", "MNIST_ABLATE_TRAINER"):
        monkeypatch.delenv(name, raising=False)
    yield tmp_path
    gc.collect()  # the client's sockets, which it leaves open: here, not in the middle of another test


async def execute(notebook, folder, manager=None):
    """In an event loop that ends with it."""
    resources = {"metadata": {"path": str(folder)}}
    await NotebookClient(notebook, km=manager, timeout=250, kernel_name="python3", resources=resources).async_execute()


def shown(notebook, kind):
    """What cells show of a kind, and the text on stderr."""
    outputs = [each for cell in notebook.cells for each in cell.get("outputs", ())]
    return [each["data"][kind] for each in outputs if kind in each.get("data", {})]


def test_the_notebook_has_no_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the client's own
def test_the_example_notebook_runs_and_shows_its_report(folder):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    asyncio.run(execute(notebook, folder))
    pages = shown(notebook, "text/html")
    bars = [page for page in pages if "<progress" in page]
    assert len(bars) == 1
    assert "40 of 40 trials, 0 running" in bars[0]
    assert "its trials run your code: the function train" in bars[0]
    assert len([page for page in pages if page.startswith("<iframe ") and "srcdoc=" in page]) == 1
    assert any("notebook: 4 arms x 8 seeds, 40 trials" in text for text in shown(notebook, "text/plain"))
    assert (folder / "notebook.html").read_text().startswith("<!DOCTYPE html>")
    streams = [each for cell in notebook.cells for each in cell.get("outputs", ()) if each.output_type == "stream"]
    assert not streams


@pytest.mark.slow
def test_the_script_of_the_guide_runs(tmp_path):
    guide = (NOTEBOOK.parents[1] / "docs/guides/python.md").read_text(encoding="utf-8")
    (tmp_path / "script.py").write_text(re.findall(r"```python\n(.*?)```", guide, re.DOTALL)[1])
    command = [sys.executable, "script.py"]
    done = subprocess.run(command, cwd=tmp_path, env=base_environment(), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert re.search(r"scaling-helps +supported +0\.1", done.stdout)
    assert (tmp_path / "scaling.html").exists()


SLOW = """
import time
import mnist_ablate as ma
def train(seed, report, scale: bool = False):
    for step in range(5):
        report(step, {"loss": 1.0})
        time.sleep(0.1)
    return {"acc": 0.5 + seed / 100}
question = ma.Sweep("slow", "Q?", train=train, scientific={"scale": [False, True]}, seeds=50, metrics={"acc": {}})
ma.run(question, jobs=1)
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the client's own
def test_the_stop_button_ends_a_run_in_order_and_keeps_what_is_recorded(folder):
    kept = "trials = ma.open_report('slow').trials\nprint(set(trials['status']), len(trials))"
    notebook = new_notebook(cells=[new_code_cell(SLOW), new_code_cell(kept)])
    notebook.cells[0].metadata["tags"] = ["raises-exception"]
    manager = AsyncKernelManager(kernel_name="python3")

    async def stop():
        while not re.search(r"[1-9] of 100 trials", "".join(shown(notebook, "text/html"))):  # noqa: ASYNC110
            await asyncio.sleep(0.2)
        await manager.interrupt_kernel()

    async def both():
        await asyncio.gather(execute(notebook, folder, manager), stop())

    asyncio.run(both())
    error = next(each for each in notebook.cells[0].outputs if each.output_type == "error")
    assert error.ename == "KeyboardInterrupt"
    assert "of 100 trials are recorded; the same call goes on" in error.evalue
    assert "stopping: running trials may finish" in shown(notebook, "text/html")[-1]
    assert notebook.cells[1].outputs[0].text.startswith("{'complete'} ")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the client's own
def test_a_variable_that_cannot_be_sent_is_named_in_the_cell(folder):
    text = SLOW.replace("def train", "import threading\nLOCK = threading.Lock()\ndef train").replace(
        "    for", "    LOCK\n    for"
    )
    with pytest.raises(CellExecutionError, match=r"train uses LOCK \(lock\), which cannot be sent to a worker"):
        asyncio.run(execute(new_notebook(cells=[new_code_cell(text)]), folder))
