"""The API: what each address answers, and what each bad request is told. A real server, on a port of its own."""

import http.client
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sweep_server import SMALL, Answer, FixedAccounts, Server, serving

from mnist_ablate.service import event_stream, http_limits
from mnist_ablate.service.http_limits import Rate, Rates
from mnist_ablate.service.queue import Queue, add_events, put_state

YAML = {"Content-Type": "application/yaml"}
MISSING = "0123456789abcdef"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    accounts = FixedAccounts(ann="submitter", ben="submitter", eve="viewer", op="operator")
    with serving(tmp_path_factory.mktemp("home"), accounts) as running:
        running.user = "ann"
        yield running


def submitted(server: Server, name: str, text: str = SMALL, **more: Any) -> str:
    answer = server.api("POST", "/sweeps", {"name": name, "file": text, **more})
    assert answer.status in {200, 201}, answer.text
    return str(answer.document["sweep"]["id"])


def refused(answer: Answer, status: int, exit_code: int = 2) -> str:
    """The detail of a problem document, which must be one."""
    found = answer.document
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status, found["status"], found["exit_code"]) == (status, status, exit_code), found
    assert {"type", "title", "detail", "places"} <= found.keys()
    assert "Traceback" not in answer.text
    return str(found["detail"])


def test_a_sweep_is_submitted_by_name_and_comes_with_its_plan(server: Server) -> None:
    answer = server.api("POST", "/sweeps", {"name": "normalization", "seeds": 3, "priority": 2})
    found = answer.document
    assert (answer.status, found["is_new"]) == (201, True)
    assert found["plan"]["trials"] == found["sweep"]["planned"]
    assert found["plan"]["seeds"] == 3
    assert (found["sweep"]["owner"], found["sweep"]["priority"], found["sweep"]["state"]) == ("ann", 2, "waiting")
    assert answer.headers["location"] == f"/api/v1/sweeps/{found['sweep']['id']}"
    assert server.ask("GET", answer.headers["location"]).document == found["sweep"]


def test_the_same_question_twice_is_the_same_sweep(server: Server) -> None:
    first = server.api("POST", "/sweeps", {"name": "twice", "file": SMALL})
    second = server.api("POST", "/sweeps?name=twice", SMALL + "# said otherwise\n", headers=YAML, user="ben")
    assert (first.status, second.status, second.document["is_new"]) == (201, 200, False)
    assert second.document["sweep"] == first.document["sweep"]


def test_yaml_and_json_with_changes_are_the_same_question(server: Server) -> None:
    by_json = server.api("POST", "/sweeps", {"name": "alike", "file": SMALL, "set": ["fixed.epochs=3"], "seeds": 4})
    by_yaml = server.api("POST", "/sweeps?name=alike&set=fixed.epochs=3&seeds=4", SMALL, headers=YAML)
    assert by_json.document["sweep"] == by_yaml.document["sweep"]
    text = server.api("GET", "/sweeps/alike/file")
    assert text.headers["content-type"].startswith("application/yaml")
    assert "seeds: 4" in text.text
    assert "epochs: 3" in text.text


def test_the_operator_s_limits_hold_when_a_sweep_is_submitted(tmp_path: Path) -> None:
    limits = tmp_path / "limits.yaml"
    limits.write_text("users: {ann: {trials: 10}}")
    with serving(tmp_path / "home", FixedAccounts(ann="submitter", ben="submitter"), limits=limits) as server:
        first, more = ({"name": name, "file": SMALL, "seeds": 4} for name in ("first", "more"))
        assert server.api("POST", "/sweeps", first, user="ann").status == 201
        told = refused(server.api("POST", "/sweeps", more, user="ann"), 409, 6)
        assert told.endswith("10 trials are allowed at a time: wait, or ask an operator")
        assert server.api("POST", "/sweeps", more, user="ben").status == 201


def test_a_check_registers_nothing(server: Server) -> None:
    before = server.api("GET", "/sweeps?limit=500").document
    answer = server.api("POST", "/sweeps:check", {"name": "only-checked", "file": SMALL})
    assert (answer.status, answer.document["trials"], answer.document["estimated_s"]) == (200, 4, None)
    assert server.api("GET", "/sweeps?limit=500").document == before


