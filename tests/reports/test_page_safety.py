"""The page runs nothing, asks nobody for anything, and takes no text for markup."""

from judged_sweep import judged
from pages import Reader, claim, read, sweep

from mnist_ablate.reports import html

HOSTILE = "</script></title><script>alert(1)</script><img src=x onerror=alert(2)> & \"quoted\" 'too'"


def test_nothing_in_the_file_points_elsewhere_or_runs() -> None:
    reader = read()
    assert not {"script", "iframe", "object", "embed", "img", "base", "form"} & set(reader.tags)
    assert all(value and value.startswith(("#", "data:")) for value in reader.values("href") + reader.values("src"))
    assert any(value and "default-src 'none'" in value for value in reader.values("content"))


def test_hostile_text_stays_text_wherever_it_comes_from() -> None:
    hostile = sweep(
        question=HOSTILE,
        source=HOSTILE,
        scientific={"normalizer": ["unit", "centered"], "initializer": [HOSTILE, "glorot_uniform"]},
        baseline={},
        claims=[
            claim(name=HOSTILE, statement=HOSTILE, treatment={"initializer": HOSTILE}, control=None, reference=0.9)
        ],
    )
    document, recorded = judged(hostile, reason=HOSTILE)
    last = recorded.entries[-1]
    failed = last.outcome.model_copy(update={"status": "failed", "reason": HOSTILE, "worker": HOSTILE})
    entries = (*recorded.entries[:-1], type(last)(last.trial, last.params, last.stage, failed))
    recorded = type(recorded)(hostile, entries, (), HOSTILE, HOSTILE, {"version.keras": HOSTILE})
    reader = Reader(html.html(document, recorded))
    assert not {"script", "img"} & set(reader.tags)
    assert not [name for _, name, _ in reader.attributes if name.startswith("on")]
    assert reader.text.count("<script>alert(1)</script>") >= 8


def test_a_password_in_a_reason_does_not_reach_the_page() -> None:
    text = read(reason="OperationalError: postgresql://me:hunter2@db/optuna refused").text
    assert "hunter2" not in text
    assert "me:***@db/optuna" in text
