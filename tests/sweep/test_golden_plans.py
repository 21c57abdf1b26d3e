"""Protects recorded work: a shipped sweep keeps its digest and its trial ids, by which records are found again."""

import hashlib

import pytest

from mnist_ablate.sweep import sweep_file
from mnist_ablate.sweep.plan import make_plan

GOLDEN = {
    "activation": ("722c1f8431f83ba0", 72, "6dafbf28924baab8", "18cc5496effe9087"),
    "activation-quick": ("4a9b2ebcffd18cfa", 18, "0050aefa78de8af6", "4f45eb3501806927"),
    "article": ("5b1bda65de31702b", 72, "b9e8839b358c9728", "d4c0a7d3df7c3acd"),
    "article-quick": ("97815ce5ad5d5dbf", 16, "004ce490bac21768", "2dd2a0148edc94ff"),
    "dropout": ("3a9832e62421c2b7", 72, "dafa03b7f382f8b2", "4fc9fae4b4dcc17b"),
    "dropout-quick": ("24be31b8dd59c12e", 18, "9bcc08e6dfbdc91e", "641c83bba83e965f"),
    "normalization": ("5e32c71e70109e85", 130, "51e8f0df8320f76b", "891615ef35ae6eee"),
    "normalization-quick": ("4538b76bca0c3ed9", 26, "696d0f083135a478", "9db4050855ddda68"),
    "normalization_tuned": ("8c9495deca4eb964", 289, "79065fd74fd2fa72", "f2a34e7770866521"),
    "normalization_tuned-quick": ("d334166614c5a53c", 62, "1972b45b9b75dd78", "a568a2ca651b99b1"),
    "optimizer": ("57908d3d00c7e015", 204, "f1d1c9471a3e51c4", "d2f3868a042ec86c"),
    "optimizer-quick": ("edce2c05a78ba325", 44, "ca5d303045133ea1", "34719fd66ac46dc8"),
    "search": ("7a6ea7ef097335f6", 110, "6dafbf28924baab8", "b0bfe4e072c77a9b"),
    "search-quick": ("0a80c2ce0a1168ad", 8, "0050aefa78de8af6", "f457bdaff6050ca3"),
    "vgg16": ("cfe9895d027e020a", 32, "6d9ad6e07a6d4aa4", "35c757a8bfa496fb"),
    "vgg16-quick": ("b85f97aab857c033", 8, "6036179115296479", "45a2cd2697d49013"),
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


def test_every_shipped_sweep_is_held_to_its_digest() -> None:
    assert set(GOLDEN) == {each + end for each in sweep_file.shipped() for end in ("", "-quick")}
