"""`python -m audits verify BUNDLE --policy FILE`: the verifier as a command, for people and for programs.

Exit codes: 0 everything holds; 1 something does not, or there is no trust policy; 2 bad usage.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from audits import note, receipt
from audits import opening as openings
from audits import policy as policies
from audits.protocol import Verification
from audits.verify import verify

OK, FAILED, USAGE = 0, 1, 2
_BUNDLE_EXAMPLE = """example:
  python -m audits verify bundles/2 --policy trust/tlog-policy --model models/2
  python -m audits verify bundles/2 --policy trust/tlog-policy --log mirror --since old-checkpoint

The policy must come from somewhere else than the bundle: from the controller's
website, from a supervisory authority, or from a report verified earlier."""
_RECEIPT_EXAMPLE = """example:
  python -m audits receipt receipt.json --policy trust/tlog-policy
  python -m audits receipt receipt.json --policy trust/tlog-policy --log mirror --bundle bundles/2

Without a copy of the log only the receipt itself is checked, not whether its
promise was kept."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command == "verify" and options.since is not None and options.log is None:
        parser.error("an older checkpoint is compared with a copy of the log: give one with --log DIR")
    policy = None if options.policy is None else _read(options.policy, policies.MAX_BYTES)
    result = _verify(options, policy) if options.command == "verify" else _receipt(options, policy)
    text = json.dumps(result.to_json()) if options.json else _for_people(result)
    sys.stdout.write(text + "\n")
    return OK if result.ok else FAILED


def _verify(options: argparse.Namespace, policy: bytes | None) -> Verification:
    since = None if options.since is None else _read(options.since, note.MAX_BYTES)
    return verify(options.path, policy, model=options.model, log=options.log, since=since)


def _receipt(options: argparse.Namespace, policy: bytes | None) -> Verification:
    return receipt.verify(
        _read(options.path, receipt.MAX_BYTES),
        policy,
        log=options.log,
        bundles=options.bundle,
        opening=None if options.opening is None else _read(options.opening, openings.MAX_BYTES),
        proof=None if options.proof is None else _read(options.proof, receipt.MAX_BYTES),
        at=options.at,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m audits", description="Verify reports and receipts offline.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _command(commands.add_parser("verify", help="verify a report's bundle"), "BUNDLE", _BUNDLE_EXAMPLE)
    _bundle_options(commands.choices["verify"])
    _command(commands.add_parser("receipt", help="verify a request's receipt"), "FILE", _RECEIPT_EXAMPLE)
    _receipt_options(commands.choices["receipt"])
    return parser


def _bundle_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=_folder, metavar="DIR", help="also compare this model folder")
    parser.add_argument("--log", type=_folder, metavar="DIR", help="a copy of the log: check against every entry of it")
    parser.add_argument(
        "--since", type=_existing, metavar="FILE", help="an older signed checkpoint that the log must extend"
    )


def _receipt_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--log", type=_folder, metavar="DIR", help="a copy of the log: was the promise kept?")
    parser.add_argument(
        "--bundle",
        type=_existing,
        metavar="PATH",
        action="append",
        default=[],
        help="a report's bundle; may be repeated",
    )
    parser.add_argument("--opening", type=_existing, metavar="FILE", help="the opening of the request's own commitment")
    parser.add_argument("--proof", type=_existing, metavar="FILE", help="the request's log entry with its proof")
    parser.add_argument("--at", metavar="TIME", help="when you had the receipt, like 2026-11-22T10:00:00Z")


def _command(parser: argparse.ArgumentParser, what: str, example: str) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = example
    parser.add_argument("path", type=_existing, metavar=what, help=f"the {what.lower()} to verify")
    parser.add_argument("--policy", type=_existing, metavar="FILE", help="the trust policy (C2SP tlog-policy)")
    parser.add_argument("--json", action="store_true", help="print one JSON value and nothing else")


def _existing(text: str) -> Path:
    if not Path(text).exists():
        message = f"{text} does not exist"
        raise argparse.ArgumentTypeError(message)
    return Path(text)


def _folder(text: str) -> Path:
    if not Path(text).is_dir():
        message = f"{text} is not a folder"
        raise argparse.ArgumentTypeError(message)
    return Path(text)


def _read(path: Path, limit: int) -> bytes:
    """Up to one byte more than the limit, so that the verifier can say what is wrong."""
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except OSError as fault:
        sys.stderr.write(f"{path} can't be read: {fault.strerror}.\n")
        raise SystemExit(USAGE) from fault


def _for_people(result: Verification) -> str:
    lines = [f"{one.n:>2}  {'ok' if one.ok else 'NO':<3} {one.name:<21} {one.why}" for one in result.steps]
    verdict = "VERIFIED" if result.ok else "NOT VERIFIED"
    return "\n".join([*lines, "", f"{verdict} (trust: {result.trust})"])


if __name__ == "__main__":
    sys.exit(main())
