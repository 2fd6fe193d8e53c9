"""States and transitions: who may become what, and what a request is made of."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.errors import ConflictError
from compliance.ledger.lifecycle import (
    FINAL,
    ItemState,
    RequestState,
    check_item,
    check_request,
    derived_state,
)

R, ONE = RequestState, ItemState
ENDED = {ONE.FULFILLED, ONE.DENIED, ONE.WITHDRAWN}
ITEMS = st.lists(st.sampled_from(ItemState), min_size=1, max_size=6)


def _may_become(before: RequestState, after: RequestState) -> bool:
    try:
        check_request(before, after)
    except ConflictError:
        return False
    return True


def _item_may_become(before: ItemState, after: ItemState) -> bool:
    try:
        check_item(before, after)
    except ConflictError:
        return False
    return True


@pytest.mark.parametrize(
    "path",
    [
        (R.RECEIVED, R.IDENTITY_PENDING, R.VERIFIED, R.MATCHED, R.APPROVED, R.FULFILLED),
        (R.RECEIVED, R.IDENTITY_PENDING, R.EXPIRED),
        (R.VERIFIED, R.NO_MATCH),
        (R.VERIFIED, R.DUPLICATE),
        (R.MATCHED, R.ON_HOLD, R.MATCHED, R.APPROVED, R.FULFILLED_IN_PART),
        (R.MATCHED, R.NEEDS_INPUT, R.MATCHED, R.DENIED),
        (R.APPROVED, R.WITHDRAWN),
    ],
    ids=lambda path: path[-1],
)
def test_request_may_go_the_ways_of_the_design(path: tuple[RequestState, ...]) -> None:
    """The life of a request, and its asides, are legal."""
    for before, after in itertools.pairwise(path):
        check_request(before, after)


@pytest.mark.parametrize("state", RequestState)
def test_final_states_and_only_they_end_a_request(state: RequestState) -> None:
    """A final state has no successor, and every other state has one."""
    assert (state in FINAL) != any(_may_become(state, after) for after in RequestState)


def test_nobody_is_approved_unmatched_or_unverified() -> None:
    """Approval comes after matching, matching after the proof of identity, on every way through the states."""
    before = {state for state in RequestState if _may_become(state, R.APPROVED)}

    assert before == {R.MATCHED, R.ON_HOLD, R.NEEDS_INPUT}
    assert {state for state in RequestState if _may_become(state, R.VERIFIED)} == {
        R.IDENTITY_PENDING,
        R.ON_HOLD,
        R.NEEDS_INPUT,
    }


def test_illegal_transition_says_both_states() -> None:
    """The refusal is one sentence with a stable code."""
    with pytest.raises(ConflictError, match="'fulfilled' cannot become 'received'") as caught:
        check_request(R.FULFILLED, R.RECEIVED)

    assert caught.value.code == "illegal-transition"


def test_item_goes_from_proposal_to_fulfilment() -> None:
    """The life of an item is legal, and so is going back to unlearning when a rung's gates failed."""
    path = (
        ONE.PROPOSED,
        ONE.APPROVED,
        ONE.QUEUED,
        ONE.UNLEARNING,
        ONE.VERIFYING,
        ONE.PUBLISHED,
        ONE.SEALED,
        ONE.FULFILLED,
    )
    for before, after in itertools.pairwise(path):
        check_item(before, after)
    check_item(ONE.VERIFYING, ONE.UNLEARNING)


def test_published_item_never_goes_back() -> None:
    """After publication there is one way: sealed, then fulfilled."""
    assert [after for after in ItemState if _item_may_become(ONE.PUBLISHED, after)] == [ONE.SEALED]
    assert [after for after in ItemState if _item_may_become(ONE.SEALED, after)] == [ONE.FULFILLED]


@given(start=st.sampled_from(ItemState))
def test_every_item_can_end(start: ItemState) -> None:
    """From every state of an item an ended one can be reached: no state is a dead end."""
    reached, border = {start}, {start}
    while border:
        border = {after for after in ItemState for one in border if _item_may_become(one, after)} - reached
        reached |= border

    assert reached & ENDED


@given(items=ITEMS, rng=st.randoms())
def test_derived_state_ignores_order(items: list[ItemState], rng: random.Random) -> None:
    """A request is what its items are, in whatever order."""
    shuffled = list(items)
    rng.shuffle(shuffled)

    assert derived_state(items) == derived_state(shuffled)


@given(items=ITEMS)
def test_request_is_open_while_an_item_is(items: list[ItemState]) -> None:
    """A request ends exactly when its last item does."""
    assert (derived_state(items) is R.APPROVED) == (not set(items) <= ENDED)


@given(items=st.lists(st.sampled_from(sorted(ENDED)), min_size=1))
def test_fulfilled_means_every_item(items: list[ItemState]) -> None:
    """`fulfilled` needs all, `fulfilled_in_part` some, and a request of which nothing was fulfilled says neither."""
    fulfilled = items.count(ONE.FULFILLED)

    expected = {len(items): R.FULFILLED, 0: R.DENIED if ONE.DENIED in items else R.WITHDRAWN}
    assert derived_state(items) == expected.get(fulfilled, R.FULFILLED_IN_PART)
