"""People in a real Chromium: someone who asks on a phone, an operator at a desk, a report as it is read."""

import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, sync_playwright

from compliance import settings as settings_module
from compliance.api import create_app
from compliance.demo.stack import free_port
from compliance.notices import deliver, mailer
from compliance.web import create_pages
from compliance.wiring import Services, open_services, prepare
from tests.system.conftest import FinishedDemo

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}
pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("demo"),
    pytest.mark.skipif(not CHROMIUM, reason="no chromium on this machine: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, headless, talking to nobody but us."""
    options = ["--no-sandbox", "--disable-background-networking", "--disable-gpu", "--disable-sync", "--no-first-run"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield chromium
        chromium.close()


class Site:
    """A desk behind a real web server on loopback."""

    def __init__(self, services: Services, port: int) -> None:
        self.services = services
        self.url = f"http://127.0.0.1:{port}"
        config = uvicorn.Config(
            create_app(services, pages=create_pages(services)), host="127.0.0.1", port=port, log_level="warning"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def start(self) -> None:
        """Serve until `stop`."""
        self._thread.start()
        while not self._server.started:
            threading.Event().wait(0.05)

    def stop(self) -> None:
        """End the server."""
        self._server.should_exit = True
        self._thread.join(10)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A fresh desk."""
    port = free_port()
    settings = settings_module.initialise(tmp_path / "desk", public_url=f"http://127.0.0.1:{port}")
    prepare(settings)
    served = Site(open_services(settings), port)
    served.start()
    yield served
    served.stop()


@pytest.fixture
def demo_site(finished_demo: FinishedDemo) -> Iterator[Site]:
    """The desk of the finished demo."""
    served = Site(open_services(settings_module.load(finished_demo.workdir)), free_port())
    served.start()
    yield served
    served.stop()


def _open(browser: Browser, size: dict[str, int]) -> tuple[Page, list[str]]:
    """A page that collects what the console complains about and every request that leaves the machine."""
    page = browser.new_page(viewport={"width": size["width"], "height": size["height"]})
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    local = ("http://127.0.0.1:", "data:", "file:")
    page.on("request", lambda one: None if one.url.startswith(local) else complaints.append(one.url))
    return page, complaints


def _fits(page: Page) -> bool:
    """Nothing sticks out to the right: no sideways scrolling."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


def _code(services: Services) -> str:
    deliver(services, mailer(services.settings))
    (mail,) = services.settings.outbox.glob("*.eml")
    found = re.search(r"^\s+([A-Z0-9]{4}-[A-Z0-9]{4})\s*$", mail.read_text(), re.MULTILINE)
    assert found is not None
    return found.group(1)


def test_a_person_asks_on_a_phone_and_confirms(browser: Browser, site: Site) -> None:
    """Form, receipt, code, status: each fits a phone, and the status says that the address is confirmed."""
    page, complaints = _open(browser, PHONE)
    page.goto(site.url)
    assert _fits(page)
    page.select_option("#place", index=1)
    page.fill("#name", "Quillon Vandermeer")
    page.fill("#email", "quillon@example.test")
    page.click("button[type=submit], main form button")
    page.wait_for_url("**/received/*")
    assert _fits(page)
    with page.expect_download() as download:
        page.click("a[href$='/receipt']")
    assert download.value.suggested_filename.startswith("receipt-")

    (request,) = _requests(site.services)
    page.goto(f"{site.url}/confirm/{request}")
    page.fill("input[name=code]", _code(site.services))
    page.click("main form button")
    page.wait_for_url("**/status/*")

    assert _fits(page)
    assert "Quillon" not in page.content()
    assert complaints == []


def _requests(services: Services) -> list[str]:
    with services.read() as ledger:
        return [view.id for view in ledger.requests()]


def test_the_operator_reads_ended_requests_and_the_report(browser: Browser, demo_site: Site) -> None:
    """Sign in, look at the ended requests, open one, open the report of its batch; every page fits its window."""
    page, complaints = _open(browser, DESK)
    page.goto(f"{demo_site.url}/desk/login")
    page.fill("input[name=token]", demo_site.services.settings.operator_token.get_secret_value())
    page.click("main form button")
    page.wait_for_url("**/desk")
    page.goto(f"{demo_site.url}/desk?ended")
    assert _fits(page)
    page.goto(f"{demo_site.url}/desk/models")
    assert _fits(page)
    page.click("a[href*='/desk/reports/']")
    page.wait_for_load_state()

    assert "What this report does not claim" in page.content()
    assert _fits(page)
    assert complaints == []


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_report_reads_without_a_network(browser: Browser, finished_demo: FinishedDemo, size: dict[str, int]) -> None:
    """The bundle's page opens from the disk, fits, and asks for nothing from elsewhere."""
    page, complaints = _open(browser, size)
    bundle = Path(finished_demo.result["batches"][0]["bundle"])

    page.goto((bundle / "report.html").as_uri())

    assert _fits(page)
    assert "What the measurements say" in page.content()
    assert complaints == []
