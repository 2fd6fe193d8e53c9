"""The page that checks a receipt, in a real Chromium, with files that a desk gave out."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, FilePayload, Page, sync_playwright

from audits import note, receipt
from compliance import intake
from compliance import settings as settings_module
from compliance.demo.stack import free_port
from compliance.wiring import open_services, prepare
from tests.audits.test_promise import FILED, NEXT_DAY, WITNESSED, Operator, opened, received, seconds
from tests.system.test_browser import CHROMIUM, DESK, PHONE, Site

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("receipt-page"),
    pytest.mark.skipif(not CHROMIUM, reason="no chromium on this machine: apt-get install chromium"),
]
NAMES = ("receipt", "policy", "proof", "opening")
Files = dict[str, bytes]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, headless."""
    options = ["--no-sandbox", "--disable-background-networking", "--disable-gpu", "--disable-sync", "--no-first-run"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A desk with one request in its published log."""
    port = free_port()
    settings = settings_module.initialise(tmp_path_factory.mktemp("desk"), public_url=f"http://127.0.0.1:{port}")
    prepare(settings)
    served = Site(open_services(settings), port)
    served.start()
    yield served
    served.stop()


@pytest.fixture(scope="module")
def status(site: Site) -> str:
    """The status page's address of a filed and published request."""
    one = intake.submission(regime="gdpr", name="Quillon Vandermeer", email="quillon@example.test")
    (filed,) = intake.file(site.services, [one], caller=intake.Caller(door="web"))
    site.services.publish()
    return f"{site.url}/status/{filed.status_token}"


@pytest.fixture(scope="module")
def files(browser: Browser, site: Site, status: str) -> Files:
    """What a person downloads from the status page, and the policy from elsewhere."""
    page = browser.new_page()
    page.goto(status)
    found: Files = {"policy": site.services.policy_text().encode()}
    for name in ("receipt", "proof", "opening"):
        with page.expect_download() as download:
            page.click(f"a[href$='/{name}']")
        assert download.value.suggested_filename.startswith(f"{name}-")
        found[name] = Path(download.value.path()).read_bytes()
    page.close()
    return found


def _open(browser: Browser, url: str, size: dict[str, int] = DESK) -> tuple[Page, list[str]]:
    """A loaded page, and every request or complaint that it makes from then on."""
    page = browser.new_page(viewport={"width": size["width"], "height": size["height"]})
    page.goto(url)
    page.wait_for_function("!document.getElementById('start').disabled")
    seen: list[str] = []
    page.on("request", lambda one: seen.append(one.url))
    page.on("console", lambda message: seen.append(message.text))
    return page, seen


def _check(page: Page, files: Files) -> list[tuple[str, str]]:
    """Choose the files and read the steps with their marks."""
    for name in NAMES:
        chosen = [_picked(name, files[name])] if name in files else []
        page.set_input_files(f"#{name}", chosen)
    page.click("#start")
    page.wait_for_selector("#answer:not([hidden])")
    rows = page.query_selector_all("#answer li")
    return [(str(row.get_attribute("data-step")), row.query_selector(".mark").inner_text()) for row in rows]  # type: ignore[union-attr]


def _picked(name: str, content: bytes) -> FilePayload:
    return {"name": name, "mimeType": "application/json", "buffer": content}


def _judged(page: Page, files: Files) -> dict[str, Any]:
    """The program's own answer, without the page around it."""
    raw = {name: list(content) for name, content in files.items()}
    code = """files => ExpungeReceipt.verify(Object.fromEntries(["receipt", "policy", "proof", "opening"].map(
        name => [name, files[name] ? new Uint8Array(files[name]) : null])))"""
    found: dict[str, Any] = page.evaluate(code, raw)
    return {name: found[name] for name in ("ok", "trust", "steps")}


def _by_python(files: Files) -> dict[str, Any]:
    found = receipt.verify(
        files["receipt"], files.get("policy"), opening=files.get("opening"), proof=files.get("proof")
    )
    return found.to_json()


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_the_files_of_the_status_page_hold(browser: Browser, site: Site, files: Files, size: dict[str, int]) -> None:
    """Nine steps hold, on a page that fits, and from its loading on not one request is made."""
    page, seen = _open(browser, f"{site.url}/receipt/check", size)

    marks = _check(page, files)

    assert [mark for _, mark in marks] == ["holds"] * 9
    assert [name for name, _ in marks[7:]] == ["opening", "proof"]
    assert "The receipt holds" in page.inner_text("#answer")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert seen == []


def test_the_saved_page_works_without_us(browser: Browser, site: Site, files: Files, tmp_path: Path) -> None:
    """One file, opened from the disk, says the same; its own policy lets it load and run nothing else."""
    page = browser.new_page()
    page.goto(f"{site.url}/receipt/check")
    with page.expect_download() as download:
        page.click("a[download]")
    saved = tmp_path / download.value.suggested_filename
    download.value.save_as(saved)

    page, seen = _open(browser, saved.as_uri())

    assert [mark for _, mark in _check(page, files)] == ["holds"] * 9
    assert seen == []
    blocked = page.evaluate("fetch('http://127.0.0.1/').then(() => false, () => true)")
    assert blocked
    assert any("Content Security Policy" in one or "violates" in one for one in seen)


def test_without_a_receipt_or_a_policy_the_page_says_what_to_do(browser: Browser, site: Site, files: Files) -> None:
    """No receipt: choose one. No policy: nothing can be believed, at step 2. Another choice takes the answer away."""
    page, _ = _open(browser, f"{site.url}/receipt/check")

    assert _check(page, {}) == []
    assert "Choose your receipt" in page.inner_text("#answer")
    marks = _check(page, {"receipt": files["receipt"]})
    assert [mark for _, mark in marks][:3] == ["holds", "fails", "not checked"]
    page.set_input_files("#opening", [])
    page.set_input_files("#receipt", [])
    assert page.is_hidden("#answer")


def test_the_page_and_the_verifier_say_the_same(browser: Browser, site: Site, files: Files) -> None:
    """Steps, verdicts and words agree: for honest files, with witnesses, and for cheats."""
    page, _ = _open(browser, f"{site.url}/receipt/check")
    honest, witnessed = Operator(), Operator(desk=WITNESSED)
    mine = {"receipt": honest.receipt().encode(), "policy": honest.desk.policy().encode()}
    theirs = {"receipt": witnessed.receipt().encode(), "policy": witnessed.desk.policy().encode()}
    cases = [
        files,
        mine,
        {"receipt": mine["receipt"]},
        {**mine, "policy": theirs["policy"]},
        {**theirs, "opening": opened().encode(), "proof": witnessed.proof().encode()},
        {**theirs, "proof": witnessed.proof(time=seconds(NEXT_DAY)).encode()},
        {**theirs, "proof": witnessed.proof(time=seconds(FILED) - 3600).encode()},
        {**mine, "proof": Operator(start=honest.start[:2], after=[received()]).proof().encode()},
        {**mine, "opening": opened(key=bytes(32)).encode()},
        {**mine, "opening": opened(request_id="request-02").encode()},
        {**mine, "proof": Operator(after=[received(respondBy="2027-01-20")]).proof().encode()},
        {**mine, "proof": Operator(after=[received(scope="class")]).proof().encode()},
        {**mine, "proof": Operator(start=[*honest.start, received()]).proof().encode()},
        {**mine, "receipt": b"{}"},
        {**mine, "receipt": mine["receipt"] + b"{}"},
        {**mine, "receipt": b'{"a":1,"a":2}'},
        {**mine, "policy": b"quorum none\n"},
    ]

    for one in cases:
        assert _judged(page, one) == _by_python(one)


def test_no_changed_byte_is_let_through(browser: Browser, site: Site) -> None:
    """One flip at each of many places of receipt, proof and opening: refused by both, at the same step."""
    page, _ = _open(browser, f"{site.url}/receipt/check")
    operator = Operator(desk=WITNESSED)
    whole = {
        "receipt": operator.receipt().strip().encode(),
        "policy": operator.desk.policy().encode(),
        "proof": json.dumps(json.loads(operator.proof()), separators=(",", ":")).encode(),
        "opening": opened().strip().encode(),
    }
    for name in ("receipt", "proof", "opening"):
        raw = whole[name]
        for place in range(3, len(raw), max(1, len(raw) // 8)):
            changed = {**whole, name: raw[:place] + bytes([raw[place] ^ 4]) + raw[place + 1 :]}
            found, expected = _judged(page, changed), _by_python(changed)
            assert not found["ok"]
            assert [one["ok"] for one in found["steps"]] == [one["ok"] for one in expected["steps"]]


def test_a_weak_key_in_the_policy_is_refused(browser: Browser, site: Site, files: Files) -> None:
    """Under a key of low order every text would be signed; the browser itself accepts it."""
    page, _ = _open(browser, f"{site.url}/receipt/check")
    low = b"\x01" + bytes(31)
    vkey = note.VerifierKey(name="log.example", algorithm=note.ED25519, public_key=low).format()
    policy = f"log {vkey}\nquorum none\n".encode()

    found = _judged(page, {**files, "policy": policy})

    assert [one["ok"] for one in found["steps"]][:2] == [True, False]
    assert "low order" in found["steps"][1]["why"]


def test_a_browser_that_cannot_verify_says_so(browser: Browser, site: Site) -> None:
    """Without Ed25519 nothing can be started, and the page names what else will do."""
    page = browser.new_page()
    page.add_init_script("SubtleCrypto.prototype.generateKey = () => Promise.reject(new Error('not supported'))")

    page.goto(f"{site.url}/receipt/check")
    page.wait_for_selector("#answer:not([hidden])")

    assert "too old" in page.inner_text("#answer")
    assert page.is_disabled("#start")
