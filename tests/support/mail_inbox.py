"""A mail server that keeps what it is given."""

from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Session
from mlflow_helpers import free_port


class Inbox:
    """What a mail server was given; it first refuses as many as told."""

    def __init__(self, refuse: int = 0) -> None:
        self.refuse, self.messages = refuse, list[Any]()

    async def handle_DATA(self, _server: object, _session: Session, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        if self.refuse:
            self.refuse -= 1
            return "451 come again"
        self.messages.append((envelope.rcpt_tos, message_from_bytes(envelope.content, policy=policy.default)))
        return "250 OK"


@contextmanager
def mail_server(inbox: Inbox, host: str = "127.0.0.1", **options: Any) -> Iterator[str]:
    """Yields its address."""
    port = free_port()
    controller = Controller(inbox, hostname=host, port=port, **options)
    controller.start()
    try:
        yield f"{host}:{port}"
    finally:
        controller.stop()
