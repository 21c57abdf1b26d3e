"""Whatever the user set for other programs: the same numbers to the bit, and users' own code sees all of it."""

import json

import pytest
from command import Command, base_environment, left_in
from keras_trials import to_the_bit
from tiny_images import write_images

from mnist_ablate.environment import TRAINING
from mnist_ablate.ledger.ledger import Ledger

pytestmark = pytest.mark.slow
VARIABLES = {
    "KERAS_BACKEND": "torch",
    "KERAS_MAX_STEPS_PER_EPOCH": "1",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_XLA_FLAGS": "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit",
    "TF_NUM_INTRAOP_THREADS": "3",
    "TF_USE_LEGACY_KERAS": "1",
    "XLA_FLAGS": "--xla_cpu_enable_fast_math=true",
    "ONEDNN_DEFAULT_FPMATH_MODE": "BF16",
    "CUDA_VISIBLE_DEVICES": "7",
    "OMP_NUM_THREADS": "3",
    "OPENBLAS_NUM_THREADS": "2",
    "PYTHONHASHSEED": "11",
    "MLFLOW_RUN_ID": "0" * 32,
    "MLFLOW_EXPERIMENT_ID": "123456",
    "MLFLOW_EXPERIMENT_NAME": "of the user",
    "http_proxy": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
    "no_proxy": "",
}
KERAS_JSON = {"backend": "jax", "floatx": "float16", "epsilon": 0.5, "image_data_format": "channels_first"}
DASK_YAML = """
distributed:
  comm: {require-encryption: true, default-scheme: tls}
  nanny: {preload: [no_such_module], environ: {KERAS_BACKEND: jax}}
  worker: {multiprocessing-method: fork, daemon: false, resources: {GPU: 1}}
  scheduler: {preload: [no_such_module], allowed-failures: 9}
"""
SWEEP = """
question: Does it train?
choices: mine.py
scientific: {normalizer: [unit, own]}
fixed: {model: mlp, norm_layer: batch_norm, width: 16, epochs: 3, batch_size: 4}
seeds: 1
negative_control: none
"""
CHOICES = """
import keras
import numpy as np

def own(_train):
    \"\"\"Its own arithmetic.\"\"\"
    assert keras.backend.backend() == "tensorflow"
    return lambda images: images.astype(np.float32) / 200

NORMALIZERS = {"own": own}
"""
JOB = """
import json, os
def train(seed: int, lr: float = 0.1):
    print(json.dumps(dict(os.environ)))
    return 0.5
"""
OWN = "{question: Q, train: 'job:train', scientific: {lr: [0.1, 0.2]}, metrics: {acc: {low: 0, high: 2}}, seeds: 1}"


@pytest.fixture
def users(tmp_path):
    """The variables of a user who has settings for everything."""
    for folder, name, text in (("keras", "keras.json", json.dumps(KERAS_JSON)), ("dask", "dask.yaml", DASK_YAML)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(text)
    return {**VARIABLES, "KERAS_HOME": str(tmp_path / "keras"), "DASK_CONFIG": str(tmp_path / "dask")}


def numbers(folder, home):
    entries = Ledger(f"sqlite:///{folder / home / 'ledger.db'}").find("digits").entries()
    found = {id_: entry.outcome for id_, entry in entries.items()}
    return {id_: (o.status, to_the_bit(o), o.diagnostics, [e.metrics for e in o.epochs]) for id_, o in found.items()}


def test_numbers_are_the_same_bits_whatever_the_user_set_for_other_programs(tmp_path, users):
    (tmp_path / "digits.yaml").write_text(SWEEP)
    (tmp_path / "mine.py").write_text(CHOICES)
    run = Command(tmp_path, base_environment(MLFLOW_TRACKING_URI=""))
    sweep = ("sweep", "digits.yaml", "--jobs", "1", "--data", str(write_images(tmp_path / "images.npz")))
    (temporary := tmp_path / "temporary").mkdir()
    usual = run(*sweep, "--home", "usual", MLFLOW_TRACKING_URI="http://127.0.0.1:9", TMPDIR=str(temporary))
    done = run(*sweep, "--home", "users", **users)
    assert (usual.code, done.code) == (7, 0), done.err  # only the second has a tracker
    assert numbers(tmp_path, "users") == numbers(tmp_path, "usual")
    assert not left_in(temporary)
    assert {status for status, *_ in numbers(tmp_path, "users").values()} == {"complete"}


def test_a_users_function_sees_the_users_variables_and_nothing_of_ours(tmp_path, users):
    (tmp_path / "job.py").write_text(JOB)
    (tmp_path / "own.yaml").write_text(OWN)
    run = Command(tmp_path, {**base_environment(), **users})
    done = run("sweep", "own.yaml", "--home", "home", "--jobs", "1")
    assert done.code == 7, done.err
    for path in (tmp_path / "home" / "trials").glob("*/output.txt"):
        seen = json.loads(path.read_text())
        added = {name for name in seen.keys() - run.environment.keys() if not name.startswith("MNIST_ABLATE_")}
        assert added <= {"MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "LC_CTYPE"}
        changed = {name: seen.get(name) for name, value in run.environment.items() if seen.get(name) != value}
        assert changed == {}
    assert not TRAINING.keys() & seen.keys() - run.environment.keys()
