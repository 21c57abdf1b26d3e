"""Who is let in, by account, browser and proxy; what other sites and forged names get. Real servers."""

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from sweep_server import NO_LIMITS, SMALL, FixedAccounts, Server, serving

from mnist_ablate.errors import SweepError, UnreachableError
from mnist_ablate.service import accounts as known
from mnist_ablate.service.accounts import LocalAccounts, MlflowAccounts, ProxyAccounts, Roles
from mnist_ablate.service.http_limits import Rate, Rates

HTML = {"Accept": "text/html,*/*"}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("local")) as running:
        yield running


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("people"), FixedAccounts(ann="submitter", op="operator")) as found:
        yield found


@pytest.fixture
def people(running: Server) -> Server:
    """Nobody is logged in yet."""
    running.cookie = ""
    return running


def test_the_local_user_needs_no_account_and_is_operator(local: Server) -> None:
    assert local.api("GET", "/audit").status == 200
    assert local.ask("GET", "/login", headers=HTML).headers["location"] == "/"


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:PORT", "127.0.0.1.evil.example:PORT", "127.0.0.1", "localhost:1", "", "10.0.0.1"],
)
def test_a_name_that_another_site_gave_this_address_is_refused(local: Server, host: str) -> None:
    answer = local.api("GET", "/sweeps", headers={"Host": host.replace("PORT", str(local.port))})
    assert answer.status in {400, 403}
    assert local.api("GET", "/sweeps", headers={"Host": f"LOCALHOST:{local.port}"}).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://127.0.0.1:PORT"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_page_of_another_site_changes_nothing(local: Server, headers: Mapping[str, str]) -> None:
    own = {name: value.replace("PORT", str(local.port)) for name, value in headers.items()}
    answer = local.api("POST", "/sweeps", {"name": "normalization"}, headers=own)
    assert (answer.status, answer.document["detail"].startswith("from a page of another site")) == (403, True)
    assert local.service.queue.counts()["waiting"] == 0


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"])
def test_what_any_page_can_send_needs_a_token_of_ours(local: Server, kind: str) -> None:
    answer = local.ask("POST", "/new", b"name=x&file=y", headers={"Content-Type": kind})
    assert (answer.status, "load it again" in answer.text) == (403, True)


def test_no_page_of_another_site_reads_an_answer(local: Server) -> None:
    wish = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    for answer in (local.api("OPTIONS", "/sweeps", headers=wish), local.api("GET", "/sweeps", headers=wish)):
        assert answer.status in {403, 405}
        assert not any(name.startswith("access-control") for name in answer.headers)


def token(text: str) -> str:
    found = re.search(r'name="csrf" value="(\w+)"', text)
    assert found, text
    return found[1]


def logged_in(server: Server, name: str, password: str = "", then: str = "/") -> Any:
    csrf = token(server.ask("GET", "/login", headers=HTML, user="").text)
    form = {"username": name, "password": password or name * 2, "next": then, "csrf": csrf}
    answer = server.ask("POST", "/login", form=form, headers=HTML, user="")
    server.cookie = answer.headers.get("set-cookie", "").partition(";")[0]
    return answer


def test_a_person_logs_in_works_and_logs_out(people: Server) -> None:
    away = people.ask("GET", "/sweeps/x", headers=HTML, user="")
    assert (away.status, away.headers["location"]) == (303, "/login?next=/sweeps/x")
    answer = logged_in(people, "ann", then="/new")
    assert (answer.status, answer.headers["location"]) == (303, "/new")
    assert re.search(r"HttpOnly.*SameSite=strict", answer.headers["set-cookie"])
    page = people.ask("GET", "/new", headers=HTML)
    assert page.status == 200
    sent = people.ask("POST", "/new", form={"name": "mine", "file": SMALL, "csrf": token(page.text)}, headers=HTML)
    assert sent.status == 303, sent.text
    assert people.service.submission("mine").owner == "ann"
    assert people.ask("POST", "/logout", form={"csrf": token(page.text)}, headers=HTML).headers["location"] == "/login"
    assert people.api("GET", "/sweeps").status == 401


def test_a_session_alone_changes_nothing(people: Server) -> None:
    logged_in(people, "ann")
    other = token(people.ask("GET", "/login", headers={**HTML, "Cookie": "x=y"}, user="").text)
    for headers in ({}, {"X-CSRF-Token": "0" * 64}, {"X-CSRF-Token": other}, {"X-CSRF-Token": "\xff"}):
        answer = people.api("POST", "/sweeps", {"name": "normalization"}, headers=headers)
        assert (answer.status, "load it again" in answer.text) == (403, True)
    own = {"X-CSRF-Token": token(people.ask("GET", "/new", headers=HTML).text)}
    assert people.api("POST", "/sweeps", {"name": "normalization"}, headers=own).status == 201


def test_a_wrong_password_begins_no_session(people: Server) -> None:
    answer = logged_in(people, "ann", "wrong")
    assert (answer.status, "set-cookie" in answer.headers) == (401, False)
    assert "wrong" not in answer.text
    noted = people.api("GET", "/audit?limit=1", headers={"Authorization": "Basic b3A6b3BvcA=="}).document["entries"]
    assert (noted[0]["who"], noted[0]["what"]) == ("ann", "login refused")


