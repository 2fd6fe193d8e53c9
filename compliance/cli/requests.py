"""`expunge request`: file, follow and decide removal requests.

A request is shown by its random id, its state, its clocks and the records it concerns. Who asked stays in the
vault, unless an operator opens one identity.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import rfc8785
import typer
from rich.console import RenderableType
from rich.text import Text

from compliance import intake
from compliance.cli import approvers, decisions
from compliance.cli.desk import open_desk
from compliance.cli.inputs import MAX_BYTES, json_object, read_bytes, writing
from compliance.cli.options import CURRENT, Json, Workdir, example, group
from compliance.cli.output import answer, listing, sheet, table
from compliance.cli.standing import LABELS, standing
from compliance.errors import InvalidInputError
from compliance.intake import Caller, Filed, Submission
from compliance.ledger.ledger import Ledger
from compliance.ledger.lifecycle import RequestState
from compliance.ledger.views import Subject
from compliance.matching import KINDS, kinds
from compliance.registry import normalise
from compliance.wiring import Services

app = group()
app.add_typer(decisions.app)
app.add_typer(approvers.app)
_COLUMNS = {"id": "Id", "state": "State", "regime": "Law", "respond_by": "Answer by", "days_left": "Days"}
_TARGETS = {"scope": "Scope", "target": "Target", "dataset": "Data set", "records": "Records"}
_SUBJECT = {"name", "email", "identifiers", "statement", "target"}
_IDENTITY = {"name": "Name", "email": "E-mail", "identifiers": "Identifiers", "statement": "Statement"}
_IDENTITY |= {"target": "Target"}
_HISTORY = {"at": "When", "kind": "Log entry", "state": "State", "code": "Code", "index": "Index"}
_FILED = sheet(LABELS | {"status_token": "Status token"})


@app.command(
    "file",
    epilog=example(
        "expunge request file person.json --regime gdpr",
        'echo \'{"name": "...", "email": "..."}\' | expunge request file - --regime gdpr',
        "expunge request file person.json --regime gdpr --scope class --target seven",
    ),
)
def file(  # noqa: PLR0913 - a request has that many facts
    *,
    person: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="JSON: name, email, identifiers, statement, target; - reads stdin."),
    ] = None,
    regime: Annotated[str, typer.Option("--regime", metavar="R", help="The law: gdpr or ccpa.")],
    name: Annotated[str | None, typer.Option("--name", help="Instead of FILE (others see your command line).")] = None,
    email: Annotated[str | None, typer.Option("--email", help="Instead of FILE.")] = None,
    identifiers: Annotated[
        list[str] | None, typer.Option("--identifier", help="Another name or number; may be repeated.")
    ] = None,
    scope: Annotated[
        str, typer.Option("--scope", metavar="S", help="What is to be forgotten: records, class or domain.")
    ] = intake.RECORDS,
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="NAME", help="The class or domain, unless FILE names it as 'target'."),
    ] = None,
    receipt: Annotated[
        Path | None, typer.Option("--receipt", metavar="FILE", help="Also write the receipt here, for the person.")
    ] = None,
    key: Annotated[
        str | None, typer.Option("--idempotency-key", metavar="KEY", help="The same call again is answered as before.")
    ] = None,
    workdir: Workdir = CURRENT,
    as_json: Json = False,
) -> None:
    """File a request that came by letter or telephone; the person gets a code by mail to confirm it.

    Prints the request, the signed receipt and the token of its status page: hand both to the person. A class or
    domain that no model learned from is refused here; 'expunge request targets' lists those that can be named.
    """
    given = {"name": name, "email": email, "identifiers": identifiers or []}
    subject = _subject(person, given, target)
    submission = _submission(subject, regime=regime, scope=scope)
    if receipt is not None:
        with writing(receipt):  # before anything is stored: nobody should have to file again for want of a receipt
            receipt.touch(mode=0o600)
    with open_desk(workdir) as desk:
        _refuse_unknown(desk, submission)
        (filed,) = intake.file(desk, [submission], caller=Caller(door="desk"), idempotency_key=key)
        value = _filed(desk, filed)
    if receipt is not None:
        with writing(receipt):
            receipt.write_bytes(rfc8785.dumps(value["receipt"]))
    answer(value, as_json=as_json, people=lambda shown: _FILED(shown["request"] | shown))


@app.command("list", epilog=example("expunge request list --state matched", "expunge request list --limit 200 --json"))
def list_(
    *,
    state: Annotated[str | None, typer.Option("--state", metavar="S", help="Only requests in this state.")] = None,
    after: Annotated[str | None, typer.Option("--after", metavar="ID", help="Only those that came after this.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many.")] = 50,
    workdir: Workdir = CURRENT,
    as_json: Json = False,
) -> None:
    """List requests in order of arrival, with the day of the answer and how many days are left."""
    wanted = None if state is None else _state(state)
    with open_desk(workdir) as desk, desk.read() as ledger:
        views = ledger.requests(state=wanted, after=after, limit=limit)
        value = [standing(desk.settings, view, now=desk.clock()) for view in views]
    answer(value, as_json=as_json, people=lambda rows: _listed(rows, limit))


@app.command("targets", epilog=example("expunge request targets --scope class", "expunge request targets --json"))
def targets(
    *,
    scope: Annotated[str | None, typer.Option("--scope", metavar="S", help="Only class, or only domain.")] = None,
    workdir: Workdir = CURRENT,
    as_json: Json = False,
) -> None:
    """List the classes and domains that models learned from, which a request can name, with their records.

    A class can be a person's name: where your classes are people, this prints PERSONAL DATA.
    """
    if scope not in {None, *KINDS}:
        message = f"there is nothing to list for this scope; use one of: {', '.join(KINDS)}"
        raise InvalidInputError(message, code="unknown-scope")
    with open_desk(workdir) as desk, desk.read() as ledger:
        value = [
            {"scope": one, "target": kind, "dataset": dataset, "records": records}
            for one in KINDS
            if scope in {None, one}
            for dataset, kind, records in kinds(ledger, desk.store, scope=one)
        ]
    answer(value, as_json=as_json, people=listing(_TARGETS, empty="No model has learned from pictures yet."))


@app.command("show", epilog=example("expunge request show 0123456789abcdef0123456789abcdef"))
def show(
    *,
    request_id: Annotated[str, typer.Argument(metavar="ID")],
    open_identity: Annotated[
        bool, typer.Option("--open-identity", help="Decrypt and print who asked: PERSONAL DATA on your screen.")
    ] = False,
    workdir: Workdir = CURRENT,
    as_json: Json = False,
) -> None:
    """Show a request: its clocks, its models, and which records it concerns and why.

    Nothing printed is personal data, unless --open-identity asks for the identity behind the request.
    """
    with open_desk(workdir) as desk, desk.read() as ledger:
        value = standing(desk.settings, ledger.request(request_id), now=desk.clock()) | _found(ledger, request_id)
        if open_identity:
            value["identity"] = _identity(ledger.open_subject(request_id))
    answer(value, as_json=as_json, people=_shown)


def _listed(rows: Sequence[Mapping[str, Any]], limit: int) -> Iterable[RenderableType]:
    yield from listing(_COLUMNS, empty="There is no such request.")(rows)
    if len(rows) == limit:
        yield f"There may be more: --after {rows[-1]['id']}"


def _subject(person: Path | None, given: dict[str, Any], target: str | None) -> dict[str, Any]:
    """The person with the target, each said in one place."""
    found = _person(person, given)
    if target is not None and "target" in found:
        raise InvalidInputError("give the target in FILE or as --target, not both", code="target-twice")
    return found if target is None else found | {"target": target}


def _person(person: Path | None, given: dict[str, Any]) -> dict[str, Any]:
    """What the file says, or the options; never a mixture, of which nobody would know what counts."""
    if person is None:
        if given["name"] is None or given["email"] is None:
            raise InvalidInputError("give a FILE, or --name and --email", code="no-subject")
        return given
    if any(given.values()):
        raise InvalidInputError("give either a FILE or the person's options, not both", code="subject-twice")
    named = "the standard input" if str(person) == "-" else person.name
    raw = sys.stdin.buffer.read(MAX_BYTES) if str(person) == "-" else read_bytes(person)
    value = json_object(raw, name=named)
    lists = value.get("identifiers", [])
    texts = [value.get(key, "") for key in ("name", "email", "statement", "target")]
    if not set(value) <= _SUBJECT or not isinstance(lists, list) or not all(isinstance(t, str) for t in texts + lists):
        message = (
            f"{named} must hold the texts name, email, statement and target, and a list identifiers, and nothing else"
        )
        raise InvalidInputError(message, code="bad-subject")
    return value


def _submission(subject: Mapping[str, Any], *, regime: str, scope: str) -> Submission:
    return intake.submission(
        regime=regime,
        scope=scope,
        name=subject.get("name", ""),
        email=subject.get("email", ""),
        identifiers=subject.get("identifiers", []),
        statement=subject.get("statement", ""),
        target=subject.get("target", ""),
    )


def _refuse_unknown(desk: Services, submission: Submission) -> None:
    """Refuse a class or domain that no model learned from. The operator may know; the public doors never say it."""
    if submission.scope not in KINDS:
        return
    with desk.read() as ledger:
        known = {normalise(kind) for _, kind, _ in kinds(ledger, desk.store, scope=submission.scope)}
    if normalise(submission.subject.target) not in known:
        plural = {"class": "classes", "domain": "domains"}[submission.scope]
        message = (
            f"no model learned from this {submission.scope}; there are {len(known)} {plural}, and "
            f"'expunge request targets --scope {submission.scope}' lists them"
        )
        raise InvalidInputError(message, code="unknown-target")


def _filed(desk: Services, filed: Filed) -> dict[str, Any]:
    return {
        "request": standing(desk.settings, filed.request, now=desk.clock()),
        "status_token": filed.status_token,
        "receipt": desk.receipt(filed.request.id),
    }


def _state(name: str) -> RequestState:
    if name not in list(RequestState):
        raise InvalidInputError(
            f"there is no state '{name}'; use one of: {', '.join(RequestState)}", code="unknown-state"
        )
    return RequestState(name)


def _found(ledger: Ledger, request_id: str) -> dict[str, Any]:
    names = {dataset.id: dataset.name for dataset in ledger.datasets()}
    items = [
        {"model": item.model_name, "dataset": names[item.dataset_id], "state": item.state, "batch_id": item.batch_id}
        for item in ledger.items(request_id)
    ]
    matches = [
        {"dataset": names[match.dataset_id], "record": match.record_id, "reason": match.reason}
        for match in ledger.matches(request_id)
    ]
    return {"items": items, "matches": matches, "history": ledger.history(request_id)}


def _identity(subject: Subject) -> dict[str, Any]:
    return {
        "name": subject.name,
        "email": subject.email,
        "identifiers": list(subject.identifiers),
        "statement": subject.statement,
        **({"target": subject.target} if subject.target else {}),
    }


def _shown(value: Mapping[str, Any]) -> Iterable[RenderableType]:
    yield from sheet(LABELS)(value)
    if value["items"]:
        yield table({"model": "Model", "dataset": "Data set", "state": "State", "batch_id": "Batch"}, value["items"])
    if value["matches"]:
        yield table({"dataset": "Data set", "record": "Record", "reason": "Why it matches"}, value["matches"])
    else:
        yield Text("No record is known to match.")
    yield table(_HISTORY, value["history"])
    if "identity" in value:
        yield from sheet({key: label for key, label in _IDENTITY.items() if key in value["identity"]})(
            value["identity"]
        )
