"""GPUs are counted by what the system and the user say of them; each worker gets one of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from dask.system import CPU_COUNT

from mnist_ablate.cli import app
from mnist_ablate.execution import gpus
from mnist_ablate.execution.worker import TrainerPlugin
from mnist_ablate.service import dask_service

TWO = ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "nvidia-caps", "null")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Makes a folder of devices; TensorFlow has NVIDIA's libraries."""
    monkeypatch.setattr(gpus, "_has_libraries", lambda: True)

    def make(*names: str) -> Path:
        folder = tmp_path / "dev"
        folder.mkdir(exist_ok=True)
        for name in names:
            (folder / name).touch()
        return folder

    return make


@pytest.mark.parametrize(
    ("named", "found"),
    [
        (None, ["0", "1"]),
        ("1", ["1"]),
        ("1, 0", ["1", "0"]),
        ("GPU-5b6c", ["GPU-5b6c"]),
        ("", []),
        ("-1", []),
        ("0,-1,1", ["0"]),
    ],
)
def test_gpus_are_those_of_the_machine_that_the_user_lets_see(machine, named, found):
    environment = {} if named is None else {gpus.VARIABLE: named}
    assert gpus.usable(environment, machine(*TWO)) == found


def test_without_devices_or_without_their_libraries_there_are_none(machine, monkeypatch):
    assert gpus.usable({gpus.VARIABLE: "0"}, machine("null", "nvidiactl")) == []
    monkeypatch.setattr(gpus, "_has_libraries", lambda: False)
    assert gpus.usable({}, machine(*TWO)) == []


def test_the_libraries_are_looked_for_where_the_extra_puts_them(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    assert not gpus._has_libraries()
    (tmp_path / "nvidia" / "cudnn").mkdir(parents=True)
    assert gpus._has_libraries()


@pytest.mark.parametrize(
    ("asked", "on_gpus", "here", "found"),
    [
        ((None, None), True, True, (2, 32)),
        ((3, None), True, True, (3, 32)),
        ((None, 4), True, True, (2, 4)),
        ((None, None), False, True, (16, 1)),
        ((None, None), True, False, (16, 1)),
        ((None, 4), True, False, (16, 4)),
    ],
)
def test_workers_and_lanes_follow_the_gpus_unless_told(monkeypatch, asked, on_gpus, here, found):
    monkeypatch.setattr(gpus, "usable", lambda: ["0", "1"])
    monkeypatch.setattr(gpus, "_cores", lambda: 16)
    assert gpus.workers_and_lanes(*asked, trains_on_gpus=on_gpus, here=here) == found


def test_without_a_gpu_a_worker_a_core_trains_one_at_a_time(monkeypatch):
    monkeypatch.setattr(gpus, "usable", list)
    assert gpus.workers_and_lanes(None, None, trains_on_gpus=True) == (CPU_COUNT, 1)


@pytest.mark.parametrize(("jobs", "names"), [(None, ["m-0", "m-1"]), (1, ["m"])])
def test_the_workers_of_a_cluster_are_as_many_unless_told(monkeypatch, jobs, names):
    monkeypatch.setattr(gpus, "usable", lambda: ["0", "1"])
    started = []
    monkeypatch.setattr(dask_service, "serve_workers", lambda _address, names, *_: started.extend(names))
    with pytest.raises(typer.Exit):
        app.worker("tcp://127.0.0.1:8786", jobs=jobs, name="m")
    assert started == names


@pytest.fixture
def seen(monkeypatch):
    monkeypatch.setattr(gpus, "usable", lambda: ["0", "GPU-a/1", "2"])
    monkeypatch.setenv(gpus.VARIABLE, "0,GPU-a/1,2")
    return lambda: os.environ[gpus.VARIABLE]


def test_each_process_takes_a_gpu_of_its_own_and_shares_when_there_are_no_more(tmp_path, seen):
    taken = []
    for _ in range(3):
        gpus.take_one(tmp_path)
        taken.append(seen())
    assert taken == ["0", "GPU-a/1", "2"]
    gpus.take_one(tmp_path)
    assert seen() in taken


def test_a_process_that_ended_leaves_its_gpu(tmp_path, seen):
    code = "import os, sys; from pathlib import Path; from mnist_ablate.execution import gpus; "
    code += "gpus.usable = lambda: ['0', 'GPU-a/1', '2']; gpus.take_one(Path(sys.argv[1])); "
    code += "print(os.environ[gpus.VARIABLE])"
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "0"
    gpus.take_one(tmp_path)
    assert seen() == "0"


@pytest.mark.parametrize("usable", [[], ["0"]])
def test_with_one_gpu_or_none_the_environment_stays(tmp_path, monkeypatch, usable):
    monkeypatch.setattr(gpus, "usable", lambda: usable)
    monkeypatch.delenv(gpus.VARIABLE, raising=False)
    gpus.take_one(tmp_path)
    assert gpus.VARIABLE not in os.environ
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("trains_on_gpus", [True, False])
def test_a_worker_takes_its_gpu_before_its_trainer_is_made(images, digest, monkeypatch, dask_worker, trains_on_gpus):
    steps = []
    plugin = TrainerPlugin("fake_trainer:factory", digest, images.read_bytes(), None)
    monkeypatch.setattr(type(plugin.workload), "trains_on_gpus", trains_on_gpus)
    monkeypatch.setattr(gpus, "take_one", lambda: steps.append("GPU"))
    monkeypatch.setattr(TrainerPlugin, "_make_trainer", lambda _plugin, _worker: steps.append("trainer"))
    plugin.setup(dask_worker)
    assert steps == (["GPU", "trainer"] if trains_on_gpus else ["trainer"])
