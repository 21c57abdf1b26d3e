"""Protects recorded work: a shipped sweep keeps its digest and its trial ids, by which records are found again."""

import hashlib

import pytest

from mnist_ablate.sweep import sweep_file
from mnist_ablate.sweep.plan import make_plan

GOLDEN = {
    "activation": ("d100c6eeea68a6dd", 270, "6dafbf28924baab8", "c08bcfcaee7620ed"),
    "activation-quick": ("68c26c81f88b3475", 54, "0050aefa78de8af6", "998b9e31cc2c8600"),
    "article": ("4f404de70cc47755", 270, "b9e8839b358c9728", "5f735bb8055a9283"),
    "article-quick": ("d8802fcf59db6030", 54, "004ce490bac21768", "4f5d8a34185f322a"),
    "components": ("02b2c34ec26f556b", 210, "299da5e56005e3a7", "261a712fb50277d1"),
    "components-quick": ("6324911155b983b5", 42, "0bc233a9ab28ecca", "9fdf4e30f894e480"),
    "data": ("d466cd83a0895818", 500, "de3f72d20f5b3f67", "e88579ef987ac3ee"),
    "data-quick": ("2172643e671db3a0", 150, "827c8a47e2e41cdb", "f8f9e1238aa693a2"),
    "dropout": ("7489fcb859feeb74", 270, "dafa03b7f382f8b2", "d31d621efb1ad8b3"),
    "dropout-quick": ("9fbc5e5a8890d499", 54, "9bcc08e6dfbdc91e", "ab9150bee37f1868"),
    "normalization": ("9aafdc1ca9240d19", 390, "51e8f0df8320f76b", "3be175edb773d60a"),
    "normalization-quick": ("d7c266254b02560c", 78, "696d0f083135a478", "d6f3c7305368e53e"),
    "normalization_across": ("b10e404d2a07732c", 732, "51e8f0df8320f76b", "61aefed37387b469"),
    "normalization_across-quick": ("47e9b82832f71804", 78, "696d0f083135a478", "d6f3c7305368e53e"),
    "normalization_tuned": ("8f402ef46bd4dc9e", 730, "79065fd74fd2fa72", "e29ecfd53b09445c"),
    "normalization_tuned-quick": ("33061546287c6efd", 146, "1972b45b9b75dd78", "fd6fca1d7e2fd801"),
    "optimizer": ("957e2f6bf5ae1764", 534, "f1d1c9471a3e51c4", "ff5bba8ea0be574f"),
    "optimizer-quick": ("6006b41b18df8704", 104, "ca5d303045133ea1", "b95854fd8596f23a"),
    "search": ("a83e3f71fad1792a", 170, "6dafbf28924baab8", "d4baebfaa202da0f"),
    "search-quick": ("0f26875092ba2a05", 20, "0050aefa78de8af6", "1572709e7cb9d809"),
    "sensitivity": ("4e7c63908729f5f4", 620, "b4087419bf0aee87", "958ba7fc4b00d6b9"),
    "sensitivity-quick": ("dae6dfc024daa026", 186, "cd75c1950548b642", "3cd82150d1f508ad"),
    "vgg16": ("c962ffb664190d0e", 120, "6d9ad6e07a6d4aa4", "55f31b717611978d"),
    "vgg16-quick": ("4b99a7a40e01b618", 24, "6036179115296479", "c660ac80a88f0ec5"),
    "vgg16_imagenet": ("50759c1b52f1a894", 120, "260aa1a266d0589a", "dd504a9e321a70e3"),
    "vgg16_imagenet-quick": ("3569387e9993c297", 24, "f549aa473dfcb651", "2f6d0847b936c85d"),
}
"""Of each sweep and its `--quick`: digest, number of trials, id of the first trial, hash over all trials and arms."""


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_a_shipped_sweep_keeps_its_digest_and_its_trial_ids(name: str) -> None:
    sweep = sweep_file.load(name.removesuffix("-quick"), quick=name.endswith("-quick"))
    plan = make_plan(sweep, "d1" * 32)
    trials = [*plan.tuning, *plan.verdict_trials(), *plan.as_written_trials(), *plan.control_trials()]
    content = "".join(f"{each.id}{each.stage}{' '.join(map(str, each.arm.params.values()))}" for each in trials)
    found = (sweep.digest[:16], plan.size, trials[0].id, hashlib.sha256(content.encode()).hexdigest()[:16])
    assert found == GOLDEN[name]


def test_the_flagship_across_settings_asks_the_same_claims_of_the_same_trials() -> None:
    across, plain = map(sweep_file.load, ("normalization_across", "normalization"))
    assert across.claims == plain.claims
    ids = {each.id for each in make_plan(plain, "").verdict_trials() if each.trial.seed < across.max_seeds}
    assert ids < {each.id for each in make_plan(across, "").verdict_trials()}


@pytest.mark.parametrize(("name", "weights"), [("vgg16", "bsds500"), ("vgg16_imagenet", "imagenet_onnx")])
def test_the_fourth_network_of_the_article_is_the_baseline_of_the_sweeps_on_vgg16(name: str, weights: str) -> None:
    article = sweep_file.load("article", overrides=[f"configurations.vgg16.weights={weights}"])
    asked = {each.id for each in make_plan(article, "").verdict_trials() if "vgg16" in each.arm.params.values()}
    alone = sweep_file.load(name)
    assert asked == {each.id for each in make_plan(alone, "").verdict_trials() if each.arm.params == alone.baseline}


def test_vgg16_with_the_filters_of_imagenet_asks_the_same_claims() -> None:
    other, own = map(sweep_file.load, ("vgg16", "vgg16_imagenet"))
    rules = [{(each.name, each.metric, each.direction, each.margin) for each in sweep.claims} for sweep in (other, own)]
    assert rules[0] == rules[1]


def test_every_shipped_sweep_is_held_to_its_digest() -> None:
    assert set(GOLDEN) == {each + end for each in sweep_file.shipped() for end in ("", "-quick")}
