"""The contract of every command: exit codes, one JSON value, one line for what is wrong, help with an example."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compliance import settings as settings_module
from compliance.cli.commands import COMMANDS, load
from compliance.cli.failures import record
from compliance.wiring import Services, open_services, prepare
from tests.compliance.builders import log_size
from tests.compliance.terminal import answer, at, refusal, run

ANYWHERE = {"method list", "method show", "unlearn", "evaluate", "series", "audit shadows"}
ANYWHERE |= {"forget-set worst-case", "forget-set choose", "forget-set stress"}
ANYWHERE |= {"report verify", "report schema", "receipt verify", "witness serve", "witness trust", "witness key"}
ANYWHERE |= {"keys new", "request sign"}
READING = [
    "db check",
    "db upgrade",
    "dataset list",
    "model list",
    "request list",
    "batch list",
    "report list",
    "keys list",
    "log checkpoint",
    "log prove 0",
    "log verify",
]
NOWHERE = [
    "dataset show nothing",
    "model show nothing",
    "model versions nothing",
    "model schedule nothing --off",
    "request show nothing",
    "request approve nothing",
    "request deny nothing --code no_match",
    "request extend nothing",
    "request hold nothing",
    "request release nothing",
    "request withdraw nothing",
    "request list --after nothing",
    "batch show nothing",
    "batch run nothing",
    "batch plan nothing",
    "batch list --model nothing",
    "report show nothing",
    "report export nothing --out new",
    "log prove 1000000",
    "keys revoke 0123456789 --reason retired",
    "keys rotate nobody",
]


@pytest.fixture(scope="module")
def empty_desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """A prepared desk in which nothing has happened, and nothing these tests do changes that."""
    settings = settings_module.initialise(tmp_path_factory.mktemp("empty") / "desk")
    prepare(settings)
    desk = open_services(settings)
    yield desk
    desk.database.dispose()


def leaves() -> Iterator[tuple[str, Any]]:
    """Every command that does something, with its full name."""
    for name in COMMANDS:
        loaded = load(name)
        for below, command in getattr(loaded, "commands", {"": loaded}).items():
            yield f"{name} {below}".strip(), command


LEAVES = dict(leaves())


def examples(help_text: str) -> list[str]:
    """The command lines below `Example:`."""
    _, _, below = help_text.partition("Example:\n")
    return [line.strip() for line in below.splitlines() if "expunge" in line]


def test_the_commands_are_those_of_the_contract() -> None:
    """Names are what other programs call; none appears or goes by accident."""
    assert list(LEAVES) == [
        "demo",
        "up",
        "serve",
        "work",
        "beat",
        *(f"db {name}" for name in ("upgrade", "check")),
        *(f"dataset {name}" for name in ("add", "list", "show")),
        *(f"model {name}" for name in ("add", "train", "list", "show", "versions", "check", "schedule")),
        *(f"request {name}" for name in ("file", "list", "targets", "show", "approve")),
        *(f"request {name}" for name in ("deny", "extend", "hold", "release")),
        "request withdraw",
        "request sign",
        *(f"batch {name}" for name in ("plan", "run", "list", "show")),
        "method list",
        "method show",
        "unlearn",
        "evaluate",
        "series",
        "audit shadows",
        "forget-set worst-case",
        "forget-set choose",
        "forget-set stress",
        *(f"report {name}" for name in ("list", "show", "export", "verify", "schema", "reproduce")),
        "receipt verify",
        *(f"log {name}" for name in ("checkpoint", "prove", "verify", "fsck", "export")),
        *(f"witness {name}" for name in ("serve", "trust", "key")),
        *(f"keys {name}" for name in ("new", "list", "register", "rotate", "revoke")),
    ]


@pytest.mark.parametrize("name", LEAVES)
def test_help_ends_with_an_example_that_would_run(name: str) -> None:
    """A user copies the example: it calls this command, and only with options that exist."""
    ran = run(*name.split(), "--help")
    lines = examples(ran.out)

    assert ran.code == 0
    assert lines
    options = {option for parameter in LEAVES[name].params for option in parameter.opts}
    for line in lines:
        words = shlex.split(re.split(r" \| | > ", line)[-1] if " | " in line else line.partition(" > ")[0])
        assert words[: 1 + len(name.split())] == ["expunge", *name.split()]
        assert {word for word in words if word.startswith("--")} <= options


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_speaks_json_and_finds_its_desk(name: str) -> None:
    """`--json` is everywhere, and `--workdir` wherever a desk is needed."""
    options = {option for parameter in LEAVES[name].params for option in parameter.opts}

    assert "--json" in options
    assert ("--workdir" in options) == (name not in ANYWHERE)


def test_the_list_of_commands_says_what_each_command_says() -> None:
    """A command that stands alone has one sentence, in the list and in its own help."""
    for name, source in COMMANDS.items():
        if source.alone:
            assert str(load(name).help).splitlines()[0] == source.help


@pytest.mark.parametrize("command", READING)
def test_json_is_the_one_value_on_standard_output(empty_desk: Services, command: str) -> None:
    """Programs parse standard output as it is; standard error stays empty."""
    ran = at(empty_desk, *command.split(), "--json")

    assert ran.code == 0
    assert ran.err == ""
    assert ran.out.count("\n") == 1
    assert ran.value is not None


@pytest.mark.parametrize("command", READING)
def test_people_get_words_instead(empty_desk: Services, command: str) -> None:
    """Without `--json` there is something to read, and no line is wider than a terminal."""
    ran = at(empty_desk, *command.split())

    assert ran.code == 0
    assert ran.out.strip()
    if not command.startswith("log "):  # signed texts are printed as they are
        assert max(map(len, ran.out.splitlines())) <= 80


@pytest.mark.parametrize("command", NOWHERE)
def test_what_does_not_exist_is_one_line_and_changes_nothing(empty_desk: Services, command: str) -> None:
    """An unknown name or id is bad input, and leaves no entry in the log."""
    before = log_size(empty_desk)

    assert refusal(at(empty_desk, *command.split()))
    assert log_size(empty_desk) == before


@pytest.mark.parametrize(
    "command",
    ["", "nonsense", "dataset", "dataset nonsense", "dataset add", "dataset list --nonsense", "demo --task nonsense"],
)
def test_bad_usage_is_one_line_that_names_the_help(command: str) -> None:
    """No usage text, no box, no traceback: what is wrong, and where to read on."""
    assert "--help" in refusal(run(*command.split()))


def test_a_folder_without_a_desk_says_what_to_do(tmp_path: Path) -> None:
    """The settings that are missing are named, and nothing is made up for them."""
    line = refusal(run("dataset", "list", "--workdir", tmp_path))

    assert "EXPUNGE_MASTER_KEY" in line
    assert "expunge up" in line
    assert not list(tmp_path.iterdir())


def test_an_internal_error_is_one_line_and_a_log_without_messages(services: Services) -> None:
    """The log says where it happened; a message could quote a row, so it is not kept."""
    Path(services.settings.database_url.removeprefix("sqlite:///")).write_bytes(b"Quillon Vandermeer " * 100)

    ran = at(services, "dataset", "list", "--json")

    log = services.settings.workdir / "logs" / "cli.log"
    assert (ran.code, ran.out) == (3, "")
    assert ran.err.count("\n") == 1
    assert ran.err.endswith(f"its log is {log}\n")
    written = log.read_text()
    assert "DatabaseError" in written
    assert "datasets.py" in written
    assert "not a database" not in written
    assert "Quillon" not in written + ran.err


def test_without_a_work_folder_the_log_is_a_temporary_file() -> None:
    """An error outside any desk is recorded all the same."""
    log = record(KeyError("Quillon"), folder=None)

    assert "builtins.KeyError" in log.read_text()
    assert "Quillon" not in log.read_text()
    log.unlink()


def test_help_is_quick_because_it_loads_nothing() -> None:
    """The list of commands needs no database, no tables, no queue, no web and no torch."""
    script = (
        "import json, sys\n"
        "from compliance.cli import main\n"
        "main(['--help'])\n"
        "print(json.dumps(sorted(name for name in sys.modules if '.' not in name)))\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    loaded = set(json.loads(ran.stdout.splitlines()[-1]))
    assert not loaded & {"sqlalchemy", "pydantic", "rich", "celery", "fastapi", "cryptography", "torch", "numpy"}


def test_the_module_answers_like_the_command() -> None:
    """`python -m compliance.cli` is how other processes of the desk start one."""
    command = [sys.executable, "-m", "compliance.cli", "method", "list", "--json"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)

    assert json.loads(ran.stdout) == answer_without_desk("method", "list")


def answer_without_desk(*arguments: str) -> Any:  # noqa: ANN401 - any JSON value
    """The JSON value of a command that needs no desk."""
    return run(*arguments, "--json").value


def test_methods_are_listed_with_what_they_may_claim() -> None:
    """The catalogue's own words, filtered by scope."""
    methods = answer_without_desk("method", "list", "--scope", "domain")

    heads = ["newton-noise", "descent-noise", "langevin", "newton-removal", "descent-to-delete", "rewind"]
    assert [method["name"] for method in methods] == ["retrain", "noisy-ft", *heads, "sisa", "adu", "clip-fit"]
    assert set(methods[0]) == {"name", "tasks", "scopes", "guarantee", "needs", "source"}
    assert methods[0]["guarantee"] == "exact"
    assert "use one of: records" in refusal(run("method", "list", "--scope", "nonsense"))


def test_a_database_that_differs_is_a_no(services: Services) -> None:
    """`db check` answers 1, names the differences, and changes nothing."""
    with services.database.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE notices ADD COLUMN stray TEXT")

    ran = at(services, "db", "check", "--json")

    assert ran.code == 1
    assert ran.value == {"ok": False, "differences": ["remove_column"]}
    assert answer(services, "db", "upgrade") == {"ok": True}
