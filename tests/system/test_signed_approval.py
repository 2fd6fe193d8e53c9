"""An approver signs in a real Chromium: the key file stays in the page, the signature goes to the desk."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from audits import keys
from compliance import settings as settings_module
from compliance.demo.stack import free_port
from compliance.ledger.lifecycle import RequestState
from compliance.wiring import open_services, prepare
from tests.compliance.browsing import matched
from tests.system.test_browser import CHROMIUM, DESK, Site

SECRET = "correct horse battery"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("signed-approval"),
    pytest.mark.skipif(not CHROMIUM, reason="no chromium on this machine: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, headless."""
    options = ["--no-sandbox", "--disable-background-networking", "--disable-gpu", "--disable-sync", "--no-first-run"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield chromium
        chromium.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A desk with nothing in it yet."""
    port = free_port()
    settings = settings_module.initialise(tmp_path / "desk", public_url=f"http://127.0.0.1:{port}")
    prepare(settings)
    served = Site(open_services(settings), port)
    served.start()
    yield served
    served.stop()


def test_an_approver_signs_in_the_browser(browser: Browser, site: Site, tmp_path: Path) -> None:
    """A wrong passphrase is told; the right one approves; what was sent holds neither key nor passphrase."""
    key, path = keys.generate("approver"), tmp_path / "ada.pem"
    keys.save(key, path, SECRET)
    with site.services.transaction() as ledger:
        data, now = keys.registration(key, "approver"), site.services.clock()
        ledger.register_key(key_id=key.key_id, role="approver", public_key=key.public_key, data=data, now=now)
    request_id = matched(site.services)
    page = browser.new_page(viewport={"width": DESK["width"], "height": DESK["height"]})
    sent: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda one: sent.append(f"{one.url} {one.post_data or ''}"))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.goto(f"{site.url}/desk/login")
    page.fill("input[name=token]", site.services.settings.operator_token.get_secret_value())
    page.click("main form button")
    page.goto(f"{site.url}/desk/requests/{request_id}")

    page.set_input_files("#key", path)
    page.fill("#passphrase", "not the passphrase")
    page.click("text=Sign and approve")
    page.wait_for_selector("#sign-problem:not([hidden])")
    assert page.inner_text("#sign-problem") == "The passphrase does not open the key file."
    page.fill("#passphrase", SECRET)
    page.click("text=Sign and approve")
    page.wait_for_selector("text=request.approved")

    with site.services.read() as ledger:
        assert ledger.request(request_id).state is RequestState.APPROVED
    everything = "\n".join(sent)
    assert key.key_id in everything
    assert "PRIVATE" not in everything
    assert "horse" not in everything
    assert all(one.startswith(site.url) for one in sent)
    assert not complaints
    page.close()
