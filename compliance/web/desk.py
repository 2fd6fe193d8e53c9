"""The operator's pages: every clock, every decision, and no personal data until it is asked for."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from compliance import intake
from compliance.errors import ComplianceError, NotFoundError
from compliance.forecast import forecast_of, request_cost
from compliance.intake import Gatekeeper, Progress
from compliance.ledger.ledger import Ledger
from compliance.ledger.lifecycle import FINAL, ItemState, RequestState, RunState
from compliance.ledger.views import BatchView, ItemView, MatchView, ModelView, RequestView, Subject
from compliance.regimes import REGIMES
from compliance.web import approving, sessions, words
from compliance.web.forms import Form, read_form
from compliance.web.rendering import Renderer, see_other
from compliance.web.reports import has_report, report_page
from compliance.wiring import Services
from engine.corpus import Record

_LOG = logging.getLogger(__name__)
_ACTOR = "operator"
_SHOWN = 500
_SOON = 7
_EXCERPT = 600
_DECIDE = {RequestState.MATCHED}
_PRICED = {ItemState.PROPOSED, ItemState.APPROVED, ItemState.QUEUED, ItemState.UNLEARNING, ItemState.VERIFYING}
_REASON = "please write the person a reason; the code alone explains little"
Handler = Callable[[Request, Form], Response]


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A line of the list."""

    view: RequestView
    progress: Progress
    closed_on: str

    @property
    def urgency(self) -> str:
        """How the line is marked."""
        return urgency(self.progress)


def urgency(progress: Progress) -> str:
    """`late`, `soon` or nothing."""
    if progress.overdue:
        return "late"
    return "soon" if progress.days_left is not None and progress.days_left <= _SOON else ""


