"""`expunge keys`: which keys are in force, and what changes that. A private key is never shown.

`new` makes an approver's key where the approver sits, and needs no desk; the others change or read the desk's log.
"""

from pathlib import Path
from typing import Annotated, Any

import rfc8785
import typer

from audits import keys as files
from audits import note
from audits.keys import Role, fingerprint
from audits.register import Reason
from audits.strict import decode_base64, encode_base64, load_json
from compliance.cli.approvers import PassphraseFile, passphrase
from compliance.cli.desk import open_desk
from compliance.cli.inputs import read_bytes, writing
from compliance.cli.options import CURRENT, InFile, Json, Workdir, example, group
from compliance.cli.output import answer, listing, sheet
from compliance.errors import InvalidInputError, NotFoundError
from compliance.keyring import ring, rotation
from compliance.keyring.tokens import TokenKey
from compliance.ledger.ledger import Ledger
from compliance.ledger.views import ServiceKeyView
from compliance.settings import token_pin
from compliance.wiring import Services

app = group()
_COLUMNS = {
    "role": "Role",
    "algorithm": "Algorithm",
    "fingerprint": "Fingerprint (SHA-256 of the public key)",
    "state": "State",
    "log_index": "Log entry",
    "revoked_index": "Revoked by",
}
_NEW = {
    "role": "Role",
    "algorithm": "Algorithm",
    "fingerprint": "Fingerprint",
    "out": "Key file",
    "public": "To register",
}
_CHANGED = {"role": "Role", "key_id": "Key in force", "revoked": "Revoked", "note": "Note"}
_SHORTEST_ID = 8
_LOG_ROTATED = "Auditors need a new trust policy ('keys list --policy FILE'); both log keys stand in it."
_TELL_WITNESSES = " Reports wait until every witness knows it: 'expunge witness trust --folder DIR --log {vkey}'."


@app.command(
    "new",
    epilog=example(
        "expunge keys new --out ada.pem",
        "expunge keys new --role log --token 'pkcs11:token=T;object=log?module-path=/usr/lib/softhsm/libsofthsm2.so'",
    ),
)
def new(
    *,
    role: Annotated[
        str, typer.Option("--role", metavar="R", help="approver, or a desk's role with --token.")
    ] = "approver",
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="A new file, encrypted.")] = None,
    token: Annotated[
        str | None, typer.Option("--token", metavar="URI", help="Make the key in a PKCS #11 token instead.")
    ] = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Make an approver's key file on the approver's machine, or any key in a token; no desk is needed.

    FILE.pub beside it is what the desk registers ('keys register').
    """
    if (out is None) == (token is None) or (token is None and role != "approver"):
        message = "give --out FILE for an approver's key, or --token URI with a role; the desk makes its own key files"
        raise InvalidInputError(message, code="new-key")
    if token is not None:
        value = _made_in_token(role, token)
    else:
        assert out is not None  # noqa: S101 - for the type checker: exactly one is given
        value = _made_in_file(out, passphrase_file)
    answer(value, as_json=as_json, people=sheet(_NEW))


@app.command("list", epilog=example("expunge keys list", "expunge keys list --policy trust/tlog-policy"))
def list_(
    *,
    policy: Annotated[
        Path | None, typer.Option("--policy", metavar="FILE", help="Also write the trust policy for auditors here.")
    ] = None,
    workdir: Workdir = CURRENT,
    as_json: Json = False,
) -> None:
    """List every key the log knows, with its fingerprint, its state and the log entries that say so."""
    with open_desk(workdir) as desk:
        with desk.read() as ledger:
            value = [_value(view) | {"vkey": _vkey(desk, view)} for view in ledger.service_keys()]
        if policy is not None:
            with writing(policy):
                policy.parent.mkdir(parents=True, exist_ok=True)
                policy.write_text(desk.policy_text(), encoding="utf-8")
    answer(value, as_json=as_json, people=listing(_COLUMNS, empty="No key is registered."))


@app.command("register", epilog=example("expunge keys register ada.pem.pub"))
def register(*, public: InFile, workdir: Workdir = CURRENT, as_json: Json = False) -> None:
    """Register an approver's public key: from now on, approvals have to be signed.

    Compare the fingerprint with the approver by another way first.
    """
    data = load_json(read_bytes(public), what="The public key file")
    if not isinstance(data, dict) or data.get("role") != "approver":
        message = f"{public.name} is no approver's public key; 'expunge keys new' makes one"
        raise InvalidInputError(message, code="bad-public-key")
    found = files.read_registration(data)
    with open_desk(workdir) as desk:
        with desk.transaction() as ledger:
            ledger.register_key(
                key_id=found.key_id, role=found.role, public_key=found.public_key, data=data, now=desk.clock()
            )
            value = _value(ledger.service_key(found.key_id))
        desk.publish()
    answer(value, as_json=as_json, people=sheet(_COLUMNS))


@app.command("rotate", epilog=example("expunge keys rotate report"))
def rotate(
    *,
    role: Annotated[str, typer.Argument(metavar="ROLE", help=f"One of: {', '.join(ring.ROLES)}.")],
    workdir: Workdir = CURRENT,
    as_json: Json = False,
) -> None:
    """Give one role of the desk a new key: registered, and the old one revoked, in one step.

    Processes that run go on with the new key. The old file is kept beside it; what it signed before stays good.
    """
    with open_desk(workdir) as desk:
        old, fresh = rotation.rotate(desk, _role(role, ring.ROLES))
        desk.publish()
        told = _note(desk) if role == "log" else None
    value = {"role": role, "key_id": fresh, "revoked": old, "note": told}
    answer(value, as_json=as_json, people=sheet(_CHANGED))


@app.command("revoke", epilog=example("expunge keys revoke 1f0c9a2b --reason retired"))
def revoke(
    *,
    key: Annotated[str, typer.Argument(metavar="KEYID", help="As in 'keys list'; its first digits will do.")],
    reason: Annotated[str, typer.Option("--reason", metavar="R", help="compromised or retired.")],
    workdir: Workdir = CURRENT,
    as_json: Json = False,
) -> None:
    """Give a key up for good: nothing it signs from now on is believed.

    A role of the desk is without a key then, and signs nothing until 'keys rotate'.
    """
    reasons: dict[str, Reason] = {"compromised": "compromised", "retired": "retired"}
    if reason not in reasons:
        raise InvalidInputError("the reason is compromised or retired; 'keys rotate' rotates", code="bad-reason")
    with open_desk(workdir) as desk:
        with desk.transaction() as ledger:
            found = _named(ledger, key)
            ledger.revoke_key(key_id=found.key_id, reason=reasons[reason], now=desk.clock())
            view = ledger.service_key(found.key_id)
        if view.role != "log":  # nothing signs a checkpoint until the log has a new key
            desk.publish()
    answer(_value(view), as_json=as_json, people=sheet(_COLUMNS))


def _note(desk: Services) -> str:
    """What others have to be told after the log's key has changed."""
    if not desk.settings.witnesses:
        return _LOG_ROTATED
    vkey = note.format_vkey(desk.settings.origin, desk.signers["log"].public_key, note.ED25519)
    return _LOG_ROTATED + _TELL_WITNESSES.format(vkey=vkey)


