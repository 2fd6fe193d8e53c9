"""People who use the desk in the demo, over HTTP only: an agent, two people with the form, and an operator.

They read their codes where the mails go. Nothing here touches the database.
"""

import email
import email.policy
import re
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from compliance.demo.corpus import Person
from compliance.errors import UnavailableError

MAIL_SECONDS = 30.0
_HIDDEN = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)">')
_CODE = re.compile(r"^\s+([A-Z0-9]{4}-[A-Z0-9]{4})\s*$", re.MULTILINE)


class Visitor:
    """A browser (cookies, forms) or a program (JSON) at the desk's address."""

    def __init__(self, url: str, outbox: Path) -> None:
        self._http = httpx.Client(base_url=url, timeout=60, follow_redirects=True, trust_env=False)
        self._outbox = outbox

    def close(self) -> None:
        """End the connection."""
        self._http.close()

    def file_as_agent(self, token: str, people: Sequence[Person]) -> list[str]:
        """One API call for several people; their request ids in the order of the people."""
        body = {
            "regime": "ccpa",
            "authority": "mandate-2026-001",
            "subjects": [{"name": person.name, "email": person.email} for person in people],
        }
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": uuid.uuid4().hex}
        answer = self._checked(self._http.post("/v1/requests", json=body, headers=headers)).json()
        return [entry["request"]["id"] for entry in answer["requests"]]

    def file_by_form(self, person: Person, *, scope: str = "records", target: str = "") -> str:
        """Fill in the public form; the address of the status page."""
        fields = self._form("/") | {"scope": scope, "target": target}
        fields |= {"place": "DE", "name": person.name, "email": person.email, "identifiers": "", "statement": ""}
        page = self._checked(self._http.post("/", data=fields))
        return page.url.path.replace("/received/", "/status/")

    def confirm_by_api(self, request_id: str) -> None:
        """Send the code from the mail through the API."""
        code = self._code(request_id)
        self._checked(self._http.post(f"/v1/requests/{request_id}/confirm", json={"code": code}))

    def confirm_by_form(self, person: Person) -> str:
        """Enter the code from the mail on the page the mail names; the request's id."""
        request_id, code = self._mail_to(person)
        path = f"/confirm/{request_id}"
        self._checked(self._http.post(path, data=self._form(path) | {"code": code}))
        return request_id

    def sign_in(self, token: str) -> None:
        """Open the operator's pages."""
        self._checked(self._http.post("/desk/login", data=self._form("/desk/login") | {"token": token}))

    def approve(self, request_id: str) -> None:
        """Press "Approve" on the page of a matched request."""
        path = f"/desk/requests/{request_id}"
        self._checked(self._http.post(f"{path}/approve", data=self._form(path)))

    def receipt(self, status_path: str) -> dict[str, Any]:
        """Download the signed receipt from the status page."""
        parsed: dict[str, Any] = self._checked(self._http.get(f"{status_path}/receipt")).json()
        return parsed

    def _form(self, path: str) -> dict[str, str]:
        page = self._checked(self._http.get(path)).text
        return dict(_HIDDEN.findall(page))

    def _code(self, request_id: str) -> str:
        return self._wait(lambda body: request_id in body)[1]

    def _mail_to(self, person: Person) -> tuple[str, str]:
        body, code = self._wait(lambda _body: True, to=person.email)
        found = re.search(r"/confirm/(\w+)", body)
        if found is None:
            message = "the mail with the code names no page"
            raise UnavailableError(message, code="no-mail")
        return found.group(1), code

    def _wait(self, wanted: Any, *, to: str | None = None) -> tuple[str, str]:  # noqa: ANN401 - a predicate on bodies
        until = time.monotonic() + MAIL_SECONDS
        while time.monotonic() < until:
            for file in sorted(self._outbox.glob("*.eml")):
                message = email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
                body = message.get_body().get_content()  # type: ignore[union-attr]  # our own mails have one
                code = _CODE.search(body)
                if code is not None and wanted(body) and (to is None or to in str(message["To"])):
                    return body, code.group(1)
            time.sleep(0.2)
        message_ = "no mail with a code arrived; see logs/serve.log and logs/beat.log"
        raise UnavailableError(message_, code="no-mail")

    @staticmethod
    def _checked(answer: httpx.Response) -> httpx.Response:
        if answer.is_error:
            problem = answer.headers.get("content-type", "").startswith("application/problem+json")
            why = f": {answer.json()['detail']}" if problem else ""
            message = f"the desk answered {answer.status_code} to {answer.request.method} {answer.url.path}{why}"
            raise UnavailableError(message, code="desk-answered")
        return answer
