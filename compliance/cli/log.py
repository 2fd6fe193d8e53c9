"""`expunge log`: the tamper-evident log, for auditors and for mirrors."""

from pathlib import Path
from typing import Annotated, Any

import typer

from audits import checkpoint as checkpoints
from audits import log as logs
from audits import tiles
from compliance.cli.desk import open_desk
from compliance.cli.history import check_desk, check_files
from compliance.cli.inputs import read_text, writing
from compliance.cli.options import CURRENT, Json, TrustPolicy, Workdir, example, group
from compliance.cli.output import answer, sentence, sheet
from compliance.cli.progress import progress
from compliance.cli.verdicts import verdict
from compliance.errors import NotFoundError
from compliance.ledger.fsck import fsck as check_log

app = group()


@app.command("checkpoint", epilog=example("expunge log checkpoint > checkpoint.txt"))
def checkpoint(*, workdir: Workdir = CURRENT, as_json: Json = False) -> None:
    """Sign a checkpoint over the log as it is now, and print it."""
    with open_desk(workdir) as desk:
        text = desk.publish().checkpoint
    answer(_checkpoint(text), as_json=as_json, people=sentence(text.rstrip("\n")))


@app.command("prove", epilog=example("expunge log prove 17 > entry-17.tlog-proof", "expunge log prove 17 --json"))
def prove(
    *,
    index: Annotated[int, typer.Argument(metavar="INDEX", min=0, help="The entry's number.")],
    workdir: Workdir = CURRENT,
    as_json: Json = False,
) -> None:
    """Print the proof that an entry is in the log (C2SP tlog-proof); --json adds the entry's exact bytes."""
    with open_desk(workdir) as desk:
        published = desk.publish()
        if index >= published.size:
            message = f"the log has {published.size} entries, numbered from 0; name one of them"
            raise NotFoundError(message, code="no-such-entry")
        entry, proof = published.entry(index), published.proof(index)
    value = {"index": index, "entry": entry.decode(), "proof": proof}
    answer(value, as_json=as_json, people=sentence(proof.rstrip("\n")))


@app.command(
    "verify",
    epilog=example(
        "expunge log verify",
        "expunge log verify --files ./mirror --policy trust/tlog-policy --since old-checkpoint.txt",
    ),
)
def verify(
    *,
    files: Annotated[
        Path | None,
        typer.Option("--files", metavar="DIR", exists=True, file_okay=False, help="An exported log, without a desk."),
    ] = None,
    policy: TrustPolicy = None,
    since: Annotated[
        Path | None,
        typer.Option("--since", metavar="FILE", exists=True, dir_okay=False, help="An older checkpoint to extend."),
    ] = None,
    workdir: Workdir = CURRENT,
    as_json: Json = False,
) -> int:
    """Check the whole log in numbered steps; exit 1 unless every step holds.

    With --files an exported log is checked under a trust policy from outside; else the desk's database and
    published files are checked under its own key. --since shows that history was only added to.
    """
    older = None if since is None else read_text(since)
    if files is not None:
        found = check_files(files, None if policy is None else read_text(policy), since=older)
    else:
        with open_desk(workdir) as desk, desk.read() as ledger:
            found = check_desk(ledger, desk.publisher.folder, desk.policy_text(), since=older)
    answer(found.to_json(), as_json=as_json, people=verdict)
    return int(not found.ok)


@app.command("fsck", epilog=example("expunge log fsck", "expunge log fsck --repair"))
def fsck(
    *,
    repair: Annotated[bool, typer.Option("--repair", help="Write derived files again that are not right.")] = False,
    workdir: Workdir = CURRENT,
    as_json: Json = False,
) -> int:
    """Rebuild the log from its raw entries and compare every tile and checkpoint; exit 1 unless all agree.

    --repair writes tiles and the checkpoint file again where the entries lead to the root that was signed. It never
    changes an entry, and never replaces a checkpoint of another root: these are evidence.
    """
    with open_desk(workdir) as desk, desk.read() as ledger, progress() as say, writing(desk.publisher.folder):
        found = check_log(
            ledger,
            desk.publisher,
            repair=repair,
            say=lambda done, size: say("entries", {"fraction": done / max(1, size)}),
        )
    answer(found.to_json(), as_json=as_json, people=verdict)
    return int(not found.ok)


@app.command("export", epilog=example("expunge log export --out ./mirror"))
def export(
    *,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A new folder, or an earlier export of this log.")],
    workdir: Workdir = CURRENT,
    as_json: Json = False,
) -> None:
    """Write the log as static files (C2SP tlog-tiles) that any web server can mirror."""
    with open_desk(workdir) as desk:
        published = desk.publish()
        with writing(out):
            tiles.write_blocks(out, tiles.read_blocks(desk.publisher.folder, published.size), published.checkpoint)
        # The folder may have held another log's files, which are never overwritten.
        tiles.check_folder(out, logs.vkey(desk.settings.origin, desk.signers["log"].public_key))
    value = _checkpoint(published.checkpoint) | {"out": out}
    answer(value, as_json=as_json, people=sheet({"out": "Folder", "origin": "Log", "size": "Entries", "root": "Root"}))


def _checkpoint(text: str) -> dict[str, Any]:
    state = checkpoints.peek(text)
    return {"origin": state.origin, "size": state.size, "root": state.root.hex(), "checkpoint": text}