@dataclass(frozen=True, slots=True)
class DeskPages:
    """Operator's pages over the services of one desk."""

    desk: Services
    renderer: Renderer
    keeper: Gatekeeper

    def routes(self) -> list[Route]:
        """What an operator may open after signing in."""
        acts: dict[str, Handler] = {
            "approve": self.approve,
            "deny": self.deny,
            "extend": self.extend,
            "hold": self.hold,
            "release": self.release,
            "identity": self.open_identity,
        }
        one = "/desk/requests/{request_id:id}"
        return [
            Route("/desk/login", self.login, methods=["GET"]),
            Route("/desk/login", self._posted(self.sign_in, signed_in=False), methods=["POST"]),
            Route("/desk/logout", self._posted(self.sign_out), methods=["POST"]),
            Route("/desk", self._guarded(self.requests), methods=["GET"]),
            Route("/desk/models", self._guarded(self.models), methods=["GET"]),
            Route("/desk/reports/{batch_id:id}", self._guarded(self.report), methods=["GET"]),
            Route(one, self._guarded(self.request), methods=["GET"]),
            *(Route(f"{one}/{name}", self._posted(act), methods=["POST"]) for name, act in acts.items()),
        ]

    def login(self, request: Request, *, error: str = "") -> Response:
        """The door."""
        status = HTTPStatus.FORBIDDEN if error else HTTPStatus.OK
        return self.renderer.page(request, "desk_login.html", status=status, signed_in=False, error=error)

    def sign_in(self, request: Request, form: Form) -> Response:
        """Open a session for the operator's token."""
        now, token = self.desk.clock(), self._token()
        self.keeper.login(request.client.host if request.client else "unknown", now)
        if not form.genuine or not sessions.is_token(form["token"], token):
            return self.login(request, error="this is not the operator's token")
        response = see_other("/desk")
        value = sessions.open_session(self.desk.vault, token, now=now, secrets=self.desk.secrets)
        seconds = int(sessions.LIFETIME.total_seconds())
        self.renderer.set_cookie(response, sessions.COOKIE, value, seconds=seconds)
        return response

    def sign_out(self, _request: Request, _form: Form) -> Response:
        """Close the session of this browser."""
        response = see_other("/desk/login")
        self.renderer.set_cookie(response, sessions.COOKIE, "", seconds=0)
        return response

    def requests(self, request: Request) -> Response:
        """Open requests, the most urgent first, or the ended ones, the latest first."""
        ended, now = "ended" in request.query_params, self.desk.clock()
        with self.desk.read() as ledger:
            views = {state: _all(ledger, state) for state in RequestState}
        rows = [self._row(view, now) for state in RequestState for view in views[state]]
        open_rows = [row for row in rows if row.view.state not in FINAL]
        open_rows.sort(key=lambda row: (row.progress.alarm_by, row.view.received_at))
        ended_rows = [row for row in rows if row.view.state in FINAL]
        ended_rows.sort(key=lambda row: row.closed_on, reverse=True)
        return self._page(
            request,
            "desk_requests.html",
            rows=(ended_rows if ended else open_rows)[:_SHOWN],
            ended=ended,
            open=len(open_rows),
            overdue=sum(row.urgency == "late" for row in open_rows),
            soon=sum(row.urgency == "soon" for row in open_rows),
            waiting=sum(row.view.state in _DECIDE for row in open_rows),
        )

    def request(self, request: Request) -> Response:
        """One request with everything needed to decide on it."""
        return self._request_page(request)

    def approve(self, request: Request, form: Form) -> Response:
        """Agree, with what an approver signed in the browser where approvers have keys."""
        return self._act(
            request,
            lambda request_id: intake.approve(
                self.desk, request_id=request_id, actor=_ACTOR, approval=approving.signed(form)
            ),
        )

    def deny(self, request: Request, form: Form) -> Response:
        """Refuse, with a code and reasons."""
        if not form["reason"].strip():
            return self._request_page(request, message=_REASON, form=form, failed="deny")
        return self._act(
            request,
            lambda request_id: intake.deny(
                self.desk, request_id=request_id, actor=_ACTOR, code=form["code"], reason=form["reason"]
            ),
            form=form,
            name="deny",
        )

    def extend(self, request: Request, form: Form) -> Response:
        """Use the one extension."""
        if not form["reason"].strip():
            return self._request_page(request, message=_REASON, form=form, failed="extend")
        return self._act(
            request,
            lambda request_id: intake.extend(
                self.desk, request_id=request_id, actor=_ACTOR, code=form["code"], reason=form["reason"]
            ),
            form=form,
            name="extend",
        )

    def hold(self, request: Request, _form: Form) -> Response:
        """Set aside."""
        return self._act(request, lambda request_id: intake.hold(self.desk, request_id=request_id, actor=_ACTOR))

    def release(self, request: Request, _form: Form) -> Response:
        """Take up again."""
        return self._act(request, lambda request_id: intake.release(self.desk, request_id=request_id, actor=_ACTOR))

    def open_identity(self, request: Request, _form: Form) -> Response:
        """Show who filed the request, once, in the answer to this very click."""
        request_id = request.path_params["request_id"]
        with self.desk.read() as ledger:
            subject = _subject(ledger, request_id)
        _LOG.info("the identity behind request %s was opened", request_id)
        return self._request_page(request, subject=subject, asked=True)

    def models(self, request: Request) -> Response:
        """Models, their versions and batches."""
        with self.desk.read() as ledger:
            found = [self._model(ledger, model) for model in ledger.models()]
        return self._page(request, "desk_models.html", models=found)

    def report(self, request: Request) -> Response:
        """The report of a batch, or of the guard before its end."""
        return report_page(self.desk, request.path_params["batch_id"], interim="interim" in request.query_params)

    def _act(
        self,
        request: Request,
        act: Callable[[str], RequestView],
        *,
        form: Form | None = None,
        name: str = "",
    ) -> Response:
        request_id = request.path_params["request_id"]
        try:
            act(request_id)
        except NotFoundError:
            raise
        except ComplianceError as error:
            return self._request_page(request, message=str(error), form=form, failed=name)
        return see_other(f"/desk/requests/{request_id}")

    def _request_page(
        self,
        request: Request,
        *,
        message: str = "",
        form: Form | None = None,
        failed: str = "",
        subject: Subject | None = None,
        asked: bool = False,
    ) -> Response:
        with self.desk.read() as ledger:
            view = ledger.request(request.path_params["request_id"])
            items = [self._item(ledger, item) for item in ledger.items(view.id)]
            history = ledger.history(view.id)
            matches = _grouped(ledger, ledger.matches(view.id))
            to_sign = approving.to_sign(ledger, view, now=self.desk.clock())
        if subject is not None:
            self._add_texts(matches)
        regime = REGIMES[view.regime]
        row = self._row(view, self.desk.clock())
        page = self._page(
            request,
            "desk_request.html",
            to_sign=to_sign,
            script=approving.script(),
            status=HTTPStatus.CONFLICT if message else HTTPStatus.OK,
            view=view,
            progress=row.progress,
            urgency=row.urgency,
            closed_on=intake.day_of(self.desk.settings, view.closed_at) if view.closed_at else None,
            regime=regime,
            whole=words.WHOLE[view.scope],
            denial=regime.denial(view.denial_code) if view.denial_code else None,
            items=items,
            history=history,
            matches=matches,
            acts=_acts(view, row.progress),
            extension_codes=intake.EXTENSION_CODES,
            subject=subject,
            erased=asked and subject is None,
            message=message,
            form=form or Form({}, genuine=True),
            failed=failed,
        )
        return approving.allow_script(page) if to_sign else page

    def _add_texts(self, matches: list[dict[str, str]]) -> None:
        """Show what was found, so that a person of the same name can be told apart."""
        for dataset_id in {match["dataset_id"] for match in matches}:
            texts = {record.record_id: _said(record) for record in self.desk.store.records(dataset_id)}
            for match in matches:
                if match["dataset_id"] == dataset_id:
                    match["text"] = texts.get(match["record_id"], "")[:_EXCERPT]

    def _row(self, view: RequestView, now: datetime) -> Row:
        progress = intake.progress(self.desk.settings, view, now=now)
        closed = "" if view.closed_at is None else f"{view.closed_at:%Y-%m-%d %H:%M}"
        return Row(view=view, progress=progress, closed_on=closed)

    def _item(self, ledger: Ledger, item: ItemView) -> dict[str, Any]:
        report = item.batch_id if item.batch_id and has_report(self.desk, item.batch_id) else None
        state = words.ITEMS[item.state] if item.state is not ItemState.PROPOSED else "waits for your decision"
        told = {"name": item.model_name, "state": state, "report": report, "denial_code": item.denial_code}
        return told | {"cost": self._cost(ledger, item)}

    def _cost(self, ledger: Ledger, item: ItemView) -> str:
        """What the item will cost the deletion budget of its model, alone or with the rest of its batch."""
        if item.state not in _PRICED:
            return ""
        if item.batch_id is not None:
            units = ledger.batch(item.batch_id).plan.get("units", 0)
            return f"Its batch costs {units} of the deletion budget." if units and ledger.base(item.model_id) else ""
        cost = request_cost(ledger, self.desk.store, ledger.model(item.model_id), item.request_id)
        return "" if cost is None else cost.says

    def _model(self, ledger: Ledger, model: ModelView) -> dict[str, Any]:
        every, base = model.every_seconds, ledger.base(model.id)
        charges = {} if base is None else ledger.charges(base.id)
        batches = list(enumerate(ledger.batches(model.id), start=1))
        return {
            "budget": forecast_of(ledger, self.desk.store, model, now=self.desk.clock()),
            "name": model.name,
            "dataset": ledger.dataset(model.dataset_id).name,
            "schedule": "No schedule." if every is None else f"A batch every {_interval(every)}.",
            "versions": list(reversed(ledger.versions(model.id))),
            "batches": [self._batch(ledger, batch) | _paid(batch, number, charges) for number, batch in batches[::-1]],
        }

    def _batch(self, ledger: Ledger, batch: BatchView) -> dict[str, Any]:
        tried = [f"{a.rung} {a.outcome.value.replace('_', ' ')}" for a in ledger.attempts(batch.run_id)]
        return {
            "planned": f"{batch.planned_at:%Y-%m-%d %H:%M}",
            "requests": len({item.request_id for item in ledger.batch_items(batch.id)}),
            "run": batch.run_state.value,
            "tried": ", ".join(tried) or "nothing yet",
            "report": batch.id if has_report(self.desk, batch.id) else None,
            "interim": batch.id if has_report(self.desk, batch.id, interim=True) else None,
        }

    def _page(
        self, request: Request, template: str, *, status: HTTPStatus = HTTPStatus.OK, **context: object
    ) -> Response:
        return self.renderer.page(request, template, status=status, signed_in=True, **context)

    def _token(self) -> str:
        return self.desk.settings.operator_token.get_secret_value()

    def _signed_in(self, request: Request) -> bool:
        cookie = request.cookies.get(sessions.COOKIE, "")
        return sessions.is_open(self.desk.vault, self._token(), cookie, now=self.desk.clock())

    def _guarded(self, handler: Callable[[Request], Response]) -> Callable[[Request], Response]:
        def endpoint(request: Request) -> Response:
            return handler(request) if self._signed_in(request) else see_other("/desk/login")

        return endpoint

    def _posted(self, handler: Handler, *, signed_in: bool = True) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            form = await read_form(request, self.desk.vault)
            if signed_in and not self._signed_in(request):
                return see_other("/desk/login")
            if signed_in and not form.genuine:
                sentence = "Nothing was changed. Please go back, reload the page and try again."
                return self.renderer.problem(request, HTTPStatus.FORBIDDEN, "The page was too old", sentence)
            return await run_in_threadpool(handler, request, form)

        return endpoint


