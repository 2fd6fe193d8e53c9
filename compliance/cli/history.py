"""Checking a whole log in numbered steps; every step is a check of `audits`.

1  trust policy           given from outside (the desk's own, for its own log)
2  checkpoint             a log of the policy signed the newest checkpoint, and the quorum cosigned it
3  entries                every entry is well formed, and together they lead to the checkpoint's root
4  files                  every published tile agrees with these entries
5  history                (with an older checkpoint) the log only grew since then
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from audits import checkpoint as checkpoints
from audits import log as logs
from audits import policy as policies
from audits import tiles, tiling
from audits.errors import VerificationError, require
from audits.policy import Trust
from audits.protocol import Recorder, Verification, present
from compliance.ledger.ledger import Ledger


@dataclass(frozen=True, kw_only=True, slots=True)
class _Source:
    """Where the log is read: its newest checkpoint, and its entries in blocks given the checkpoint's size."""

    checkpoint: Callable[[], str]
    blocks: Callable[[int], Iterator[list[bytes]]]
    folder: Path


@dataclass(slots=True)
class _State:
    """What the steps so far have established; `roots` are those of the entries, at the sizes that matter."""

    policy: policies.Policy | None = None
    trust: Trust | None = None
    size: int = 0
    roots: dict[int, bytes] = field(default_factory=dict)


def check_files(folder: Path, policy_text: str | None, *, since: str | None) -> Verification:
    """An exported log under a policy from outside."""
    source = _Source(
        checkpoint=lambda: tiles.read_checkpoint(folder),
        blocks=lambda size: tiles.read_blocks(folder, size),
        folder=folder,
    )
    return _check(source, policy_text, since)


def check_desk(ledger: Ledger, folder: Path, policy_text: str, *, since: str | None) -> Verification:
    """The desk's own log: the database's entries against its newest checkpoint and its published files."""
    head = ledger.head()
    source = _Source(
        checkpoint=lambda: head.checkpoint, blocks=lambda _size: ledger.blocks(0, head.size), folder=folder
    )
    return _check(source, policy_text, since)


def _check(source: _Source, policy_text: str | None, since: str | None) -> Verification:
    state, recorder = _State(), Recorder()
    recorder.run("trust policy", lambda: _policy(state, policy_text))
    recorder.run("checkpoint", lambda: _checkpoint(state, source))
    recorder.run("entries", lambda: _entries(state, source, since))
    recorder.run("files", lambda: _files(state, source))
    if since is not None:
        recorder.run("history", lambda: _history(state, since))
    return recorder.verification("none" if state.trust is None else state.trust.level, None)


# (1): whom to trust comes from outside.
def _policy(state: _State, text: str | None) -> str:
    require(text is not None, "No trust policy was given, so nothing here can be believed.")
    state.policy = policies.parse(text or "")
    return f"The policy names {len(state.policy.logs)} log(s) and {len(state.policy.witnesses)} witness(es)."


# (2): the newest checkpoint is the log's own.
def _checkpoint(state: _State, source: _Source) -> str:
    state.trust = policies.evaluate(present(state.policy), source.checkpoint())
    return f"The log {state.trust.checkpoint.origin} signed a checkpoint over {state.trust.checkpoint.size} entries."


# (3): the entries are well formed and lead to that checkpoint; read once, block by block.
def _entries(state: _State, source: _Source, since: str | None) -> str:
    signed = present(state.trust).checkpoint
    others = {_size(lambda: tiles.read_checkpoint(source.folder)), _size(lambda: since or "")}
    state.size, state.roots = tiling.roots(_well_formed(source.blocks(signed.size)), {signed.size, *others})
    require(state.size >= signed.size, "There are fewer entries than the checkpoint says.")
    require(state.roots[signed.size] == signed.root, "The entries do not lead to the checkpoint's root.")
    later = state.size - signed.size
    return f"{signed.size} entries lead to the signed root" + (
        f"; {later} newer ones are not signed yet." if later else "."
    )


def _well_formed(blocks: Iterator[list[bytes]]) -> Iterator[list[bytes]]:
    for block in blocks:
        for entry in block:
            logs.parse_entry(entry)
        yield block


def _size(signed: Callable[[], str]) -> int:
    """The size that a checkpoint speaks of; 0 when it can't be read, which its own step will say."""
    try:
        return checkpoints.peek(signed()).size
    except VerificationError:
        return 0


# (4): what is published is the same log.
def _files(state: _State, source: _Source) -> str:
    found = tiles.check_folder(source.folder, present(state.trust).log.format())
    require(state.roots.get(found.size) == found.root, "The published files are of another history.")
    return f"The published files agree, up to entry {found.size}."


# (5): an older checkpoint is a beginning of this log.
def _history(state: _State, older: str) -> str:
    before = policies.verify_log(present(state.policy), older).checkpoint
    grown = state.roots.get(before.size) == before.root
    require(grown, "The log does not extend the older checkpoint: its history was rewritten.")
    return f"The log extends the older checkpoint over {before.size} entries."