@pytest.mark.parametrize("then", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:x", ""])
def test_login_leads_to_no_other_site(people: Server, then: str) -> None:
    assert logged_in(people, "ann", then=then).headers["location"] == "/"


def test_a_removed_person_is_out_of_the_session(tmp_path: Path) -> None:
    accounts = FixedAccounts(ann="submitter")
    with serving(tmp_path / "other", accounts) as server:
        logged_in(server, "ann")
        assert server.api("GET", "/sweeps").status == 200
        accounts.roles.clear()
        assert server.api("GET", "/sweeps").status == 401


def test_guessing_passwords_is_slowed_down(tmp_path: Path) -> None:
    rates = Rates(NO_LIMITS.looks, NO_LIMITS.changes, failures=Rate(3, 0.01))
    with serving(tmp_path / "home", FixedAccounts(ann="submitter"), rates=rates) as server:
        assert [logged_in(server, "ann", f"guess-{n}").status for n in range(4)] == [401, 401, 401, 429]
        assert logged_in(server, "ann").status == 429


def test_a_proxy_alone_names_people(tmp_path: Path) -> None:
    (tmp_path / "roles.yaml").write_text("default: none\nroles: {ann: submitter, 'ベン': viewer}\n")
    roles = Roles(tmp_path / "roles.yaml")
    own = ProxyAccounts("X-Forwarded-User", ["127.0.0.0/8"], roles)
    with serving(tmp_path / "home", own) as server:
        assert server.api("GET", "/sweeps", headers={"X-Forwarded-User": "ann"}).status == 200
        for headers in ({}, {"X-Forwarded-User": ""}, {"X-Forwarded-User": "eve"}, {"X-Forwarded-User": "a\tb"}):
            assert server.api("GET", "/sweeps", headers=headers).status == 401
        assert server.api("GET", "/sweeps", user="ann").status == 401
    elsewhere = ProxyAccounts("X-Forwarded-User", ["10.0.0.5"], roles)
    assert elsewhere.of_request("127.0.0.1", {"x-forwarded-user": "ann"}) is None
    assert elsewhere.of_request("10.0.0.5", {"x-forwarded-user": "ann"}) == known.Account("ann", "submitter")
    assert elsewhere.of_request("::ffff:10.0.0.5", {"x-forwarded-user": "ann"}) is not None
    assert elsewhere.of_request("testclient", {"x-forwarded-user": "ann"}) is None


class _Mlflow(BaseHTTPRequestHandler):
    """Answers like MLflow's server with accounts, and counts how often it is asked."""

    passwords: ClassVar[dict[str, str]] = {}
    asked: ClassVar[list[str]] = []
    status = 0

    def do_GET(self) -> None:
        self.asked.append(self.headers["Authorization"])
        is_known = self.headers["Authorization"] in self.passwords.values()
        self.send_response(self.status or (200 if is_known else 401))
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None: ...


@contextmanager
def mlflow(**passwords: str) -> Iterator[str]:
    _Mlflow.passwords, _Mlflow.status = passwords, 0
    _Mlflow.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Mlflow)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_an_account_of_mlflow_is_known_for_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    with mlflow(ann="Basic YW5uOnNlY3JldA==") as url:
        accounts = MlflowAccounts(url, Roles())
        assert [accounts.of_password("ann", "secret") for _ in range(3)] == [known.Account("ann", "submitter")] * 3
        assert len(_Mlflow.asked) == 1
        assert accounts.of_password("ann", "secreT") is None
        assert accounts.of_password("annsecret", "") is None
        _Mlflow.passwords.clear()
        assert accounts.of_password("ann", "secret") is not None
        monkeypatch.setattr(known, "KNOWN_S", 0.0)
        assert accounts.of_password("ann", "secret") is None


def test_while_mlflow_does_not_answer_nobody_new_is_let_in(tmp_path: Path) -> None:
    with mlflow(ann="Basic YW5uOmFubmFubg==") as url:
        accounts = MlflowAccounts(url, Roles())
        with serving(tmp_path / "home", accounts) as server:
            server.user = "ann"
            assert server.api("GET", "/sweeps").status == 200
            _Mlflow.status = 500
            assert server.api("GET", "/sweeps").status == 200
            answer = server.api("GET", "/sweeps", user="ben")
            assert (answer.status, answer.document["exit_code"], "retry-after" in answer.headers) == (503, 3, True)
            assert "cannot say who you are (it answered 500)" in answer.document["detail"]
    with pytest.raises(UnreachableError, match="cannot say who you are"):
        accounts.of_password("ben", "x")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("default: boss\n", r"roles.yaml:1:10: default: no such role: 'boss'; allowed: viewer"),
        ("roles: {ann: admin}\n", r"roles.yaml:1:14: ann: no such role: 'admin'"),
        ("rolls: {}\n", r"roles.yaml:1:1: rolls: unknown key; did you mean 'roles'"),
        ("roles: [ann]\n", r"roles.yaml:1:8: roles: must be a mapping"),
        ("- ann\n", r"roles.yaml:1:1: write `default: submitter`"),
        ("roles: {ann: operator, ann: viewer}\n", r"roles.yaml:1:24: roles.ann: duplicate key"),
    ],
)
def test_a_wrong_file_of_roles_is_told_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "roles.yaml").write_text(text)
    with pytest.raises(SweepError, match=said):
        Roles(tmp_path / "roles.yaml")


def test_a_changed_file_of_roles_holds_at_once_and_a_broken_one_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "roles.yaml"
    path.write_text("roles: {ann: operator}\n")
    roles = Roles(path)
    assert [account and account.role for account in map(roles.of, ("ann", "ben"))] == ["operator", "submitter"]
    path.write_text("default: none\nroles: {ben: viewer}\n")
    assert [account and account.role for account in map(roles.of, ("ann", "ben"))] == [None, "viewer"]
    path.write_text("default: [")
    assert roles.of("ben") == known.Account("ben", "viewer")


def test_an_answer_tells_no_secret(local: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNIST_ABLATE_TOKEN", "very-secret-word")
    answer = local.api("GET", "/sweeps/very-secret-word")
    assert answer.status == 404
    assert "very-secret-word" not in json.dumps(answer.document)
    assert LocalAccounts().of_password("x", "y") is not None
