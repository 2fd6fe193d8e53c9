"""The pages of data subjects: ask, confirm, follow, take back."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from compliance import intake
from compliance.errors import InvalidInputError, NotFoundError
from compliance.intake import Caller, Gatekeeper
from compliance.ledger.lifecycle import FINAL
from compliance.ledger.views import HistoryView, ItemView, RequestView
from compliance.regimes import ASKED, PLACES, REGIMES, place, spelled
from compliance.web import words
from compliance.web.forms import Form, read_form
from compliance.web.rendering import Renderer, see_other
from compliance.web.reports import has_report, report_page
from compliance.wiring import Services

Handler = Callable[[Request, Form], Response]
_STALE = "the page was open for long; please check what you wrote and send it once more"


@dataclass(frozen=True, slots=True)
class PublicPages:
    """Public pages over the services of one desk."""

    desk: Services
    renderer: Renderer
    keeper: Gatekeeper

    def routes(self) -> list[Route]:
        """What the public may open."""
        return [
            Route("/", self.ask, methods=["GET"]),
            Route("/", self._posted(self.send), methods=["POST"]),
            Route("/how-it-works", self.explain, methods=["GET"]),
            Route("/confirm/{request_id:id}", self.enter_code, methods=["GET"]),
            Route("/confirm/{request_id:id}", self._posted(self.confirm), methods=["POST"]),
            Route("/confirm/{request_id:id}/code", self._posted(self.new_code), methods=["POST"]),
            Route("/received/{token:id}", self.received, methods=["GET"]),
            Route("/status/{token:id}", self.status, methods=["GET"]),
            Route("/status/{token:id}/receipt", self.receipt, methods=["GET"]),
            Route("/status/{token:id}/proof", self.proof, methods=["GET"]),
            Route("/status/{token:id}/opening", self.opening, methods=["GET"]),
            Route("/status/{token:id}/report/{batch_id:id}", self.report, methods=["GET"]),
            Route("/status/{token:id}/withdraw", self._posted(self.withdraw), methods=["POST"]),
        ]

    def ask(self, request: Request) -> Response:
        """The form, empty."""
        key = self.desk.secrets(16).hex()
        return self._form(request, Form({"key": key}, genuine=True), "")

    def send(self, request: Request, form: Form) -> Response:
        """File the request of the form, or show it again with what to mend."""
        if not form.genuine:
            return self._form(request, form, _STALE)
        chosen = place(form["place"])
        if chosen is None:
            return self._form(request, form, "please choose where you live")
        now = self.desk.clock()
        try:
            one = intake.submission(
                regime=chosen.regime,
                scope=form["scope"] or intake.RECORDS,
                target=form["target"],
                name=form["name"],
                email=form["email"],
                identifiers=[line for line in form["identifiers"].splitlines() if line.strip()],
                statement=form["statement"],
            )
            self.keeper.filing(_address(request), now)
            self.keeper.mailbox(one.subject.email, now)
            key = form["key"] or self.desk.secrets(16).hex()
            filed = intake.file(self.desk, [one], caller=Caller(door="web"), idempotency_key=key)
        except InvalidInputError as error:
            return self._form(request, form, words.FAULTS.get(error.code, str(error)), code=error.code)
        return see_other(f"/received/{filed[0].status_token}")

    def explain(self, request: Request) -> Response:
        """What is done, what can be promised, what is kept."""
        return self.renderer.page(request, "how.html", regimes=REGIMES.values())

    def received(self, request: Request) -> Response:
        """Right after filing: what to keep, and where the code goes."""
        return self._request_page(request, "received.html")

    def status(self, request: Request) -> Response:
        """Where the request stands."""
        return self._request_page(request, "status.html")

    def receipt(self, request: Request) -> Response:
        """The signed receipt, as a file."""
        view = intake.by_token(self.desk, request.path_params["token"])
        return _file("receipt", view.id, json.dumps(self.desk.receipt(view.id), indent=1))

    def proof(self, request: Request) -> Response:
        """The request's entry in the log, with its proof, as a file."""
        view = intake.by_token(self.desk, request.path_params["token"])
        return _file("proof", view.id, json.dumps(intake.proof(self.desk, view.id), indent=1))

    def opening(self, request: Request) -> Response:
        """The opening of the commitment: personal data, for who holds the token, and stored nowhere on the way."""
        view = intake.by_token(self.desk, request.path_params["token"])
        return _file("opening", view.id, intake.opening(self.desk, view.id))

    def report(self, request: Request) -> Response:
        """The report of a batch that has an item of this request."""
        view = intake.by_token(self.desk, request.path_params["token"])
        with self.desk.read() as ledger:
            batches = {item.batch_id for item in ledger.items(view.id)}
        if request.path_params["batch_id"] not in batches:
            message = "this report does not concern your request; use the link on its page"
            raise NotFoundError(message, code="no-such-report")
        return report_page(self.desk, request.path_params["batch_id"])

    def withdraw(self, request: Request, form: Form) -> Response:
        """Take the request back, once the box was ticked."""
        token = request.path_params["token"]
        view = intake.by_token(self.desk, token)
        if not form.genuine:
            return self._request_page(request, "status.html", message=_STALE)
        if form["sure"] != "yes":
            return self._request_page(
                request, "status.html", message="to take your request back, please tick the box first"
            )
        intake.withdraw(self.desk, request_id=view.id)
        return see_other(f"/status/{token}")

    def enter_code(self, request: Request) -> Response:
        """Where the link in the mail leads. It says nothing about the request."""
        return self._code_form(request, sent="sent" in request.query_params)

    def confirm(self, request: Request, form: Form) -> Response:
        """Check the code."""
        if not form.genuine:
            return self._code_form(request, error=_STALE)
        self.keeper.code(_address(request), self.desk.clock())
        request_id = request.path_params["request_id"]
        try:
            intake.confirm(self.desk, request_id=request_id, code=form["code"])
        except InvalidInputError as error:
            return self._code_form(request, error=str(error))
        # The code proved who this is, so the status may be opened without the link from the receipt.
        return see_other(f"/status/{intake.status_token(self.desk.vault, request_id=request_id)}")

    def new_code(self, request: Request, form: Form) -> Response:
        """Send another code; the answer is the same for every request, known or not."""
        if not form.genuine:
            return self._code_form(request, error=_STALE)
        self.keeper.code(_address(request), self.desk.clock())
        intake.new_code(self.desk, request_id=request.path_params["request_id"])
        return see_other(f"/confirm/{request.path_params['request_id']}?sent")

    def _form(self, request: Request, form: Form, error: str, *, code: str = "") -> Response:
        status = HTTPStatus.UNPROCESSABLE_ENTITY if error else HTTPStatus.OK
        return self.renderer.page(
            request,
            "ask.html",
            status=status,
            places=PLACES,
            form=form,
            error=error,
            wrong=code.partition("-")[0] if code else "place" if error and not form["place"] else "",
            regimes=REGIMES,
        )

    def _code_form(self, request: Request, *, error: str = "", sent: bool = False) -> Response:
        status = HTTPStatus.UNPROCESSABLE_ENTITY if error else HTTPStatus.OK
        request_id = request.path_params["request_id"]
        return self.renderer.page(request, "confirm.html", status=status, request_id=request_id, error=error, sent=sent)

    def _request_page(self, request: Request, template: str, *, message: str = "") -> Response:
        token = request.path_params["token"]
        view = intake.by_token(self.desk, token)
        with self.desk.read() as ledger:
            items, history = ledger.items(view.id), ledger.history(view.id)
        regime = REGIMES[view.regime]
        progress = intake.progress(self.desk.settings, view, now=self.desk.clock())
        return self.renderer.page(
            request,
            template,
            status=HTTPStatus.UNPROCESSABLE_ENTITY if message else HTTPStatus.OK,
            view=view,
            token=token,
            link=f"{self.desk.settings.public_url.rstrip('/')}/status/{token}",
            headline=words.headline(view.state, view.scope),
            steps=words.timeline(view.state, self._dates(view, history), view.scope),
            asked=ASKED[view.scope],
            items=[self._item(item) for item in items],
            regime=regime,
            denial=regime.denial(view.denial_code) if view.denial_code else None,
            progress=progress,
            logged=history[0].index < self.desk.published().size,
            openable=all(event.kind != "request.erased" for event in history),
            withdrawable=view.state not in FINAL,
            message=message,
        )

    def _dates(self, view: RequestView, history: tuple[HistoryView, ...]) -> dict[int, str]:
        """When each step was done, from the log; a step done twice (after a hold) counts the first time."""
        dates = {words.SENT: self._spelled(view.received_at)}
        for event in history:
            step = words.done(event.state)
            if step is not None:
                dates.setdefault(step, self._spelled(event.at))
        if view.closed_at is not None:
            dates[words.ENDED] = self._spelled(view.closed_at)
        return dates

    def _spelled(self, moment: datetime) -> str:
        return spelled(intake.day_of(self.desk.settings, moment))

    def _item(self, item: ItemView) -> dict[str, str | None]:
        batch = item.batch_id
        report = batch if batch is not None and has_report(self.desk, batch) else None
        return {"name": item.model_name, "state": words.ITEMS[item.state], "report": report}

    def _posted(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            form = await read_form(request, self.desk.vault)
            return await run_in_threadpool(handler, request, form)

        return endpoint


def _file(kind: str, request_id: str, content: str) -> Response:
    name = f'attachment; filename="{kind}-{request_id}.json"'
    return Response(content, media_type="application/json", headers={"Content-Disposition": name})


def _address(request: Request) -> str:
    return request.client.host if request.client else "unknown"
