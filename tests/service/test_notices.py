"""Whoever is to be told hears of a sweep's end by webhook and e-mail, at least once, however often that fails first."""

import json
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import certificates
import pytest
from aiosmtpd.smtp import AuthResult, Session
from mail_inbox import Inbox, mail_server
from mlflow_stub import Reply, Stub, running
from sweep_runs import small

from mnist_ablate.errors import SweepError
from mnist_ablate.service import notices
from mnist_ablate.service.claims import Claims, Ending, settle
from mnist_ablate.service.limits import Limits
from mnist_ablate.service.notices import Channels, Mail, Notifier, mail_from_environment
from mnist_ablate.service.queue import Queue
from mnist_ablate.service.webhook import failure

SECRET = "hook-canary-1234"


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    made = Queue(f"sqlite:///{tmp_path / 'ledger.db'}")
    yield made
    made.close()


def ended(queue: Queue, channels: Channels) -> str:
    """A sweep that has failed; its id."""
    queue.submit(small(), owner="ana")
    found = Claims(queue, "one").take(Limits())
    assert found
    content = failure("small", "no such file", 4)
    settle(
        queue,
        found[0],
        Ending("failed", 4, "no such file", notices=channels.notices(found[1], content, "no such file")),
    )
    return found[1].id


def due_now(queue: Queue) -> None:
    with queue.writing() as connection:
        connection.exec_driver_sql("UPDATE service_notices SET due_at = 0")


def test_webhook_and_mail_are_told_with_link_duration_and_what_failed_and_nobody_twice(queue: Queue) -> None:
    inbox = Inbox()
    with running(Stub(Reply(204))) as stub, mail_server(inbox) as address:
        mail = Mail(f"smtp://{address}", "ablate@example.org")
        id_ = ended(queue, Channels(True, ("ana@example.org", "ops@example.org"), "https://sweeps.example.org/"))
        notifier = Notifier(queue, f"{stub.uri}/{SECRET}", mail, pytest.fail)
        assert [notifier.send_one() for _ in range(3)] == [True, True, False]
    ((recipients, message),) = inbox.messages
    text = f"small: no such file\ntook 0 s\nhttps://sweeps.example.org/sweeps/{id_}"
    assert recipients == ["ana@example.org", "ops@example.org"]
    assert (message["Subject"], message["From"]) == ("small: no such file", "ablate@example.org")
    assert message.get_content().splitlines() == text.splitlines()
    told = json.loads(stub.bodies[0])
    assert (told["text"], told["owner"], told["id"], told["exit_code"]) == (text, "ana", id_, 4)
    assert "ops@example.org" not in stub.bodies[0].decode()


def test_what_is_refused_is_tried_again_later_and_said_once_without_a_secret(queue: Queue) -> None:
    inbox, lines = Inbox(refuse=2), list[str]()
    with running(Stub(Reply(500))) as stub, mail_server(inbox) as address:
        id_ = ended(queue, Channels(True, ("ana@example.org",)))
        notifier = Notifier(queue, f"{stub.uri}/{SECRET}", Mail(f"smtp://{address}", "a@example.org"), lines.append)
        while not inbox.messages or len(stub.seen) < 2:
            while notifier.send_one():
                pass
            stub.reply = Reply(204)
            due_now(queue)
        assert not notifier.send_one()
    assert (len(lines), len(inbox.messages), len(stub.seen)) == (3, 1, 2)
    told = [each.data["text"] for each in queue.events(id_) if each.kind == "message"]
    assert sorted(text.partition(":")[0] for text in told) == [
        "MNIST_ABLATE_MAIL_SERVER smtp",
        "MNIST_ABLATE_WEBHOOK http",
    ]
    assert all(text.endswith("it is tried again") for text in told)
    assert not [line for line in [*lines, *told] if SECRET in line]


def test_a_notice_whose_sender_dies_is_sent_again(queue: Queue) -> None:
    with running(Stub(Reply(204))) as stub:
        ended(queue, Channels(has_webhook=True))
        dying = Notifier(queue, stub.uri, None, pytest.fail)
        dying._send = lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            dying.send_one()
        other = Notifier(queue, stub.uri, None, pytest.fail)
        assert not other.send_one()
        due_now(queue)
        assert other.send_one()
        assert len(stub.seen) == 1


def test_a_server_that_does_not_answer_keeps_nobody_waiting_and_is_asked_again(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "_LOOK_S", 0.02)
    lines: list[str] = []
    ended(queue, Channels(mail_to=("ana@example.org",)))
    stop = threading.Event()
    notifier = Notifier(queue, "", Mail("smtp://127.0.0.1:9", "a@example.org"), lines.append)
    thread = threading.Thread(target=notifier.run, args=(stop,))
    thread.start()
    deadline = time.monotonic() + 20
    while len(lines) < 2 and time.monotonic() < deadline:
        due_now(queue)
        time.sleep(0.02)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert lines[0].startswith("MNIST_ABLATE_MAIL_SERVER smtp://127.0.0.1:9: [Errno 111]")


@pytest.mark.parametrize("scheme", ["smtps", "smtp"])
def test_mail_goes_encrypted_with_the_account_of_a_secret_file(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = certificates.made(tmp_path / "tls")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.cert, files.key)
    inbox, logins = Inbox(), list[Any]()

    def login(_server: object, session: Session, _envelope: object, _how: str, data: Any) -> AuthResult:
        logins.append((session.ssl is not None, data.login, data.password))
        return AuthResult(success=True)

    (tmp_path / "password").write_text("a secret of the file\n")
    how = {"ssl_context": context} if scheme == "smtps" else {"tls_context": context, "require_starttls": True}
    with mail_server(inbox, authenticator=login, auth_require_tls=scheme == "smtp", **how) as address:
        for name, value in {
            "SERVER": f"{scheme}://{address}",
            "FROM": "ablate@example.org",
            "TO": "ops@example.org, lab@example.org",
            "USERNAME": "ablate",
            "PASSWORD_FILE": str(tmp_path / "password"),
            "CA": str(files.ca_file),
        }.items():
            monkeypatch.setenv(f"MNIST_ABLATE_MAIL_{name}", value)
        mail = mail_from_environment()
        assert mail
        mail.send([*mail.recipients], "subject", "text")
        assert logins[0][1:] == (b"ablate", b"a secret of the file")
        assert inbox.messages[0][0] == ["ops@example.org", "lab@example.org"]
        monkeypatch.delenv("MNIST_ABLATE_MAIL_CA")
        with pytest.raises(ssl.SSLCertVerificationError):
            mail.send([*mail.recipients], "subject", "text")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"SERVER": "mail.example.org"}, "MNIST_ABLATE_MAIL_SERVER: expected smtp://host:587 or smtps://host:465"),
        ({"SERVER": "smtp://mail.example.org"}, "MNIST_ABLATE_MAIL_FROM: set the address that e-mails come from"),
        (
            {"SERVER": "smtp://a", "FROM": "a@b", "PASSWORD_FILE": "/none"},
            "MNIST_ABLATE_MAIL_PASSWORD_FILE /none: cannot",
        ),
    ],
)
def test_incomplete_settings_are_one_line(
    variables: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"MNIST_ABLATE_MAIL_{name}", value)
    with pytest.raises(SweepError, match=message):
        mail_from_environment()
