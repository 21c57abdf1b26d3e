"""Who somebody is and what they may do: the local user, an account of MLflow's server, or whom a proxy names."""

import getpass
import hmac
import ipaddress
import secrets
import threading
import time
import urllib.request
from base64 import b64encode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Literal, Protocol, get_args
from urllib.error import HTTPError

from mnist_ablate.errors import SweepError, UnreachableError, mask
from mnist_ablate.sweep import yaml_reader
from mnist_ablate.sweep.yaml_reader import Mark
from mnist_ablate.text import hint, plainly, shown
from mnist_ablate.tracking.client import opener, public_uri

Role = Literal["viewer", "submitter", "operator"]
ROLES: tuple[Role, ...] = get_args(Role)
KNOWN_S = 60.0
"""How long an answer of MLflow's server is believed: a user who is removed there is out after it."""
MOST_NAME = 100
_MOST_KNOWN = 10_000
_ANSWER_S = 5.0
_LOOK = "/api/2.0/mlflow/experiments/search?max_results=1"
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Account:
    """A person, by the name that others see. A viewer looks; a submitter has sweeps; an operator changes all."""

    name: str
    role: Role

    @property
    def may_submit(self) -> bool:
        """Whether sweeps are taken from them."""
        return self.role != "viewer"

    @property
    def is_operator(self) -> bool:
        """Whether they may change the sweeps of others and read the audit record."""
        return self.role == "operator"

    def may_change(self, owner: str) -> bool:
        """Whether they may change a sweep of this owner."""
        return self.is_operator or (self.may_submit and self.name == owner)


class Accounts(Protocol):
    """How people are known. A service has one way."""

    @property
    def takes_passwords(self) -> bool:
        """Whether somebody can log in; else the request itself tells who it is."""

    def of_request(self, peer: str, headers: Mapping[str, str]) -> Account | None:
        """Who sends a request, as far as its sender's address and its headers tell that."""

    def of_password(self, name: str, password: str) -> Account | None:
        """The account with this name and password; None if there is none, or it has no role.

        Raises UnreachableError if that cannot be found out now.
        """


class Roles:
    """The roles of a YAML file, read again when it changes: `default: submitter` and `roles: {ann: operator}`.

    Without a file everybody is a submitter. `default: none` shuts out whom the file does not name.
    Raises SweepError if the file cannot be read when the service starts; later it is left as it was.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path, self._seen = path, 0
        self._default: str = "submitter"
        self._roles: Mapping[str, str] = {}
        self._lock = threading.Lock()
        if path:
            self._read(path)

    def of(self, name: str) -> Account | None:
        """The account of that name; None for one without a role."""
        if self._path:
            with suppress(SweepError):  # somebody is writing it: the next request looks again
                self._read(self._path)
        role = self._roles.get(name, self._default)
        return next((Account(name, each) for each in ROLES if each == role), None)

    def _read(self, path: Path) -> None:
        try:
            changed = path.stat().st_mtime_ns
            if changed == self._seen:
                return
            content = path.read_bytes()
        except OSError as error:
            raise SweepError(f"{plainly(str(path))}: cannot be read: {error.strerror or error}") from None
        default, roles = _roles_of(content, plainly(str(path)))
        with self._lock:
            self._seen, self._default, self._roles = changed, default, roles


def _roles_of(content: bytes, source: str) -> tuple[str, Mapping[str, str]]:
    """The default and the roles by name. Raises SweepError with a line for each problem."""
    file = yaml_reader.parse(content, source)
    values = file.root if isinstance(file.root, dict) else {}
    problems = [*file.problems]
    if file.root is not None and not isinstance(file.root, dict):
        problems.append((Mark(source, 1, 1), "write `default: submitter` and `roles: {name: operator}`"))
    strange = values.keys() - {"default", "roles"}
    problems += [(file.key_marks[key,], f"{key}: unknown key; {hint(key, ('default', 'roles'))}") for key in strange]
    roles, default = values.get("roles", {}), values.get("default", "submitter")
    if not isinstance(roles, dict):
        problems.append((file.marks["roles",], f"roles: must be a mapping {{name: role}}, not {shown(roles)}"))
        roles = {}
    given: dict[tuple[str, ...], object] = {
        ("default",): default,
        **{("roles", name): role for name, role in roles.items()},
    }
    for address, role in given.items():
        allowed = (*ROLES, "none")
        if role not in allowed:
            name = plainly(address[-1])
            problems.append((file.marks[address], f"{name}: no such role: {shown(role)}; {hint(role, allowed)}"))
    yaml_reader.raise_if_any(problems)
    return str(default), {name: str(role) for name, role in roles.items()}


class LocalAccounts:
    """Whoever reaches this machine's own address is the user who runs the service, and its operator."""

    takes_passwords = False

    def __init__(self) -> None:
        try:
            name = getpass.getuser()
        except (OSError, KeyError, ImportError):  # a container's user may have no name
            name = "local"
        self._account = Account(name, "operator")

    def of_request(self, _peer: str, _headers: Mapping[str, str]) -> Account | None:
        """The local user."""
        return self._account

    def of_password(self, _name: str, _password: str) -> Account | None:
        """Nobody needs one."""
        return self._account