def _vkey(desk: Services, view: ServiceKeyView) -> str | None:
    """A log key as a trust policy writes it; None for the keys of other roles."""
    if view.role != "log":
        return None
    algorithm = note.ML_DSA_44 if view.algorithm == "ml-dsa-44" else note.ED25519
    return note.format_vkey(desk.settings.origin, view.public_key, algorithm)


def _named(ledger: Ledger, key: str) -> ServiceKeyView:
    """The one key whose id begins so."""
    digits = key.replace(" ", "").lower()
    found = [view for view in ledger.service_keys() if view.key_id.startswith(digits)]
    if len(digits) < _SHORTEST_ID or len(found) != 1:
        message = f"no single key has an id that begins so; give {_SHORTEST_ID} or more digits of one in 'keys list'"
        raise NotFoundError(message, code="no-such-key")
    return found[0]


def _made_in_file(out: Path, passphrase_file: Path | None) -> dict[str, Any]:
    key, public = files.generate("approver"), out.with_name(out.name + ".pub")
    secret = passphrase(passphrase_file, confirm=True)
    try:
        with writing(out):
            files.save(key, out, secret)
    except ValueError as fault:
        raise InvalidInputError(str(fault), code="short-passphrase") from fault
    data = files.registration(key, "approver")
    with writing(public):
        public.write_bytes(rfc8785.dumps(data) + b"\n")
    return _described(data) | {"out": out, "public": public}


def _made_in_token(role: str, uri: str) -> dict[str, Any]:
    known = _role(role, files.ROLES)
    key = TokenKey(known, uri, pin=token_pin())
    key.generate()
    return _described(files.registration(key, known)) | {"out": None, "public": None}


def _role(text: str, among: tuple[Role, ...]) -> Role:
    for known in among:
        if known == text:
            return known
    raise InvalidInputError(f"the role is one of {', '.join(among)}; name one", code="bad-role")


def _described(data: dict[str, str]) -> dict[str, Any]:
    return {
        "role": data["role"],
        "algorithm": data["algorithm"],
        "key_id": data["keyId"],
        "fingerprint": fingerprint(decode_base64(data["publicKey"], "The public key")),
        "public_key": data["publicKey"],
    }


def _value(view: ServiceKeyView) -> dict[str, Any]:
    return {
        "role": view.role,
        "algorithm": view.algorithm,
        "key_id": view.key_id,
        "fingerprint": fingerprint(view.public_key),
        "public_key": encode_base64(view.public_key),
        "state": view.revoked_reason or "in force",
        "log_index": view.log_index,
        "revoked_index": view.revoked_index,
    }
