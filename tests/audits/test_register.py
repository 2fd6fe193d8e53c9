"""Which keys were in force at which entry of the log."""

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from audits import algorithms, keys, log, register
from audits.errors import VerificationError
from audits.strict import encode_base64
from tests.audits.bundles import AT, signing_key

KEY = signing_key("report", 2)
SALT = "00" * 16
# The base point of P-256 (SP 800-186, 3.2.1.3): a point that nobody holds the key of.
POINT = bytes.fromhex(
    "04"
    "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
)


def entry(kind: str, data: dict[str, str]) -> log.Entry:
    """A log entry as it is read back."""
    return log.parse_entry(log.entry(type=kind, at=AT, salt=SALT, data=data))


def registered(key: keys.SigningKey) -> log.Entry:
    """The entry that registers a key."""
    return entry(log.KEY_REGISTERED, keys.registration(key, key.role))


def revoked(key: keys.SigningKey, reason: register.Reason = "rotated") -> log.Entry:
    """The entry that revokes a key."""
    return entry(register.KEY_REVOKED, register.revocation(key_id=key.key_id, role=key.role, reason=reason))


def folded(*entries: tuple[int, log.Entry]) -> register.Register:
    """A register that has seen these entries."""
    found = register.Register()
    for index, one in entries:
        found.apply(index, one)
    return found


def is_valid(found: register.Register, key: keys.SigningKey, index: int) -> bool:
    """Whether the register has the key in force at an entry."""
    try:
        found.valid(key.key_id, key.role, index)
    except VerificationError:
        return False
    return True


def test_a_key_is_good_between_its_registration_and_its_revocation() -> None:
    """What lies between the two entries counts; the entries themselves and all outside them do not."""
    found = folded((3, registered(KEY)), (7, revoked(KEY)))

    assert [index for index in range(10) if is_valid(found, KEY, index)] == [4, 5, 6]
    assert found.valid(KEY.key_id, "report", 5).public_key == KEY.public_key
    with pytest.raises(VerificationError, match=r"revoked before, by entry 7 \(rotated\)"):
        found.valid(KEY.key_id, "report", 8)
    with pytest.raises(VerificationError, match="only afterwards, by entry 3"):
        found.valid(KEY.key_id, "report", 3)


def test_a_key_counts_in_its_role_only() -> None:
    """A report key signs no receipt, and an unknown key nothing."""
    found = folded((0, registered(KEY)))

    with pytest.raises(VerificationError, match="registered as a report key, not as a receipt key"):
        found.valid(KEY.key_id, "receipt", 5)
    with pytest.raises(VerificationError, match="not registered"):
        found.valid("ab" * 32, "report", 5)


def test_a_revoked_key_never_comes_back() -> None:
    """A log that registers a revoked key again contradicts itself, also where only its end was shown."""
    with pytest.raises(VerificationError, match="again that was revoked"):
        folded((0, registered(KEY)), (1, revoked(KEY)), (2, registered(KEY)))
    with pytest.raises(VerificationError, match="again that was revoked"):
        folded((1, revoked(KEY)), (2, registered(KEY)))


def test_a_key_is_registered_once_and_revoked_once() -> None:
    """One key has one role, and one end."""
    twin = keys.register_public(KEY.public_key, role="receipt", algorithm="ed25519")

    with pytest.raises(VerificationError, match="a second time"):
        folded((0, registered(KEY)), (1, entry(log.KEY_REGISTERED, twin)))
    with pytest.raises(VerificationError, match="revokes a key a second time"):
        folded((0, registered(KEY)), (1, revoked(KEY)), (2, revoked(KEY, "compromised")))


def test_a_revocation_names_the_keys_own_role() -> None:
    """A revocation under another role is refused."""
    wrong = register.revocation(key_id=KEY.key_id, role="log", reason="retired")

    with pytest.raises(VerificationError, match="another role"):
        folded((0, registered(KEY)), (1, entry(register.KEY_REVOKED, wrong)))


def test_part_of_a_log_knows_what_it_shows() -> None:
    """A revocation without its registration holds; the key is then unknown rather than good."""
    found = folded((9, revoked(KEY, "compromised")))

    gone = found.revoked(KEY.key_id, 9)
    assert gone is not None
    assert (gone.reason, gone.index) == ("compromised", 9)
    assert found.revoked(KEY.key_id, 8) is None


