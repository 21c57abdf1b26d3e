"""The pages in Chromium: they change by themselves, work by keyboard, on a phone and without JavaScript."""

import re
from collections.abc import Iterator

import browser as chromium
import pytest
from browser import Browser, browser
from queued_sweeps import ended, running, submitted
from sweep_server import SMALL, Server, serving

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(not chromium.FOUND, reason="Chromium is not installed"),
]

WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
UNNAMED = """
[...document.querySelectorAll('a, button, input:not([type=hidden]), textarea, progress, img')].filter(each =>
  !(each.innerText?.trim() || each.ariaLabel || each.alt || each.labels?.length)).map(each => each.outerHTML)
"""
CONTRAST = """
(() => {
  const parts = color => color.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const paper = each => {
    for (; each; each = each.parentElement) {
      const found = parts(getComputedStyle(each).backgroundColor);
      if (found[3] !== 0) return found;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll('body *')].filter(each => each.checkVisibility()
    && !each.matches(':disabled, .skip') && [...each.childNodes].some(node => node.nodeType === 3 && node.data.trim())
  ).map(each => {
      const [a, b] = [light(parts(getComputedStyle(each).color)), light(paper(each))].sort((x, y) => y - x);
      return [(a + .05) / (b + .05), each.outerHTML.slice(0, 120)];
    }).filter(([ratio]) => ratio < 4.5);
})()
"""
TYPE = """(text => {
  const field = document.querySelector('textarea');
  field.value = text; field.dispatchEvent(new Event('input', {bubbles: true}));
})"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("home")) as made:
        yield made


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium"), 1200, 900) as made:
        yield made


@pytest.fixture(scope="module")
def live(server: Server) -> str:
    """A sweep that runs."""
    sweep = submitted(server.service.queue, name="live")
    running(server.service.queue, sweep, "a worker joined")
    return sweep.id


def opened(tab: Browser, server: Server, path: str, width: int = 1200, scheme: str = "light") -> None:
    """A page, with what it says of errors and refusals kept in `heard`."""
    tab.size(width, 900)
    tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    tab.open(server.url + path)
    tab.until("document.readyState === 'complete' && !!document.querySelector('main')")
    tab.value(
        "window.heard = []; document.addEventListener('securitypolicyviolation', e => heard.push(e.violatedDirective))"
    )


def press(tab: Browser, key: str, text: str = "") -> None:
    for kind in ("keyDown", "keyUp"):
        tab.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, **({"text": text} if text else {}))


def test_a_page_that_is_open_changes_by_itself_and_keeps_what_was_opened(
    server: Server, tab: Browser, live: str
) -> None:
    opened(tab, server, f"/sweeps/{live}")
    tab.shows("2 of 6 trials, 1 running, 50 s left")
    tab.click("document.querySelector('summary')")
    tab.value("void (window.same = document.querySelector('#sweep'))")
    running(server.service.queue, server.service.submission(live), "trial relu seed 2 diverged at epoch 2", done=4)
    tab.shows("4 of 6 trials, 1 running, 50 s left")
    tab.shows("trial relu seed 2 diverged at epoch 2")
    assert tab.value("same === document.querySelector('#sweep')"), "its part is changed, not replaced"
    assert tab.value("document.querySelector('details').open")
    sweep = submitted(server.service.queue, name="soon-over")
    opened(tab, server, "/")
    tab.shows("soon-over")
    ended(server.service, sweep)
    tab.shows("✓ 1 supported")
    assert tab.value("heard") == []


def test_the_editor_marks_an_error_at_its_line_while_somebody_types(server: Server, tab: Browser) -> None:
    opened(tab, server, "/new?from=dropout")
    tab.shows("dropout is ready")
    tab.value(f"{TYPE}({SMALL.replace('seeds', 'sedes')!r})")
    tab.shows("line 4, column 1 sedes: unknown key")
    marked = "[...document.querySelectorAll('#lines li')].flatMap((each, i) => each.matches('.wrong') ? [i + 1] : [])"
    assert tab.value(marked) == [1, 4]
    mark, line = (
        tab.value(f"(box => [box.top, box.bottom])({each}.getBoundingClientRect())")
        for each in ("document.querySelectorAll('#lines li')[3]", "document.querySelector('textarea')")
    )
    assert 3 * 20 <= mark[0] - line[0] <= 4 * 20, "the mark is beside the fourth line"
    assert tab.value("document.querySelector('textarea').value").startswith("question: q"), "what was typed stays"
    tab.value(f"{TYPE}({SMALL!r})")
    tab.shows("is ready: 2 arms, 2 seeds, 4 trials.")
    assert tab.value(f"{marked}.length") == 0
    assert tab.value("heard") == []
    assert not tab.value("getSelection().toString()")


def test_a_sweep_is_submitted_and_cancelled_by_keyboard_alone(server: Server, tab: Browser) -> None:
    opened(tab, server, "/new")
    press(tab, "Tab")
    assert tab.value("document.activeElement.innerText") == "Skip to the content"
    tab.value(f"{TYPE}({SMALL!r})")
    tab.value("document.querySelector('#name').value = 'by-keyboard'; document.querySelector('#name').focus()")
    press(tab, "Enter", "\r")
    tab.until("location.pathname.startsWith('/sweeps/')")
    tab.shows("by-keyboard")
    assert server.service.submission("by-keyboard").state == "waiting"
    for _ in range(30):
        press(tab, "Tab")
        if tab.value("document.activeElement.innerText") == "Cancel":
            break
    assert tab.value("getComputedStyle(document.activeElement).outlineStyle") == "solid", "the focus is seen"
    press(tab, "Enter", "\r")
    tab.shows("cancelled by ")
    assert server.service.submission("by-keyboard").state == "cancelled"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 360])
def test_pages_fit_a_phone_name_what_they_have_and_can_be_read(
    width: int, scheme: str, server: Server, tab: Browser, live: str
) -> None:
    for path in ("/", f"/sweeps/{live}", "/new", "/api", "/nothing"):
        opened(tab, server, path, width, scheme)
        assert tab.value(WIDER) <= 0, path
        assert tab.value(UNNAMED) == [], path
        assert tab.value(CONTRAST) == [], path
        assert tab.value("document.documentElement.lang") == "en"
        assert tab.value("document.querySelectorAll('h1').length") == 1


def test_the_chart_of_a_sweep_is_drawn(server: Server, tab: Browser) -> None:
    sweep = submitted(server.service.queue, name="drawn")
    ended(server.service, sweep)
    opened(tab, server, f"/sweeps/{sweep.id}")
    tab.until("document.querySelector('img.drawn').naturalWidth > 100")
    link = str(tab.value("document.querySelector('.links a').href"))
    tab.open(link)
    tab.shows("Does tanh hurt?")
    assert re.match(r"rgb", str(tab.value("getComputedStyle(document.querySelector('.supported')).color")))


def test_without_javascript_an_error_is_marked_and_a_sweep_submitted(server: Server, tab: Browser) -> None:
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        opened(tab, server, "/new")
        tab.value(f"document.querySelector('textarea').value = {SMALL.replace('seeds', 'sedes')!r}")
        tab.value("document.querySelector('#name').value = 'no-script'")
        tab.click("document.querySelector('button.main')")
        tab.shows("line 4, column 1 sedes: unknown key")
        assert tab.value("document.querySelectorAll('#lines li.wrong').length") == 2
        tab.value(f"document.querySelector('textarea').value = {SMALL!r}")
        tab.click("document.querySelector('button.main')")
        tab.until("location.pathname.startsWith('/sweeps/')")
    finally:
        tab.call("Emulation.setScriptExecutionDisabled", value=False)
    assert server.service.submission("no-script").state == "waiting"
