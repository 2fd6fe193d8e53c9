"""Trust policies (c2sp.org/tlog-policy): which logs, which witnesses, and how many of these must have cosigned.

    log <vkey> [<url>]
    witness <name> <vkey> [<url>]
    group <name> all|any|<k> <names...>
    quorum <name>|none

A policy comes from outside: an auditor has it from somewhere else than the report it judges. Names are defined
before they are used, so there are no cycles; no name is a member twice, so no witness counts twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from audits import checkpoint as checkpoints
from audits import note
from audits.errors import VerificationError, require
from audits.strict import decode_decimal

MAX_BYTES = 256 * 1024
MAX_LINES = 1024
NO_QUORUM = "none"
ALL_WITNESSES = "witnesses"
RESERVED = frozenset({NO_QUORUM, ALL_WITNESSES})  # no witness of `format_policy` can have one of these names

Level = Literal["unwitnessed", "witnessed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Counts as a witness when at least `threshold` of its `members` (witnesses or groups) do."""

    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """Whom to believe. `quorum` is None when no cosignature is asked for."""

    logs: tuple[note.VerifierKey, ...]
    witnesses: dict[str, note.VerifierKey]
    groups: dict[str, Group]
    quorum: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Trust:
    """A checkpoint that the policy accepts, with which keys its log signed it, and which witnesses cosigned it."""

    checkpoint: checkpoints.Checkpoint
    signers: tuple[note.VerifierKey, ...]
    witnesses: tuple[str, ...]

    @property
    def log(self) -> note.VerifierKey:
        """The first of the log's keys in the policy that signed; there is one at least."""
        return self.signers[0]

    @property
    def level(self) -> Level:
        """Whether anyone but the log's operator vouches for there being only one history."""
        return "witnessed" if self.witnesses else "unwitnessed"


@dataclass(slots=True)
class _Draft:
    logs: list[note.VerifierKey] = field(default_factory=list)
    witnesses: dict[str, note.VerifierKey] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    quorums: list[str] = field(default_factory=list)

    def known(self, name: str) -> bool:
        return name in self.witnesses or name in self.groups


def parse(text: str | bytes) -> Policy:
    """The policy in `text`; `VerificationError` names the line that is wrong."""
    draft = _Draft()
    for number, words in _lines(text):
        try:
            _read(draft, words)
        except VerificationError as fault:
            raise VerificationError(f"Line {number} of the trust policy: {fault}") from fault
    require(draft.logs, "The trust policy names no log.")
    require(len(draft.quorums) == 1, "The trust policy needs exactly one quorum line ('quorum none' is one).")
    quorum = None if draft.quorums[0] == NO_QUORUM else draft.quorums[0]
    return Policy(logs=tuple(draft.logs), witnesses=draft.witnesses, groups=draft.groups, quorum=quorum)


def format_policy(
    *,
    log_vkey: str,
    older: Sequence[str] = (),
    witnesses: Sequence[tuple[str, str] | tuple[str, str, str]] = (),
    quorum: int | None = None,
) -> str:
    """A policy for one log and its witnesses, of which `quorum` (default: all) must cosign.

    `older` are keys that the log signed with before a rotation: what they signed then is to be verified still.

    A witness is a name, a vkey and, where it is told, a URL. `ValueError` when the text would not be read back.
    """
    lines = [f"log {one}" for one in (log_vkey, *older)]
    lines += [" ".join(("witness", *one)) for one in witnesses]
    names = " ".join(one[0] for one in witnesses)
    if witnesses and quorum != 0:
        lines += [f"group {ALL_WITNESSES} {quorum or 'all'} {names}", f"quorum {ALL_WITNESSES}"]
    else:
        lines.append(f"quorum {NO_QUORUM}")
    text = "\n".join(lines) + "\n"
    try:
        parse(text)
    except VerificationError as fault:
        raise ValueError(f"This can't be written as a trust policy. {fault}") from fault
    return text


def verify_log(policy: Policy, signed: str | bytes) -> Trust:
    """The checkpoint in a note signed by a log of the policy, with the witnesses found; no quorum is asked for.

    A wrong signature by *any* key of the policy rejects the note. A witness's key can't stand in for the log's.
    """
    known = [*policy.logs, *policy.witnesses.values()]
    opened = note.open_note(signed, known)
    checkpoint = checkpoints.parse(opened.text)
    signers = {one.key for one in opened.verified}
    logs = [log for log in policy.logs if log in signers and log.name == checkpoint.origin]
    require(logs, "No log of the trust policy signed this checkpoint.")
    cosigners = tuple(sorted(name for name, key in policy.witnesses.items() if key in signers))
    return Trust(checkpoint=checkpoint, signers=tuple(logs), witnesses=cosigners)


