"""The pages as a browser gets them: what they show, what their buttons do, and what they say of errors."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import Reader
from queued_sweeps import ended, running, submitted
from sweep_server import SMALL, Answer, FixedAccounts, Server, serving

from mnist_ablate.service import web_pages

HTML = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    accounts = FixedAccounts(ann="submitter", ben="submitter", eve="viewer", op="operator")
    with serving(tmp_path_factory.mktemp("home"), accounts) as made:
        made.user = "ann"
        yield made


def page(server: Server, path: str, user: str = "ann", status: int = 200, **headers: str) -> str:
    answer = server.ask("GET", path, headers={**HTML, **headers}, user=user)
    assert (answer.status, answer.headers["content-type"]) == (status, "text/html; charset=utf-8"), answer.text
    return answer.text


def logged_in(server: Server, user: str = "ann") -> Server:
    """Somebody with a browser: forms need the token of a page."""
    form = {"username": user, "password": user * 2, "csrf": token(server.ask("GET", "/login", user="").text)}
    answer = server.ask("POST", "/login", form=form, user="")
    assert answer.status == 303, answer.text
    return Server(server.service, server.port, cookie=answer.headers["set-cookie"].partition(";")[0])


def token(text: str) -> str:
    return re.findall(r'name="csrf" value="(\w+)"', text)[0]


def send(browser: Server, path: str, page_path: str = "/new", **fields: str) -> Answer:
    form = {**fields, "csrf": token(browser.ask("GET", page_path, headers=HTML).text)}
    return browser.ask("POST", path, form=form, headers=HTML)


def test_the_list_has_what_runs_what_ended_and_what_waits(server: Server) -> None:
    queue = server.service.queue
    waiting, live, over = (submitted(queue, name=name) for name in ("list-waits", "list-runs", "list-done"))
    running(queue, live)
    ended(server.service, over)
    text = page(server, "/")
    for each in (waiting, live, over):
        assert f'<a href="/sweeps/{each.id}">{each.name}</a>' in text
    rows = {name: row for row in text.split("<tr id=")[1:] for name in re.findall(r'">([\w-]+)</a><p', row)}
    assert "2 of 6 trials, 1 running, 50 s left" in rows["list-runs"]
    assert "✓</span> 1 supported" in rows["list-done"]
    assert f"/api/v1/sweeps/{over.id}/report.html" in rows["list-done"]
    assert "0 of 6 trials, since" in rows["list-waits"]
    assert "report.html" not in rows["list-waits"]
    assert "list-waits" not in page(server, "/?state=done")
    assert "list-done" in page(server, "/?owner=ann")
    assert "no sweeps here" in page(server, "/?owner=nobody")
    assert "Input should be" in page(server, "/?state=odd", status=422)


def test_a_long_list_has_a_next_part(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_pages, "PAGE_SIZE", 2)
    names = [submitted(server.service.queue, "pat", name=f"long-{number}").name for number in range(3)]
    first = page(server, "/?owner=pat")
    (older,) = re.findall(r'href="([^"]*before=[^"]*)"', first)
    rest = page(server, older.replace("&amp;", "&"))
    shown = [name for text in (first, rest) for name in re.findall(r'">([\w-]+)</a><p', text)]
    assert shown == names[::-1]


def test_one_sweep_shows_all_that_is_known_and_escapes_it(server: Server) -> None:
    sweep = submitted(server.service.queue, name="one", question="Does <b>it</b> hurt?")
    running(server.service.queue, sweep, "trial lost <script>alert(1)</script>")
    text = page(server, f"/sweeps/{sweep.id}")
    read = Reader(text)
    for shown in ("Does <b>it</b> hurt?", "trial lost <script>alert(1)</script>", "Tanh hurts <relu>.", "open"):
        assert shown in read.text
    for shown in ("2 of 6 trials, 1 running, 50 s left", "relu seed 1: epoch 1 of 2", "direction: lower"):
        assert shown in read.text
    assert read.values("src") == ["/static/htmx.min.js", f"/api/v1/sweeps/{sweep.id}/report.svg?n=2"]
    assert f'hx-get="/sweeps/{sweep.id}"' in text
    assert "one" in page(server, "/sweeps/one"), "its name stands for the latest of it"
    ended(server.service, sweep, "refuted")
    text = page(server, f"/sweeps/{sweep.id}")
    assert "✗</span> refuted" in text
    assert "hx-get" not in text, "nothing changes any more"
    assert "Cancel" not in text


def test_an_open_page_asks_for_its_live_part_alone(server: Server) -> None:
    sweep = submitted(server.service.queue, name="part")
    for path, part in (("/", '<div id="sweeps"'), (f"/sweeps/{sweep.id}", '<div id="sweep"')):
        text = page(server, path, **{"HX-Request": "true"})
        assert text.strip().startswith(part)
        assert "<html" not in text
        Reader(text)


def test_buttons_steer_a_sweep_and_say_why_not(server: Server) -> None:
    sweep = submitted(server.service.queue, name="steered")
    browser, path = logged_in(server), f"/sweeps/{sweep.id}"
    for change, state in (("pause", "paused"), ("resume", "waiting"), ("cancel", "cancelled")):
        answer = send(browser, f"{path}/{change}", path)
        assert (answer.status, answer.headers["location"]) == (303, path)
        assert server.service.submission(sweep.id).state == state
    again = send(browser, f"{path}/cancel")
    assert (again.status, "is cancelled already" in again.text) == (409, True)
    other = submitted(server.service.queue, "ben", name="of-ben")
    assert send(browser, f"/sweeps/{other.id}/priority", priority="3").status == 403
    assert "<button>Cancel" not in page(server, f"/sweeps/{other.id}")
    assert "<button>Cancel" in page(server, f"/sweeps/{other.id}", "op")
    own = submitted(server.service.queue, name="own")
    assert send(browser, f"/sweeps/{own.id}/priority", priority="3").status == 303
    assert server.service.submission(own.id).priority == 3
    assert "expected a whole number from -10 to 10, not 'x'" in send(
        browser, f"/sweeps/{own.id}/priority", priority="x"
    ).text.replace("&#39;", "'")


def test_a_form_of_another_page_is_refused(server: Server) -> None:
    sweep = submitted(server.service.queue, name="guarded")
    answer = logged_in(server).ask("POST", f"/sweeps/{sweep.id}/cancel", form={"csrf": "0" * 64}, headers=HTML)
    assert answer.status == 403
    assert server.service.submission(sweep.id).state == "waiting"


def test_the_editor_marks_errors_at_their_lines_before_anything_is_submitted(server: Server) -> None:
    browser = logged_in(server)
    wrong = SMALL.replace("seeds: 2", "sedes: 2")
    for path, fields, status in (("/new/check", {}, 200), ("/new", {}, 422), ("/new", {"check": "1"}, 200)):
        answer = send(browser, path, name="marked", file=wrong.replace("\n", "\r\n"), **fields)
        assert answer.status == status
        lines = re.findall(r'<li( class="wrong" title="[^"]*")?></li>', answer.text)
        assert [number for number, mark in enumerate(lines, 1) if mark] == [1, 4]
        assert "line 4, column 1</span> sedes: unknown key; did you mean" in answer.text
    assert wrong.partition("\n")[0] in answer.text
    good = send(browser, "/new/check", name="marked", file=SMALL)
    assert "is ready: 2 arms, 2 seeds, 4 trials." in good.text
    assert 'class="wrong"' not in good.text
    assert "seeds: expected a whole number from 1 to 1000" in send(browser, "/new/check", name="x", seeds="0").text
    assert all(each.name != "marked" for each in server.service.submissions(limit=500))


def test_a_shipped_sweep_or_an_earlier_one_is_opened_and_submitted(server: Server) -> None:
    browser = logged_in(server)
    text = browser.ask("GET", "/new?from=dropout", headers=HTML).text
    assert Reader(text).text.count("dropout-helps") >= 1
    assert 'value="dropout"' in text
    answer = send(browser, "/new", name="by-form", file=SMALL, seeds="3", priority="2", quick="on")
    assert answer.status == 303, answer.text
    found = server.service.submission(answer.headers["location"].rpartition("/")[2])
    assert (found.name, found.owner, found.priority, found.quick) == ("by-form-quick", "ann", 2, True)
    assert "no such submission" in page(server, "/new?from=nothing", status=404)
    earlier = submitted(server.service.queue, name="earlier")
    assert 'value="earlier"' in page(server, f"/new?from={earlier.id}")


def test_a_viewer_looks_and_submits_nothing(server: Server) -> None:
    assert "New sweep" not in page(server, "/", "eve")
    answer = send(logged_in(server, "eve"), "/new", name="x", file=SMALL)
    assert "eve may look, not submit" in answer.text


def test_who_is_not_known_logs_in_first(server: Server) -> None:
    answer = server.ask("GET", "/sweeps/one", headers=HTML, user="")
    assert (answer.status, answer.headers["location"]) == (303, "/login?next=/sweeps/one")
    form = server.ask("GET", answer.headers["location"], user="").text
    Reader(form)
    assert 'value="/sweeps/one"' in form
    wrong = server.ask("POST", "/login", form={"username": "ann", "password": "x", "csrf": token(form)}, user="")
    assert "No such account" in wrong.text
    for path in ("/style.css", "/static/htmx.min.js"):
        assert server.ask("GET", path, user="").status == 200
    assert "Log out" in logged_in(server).ask("GET", "/", headers=HTML).text


def test_errors_are_pages_for_people_and_the_api_has_a_page(server: Server) -> None:
    assert "no such submission" in Reader(page(server, "/sweeps/nothing", status=404)).text
    assert "no such address" in page(server, "/nothing", status=404)
    text = Reader(page(server, "/api")).text
    assert "POST /api/v1/sweeps/{id}/cancel" in text


def test_what_is_vendored_has_its_license_beside_it() -> None:
    static = Path(web_pages.__file__).with_name("static")
    assert sorted(path.name for path in static.iterdir()) == ["htmx-LICENSE.txt", "htmx.min.js"]
    assert "Zero-Clause BSD" in (static / "htmx-LICENSE.txt").read_text()