def test_a_name_with_other_content_is_a_conflict(server: Server) -> None:
    submitted(server, "taken")
    other = server.api("POST", "/sweeps", {"name": "taken", "file": SMALL, "seeds": 5})
    assert "another sweep of this name, by ann, is waiting" in refused(other, 409, 6)


def test_sweeps_are_listed_in_parts_by_state_and_owner(server: Server) -> None:
    ids = [submitted(server, f"page-{number}") for number in range(5)]
    server.api("POST", f"/sweeps/{ids[0]}/cancel")
    first = server.api("GET", "/sweeps?limit=2&owner=ann").document
    second = server.api("GET", f"/sweeps?limit=2&owner=ann&before={first['next']}").document
    assert [each["id"] for each in (*first["sweeps"], *second["sweeps"])] == ids[:0:-1]
    assert ids[0] in {each["id"] for each in server.api("GET", "/sweeps?state=cancelled").document["sweeps"]}
    assert server.api("GET", "/sweeps?owner=nobody").document == {"sweeps": [], "next": None}


def test_a_sweep_is_paused_resumed_reordered_and_cancelled(server: Server) -> None:
    id_ = submitted(server, "steered")
    for what, state in (("pause", "paused"), ("resume", "waiting"), ("cancel", "cancelled")):
        assert server.api("POST", f"/sweeps/{id_}/{what}").document["state"] == state
    assert "is cancelled already" in refused(server.api("POST", f"/sweeps/{id_}/cancel"), 409, 6)
    assert "is cancelled: submit it again" in refused(server.api("POST", f"/sweeps/{id_}/resume"), 409, 6)
    assert server.api("POST", "/sweeps", {"name": "steered", "file": SMALL}).document["sweep"]["state"] == "waiting"
    assert server.api("PUT", f"/sweeps/{id_}/priority", {"priority": -3}).document["priority"] == -3


