"""Lies, repeats and mix-ups: each is refused with a sentence, and what was there before stays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import secagg_story as story
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation.secagg import keys, shamir, wire
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


def reloaded(made, name: str, data: bytes | None = None, **changes) -> SiteSession:
    """The site after a restart, from its present dump or an older one."""
    kwargs = {"site": name, "identity": made.identities[changes.get("site", name)], "roster": made.roster,
              "context": made.context}  # fmt: skip
    return SiteSession.load(data or made.sites[name].dump(), **kwargs | changes)


def fresh(n: int = 5):
    made = story.setting(n)
    story.exchange_keys(made)
    return made


def test_a_forged_or_altered_key_is_refused() -> None:
    made = fresh()
    adverts = made.server.close_keys()
    swapped = replace(adverts[1], mask_public=keys.public_of(bytes([7]) * 32))
    stranger = swapped.sign(Ed25519PrivateKey.generate())
    for lie in (swapped, stranger):
        with pytest.raises(MessageRefused):
            made.sites["site00"].share([adverts[0], lie, *adverts[2:]])
        with pytest.raises(MessageRefused):
            made.server.add_advert(lie)
    assert made.sites["site00"].adverts == {}


def test_a_sybil_on_the_key_list_is_refused() -> None:
    made = fresh()
    sybil = story.setting(5).sites["site04"].advertise()
    with pytest.raises(MessageRefused):
        made.sites["site00"].share([*made.server.close_keys()[:4], sybil])
    unknown = replace(made.server.close_keys()[4], site="site99").sign(made.identities["site04"])
    with pytest.raises(MessageRefused, match="roster"):
        made.sites["site00"].share([*made.server.close_keys()[:4], unknown])


@pytest.mark.parametrize(
    "change", [{"attempt": 2}, {"roster": "00"}, {"base_model": "00"}, {"plan": "00"}, {"quantiser": "00"},
               {"round": "r2"}, {"federation": "g"}, {"purpose": "count"}, {"words": 65}, {"bits": 64}],
)  # fmt: skip
def test_messages_of_another_attempt_roster_model_or_plan_are_refused(change: dict) -> None:
    made = fresh()
    context = replace(made.context, **change).digest()
    replayed = [
        replace(site.advertise(), context=context).sign(made.identities[name])
        for name, site in made.sites.items()
    ]
    with pytest.raises(MessageRefused, match="another attempt"):
        made.sites["site00"].share([made.sites["site00"].advertise(), *replayed[1:]])


def test_another_key_list_after_the_first_is_refused(world) -> None:
    adverts = world.server.close_keys()
    site = world.sites["site00"]
    assert site.share(adverts) == site.outgoing
    with pytest.raises(OutOfOrder):
        site.share(adverts[:-1])


def test_a_key_named_twice_is_refused() -> None:
    made = fresh()
    adverts = made.server.close_keys()
    twin = replace(adverts[2], mask_public=adverts[1].mask_public).sign(made.identities["site02"])
    with pytest.raises(MessageRefused, match="twice"):
        made.sites["site00"].share([*adverts[:2], twin, *adverts[3:]])


def test_shares_that_are_altered_or_misdirected_are_refused() -> None:
    made = fresh()
    adverts = made.server.close_keys()
    sent = {name: site.share(adverts) for name, site in made.sites.items()}
    to_zero = next(message for message in sent["site01"] if message.receiver == "site00")
    to_two = next(message for message in sent["site01"] if message.receiver == "site02")
    flipped = replace(to_zero, sealed=to_zero.sealed[:-1] + bytes([to_zero.sealed[-1] ^ 1]))
    for lie in (flipped, to_two, flipped.sign(made.identities["site01"]),
                replace(to_two, receiver="site00").sign(made.identities["site01"])):  # fmt: skip
        with pytest.raises(MessageRefused):
            made.sites["site00"].receive([lie])
    with pytest.raises(OutOfOrder, match="missing"):
        made.sites["site00"].masker(b"\0" * 32, made.kept.append)


def test_nothing_is_masked_twice(world) -> None:
    site = world.sites["site00"]
    with pytest.raises(OutOfOrder, match="stored bytes"):
        site.mask(WORDS["site00"], world.kept.append)
    with pytest.raises(OutOfOrder):
        site.commit(b"\0" * 32)


def signed_sets(world, survivors: list[str]) -> dict[str, wire.SurvivorSet]:
    commitments = {name: world.server.commitments[name] for name in survivors}
    return {name: world.sites[name].sign_survivors(survivors, commitments) for name in survivors}


def test_one_answer_per_attempt_and_never_both_shares(world) -> None:
    lists = signed_sets(world, world.server.close())
    site = world.sites["site00"]
    answer = site.answer(lists.values(), opened_before=())
    assert site.answer(list(lists.values())[:4], opened_before=()) == answer, "same set, same answer"
    assert not set(answer.seed_shares) & set(answer.mask_shares)


def test_a_site_signs_one_survivor_set_per_attempt_over_a_restart_too(world) -> None:
    """Two sets of one attempt, both signed, are two sums: their difference is one hospital."""
    survivors = world.server.close()
    first = signed_sets(world, survivors)
    fewer = survivors[:4]
    commitments = {name: world.server.commitments[name] for name in fewer}
    for site in (world.sites["site00"], reloaded(world, "site00")):
        with pytest.raises(OutOfOrder, match="another survivor set"):
            site.sign_survivors(fewer, commitments)
        assert site.sign_survivors(survivors, world.server.commitments) == first["site00"]


def test_nobody_answers_without_having_signed(world) -> None:
    survivors = world.server.close()
    lists = [world.sites[name].sign_survivors(survivors, world.server.commitments) for name in survivors[1:]]
    with pytest.raises(OutOfOrder, match="not signed"):
        world.sites["site00"].answer(lists, opened_before=())


def test_a_forked_survivor_set_counts_for_nothing(world) -> None:
    survivors = world.server.close()
    whole = [world.sites[name].sign_survivors(survivors, world.server.commitments) for name in survivors[:3]]
    other = replace(whole[0], site="site03", survivors=survivors[:4]).sign(world.identities["site03"])
    with pytest.raises(TooFew):
        world.sites["site00"].answer([*whole, other], opened_before=())
    assert world.sites["site00"].answered is None
    fourth = world.sites["site04"].sign_survivors(survivors, world.server.commitments)
    assert world.sites["site00"].answer([*whole, other, fourth], opened_before=()), "one liar stops nobody"


def test_the_coordinator_refuses_a_signature_under_other_keys_or_commitments(world) -> None:
    survivors = world.server.close()
    good = world.sites["site01"].sign_survivors(survivors, world.server.commitments)
    for change in ({"keys": bytes(32)}, {"commitments": bytes(32)}, {"survivors": survivors[:4]}):
        with pytest.raises(MessageRefused, match="site01 signed"):
            world.server.add_signature(replace(good, **change).sign(world.identities["site01"]))
    world.server.add_signature(good)


def test_a_set_without_this_site_or_with_swapped_commitments_is_refused(world) -> None:
    survivors = world.server.close()
    site = world.sites["site00"]
    others = survivors[1:]
    with pytest.raises(MessageRefused, match="own input"):
        site.sign_survivors(others, {name: world.server.commitments[name] for name in others})
    swapped = world.server.commitments | {"site01": world.server.commitments["site02"]}
    with pytest.raises(MessageRefused):
        site.sign_survivors(survivors, swapped)


def test_a_site_answers_an_equal_set_only(world) -> None:
    survivors = world.server.close()
    lists = list(signed_sets(world, survivors).values())
    site = world.sites["site00"]
    for earlier in (survivors[:4], [*survivors[:4], "site77"]):
        with pytest.raises(OpeningRefused):
            site.answer(lists, opened_before=[frozenset(survivors), frozenset(earlier)])
    assert site.answered is None
    assert site.answer(lists, opened_before=[frozenset(survivors)])


def opening(world) -> dict[str, wire.UnmaskAnswer]:
    lists = signed_sets(world, world.server.close())
    for message in lists.values():
        world.server.add_signature(message)
    return {name: site.answer(lists.values(), opened_before=()) for name, site in world.sites.items()}


def test_a_site_that_answers_with_a_wrong_share_is_named_and_left_out(world) -> None:
    for name, answer in opening(world).items():
        if name == "site00":
            shares = answer.seed_shares | {"site03": "00" * 32}
            answer = replace(answer, seed_shares=shares).sign(world.identities["site00"])
            with pytest.raises(MessageRefused, match="site00 answered with a wrong share of site03"):
                world.server.add_answer(answer)
        else:
            world.server.add_answer(answer)
    assert np.array_equal(story.total(world), sum(WORDS.values())), "four honest answers open the sum"


def test_a_dealer_whose_shares_are_of_another_seed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    made = fresh()
    liar, split = made.sites["site02"], shamir.split
    adverts = made.server.close_keys()
    with monkeypatch.context() as patch:
        patch.setattr(shamir, "split", lambda secret, **more: split(bytes(32), **more))
        liar.share(adverts)
    story.exchange_shares(made)
    story.upload(made, WORDS, frozenset())
    for answer in opening(made).values():
        made.server.add_answer(answer)
    with pytest.raises(MessageRefused, match="site02 dealt"):
        story.total(made)


def test_a_share_other_than_the_committed_one_is_refused_at_once() -> None:
    made = fresh()
    adverts = made.server.close_keys()
    sent = {message.receiver: message for message in made.sites["site01"].share(adverts)}
    made.sites["site00"].share(adverts)
    lie = replace(sent["site00"], mask_share_hash=bytes(32)).sign(made.identities["site01"])
    with pytest.raises(MessageRefused, match="site01 sent is not the one it committed to"):
        made.sites["site00"].receive([lie])
    made.sites["site00"].receive([sent["site00"]])


def test_the_coordinator_takes_each_message_once(world) -> None:
    site = world.sites["site01"]
    other = replace(site.advertise(), seed_commitment=b"\1" * 32).sign(world.identities["site01"])
    with pytest.raises(MessageRefused, match="two different messages"):
        world.server.add_advert(other)
    world.server.close()
    for change in ({"words": 65}, {"sha256": bytes(32)}):
        with pytest.raises(MessageRefused):
            world.server.add_commitment(replace(site.commitment, **change).sign(world.identities["site01"]))
    world.server.add_commitment(site.commitment)


def test_a_session_goes_on_after_a_restart_at_every_step() -> None:
    made = story.setting(4)

    def restart() -> None:
        for name in made.sites:
            made.sites[name] = reloaded(made, name)

    words = {name: WORDS[name] for name in made.sites}
    for step in (lambda: story.exchange_keys(made), lambda: story.exchange_shares(made),
                 lambda: story.upload(made, words, frozenset()), lambda: story.confirm(made)):  # fmt: skip
        restart()
        step()
        restart()
    assert np.array_equal(story.total(made), sum(words.values()))
