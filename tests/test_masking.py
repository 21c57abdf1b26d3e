"""No password or token leaves; ordinary text stays as it is."""

import pytest

from mnist_ablate.errors import mask, one_line


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("http://user:canary@host:5000/x", "http://user:***@host:5000/x"),
        ("postgresql+psycopg2://u:can@ary@db/x", "postgresql+psycopg2://u:***@db/x"),
        ("mysql://u:can/ary@db/x", "mysql://u:***@db/x"),
        ("https://canary@host/", "https://***@host/"),
        ("(http://:canary@host)", "(http://:***@host)"),
        ("db?sslpassword=canary&x=1", "db?sslpassword=***&x=1"),
        ("two http://a:canary@b and http://c:canary@d", "two http://a:***@b and http://c:***@d"),
        ("http://host:5000/a@b", "http://host:5000/a@b"),
        ("http://127.0.0.1:5000 mail me@home", "http://127.0.0.1:5000 mail me@home"),
        ("test_accuracy=0.97", "test_accuracy=0.97"),
    ],
)
def test_credentials_are_masked(text: str, masked: str) -> None:
    assert mask(text) == masked
    assert mask(mask(text)) == masked


def test_values_of_secret_variables_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "long-canary")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "mlflow")
    monkeypatch.setenv("MNIST_ABLATE_WEBHOOK", "https://hooks.example/canary")
    assert mask("error at https://hooks.example/canary") == "error at ***"
    assert mask("error: long-canary was refused by mlflow") == "error: *** was refused by mlflow"


def test_one_line_is_one_line() -> None:
    assert one_line("\n  first http://u:p@h\nsecond") == "first http://u:***@h"
    assert len(one_line("x" * 1000)) == 300
    assert one_line("") == ""