BROKEN = "question: q\nscientific: {activation: [relu, tanhh]}\nseeds: 0\n"
REQUESTS: dict[str, tuple[str, str, object, dict[str, str], int, str]] = {
    "an unknown id": ("GET", f"/sweeps/{MISSING}", None, {}, 404, "no such submission"),
    "an unknown id cancelled": ("POST", f"/sweeps/{MISSING}/cancel", None, {}, 404, "no such submission"),
    "the events of an unknown id": ("GET", f"/sweeps/{MISSING}/events", None, {}, 404, "no such submission"),
    "an id like a path": ("GET", "/sweeps/..%2f..%2fetc%2fpasswd", None, {}, 404, "no such"),
    "an id of control characters": ("GET", "/sweeps/%0a%1b", None, {}, 404, "no such submission"),
    "an id with a NUL": ("GET", "/sweeps/%00", None, {}, 400, "a NUL character"),
    "an owner with a NUL": ("GET", "/sweeps?owner=%00", None, {}, 400, "a NUL character"),
    "an unknown change": ("POST", f"/sweeps/{MISSING}/explode", None, {}, 404, "no such address"),
    "an unknown shipped sweep": ("POST", "/sweeps", {"name": "normalisation"}, {}, 422, "did you mean 'normalization'"),
    "a path for a name": ("POST", "/sweeps", {"name": "../x.yaml"}, {}, 422, "no sweep named '../x.yaml'"),
    "a path for the name of a file": (
        "POST",
        "/sweeps",
        {"name": "../x", "file": SMALL},
        {},
        422,
        "a name has 1 to 100",
    ),
    "no name": ("POST", "/sweeps", {"file": SMALL}, {}, 422, "name: Field required"),
    "an unknown member": ("POST", "/sweeps", {"name": "x", "filee": SMALL}, {}, 422, "filee: Extra inputs"),
    "a name that is no text": ("POST", "/sweeps", {"name": 5}, {}, 422, "name: Input should be a valid string"),
    "broken JSON": ("POST", "/sweeps", b'{"name": ', {"Content-Type": "application/json"}, 400, "Invalid JSON"),
    "JSON that is not UTF-8": ("POST", "/sweeps", b'{"name": "\xff"}', {"Content-Type": "application/json"}, 400, ""),
    "deep JSON": ("POST", "/sweeps", b"[" * 100_000, {"Content-Type": "application/json"}, 400, "Invalid JSON"),
    "a list for an object": ("POST", "/sweeps", [1], {}, 422, "body: Input should be an object"),
    "a binary file": ("POST", "/sweeps?name=x", b"\x00\xff\xfe", YAML, 422, "x.yaml:1:1: not UTF-8 text"),
    "an empty file": ("POST", "/sweeps?name=x", b" ", YAML, 422, "no sweep named 'x'"),
    "no content type": ("POST", "/sweeps", b"{}", {}, 415, "Content-Type is missing: send application/json"),
    "another content type": ("POST", "/sweeps", b"<a/>", {"Content-Type": "text/xml"}, 415, "Content-Type text/xml"),
    "a priority as a form": ("PUT", f"/sweeps/{MISSING}/priority", b"priority=1", YAML, 415, "send application/json"),
    "a priority too high": (
        "PUT",
        f"/sweeps/{MISSING}/priority",
        {"priority": 11},
        {},
        422,
        "priority: Input should be",
    ),
    "a wrong method": ("DELETE", "/sweeps", None, {}, 405, "does not take DELETE"),
    "an odd method": ("BREW", "/sweeps", None, {}, 405, "does not take BREW"),
    "an unknown address": ("GET", "/nothing", None, {}, 404, "no such address"),
    "an address with a slash more": ("GET", "/sweeps/", None, {}, 404, "no such"),
    "a limit too high": ("GET", "/sweeps?limit=501", None, {}, 422, "limit: Input should be less than or equal to 500"),
    "a limit that is no number": ("GET", "/sweeps?limit=many", None, {}, 422, "limit: Input should be a valid integer"),
    "a number too large": ("GET", f"/sweeps?before={10**30}", None, {}, 422, "before: Input should be less than"),
    "an unknown state": ("GET", "/sweeps?state=happy", None, {}, 422, "state: Input should be 'waiting'"),
    "an unknown parameter with a file": ("POST", "/sweeps?name=x&nam=y", SMALL, YAML, 422, "nam: Extra inputs"),
    "seeds below one": ("POST", "/sweeps?name=x&seeds=0", SMALL, YAML, 422, "seeds: Input should be greater"),
    "an unknown format": ("GET", f"/sweeps/{MISSING}/report.exe", None, {}, 404, "no such address"),
    "too many trials": (
        "POST",
        "/sweeps",
        {"name": "many", "file": SMALL, "set": [f"scientific.width={[*range(1, 900)]}", "seeds=1000"]},
        {},
        422,
        "limit 10,000",
    ),
}


@pytest.mark.parametrize("what", REQUESTS)
def test_a_bad_request_is_one_problem_document_and_registers_nothing(server: Server, what: str) -> None:
    method, path, body, headers, status, text = REQUESTS[what]
    before = server.service.queue.counts()
    assert text in refused(server.api(method, path, body, headers=headers), status)
    assert server.service.queue.counts() == before


@pytest.mark.parametrize("path", ["/sweeps", "/sweeps:check"])
def test_the_problems_of_a_file_have_their_places(server: Server, path: str) -> None:
    answer = server.api("POST", path, {"name": "x", "file": BROKEN, "set": ["fixed.epoch=2"]})
    lines = refused(answer, 422).splitlines()
    places = answer.document["places"]
    assert [(place["line"], place["column"]) for place in places] == [(2, 33), (3, 8), (0, 0)]
    assert [f"x.yaml:{each['line']}:{each['column']}: {each['text']}" for each in places[:2]] == lines[:2]
    assert places[2]["text"] == lines[2]
    assert lines[2].startswith("--set fixed.epoch=2: fixed.epoch: unknown key")


def test_a_body_that_is_too_large_is_cut_off(server: Server) -> None:
    whole = server.api("POST", "/sweeps?name=x", b"x" * 1_000_001, headers=YAML)
    assert "more than 1,000,000 bytes" in refused(whole, 413)
    parts = server.api("POST", "/sweeps?name=x", iter([b"x" * 600_000] * 2), headers=YAML)
    assert "more than 1,000,000 bytes" in refused(parts, 413)
    said = server.api("POST", "/sweeps?name=x", b"x", headers={**YAML, "Content-Length": "100000000"})
    assert "more than 1,000,000 bytes" in refused(said, 413)
    assert refused(server.api("POST", "/sweeps?name=x", b"x" * 300_000, headers=YAML), 422)