def require_quorum(policy: Policy, trust: Trust) -> None:
    """Refuse a checkpoint that fewer witnesses cosigned than the policy asks for."""
    if policy.quorum is not None:
        counted = _counts(policy, policy.quorum, frozenset(trust.witnesses))
        require(counted, f"The quorum {policy.quorum} of witnesses did not cosign this checkpoint.")


def agreed_at(policy: Policy, times: Mapping[str, int]) -> int | None:
    """When the quorum had cosigned, of the times (POSIX seconds) of each witness by name; None when it never had.

    Without a quorum the first one counts. One witness in league with the operator can so not date back for all.
    """
    seen: set[str] = set()
    for name, time in sorted(times.items(), key=lambda one: one[1]):
        seen.add(name)
        if policy.quorum is None or _counts(policy, policy.quorum, frozenset(seen)):
            return time
    return None


def evaluate(policy: Policy, signed: str | bytes) -> Trust:
    """What the policy says of the checkpoint in the note `signed`: log and quorum together."""
    trust = verify_log(policy, signed)
    require_quorum(policy, trust)
    return trust


def _counts(policy: Policy, name: str, cosigners: frozenset[str]) -> bool:
    if name in policy.witnesses:
        return name in cosigners
    group = policy.groups[name]
    return sum(_counts(policy, member, cosigners) for member in group.members) >= group.threshold


def _lines(text: str | bytes) -> list[tuple[int, list[str]]]:
    try:
        raw = text.encode() if isinstance(text, str) else text
        decoded = raw.decode("utf-8")
    except UnicodeError as fault:
        raise VerificationError("The trust policy is not valid UTF-8.") from fault
    require(len(raw) <= MAX_BYTES, f"The trust policy is larger than {MAX_BYTES} bytes.")
    allowed = all(character >= " " or character in "\n\t" for character in decoded)
    require(allowed and "\x7f" not in decoded, "The trust policy has a control character.")
    numbered = list(enumerate(decoded.split("\n"), start=1))
    require(len(numbered) <= MAX_LINES, f"The trust policy has more than {MAX_LINES} lines.")
    split = [(number, line.replace("\t", " ").strip(" ").split(" ")) for number, line in numbered]
    words = [(number, [word for word in line if word]) for number, line in split]
    return [(number, line) for number, line in words if line and not line[0].startswith("#")]


def _read(draft: _Draft, words: list[str]) -> None:
    match words:
        case ["log", vkey] | ["log", vkey, _]:
            _read_log(draft, vkey)
        case ["witness", name, vkey] | ["witness", name, vkey, _]:
            _read_witness(draft, name, vkey)
        case ["group", name, threshold, *members]:
            _read_group(draft, name, threshold, members)
        case ["quorum", name]:
            require(name == NO_QUORUM or draft.known(name), "the quorum names nothing that is defined above it.")
            draft.quorums.append(name)
        case _:
            raise VerificationError("it is none of log, witness, group or quorum, or has too few or too many words.")


def _read_log(draft: _Draft, vkey: str) -> None:
    key = note.parse_vkey(vkey)
    require(key.algorithm in (note.ED25519, note.ML_DSA_44), "a log's key is of type 1 or 6.")
    require(all(key.public_key != log.public_key for log in draft.logs), "this log's key was listed before.")
    draft.logs.append(key)


def _read_witness(draft: _Draft, name: str, vkey: str) -> None:
    key = note.parse_vkey(vkey)
    require(key.algorithm == note.COSIGNATURE, "a witness's key is of type 4.")
    require(name != NO_QUORUM and not draft.known(name), "this name is taken.")
    others = (witness.public_key for witness in draft.witnesses.values())
    require(key.public_key not in others, "this witness's key was listed before.")
    draft.witnesses[name] = key


def _read_group(draft: _Draft, name: str, threshold: str, members: list[str]) -> None:
    require(name != NO_QUORUM and not draft.known(name), "this name is taken.")
    require(members and all(map(draft.known, members)), "a member of the group is not defined above it.")
    require(len(set(members)) == len(members), "the group lists a member twice.")
    require(draft.used.isdisjoint(members), "a member belongs to another group already.")
    needed = {"any": 1, "all": len(members)}.get(threshold)
    if needed is None:
        needed = decode_decimal(threshold, "the group's threshold", len(members))
    require(needed >= 1, "the group's threshold is zero.")
    draft.used.update(members)
    draft.groups[name] = Group(threshold=needed, members=tuple(members))
