"""The walls of the design: who may know whom, and what no process of the desk ever loads."""

import json
import subprocess
import sys
from collections.abc import Sequence

from tests.house.source import PACKAGES, ROOT, sources

HEAVY = {"torch", "transformers", "opacus", "accelerate"}
PICKLES = {"pickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"}
VERIFIER = {"cryptography", "rfc8785"}
AMBIENT = {"datetime.now", "datetime.utcnow", "date.today", "time.time", "uuid.uuid4", "os.urandom"}


def _loaded_by(modules: Sequence[str]) -> set[str]:
    """The top-level packages in a fresh process that imported `modules`."""
    code = (
        "import importlib, json, sys\n"
        "before = set(sys.modules)\n"
        f"for name in {list(modules)!r}: importlib.import_module(name)\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in set(sys.modules) - before})))"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return set(json.loads(ran.stdout.splitlines()[-1]))


def _third_party(packages: set[str]) -> set[str]:
    return packages - set(sys.stdlib_module_names) - set(PACKAGES)


def test_import_contracts_hold() -> None:
    """import-linter finds no wall broken."""
    ran = subprocess.run(
        [f"{sys.prefix}/bin/lint-imports", "--no-logo", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout


def test_no_module_of_the_desk_loads_torch() -> None:
    """A fresh process that imports every module of compliance holds neither torch nor what brings it."""
    modules = [source.module for source in sources("compliance") if not source.path.endswith("__main__.py")]

    assert not HEAVY & _loaded_by(modules)


def test_the_api_loads_no_numbers_either() -> None:
    """`import compliance.api` brings no numpy, so that a door starts quickly and small."""
    assert not (HEAVY | {"numpy", "scipy"}) & _loaded_by(["compliance.api"])


def test_an_auditor_needs_two_packages() -> None:
    """The source of audits names the standard library, cryptography and rfc8785 only."""
    named = {name.partition(".")[0] for source in sources("audits") for name in source.imports()}

    assert _third_party(named) <= VERIFIER


def test_the_engines_vocabulary_is_the_standard_library() -> None:
    """What the desk imports of the engine loads nothing that has to be installed."""
    assert not _third_party(_loaded_by(["engine.contract", "engine.catalogue", "engine.corpus"]))


def test_nothing_reads_a_pickle() -> None:
    """No pickle module is imported and nothing calls `torch.load`: weights are safetensors."""
    found = [
        f"{source.path}: {name}"
        for source in sources(*PACKAGES, "benchmarks")
        for name in (*source.imports(), *source.dotted())
        if name.partition(".")[0] in PICKLES or name in {"torch.load", "numpy.load", "np.load"}
    ]

    assert not found


def test_only_settings_read_the_environment() -> None:
    """`os.environ` stands in settings.py, and where the engine's child is given a purged copy of it."""
    readers = {
        source.path
        for source in sources("compliance")
        if any(name in {"os.environ", "os.getenv"} for name in source.dotted())
    }

    assert readers <= {"compliance/settings.py", "compliance/execution/process.py"}


def test_time_and_randomness_are_arguments() -> None:
    """Only the composition root and the programs around it ask the machine for the time, an id or random bytes."""
    found = {
        f"{source.path}: {name}"
        for source in sources("compliance")
        if not source.path.startswith(("compliance/wiring.py", "compliance/cli", "compliance/demo"))
        for name in source.dotted()
        if name in AMBIENT
    }

    assert not found