def test_who_has_no_account_is_let_in_nowhere_but_where_all_are(server: Server) -> None:
    for path in ("/sweeps", "/catalog", "/openapi.json", f"/sweeps/{MISSING}/events", "/nothing"):
        answer = server.api("GET", path, user="")
        assert "no such account" in refused(answer, 401, 3)
        assert answer.headers["www-authenticate"].startswith("Basic")
    assert server.ask("GET", "/metrics", user="").status == 401
    assert server.ask("GET", "/healthz", user="").document == {"status": "alive"}
    assert "www-authenticate" not in server.api("GET", "/sweeps", headers={"Sec-Fetch-Mode": "cors"}, user="").headers


@pytest.mark.parametrize("words", ["", "Basic", "Basic !!!", "Basic Og==", "Bearer x", "Basic YW5uOg==", "Digest a=b"])
def test_credentials_that_are_none_are_refused(server: Server, words: str) -> None:
    refused(server.api("GET", "/sweeps", headers={"Authorization": words}, user=""), 401, 3)


def test_each_role_may_do_its_part(server: Server) -> None:
    id_ = submitted(server, "of-ann")
    assert server.api("GET", f"/sweeps/{id_}", user="eve").status == 200
    for method, path, body in (
        ("POST", "/sweeps", {"name": "eves", "file": SMALL}),
        ("POST", f"/sweeps/{id_}/cancel", None),
        ("GET", "/audit", None),
    ):
        assert "eve may" in refused(server.api(method, path, body, user="eve"), 403, 3)
    assert "ben may not change a sweep of ann" in refused(
        server.api("POST", f"/sweeps/{id_}/pause", user="ben"), 403, 3
    )
    assert server.api("POST", f"/sweeps/{id_}/pause", user="op").document["state"] == "paused"
    audit = server.api("GET", "/audit?limit=2", user="op").document
    noted = [(each["who"], each["what"], each["submission"], each["where"]) for each in audit["entries"]]
    assert noted == [("op", "pause", id_, "127.0.0.1"), ("ann", "submit", id_, "127.0.0.1")]
    assert audit["next"] == audit["entries"][-1]["number"]


def test_two_operators_at_once_get_one_answer_each(server: Server) -> None:
    id_ = submitted(server, "contested")
    answers: list[Answer] = []
    ask = [
        threading.Thread(target=lambda: answers.append(server.api("POST", f"/sweeps/{id_}/cancel"))) for _ in range(8)
    ]
    for each in ask:
        each.start()
    for each in ask:
        each.join()
    assert sorted(answer.status for answer in answers) == [200, *[409] * 7]


def test_what_is_not_recorded_yet_has_no_report(server: Server) -> None:
    id_ = submitted(server, "unrecorded")
    for path in ("report", "report.json", "report.html", "report.svg", "records.zip"):
        assert "no trial is recorded yet: it is waiting" in refused(server.api("GET", f"/sweeps/{id_}/{path}"), 404)


def test_the_catalog_has_every_shipped_sweep(server: Server) -> None:
    found = {each["name"]: each for each in server.api("GET", "/catalog").document}
    assert found["normalization"]["question"].startswith("Do centered inputs hurt relu")
    assert "scientific:" in found["normalization"]["file"]


def test_figures_are_told_to_prometheus(server: Server) -> None:
    submitted(server, "figured")
    text = server.ask("GET", "/metrics").text
    waiting = server.service.queue.counts()["waiting"]
    assert f'mnist_ablate_sweeps{{state="waiting"}} {waiting:.1f}' in text
    assert 'mnist_ablate_http_requests_total{method="POST",route="/api/v1/sweeps",status="201"}' in text
    assert "mnist_ablate_database_up 1.0" in text
    assert "mnist_ablate_trials_recorded_total 0.0" in text


def test_a_service_without_a_runner_is_alive_but_not_ready(server: Server) -> None:
    answer = server.ask("GET", "/readyz")
    assert (answer.status, answer.document["database"]) == (503, "ok")
    assert answer.document["runner"].startswith("none is there")
    anybody = server.ask("GET", "/readyz", user="")
    assert (anybody.status, anybody.document["database"], anybody.document["runner"]) == (503, "ok", "not ok")


