"""Build the single-file verifier: `python deploy/verifier/build.py dist/expunge-verify.pyz` (`make verifier`).

    python3 -I -S expunge-verify.pyz verify BUNDLE --policy FILE

It holds `audits` as it is, `rfc8785` with its licence, and `plain.py` under the names by which `audits` imports the
library `cryptography`. So it needs Python 3.11 or newer and nothing else, and can be kept beside the reports.

The same sources give the same bytes: names in order, one date, nothing compressed. An import that `plain.py` does not
answer ends the build: what the verifier can't do is found here, not in ten years.
"""

import argparse
import ast
import hashlib
import sys
import zipfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LIBRARY = "cryptography"
KEPT = {".py", ".css", ".json"}
START = b"#!/usr/bin/env python3\n"
OLDEST = (1980, 1, 1, 0, 0, 0)  # the first date that a zip file can hold


def main(arguments: list[str] | None = None) -> int:
    """Build the file and print its digest."""
    parser = argparse.ArgumentParser(description="Build the single-file verifier.")
    parser.add_argument("out", type=Path, metavar="OUT", help="the file to write, for example dist/expunge-verify.pyz")
    out: Path = parser.parse_args(arguments).out
    content = {**audits(), **stand_in(), **canonical_json(), "__main__.py": (HERE / "start.py").read_bytes()}
    out.parent.mkdir(parents=True, exist_ok=True)
    write(out, content)
    sys.stdout.write(f"{hashlib.sha256(out.read_bytes()).hexdigest()}  {out}\n")
    return 0


def audits() -> dict[str, bytes]:
    """The verifier's own package."""
    paths = (path for path in (ROOT / "audits").rglob("*") if path.suffix in KEPT)
    return {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in paths}


def canonical_json() -> dict[str, bytes]:
    """The installed `rfc8785`, which is plain Python, with its licence."""
    files = metadata.files("rfc8785") or []
    kept = [one for one in files if one.suffix == ".py" or one.name == "LICENSE"]
    return {f"rfc8785/{one.name}": Path(str(one.locate())).read_bytes() for one in kept}


def stand_in() -> dict[str, bytes]:
    """`plain.py`, and a module of the library's name for each that `audits` imports."""
    plain = (HERE / "plain.py").read_bytes()
    known = {node.name for node in ast.parse(plain).body if isinstance(node, ast.ClassDef)}
    found = {f"{LIBRARY}/plain.py": plain}
    imported = sorted(_imports((ROOT / "audits").rglob("*.py")))
    for module, name in imported:
        if name not in known:
            raise SystemExit(f"audits imports {name} from {module}, and deploy/verifier/plain.py has no {name}.")
    modules = {module for module, _ in imported}
    packages = {module.rpartition(".")[0] for module in modules} | {LIBRARY}
    packages |= {".".join(one.split(".")[:depth]) for one in packages for depth in range(1, one.count(".") + 1)}
    names = ", ".join(sorted(known))
    text = f"from {LIBRARY}.plain import {names}\n".encode()
    for module in modules | packages:
        path = module.replace(".", "/")
        content = b"" if module == LIBRARY else text
        found[f"{path}/__init__.py" if module in packages else f"{path}.py"] = content
    return found


def _imports(paths: Iterable[Path]) -> set[tuple[str, str]]:
    """Each (module, name) of the library that the files import, inside functions too."""
    found = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == LIBRARY:
                found |= {(node.module or "", alias.name) for alias in node.names}
            elif isinstance(node, ast.Import) and any(alias.name.split(".")[0] == LIBRARY for alias in node.names):
                raise SystemExit(f"{path} imports the library whole; name what it needs.")
    return found


def write(out: Path, content: dict[str, bytes]) -> None:
    """The zip file, with the line that lets a shell start it."""
    temporary = out.with_name(f".{out.name}.part")
    with temporary.open("wb") as file:
        file.write(START)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name in sorted(content):
                entry = zipfile.ZipInfo(name, OLDEST)
                entry.create_system, entry.external_attr = 3, 0o644 << 16
                archive.writestr(entry, content[name])
    temporary.chmod(0o755)
    temporary.replace(out)


if __name__ == "__main__":
    sys.exit(main())
