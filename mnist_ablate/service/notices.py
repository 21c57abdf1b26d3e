"""Who is told when a sweep of the queue ends, by webhook and e-mail: at least once, tried again, in a thread."""

import json
import os
import smtplib
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import delete, select, update

from mnist_ablate.errors import AblateError, SweepError, mask, one_line
from mnist_ablate.service import webhook
from mnist_ablate.service.queue import Queue, add_events
from mnist_ablate.service.submissions import NOTICES, Submission

_LOOK_S, _TAKEN_S, _ANSWER_S = 2.0, 60.0, 20.0
_FIRST_WAIT_S, _LONGEST_WAIT_S, _MOST_TRIES = 5.0, 3600.0, 60
_PORTS = {"smtp": 587, "smtps": 465}


@dataclass(frozen=True)
class Mail:
    """How e-mail is sent: `server` is smtp://host:port, which must offer STARTTLS, or smtps://host:port.

    On loopback addresses plain SMTP will do. `recipients` are told of every sweep, and the owner if the limits file
    has an address.
    """

    server: str
    sender: str
    username: str = ""
    password: str = ""
    recipients: tuple[str, ...] = ()

    def send(self, recipients: list[str], subject: str, text: str) -> None:
        """Raises OSError or smtplib.SMTPException if the server does not take it."""
        parts = urlsplit(self.server)
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        message = EmailMessage()
        message["Subject"], message["From"], message["To"] = subject, self.sender, ", ".join(recipients)
        message.set_content(text)
        trusted = ssl.create_default_context(cafile=os.environ.get("MNIST_ABLATE_MAIL_CA") or None)
        if parts.scheme == "smtps":
            client: smtplib.SMTP = smtplib.SMTP_SSL(host, port, timeout=_ANSWER_S, context=trusted)
        else:
            client = smtplib.SMTP(host, port, timeout=_ANSWER_S)
        with client:
            client.ehlo()
            is_near = host in {"127.0.0.1", "localhost", "::1"}
            if parts.scheme == "smtp" and (client.has_extn("starttls") or not is_near):
                client.starttls(context=trusted)
            if self.username:
                client.login(self.username, self.password)
            client.send_message(message)


def mail_from_environment() -> Mail | None:
    """The MNIST_ABLATE_MAIL_… variables; None without a server. Raises SweepError if they are not complete."""
    server = os.environ.get("MNIST_ABLATE_MAIL_SERVER") or ""
    if not server:
        return None
    parts = urlsplit(server)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise SweepError("MNIST_ABLATE_MAIL_SERVER: expected smtp://host:587 or smtps://host:465")
    sender = os.environ.get("MNIST_ABLATE_MAIL_FROM") or ""
    if "@" not in sender:
        raise SweepError("MNIST_ABLATE_MAIL_FROM: set the address that e-mails come from")
    password = os.environ.get("MNIST_ABLATE_MAIL_PASSWORD") or ""
    if file := os.environ.get("MNIST_ABLATE_MAIL_PASSWORD_FILE"):
        try:
            password = Path(file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SweepError(f"MNIST_ABLATE_MAIL_PASSWORD_FILE {file}: cannot be read: {error.strerror}") from None
    recipients = (os.environ.get("MNIST_ABLATE_MAIL_TO") or "").replace(",", " ").split()
    return Mail(server, sender, os.environ.get("MNIST_ABLATE_MAIL_USERNAME") or "", password, tuple(recipients))


@dataclass(frozen=True)
class Channels:
    """Whom a sweep's end is told: whether there is a webhook, who gets an e-mail, and the service's address."""

    has_webhook: bool = False
    mail_to: tuple[str, ...] = ()
    service: str = ""

    def notices(self, submission: Submission, content: Mapping[str, object], problem: str) -> dict[str, dict[str, Any]]:
        """What each channel is to send; `problem` says what failed."""
        began = submission.started_at or submission.submitted_at
        seconds = round(time.time() - began.timestamp())
        page = f"{self.service.rstrip('/')}/sweeps/{submission.id}" if self.service else ""
        lines = [str(content["text"]), *([problem] if problem and problem not in str(content["text"]) else [])]
        lines += [f"took {_duration(seconds)}", *([page] if page else [])]
        own = {"id": submission.id, "owner": submission.owner, "seconds": seconds, "page": page, "problem": problem}
        told = {**content, **own, "text": mask("\n".join(lines))}
        channels = {"webhook": self.has_webhook, "mail": bool(self.mail_to)}
        return {name: {**told, "to": [*self.mail_to]} for name, wanted in channels.items() if wanted}


def _duration(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s" if rest >= 60 else f"{rest} s"  # noqa: PLR2004


class Notifier:
    """Sends what is due, from a thread of the runner's. A notice that is taken by a runner that dies is sent again."""

    def __init__(self, queue: Queue, webhook_url: str, mail: Mail | None, say: Callable[[str], None]) -> None:
        self._queue, self._webhook, self._mail, self._say = queue, webhook_url, mail, say

    def run(self, stop: threading.Event) -> None:
        """Until `stop`."""
        while not stop.wait(_LOOK_S):
            try:
                while not stop.is_set() and self.send_one():
                    pass
            except AblateError:
                continue  # the queue is away; the runner says so

    def send_one(self) -> bool:
        """Send a notice that is due. False if none is."""
        own = [name for name, there in (("webhook", self._webhook), ("mail", self._mail)) if there]
        due = select(NOTICES).where(NOTICES.c.due_at <= time.time(), NOTICES.c.channel.in_(own))
        with self._queue.reading() as connection:
            if connection.execute(due.limit(1)).first() is None:
                return False
        with self._queue.writing() as connection:
            row = connection.execute(due.order_by(NOTICES.c.due_at).limit(1)).one_or_none()
            if row is None:
                return False
            mine = NOTICES.c.number == row.number
            taken = {"due_at": time.time() + _TAKEN_S, "tries": row.tries + 1}
            connection.execute(update(NOTICES).where(mine).values(taken))
        failure = self._send(row.channel, json.loads(row.content))
        with self._queue.writing() as connection:
            if failure and row.tries + 1 < _MOST_TRIES:
                wait_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0**row.tries)
                connection.execute(update(NOTICES).where(mine).values(due_at=time.time() + wait_s))
            else:
                connection.execute(delete(NOTICES).where(mine))
            if failure and row.tries == 0:
                add_events(connection, row.submission, [("message", {"text": f"{failure}; it is tried again"})])
        if failure:
            self._say(failure)
        return True

    def _send(self, channel: str, content: dict[str, Any]) -> str:
        """A line if that failed."""
        recipients = content.pop("to", [])
        if channel == "webhook":
            return webhook.post(self._webhook, content)
        assert self._mail is not None
        try:
            self._mail.send(recipients, str(content["text"]).partition("\n")[0], str(content["text"]))
        except (OSError, smtplib.SMTPException, ValueError) as error:
            where = mask(self._mail.server)
            return (
                f"MNIST_ABLATE_MAIL_SERVER {where}: {one_line(str(error)) or type(error).__name__}: no e-mail was sent"
            )
        return ""
