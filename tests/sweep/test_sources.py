"""What varies between seeds is checked before anything runs, and changes an identity only where it changes a trial."""

from pathlib import Path

import pytest
from sweep_texts import changed, load, problems

from mnist_ablate.sweep.plan import make_plan
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.trial import SOURCES

TEXT = """\
question: q
scientific: {activation: [relu, tanh]}
seeds: 3
vary: [init, order, dropout]
claims:
  - name: c
    statement: s
    treatment: {activation: relu}
    control: {activation: tanh}
    metric: test_accuracy
    direction: higher
    margin: 0.01
"""
USUAL = "[init, order, dropout]"
OWN = "question: q\ntrain: job:train\nscientific: {lr: [0.1, 0.2]}\nseeds: 3\nvary: [init, order]\n"


@pytest.mark.parametrize(
    ("vary", "line"),
    [
        ("[init, odrer]", "4:14: vary[1]: no such vary: 'odrer'; did you mean 'order'? allowed: init, order, dropout,"),
        ("[init, 5]", "4:14: vary[1]: no such vary: 5; allowed: init, order, dropout, split, test"),
        ("init", "4:7: vary: must be a list: [a, b], not 'init'"),
        ("[init, init]", "4:7: vary: init is there twice; keep one"),
        ("[]", "4:7: vary: names nothing that differs between seeds; add one at least of init, order, dropout, split"),
        ("[test]", "4:7: vary: names nothing that differs between seeds; add one at least of init, order, dropout,"),
    ],
)
def test_each_wrong_source_is_one_line(tmp_path: Path, vary: str, line: str) -> None:
    (found,) = problems(tmp_path, changed(USUAL, vary, TEXT))
    assert found.startswith(f"x.yaml:{line}")


@pytest.mark.parametrize("metric", ["test_loss", "val_accuracy"])
def test_images_are_a_sample_only_for_metrics_with_a_result_of_each(tmp_path: Path, metric: str) -> None:
    text = changed("test_accuracy", metric, changed(USUAL, "[init, test]", TEXT))
    problem = f"vary: test needs a result of each test image, which {metric} lacks; take test_accuracy"
    assert problems(tmp_path, text) == [f"x.yaml:10:13: claims.c.metric: {problem}"]
    mean = changed("margin: 0.01", "margin: 0.01\n    estimand: mean", changed(USUAL, "[init, test]", TEXT))
    problem = "mean is of the seeds alone, and vary names test; use typical, or remove test"
    assert problems(tmp_path, mean) == [f"x.yaml:13:15: claims.c.estimand: {problem}"]


def test_a_table_has_no_results_of_single_images_and_other_code_chooses_itself(tmp_path: Path) -> None:
    text = changed(USUAL, "[init, order, dropout, test]", TEXT)
    problem = "test needs what became of each test image, which a table lacks; write init, order, dropout"
    assert problems(tmp_path, text, any_factors=True) == [f"x.yaml:4:7: vary: {problem}"]
    assert load(tmp_path, changed(USUAL, "[init, split]", TEXT), any_factors=True).vary == ["init", "split"]
    (tmp_path / "job.py").write_text("def train(seed, lr): ...\n")
    problem = "is for the networks of this package; other code gets a seed alone and decides itself what follows it"
    assert problems(tmp_path, OWN) == [f"x.yaml:5:1: vary: {problem}: remove this line"]


def test_masks_alone_cannot_vary_where_an_arm_has_none(tmp_path: Path) -> None:
    text = changed("activation: [relu, tanh]", "activation: [relu, tanh], dropout: [0.0, 0.5]", TEXT)
    (found,) = problems(tmp_path, changed(USUAL, "[dropout]", text))
    assert found.startswith("x.yaml:4:7: vary: names dropout alone, and an arm has dropout 0, so that all of its seeds")
    assert problems(tmp_path, changed(USUAL, "[order, dropout]", text)) == []


def test_the_usual_sources_change_no_digest_and_their_order_does_not_count(tmp_path: Path) -> None:
    plain = load(tmp_path, changed(f"vary: {USUAL}\n", "", TEXT))
    assert load(tmp_path, changed(USUAL, "[dropout, init, order]", TEXT)).digest == plain.digest
    others = [load(tmp_path, changed(USUAL, f"[{vary}]", TEXT)) for vary in ("order", "init, order, dropout, test")]
    assert len({plain.digest, *(each.digest for each in others)}) == 3


def ids(sweep: Sweep) -> list[str]:
    return [each.id for each in make_plan(sweep, "d1" * 32).verdict_trials()]


def test_a_trial_is_another_one_if_a_source_of_it_varies_or_not(tmp_path: Path) -> None:
    usual = load(tmp_path, TEXT)
    with_test = load(tmp_path, changed(USUAL, "[init, order, dropout, test]", TEXT))
    split = load(tmp_path, changed(USUAL, "[init, order, dropout, split]", TEXT))
    assert ids(usual) == ids(with_test)  # which images there are changes no training
    assert not {*ids(usual)} & {*ids(split)}
    trial = make_plan(load(tmp_path, changed(USUAL, "[order, split]", TEXT)), "").verdict_trials()[-1].trial
    assert (trial.seed, trial.seed_of("init"), trial.seed_of("order"), trial.split_seed) == (2, 0, 2, 2)
    assert make_plan(usual, "").verdict_trials()[-1].trial.split_seed is None


@pytest.mark.parametrize(
    ("vary", "sentence"),
    [
        (
            "init order dropout",
            "initial weights, image orders and dropout masks; the split and the test images stay the",
        ),
        ("order", "image orders; the initial weights, the dropout masks, the split and the test images stay the same."),
        (
            "init order dropout test",
            "initial weights, image orders, dropout masks and test images; the split stays the",
        ),
        ("split test", "training/validation splits and test images; the initial weights, the order of"),
        (" ".join(SOURCES), "dropout masks, training/validation splits and test images."),
    ],
)
def test_a_sentence_says_what_verdicts_generalize_over(vary: str, sentence: str) -> None:
    told = Sweep(name="x", question="q", seeds=3).workload.generalization(vary.split())  # type: ignore[arg-type]
    assert told.startswith("The verdicts generalize over ")
    assert sentence in told


def test_images_are_a_sample_for_differences_of_means_alone(tmp_path: Path) -> None:
    text = changed(USUAL, "[init, test]", TEXT)
    ratio = changed("margin: 0.01", "margin: 2\n    scale: ratio", text)
    problem = "ratio is of logarithms, and vary names test; use difference"
    assert problems(tmp_path, ratio) == [f"x.yaml:13:12: claims.c.scale: {problem}"]
    spread = changed("margin: 0.01", "margin: 2\n    kind: spread", text)
    (found, *_) = problems(tmp_path, spread)
    assert found.endswith("vary: test is for differences of means, and spread asks no such; remove test from vary")
