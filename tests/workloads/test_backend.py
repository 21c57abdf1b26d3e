"""Every process that builds a network has the same kernels and one thread, whatever its environment says."""

import os
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_kernels_and_threads_are_those_of_every_other_process(tmp_path):
    code = """
from mnist_ablate.workloads.keras_mnist.backend import tf
from tensorflow.python.util import _pywrap_util_port
print(_pywrap_util_port.IsMklEnabled())
print(tf.config.threading.get_intra_op_parallelism_threads(), tf.config.threading.get_inter_op_parallelism_threads())
"""
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0", "TF_NUM_INTRAOP_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["True", "1", "1"], done.stderr