class MlflowAccounts:
    """The accounts of an MLflow server, which is asked each time, at most once a minute for each."""

    takes_passwords = True

    def __init__(self, tracking_uri: str, roles: Roles) -> None:
        if not tracking_uri.startswith(("http://", "https://")):
            raise SweepError("--accounts mlflow: MLFLOW_TRACKING_URI is no server: set it to the team's, http(s)://…")
        self._uri, self._roles = public_uri(tracking_uri), roles
        self._key = secrets.token_bytes(32)  # what is remembered is of no use elsewhere
        self._known: dict[bytes, tuple[float, bool]] = {}
        self._lock = threading.Lock()

    def of_request(self, _peer: str, _headers: Mapping[str, str]) -> Account | None:
        """Nobody, without a password."""
        return None

    def of_password(self, name: str, password: str) -> Account | None:
        """Ask MLflow's server, or remember what it said within the last minute."""
        if not 0 < len(name) <= MOST_NAME or not name.isprintable() or ":" in name or not password:
            return None
        mark = hmac.digest(self._key, f"{len(name)}:{name}{password}".encode("utf-8", "surrogatepass"), "sha256")
        with self._lock:
            at, let_in = self._known.get(mark, (-KNOWN_S, False))
        if time.monotonic() - at > KNOWN_S:
            let_in = self._ask(name, password)
            with self._lock:
                if len(self._known) >= _MOST_KNOWN:
                    self._known.clear()
                if let_in:  # a password that was wrong a moment ago may have been set by now
                    self._known[mark] = (time.monotonic(), True)
        return self._roles.of(name) if let_in else None

    def _ask(self, name: str, password: str) -> bool:
        words = b64encode(f"{name}:{password}".encode("utf-8", "surrogatepass")).decode()
        request = urllib.request.Request(self._uri + _LOOK, headers={"Authorization": f"Basic {words}"})  # noqa: S310 - http(s) alone
        try:
            opener(self._uri).open(request, timeout=_ANSWER_S).close()
        except HTTPError as error:
            error.close()
            if error.code in {401, 403}:
                return False
            raise self._silent(f"it answered {error.code}") from None
        except (OSError, HTTPException, ValueError) as error:
            raise self._silent(str(getattr(error, "reason", error))) from None
        return True

    def _silent(self, why: str) -> UnreachableError:
        return UnreachableError(f"MLflow {self._uri} cannot say who you are ({mask(why)}): try again in a moment")


class ProxyAccounts:
    """Whom a reverse proxy names in a header, which is believed from the proxy's own address alone."""

    takes_passwords = False

    def __init__(self, header: str, trusted: Sequence[str], roles: Roles) -> None:
        self._header, self._roles = header.lower(), roles
        self._trusted: list[Network] = [network(each) for each in trusted]
        if not self._trusted:
            raise SweepError(f"--user-header {plainly(header)}: name the proxy's address too: --trusted-proxy 10.0.0.5")

    def of_request(self, peer: str, headers: Mapping[str, str]) -> Account | None:
        """The one that the proxy names."""
        name = headers.get(self._header, "")
        if not is_in(peer, self._trusted) or not 0 < len(name) <= MOST_NAME or not name.isprintable():
            return None
        return self._roles.of(name)

    def of_password(self, _name: str, _password: str) -> Account | None:
        """The proxy asks for passwords, not the service."""
        return None


def network(text: str) -> Network:
    """An address or a network such as 10.0.0.0/24. Raises SweepError for anything else."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise SweepError(f"--trusted-proxy {plainly(text)}: no address; write 10.0.0.5 or 10.0.0.0/24") from None


def is_in(peer: str, networks: Sequence[Network]) -> bool:
    """Whether the address of a connection belongs to one of the networks."""
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return any(mapped in each for each in networks)