def _paid(batch: BatchView, number: int, charges: Mapping[str, int]) -> dict[str, Any]:
    """What a batch cost the base in use, or will cost it; nothing for one that an earlier base paid."""
    planned = batch.plan.get("units") if batch.run_state is not RunState.DONE else None
    return {"number": number, "units": charges.get(batch.id, planned)}


def _all(ledger: Ledger, state: RequestState) -> list[RequestView]:
    found: list[RequestView] = []
    while True:
        page = ledger.requests(state=state, after=found[-1].id if found else None, limit=_SHOWN)
        found += page
        if len(page) < _SHOWN:
            return found


def _subject(ledger: Ledger, request_id: str) -> Subject | None:
    try:
        return ledger.open_subject(request_id)
    except NotFoundError:
        return None


def _grouped(ledger: Ledger, matches: tuple[MatchView, ...]) -> list[dict[str, str]]:
    names = {m.dataset_id: ledger.dataset(m.dataset_id).name for m in matches}
    reasons: dict[tuple[str, str], list[str]] = {}
    for match in matches:
        why = words.REASONS.get(match.reason, match.reason)
        reasons.setdefault((match.dataset_id, match.record_id), []).append(why)
    return [
        {
            "dataset_id": dataset,
            "dataset": names[dataset],
            "record_id": record,
            "reasons": "; ".join(why),
            "text": "",
        }
        for (dataset, record), why in reasons.items()
    ]


def _said(record: Record) -> str:
    """What a record says; of a picture, its label and domain."""
    if record.image is not None:
        return f"a picture labelled {record.label}" + (f", {record.domain}" if record.domain else "")
    return record.text or f"{record.question}\n{record.answer}"


def _acts(view: RequestView, progress: Progress) -> set[str]:
    """What the state allows; the ledger has the last word."""
    if progress.ended:
        return set()
    acts = {"deny"}
    if progress.extended_by is not None:
        acts.add("extend")
    if view.state in {RequestState.ON_HOLD, RequestState.NEEDS_INPUT}:
        return acts | {"release"}
    if view.state is RequestState.MATCHED:
        acts.add("approve")
    if view.state in {RequestState.VERIFIED, RequestState.MATCHED, RequestState.APPROVED}:
        acts.add("hold")
    return acts


def _interval(seconds: int) -> str:
    for size, name in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds % size == 0:
            count = seconds // size
            return name if count == 1 else f"{count} {name}s"
    return f"{seconds} seconds"
