"""Lies, repeats and mix-ups: each is refused with a sentence, and what was there before stays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import secagg_story as story
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation.secagg import keys, rules, wire
from federation.secagg.errors import MessageRefused, OpeningRefused, OutOfOrder, TooFew
from federation.secagg.site import SiteSession

WORDS = {f"site{index:02d}": np.arange(64, dtype=np.uint32) for index in range(5)}


@pytest.fixture
def world():
    """Five sites with keys and shares exchanged and all inputs uploaded."""
    made = story.setting(5)
    story.exchange_keys(made)
    story.exchange_shares(made)
    story.upload(made, WORDS, frozenset())
    return made


def fresh(n: int = 5):
    made = story.setting(n)
    story.exchange_keys(made)
    return made


def test_a_forged_or_altered_key_is_refused() -> None:
    made = fresh()
    adverts = made.server.key_list()
    swapped = replace(adverts[1], mask_public=keys.public_of(bytes([7]) * 32))
    stranger = swapped.sign(Ed25519PrivateKey.generate())
    for lie in (swapped, stranger):
        with pytest.raises(MessageRefused):
            made.sites["site00"].share([adverts[0], lie, *adverts[2:]])
        with pytest.raises(MessageRefused):
            made.server._note({}, "x", lie)
    assert made.sites["site00"].adverts == {}


def test_a_sybil_on_the_key_list_is_refused() -> None:
    made = fresh()
    sybil = story.setting(5).sites["site04"].advertise()
    with pytest.raises(MessageRefused):
        made.sites["site00"].share([*made.server.key_list()[:4], sybil])
    unknown = replace(made.server.key_list()[4], site="site99").sign(made.identities["site04"])
    with pytest.raises(MessageRefused, match="roster"):
        made.sites["site00"].share([*made.server.key_list()[:4], unknown])


@pytest.mark.parametrize(
    "change", [{"attempt": 2}, {"roster": "00"}, {"base_model": "00"}, {"plan": "00"}, {"quantiser": "00"},
               {"round": "r2"}, {"federation": "g"}, {"purpose": "count"}],
)  # fmt: skip
def test_messages_of_another_attempt_roster_model_or_plan_are_refused(change: dict) -> None:
    made, other = fresh(), None
    context = replace(made.context, **change)
    other = {name: SiteSession(name, made.identities[name], made.roster, context) for name in made.sites}
    replayed = [other[name].advertise() for name in sorted(other)]
    with pytest.raises(MessageRefused, match="another attempt"):
        made.sites["site00"].share([made.sites["site00"].advertise(), *replayed[1:]])


def test_another_key_list_after_the_first_is_refused(world) -> None:
    adverts = world.server.key_list()
    site = world.sites["site00"]
    assert site.share(adverts) == site.outgoing
    with pytest.raises(OutOfOrder):
        site.share(adverts[:-1])


def test_a_key_named_twice_is_refused() -> None:
    made = fresh()
    adverts = made.server.key_list()
    twin = replace(adverts[2], mask_public=adverts[1].mask_public).sign(made.identities["site02"])
    with pytest.raises(MessageRefused, match="twice"):
        made.sites["site00"].share([*adverts[:2], twin, *adverts[3:]])


def test_shares_that_are_altered_or_misdirected_are_refused() -> None:
    made = fresh()
    adverts = made.server.key_list()
    sent = {name: site.share(adverts) for name, site in made.sites.items()}
    to_zero = next(message for message in sent["site01"] if message.receiver == "site00")
    to_two = next(message for message in sent["site01"] if message.receiver == "site02")
    flipped = replace(to_zero, sealed=to_zero.sealed[:-1] + bytes([to_zero.sealed[-1] ^ 1]))
    for lie in (flipped, to_two, flipped.sign(made.identities["site01"]),
                replace(to_two, receiver="site00").sign(made.identities["site01"])):  # fmt: skip
        with pytest.raises(MessageRefused):
            made.sites["site00"].receive([lie])
    with pytest.raises(OutOfOrder, match="missing"):
        made.sites["site00"].masker()


def test_nothing_is_masked_twice(world) -> None:
    site = world.sites["site00"]
    with pytest.raises(OutOfOrder, match="stored bytes"):
        site.mask(WORDS["site00"])
    with pytest.raises(OutOfOrder):
        site.commit(b"\0" * 32, 64)


def test_one_answer_per_attempt_and_never_both_shares(world) -> None:
    survivors = world.server.close()
    lists = {
        name: site.sign_survivors(survivors, world.server.commitments) for name, site in world.sites.items()
    }
    site = world.sites["site00"]
    answer = site.answer(lists.values())
    assert site.answer(list(lists.values())[:4]) == answer, "the same set gives the same answer"
    assert not set(answer.seed_shares) & set(answer.mask_shares)
    fewer = survivors[:4]
    commitments = {name: world.server.commitments[name] for name in fewer}
    again = [world.sites[name].sign_survivors(fewer, commitments) for name in fewer]
    with pytest.raises(OutOfOrder, match="another survivor set"):
        site.answer(again)


def test_a_forked_survivor_set_is_noticed(world) -> None:
    survivors = world.server.close()
    whole = [world.sites[name].sign_survivors(survivors, world.server.commitments) for name in survivors[:3]]
    fewer = survivors[:4]
    commitments = {name: world.server.commitments[name] for name in fewer}
    forked = [world.sites["site03"].sign_survivors(fewer, commitments)]
    with pytest.raises(MessageRefused, match="different sets"):
        world.sites["site00"].answer([*whole, *forked])
    with pytest.raises(TooFew):
        world.sites["site00"].answer(whole)
    assert world.sites["site00"].answered is None


def test_a_set_without_this_site_or_with_swapped_commitments_is_refused(world) -> None:
    survivors = world.server.close()
    site = world.sites["site00"]
    others = survivors[1:]
    with pytest.raises(MessageRefused, match="own input"):
        site.sign_survivors(others, {name: world.server.commitments[name] for name in others})
    swapped = world.server.commitments | {"site01": world.server.commitments["site02"]}
    with pytest.raises(MessageRefused):
        site.sign_survivors(survivors, swapped)


@pytest.mark.parametrize(
    ("n", "missing", "refused"), [(5, 1, True), (5, 2, True), (10, 4, True), (10, 5, False)]
)
def test_opened_then_aborted_then_opened_again_is_refused(n: int, missing: int, refused: bool) -> None:
    """c + 2 is 4 at n = 5 and 5 at n = 10: fewer sites less would be told apart by subtraction."""
    everybody = frozenset(f"site{index:02d}" for index in range(n))
    fewer = frozenset(sorted(everybody)[missing:])
    rules.require_openable([everybody], everybody, n)
    if refused:
        with pytest.raises(OpeningRefused, match="differ by at least"):
            rules.require_openable([everybody], fewer, n)
    else:
        rules.require_openable([everybody], fewer, n)


def test_a_site_remembers_what_it_answered(world) -> None:
    survivors = world.server.close()
    lists = [site.sign_survivors(survivors, world.server.commitments) for site in world.sites.values()]
    earlier = frozenset([*survivors[:4], "site77"])
    with pytest.raises(OpeningRefused):
        world.sites["site00"].answer(lists, opened_before=[earlier])
    assert world.sites["site00"].answered is None


def test_a_wrong_share_is_found_when_the_secret_is_put_together(world) -> None:
    survivors = world.server.close()
    lists = {
        name: site.sign_survivors(survivors, world.server.commitments) for name, site in world.sites.items()
    }
    for message in lists.values():
        world.server.add_signature(message)
    for name, site in world.sites.items():
        answer = site.answer(lists.values())
        if name == "site00":
            shares = answer.seed_shares | {"site03": "00" * 32}
            answer = replace(answer, seed_shares=shares).sign(world.identities["site00"])
        world.server.add_answer(answer)
    with pytest.raises(MessageRefused, match="site03's seed"):
        story.total(world)


def test_the_coordinator_takes_each_message_once(world) -> None:
    site = world.sites["site01"]
    other = replace(site.advertise(), seed_commitment=b"\1" * 32).sign(world.identities["site01"])
    with pytest.raises(MessageRefused, match="two different messages"):
        world.server.add_advert(other)
    world.server.close()
    late = replace(site.commitment, words=65).sign(world.identities["site01"])
    with pytest.raises(OutOfOrder):
        world.server.add_commitment(late)


def test_a_session_goes_on_after_a_restart_at_every_step() -> None:
    made = story.setting(4)

    def restart() -> None:
        for name, site in made.sites.items():
            made.sites[name] = SiteSession.load(
                site.dump(),
                site=name,
                identity=made.identities[name],
                roster=made.roster,
                context=made.context,
            )

    words = {name: WORDS[name] for name in made.sites}
    for step in (lambda: story.exchange_keys(made), lambda: story.exchange_shares(made),
                 lambda: story.upload(made, words, frozenset()), lambda: story.confirm(made)):  # fmt: skip
        restart()
        step()
        restart()
    assert np.array_equal(story.total(made), sum(words.values()))


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"null", b"[1]", b'{"v":2,"kind":"KeyAdvert"}', b"\xff\xfe", b'{"v":1,"kind":"eval"}'],
)
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    with pytest.raises(MessageRefused):
        wire.decode(data)


def test_messages_travel_unchanged_and_only_in_canonical_form() -> None:
    message = story.setting(3).sites["site00"].advertise()
    assert wire.decode(wire.encode(message)) == message
    with pytest.raises(MessageRefused, match="canonical"):
        wire.decode(wire.encode(message) + b" ")