def test_every_answer_forbids_what_no_page_needs(server: Server) -> None:
    for answer in (server.api("GET", "/sweeps"), server.api("GET", "/sweeps", user=""), server.ask("GET", "/healthz")):
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "server" not in answer.headers


def test_requests_are_counted_for_each_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_limits, "time", SimpleNamespace(monotonic=lambda: 0.0))  # what waits is exact
    accounts = FixedAccounts(ann="submitter", ben="submitter")
    rates = Rates(looks=Rate(3, 0.01), changes=Rate(1, 0.01), failures=Rate(2, 0.01))
    with serving(tmp_path / "home", accounts, rates=rates) as server:
        assert [server.api("GET", "/sweeps", user="ann").status for _ in range(4)] == [200, 200, 200, 429]
        assert server.answers[-1].headers["retry-after"] == "100"
        assert "too many requests" in refused(server.answers[-1], 429)
        assert server.api("GET", "/sweeps", user="ben").status == 200
        assert [server.api("POST", f"/sweeps/{MISSING}/cancel", user="ann").status for _ in range(2)] == [404, 429]
        guesses = [server.api("GET", "/sweeps", user=f"ben:{word}").status for word in ("a", "b", "c")]
        assert guesses == [401, 401, 429]


def stream(server: Server, id_: str, last: str = "") -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    about = {"Authorization": "Basic YW5uOmFubmFubg==", "Last-Event-ID": last, "Connection": "close"}
    connection.request("GET", f"/api/v1/sweeps/{id_}/events", headers=about)
    return connection.getresponse()


def events(reply: http.client.HTTPResponse) -> list[tuple[str, str]]:
    """The number and the kind of each event until the stream ends."""
    text = reply.read().decode()
    blocks = [dict(line.split(": ", 1) for line in each.splitlines() if ": " in line) for each in text.split("\n\n")]
    return [(each["id"], each["event"]) for each in blocks if "id" in each]


def test_a_stream_has_what_happened_and_what_happens_until_the_end(server: Server) -> None:
    id_, queue = submitted(server, "watched"), server.service.queue
    reply = stream(server, id_)
    assert reply.headers["content-type"].startswith("text/event-stream")
    time.sleep(0.2)
    write(queue, id_, "message", {"text": "one"})
    with queue.writing() as connection:
        put_state(connection, id_, "done", "", exit_code=0, ended_at=time.time())
    found = events(reply)
    assert [kind for _, kind in found] == ["state", "message", "state"]
    again = events(stream(server, id_, found[0][0]))
    assert again == found[1:]
    with stream(server, id_, found[-1][0]) as nothing:
        assert nothing.status == 204


def test_a_slow_reader_lacks_nothing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "_MOST_WAITING", 2)
    id_, queue = submitted(server, "flood"), server.service.queue
    reply = stream(server, id_)
    time.sleep(0.2)
    with queue.writing() as connection:
        add_events(connection, id_, [("message", {"text": str(number)}) for number in range(20)])
        put_state(connection, id_, "cancelled", "", ended_at=time.time())
    found = [int(number) for number, _ in events(reply)]
    assert len(found) == 22
    assert found == sorted(set(found))


def test_more_streams_than_one_person_needs_are_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "MOST_OF_ONE", 2)
    id_ = submitted(server, "crowded")
    open_ = [stream(server, id_) for _ in range(2)]
    with stream(server, id_) as more:
        assert more.status == 429
    server.api("POST", f"/sweeps/{id_}/cancel")
    assert [events(reply)[-1][1] for reply in open_] == ["state", "state"]


def test_a_stream_ends_when_its_reader_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(event_stream, "ASK_AGAIN_S", 0.1)
    accounts = FixedAccounts(ann="submitter")
    with serving(tmp_path / "home", accounts) as server:
        server.user = "ann"
        reply = stream(server, submitted(server, "private"))
        accounts.roles.clear()
        assert [kind for _, kind in events(reply)] == ["state"]
        refused(server.api("GET", "/sweeps"), 401, 3)


def write(queue: Queue, id_: str, kind: Any, data: dict[str, Any]) -> None:
    with queue.writing() as connection:
        add_events(connection, id_, [(kind, data)])