def test_the_keys_in_force_are_listed_by_role() -> None:
    """Rotation leaves exactly the new key in force."""
    old, new = signing_key("approver", 8), signing_key("approver", 9)
    found = folded((0, registered(KEY)), (1, registered(old)), (4, registered(new)), (5, revoked(old)))

    assert [[key.key_id for key in found.in_force("approver", index)] for index in (1, 2, 5, 6)] == [
        [],
        [old.key_id],
        [new.key_id],
        [new.key_id],
    ]


def test_entries_are_applied_in_order() -> None:
    """An entry that lies before an applied one is the caller's mistake."""
    with pytest.raises(ValueError, match="order of the log"):
        folded((3, registered(KEY)), (3, revoked(KEY)))


@settings(max_examples=40, deadline=None)
@given(st.permutations(range(6)), st.integers(0, 12))
def test_validity_agrees_with_a_plain_reading(order: list[int], index: int) -> None:
    """For any order of three registrations and revocations, a key is good exactly between its own two."""
    three = [signing_key("receipt", 20 + number) for number in range(3)]
    places = {number: place for place, number in enumerate(order)}
    spans = [sorted((places[2 * number], places[2 * number + 1])) for number in range(3)]
    events = [(start, registered(key)) for key, (start, _) in zip(three, spans, strict=True)]
    events += [(stop, revoked(key)) for key, (_, stop) in zip(three, spans, strict=True)]
    found = folded(*sorted(events, key=lambda one: one[0]))

    assert [is_valid(found, key, index) for key in three] == [start < index < stop for start, stop in spans]


@pytest.mark.parametrize(
    "change", [{"reason": "lost"}, {"role": "king"}, {"keyId": "xy"}, {"keyId": 7}, {"more": "fields"}, {"role": []}]
)
def test_a_revocation_is_checked(change: dict[str, object]) -> None:
    """A revocation with an unknown reason, role, id or field revokes nothing and is refused."""
    data = register.revocation(key_id=KEY.key_id, role="report", reason="retired")

    with pytest.raises(VerificationError):
        register.read_revocation(1, {**data, **change})
    with pytest.raises(ValueError, match="reason"):
        register.revocation(key_id=KEY.key_id, role="report", reason="lost")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("role", "algorithm", "size"),
    [("log", "ecdsa-p256", 65), ("model", "ed25519", 32), ("report", "ml-dsa-44", 1312), ("approver", "rsa", 32)],
)
def test_a_role_has_its_algorithm(role: str, algorithm: str, size: int) -> None:
    """A key of another algorithm than its role's is not registered."""
    raw = bytes([4]) * size
    data = {"role": role, "algorithm": algorithm, "publicKey": encode_base64(raw), "keyId": keys.key_id(raw)}

    with pytest.raises(VerificationError, match="algorithm is not"):
        keys.read_registration(data)


def test_a_point_of_p_256_is_told_from_other_bytes() -> None:
    """The base point is accepted in its one form; compressed, off the curve, beyond the field it is refused."""
    algorithms.check("ecdsa-p256", POINT)
    far = POINT[:1] + (2**256 - 1).to_bytes(32, "big") + POINT[33:]

    for raw in (POINT[:-1], b"\x02" + POINT[1:], POINT[:-1] + b"\x00", far, bytes(65), b""):
        with pytest.raises(VerificationError):
            algorithms.check("ecdsa-p256", raw)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 2**200))
def test_every_point_that_openssl_makes_is_accepted(secret: int) -> None:
    """Our equation of the curve is that of the library; a changed coordinate leaves it."""
    public = ec.derive_private_key(secret, ec.SECP256R1()).public_key()
    raw = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    algorithms.check("ecdsa-p256", raw)
    with pytest.raises(VerificationError):
        algorithms.check("ecdsa-p256", raw[:-1] + bytes([raw[-1] ^ 1]))


def test_a_post_quantum_key_is_known_by_its_size() -> None:
    """The optional second key of a log is registered under its own algorithm."""
    raw = hashlib.shake_128(b"key").digest(algorithms.ML_DSA_44_SIZE)
    data = keys.register_public(raw, role="log", algorithm="ml-dsa-44")

    assert keys.read_registration(data).algorithm == "ml-dsa-44"
    with pytest.raises(VerificationError, match="1312"):
        keys.register_public(raw[1:], role="log", algorithm="ml-dsa-44")


def test_a_key_of_low_order_is_not_registered() -> None:
    """The identity, under which one signature fits every message, is nobody's approver key."""
    with pytest.raises(VerificationError, match="low order"):
        keys.register_public(bytes([1]) + bytes(31), role="approver", algorithm="ed25519")
