"""`serve` as a process of its own; the worker and the beat are walked through by the system's tests."""

import json
import socket
import subprocess
import sys
import urllib.request

from compliance.wiring import Services
from tests.compliance.terminal import at, refusal


def test_the_pages_and_the_api_are_served_on_loopback(services: Services) -> None:
    """Standard output is the address and nothing else; a page and the API answer there."""
    command = [sys.executable, "-m", "compliance.cli", "serve", "--port", "0", "--json"]
    command += ["--workdir", str(services.settings.workdir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        url = json.loads(server.stdout.readline())["url"]
        try:
            with urllib.request.urlopen(url, timeout=30) as page:  # noqa: S310 - the address that we just started
                assert page.headers["content-type"].startswith("text/html")
                assert page.headers["server"] is None
            with urllib.request.urlopen(f"{url}/v1/openapi.json", timeout=30) as api:  # noqa: S310 - as above
                assert json.load(api)["openapi"].startswith("3.1")
        finally:
            server.terminate()
        assert server.stdout.read() == ""
    assert url.startswith("http://127.0.0.1:")


def test_a_port_that_is_taken_is_one_line(services: Services) -> None:
    """Before anything is started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        assert "--port" in refusal(at(services, "serve", "--port", str(port)))
