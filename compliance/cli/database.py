"""`expunge db`: the database's shape."""

from typing import Any

from compliance.cli.journal import recording
from compliance.cli.options import CURRENT, Json, Workdir, example, group
from compliance.cli.output import answer, sentence
from compliance.ledger.database import differences, open_database
from compliance.settings import load
from compliance.wiring import prepare

app = group()


@app.command("upgrade", epilog=example("expunge db upgrade --workdir desk"))
def upgrade(*, workdir: Workdir = CURRENT, as_json: Json = False) -> None:
    """Bring a work folder up to date: signing keys, migrations, registered keys, a first checkpoint.

    It may be repeated. The settings come from EXPUNGE_* variables or from settings.env in the folder.
    """
    settings = load(workdir)
    with recording(settings.workdir / "logs"):
        prepare(settings)
    answer({"ok": True}, as_json=as_json, people=sentence("The desk is up to date."))


@app.command("check", epilog=example("expunge db check --json"))
def check(*, workdir: Workdir = CURRENT, as_json: Json = False) -> int:
    """Compare the database with the tables of this version; exit 1 when they differ."""
    settings = load(workdir)
    with recording(settings.workdir / "logs"):
        database = open_database(settings.database_url)
        found = [_name(difference) for difference in differences(database)]
        database.dispose()
    words = "The database agrees with this version."
    if found:
        words = f"The database differs in {len(found)} places; run 'expunge db upgrade'."
    answer({"ok": not found, "differences": found}, as_json=as_json, people=sentence(words))
    return int(bool(found))


def _name(difference: Any) -> str:  # noqa: ANN401 - Alembic: a tuple, or a list of them for one column
    first = difference[0]
    return str(first[0] if isinstance(first, tuple) else first)
