"""How web addresses are opened: no redirect is followed, no proxy asked for this machine's own; knows no service."""

import os
import urllib.request
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """What is told, and credentials, stay with the host they were meant for."""

    def redirect_request(self, *_: Any) -> None:
        """Never follow."""


def opener(address: str) -> urllib.request.OpenerDirector:
    """Opens addresses of the host of this one. Raises ValueError if it is no address."""
    proxies = urllib.request.ProxyHandler({} if _is_here(address) else None)  # None: as the environment says
    return urllib.request.build_opener(_NoRedirect, proxies)


def exempt_from_proxies(address: str) -> None:
    """Tell what reads `no_proxy` in this process and its children, if the address is this machine's."""
    if not _is_here(address):
        return
    host = str(urlsplit(address).hostname)
    given = (os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or "").replace(" ", "").split(",")
    if not {"*", host} & set(given):
        os.environ["no_proxy"] = ",".join([*filter(None, given), host])


def _is_here(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
