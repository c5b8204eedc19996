"""Sessions over time: what is remembered over a crash, what is written anywhere, what the opening checks."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import secagg_story as story
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation.secagg import keys, shamir, wire
from federation.secagg.errors import MessageRefused, OutOfOrder, OutOfRange, TooFew
from federation.secagg.masks import SignedKey, little_endian
from federation.secagg.server import ServerSession, open_sum
from federation.secagg.site import SiteSession

WORDS = {f"site{index:02d}": np.arange(64, dtype=np.uint32) + index for index in range(5)}


def shared(n: int = 5):
    made = story.setting(n)
    story.exchange_keys(made)
    story.exchange_shares(made)
    return made


def from_dump(made, name: str, data: bytes, **changes) -> SiteSession:
    kwargs = {"site": name, "identity": made.identities[name], "roster": made.roster, "context": made.context}
    return SiteSession.load(data, **kwargs | changes)


# --- dumps ------------------------------------------------------------------------------------------


def test_a_dump_is_loaded_for_its_own_site_attempt_and_roster_only() -> None:
    made = shared()
    data = made.sites["site00"].dump()
    assert from_dump(made, "site00", data).dump() == data
    with pytest.raises(MessageRefused, match="belongs to another"):
        from_dump(made, "site00", data, context=replace(made.context, attempt=2))
    with pytest.raises(MessageRefused, match="belongs to another"):
        from_dump(made, "site01", data)
    with pytest.raises(MessageRefused, match="belongs to another"):
        from_dump(made, "site00", data.replace(b'"version": 2', b'"version": 1'))
    fewer = {name: key for name, key in made.roster.items() if name != "site04"}
    context = replace(made.context, roster=wire.roster_digest(fewer))
    with pytest.raises(MessageRefused, match="belongs to another"):
        from_dump(made, "site00", data, roster=fewer, context=context)


def test_a_session_needs_its_own_identity_and_the_roster_of_the_plan() -> None:
    made = story.setting(3)
    stranger = Ed25519PrivateKey.generate()
    with pytest.raises(MessageRefused, match="another key"):
        SiteSession("site00", stranger, made.roster, made.context)
    other = made.roster | {"site02": stranger.public_key().public_bytes_raw()}
    with pytest.raises(MessageRefused, match="another roster"):
        SiteSession("site00", made.identities["site00"], other, made.context)
    with pytest.raises(MessageRefused, match="another roster"):
        ServerSession(other, made.context)


def test_after_a_crash_while_masking_only_the_same_input_is_masked() -> None:
    """Two inputs under one stream: their difference would be plain to see."""
    made = shared()
    site, kept = made.sites["site00"], []
    site.masker(hashlib.sha256(little_endian(WORDS["site00"])).digest(), kept.append)  # and the power fails
    again = from_dump(made, "site00", kept[-1])
    with pytest.raises(OutOfOrder, match="another input"):
        again.mask(WORDS["site01"], kept.append)
    data, commitment = again.mask(WORDS["site00"], kept.append)
    assert commitment.sha256 == hashlib.sha256(data).digest()


def test_no_mask_exists_before_the_dump_is_stored() -> None:
    site = shared().sites["site00"]

    def disk_full(_: bytes) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        site.mask(WORDS["site00"], disk_full)
    assert site.commitment is None
    with pytest.raises(OutOfOrder, match="Nothing was masked"):
        story.setting(3).sites["site00"].commit(bytes(32))


def test_a_site_that_sent_shares_and_lost_its_dump_ends_the_attempt_by_name() -> None:
    """Sent before stored: the second polynomial is another one, and everybody notices."""
    made = story.setting(5)
    story.exchange_keys(made)
    before = made.sites["site00"].dump()
    story.exchange_shares(made)
    again = from_dump(made, "site00", before).share(made.server.close_keys())
    to_one = next(message for message in again if message.receiver == "site01")
    with pytest.raises(MessageRefused, match="site00 sent two different messages"):
        made.server.add_share(to_one)
    with pytest.raises(MessageRefused, match="site00 sent two different shares"):
        made.sites["site01"].receive([to_one])


def test_sharing_is_all_or_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made = story.setting(3)
    story.exchange_keys(made)
    site = made.sites["site00"]
    before = site.dump()
    with monkeypatch.context() as patch:
        patch.setattr(keys, "seal_share", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            site.share(made.server.close_keys())
    assert site.dump() == before
    assert len(site.share(made.server.close_keys())) == 3


# --- what is printed --------------------------------------------------------------------------------


def test_no_secret_stands_in_any_repr() -> None:
    made = shared()
    story.upload(made, WORDS, frozenset())
    story.confirm(made)
    site = made.sites["site00"]
    secrets = [site.secrets.mask_private, site.secrets.share_private, site.secrets.seed, site.masking]
    secrets += [half for share in site.shares.values() for half in (share[:32], share[32:])]
    stream = SignedKey(keys.self_key(site.secrets.seed, site.digest, "site00"), add=True)
    secrets += [stream.key, made.identities["site00"].private_bytes_raw()]
    shown = "".join(map(repr, (site, site.secrets, stream, made.server, site.answered)))
    for secret in secrets:
        assert repr(secret)[2:-1] not in shown and secret.hex() not in shown
    assert "site00" in shown


# --- keys and shares --------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["mask_public", "share_public"])
def test_a_key_nobody_can_agree_with_is_refused_at_once_with_its_sites_name(field: str) -> None:
    made = story.setting(3)
    story.exchange_keys(made)
    good = [site.advertise() for site in made.sites.values()]
    bad = replace(good[2], **{field: bytes(32)}).sign(made.identities["site02"])
    with pytest.raises(MessageRefused, match="key of site02 is not usable"):
        made.sites["site00"].share([*good[:2], bad])
    with pytest.raises(MessageRefused, match="key of site02 is not usable"):
        ServerSession(made.roster, made.context).add_advert(bad)


def test_the_key_list_is_closed_once() -> None:
    made = story.setting(5)
    story.exchange_keys(made, absent=frozenset({"site04"}))
    first = made.server.close_keys()
    with pytest.raises(OutOfOrder, match="closed"):
        made.server.add_advert(made.sites["site04"].advertise())
    made.server.add_advert(made.sites["site00"].advertise())
    assert made.server.close_keys() == first
    empty = ServerSession(made.roster, made.context)
    with pytest.raises(TooFew):
        empty.close_keys()
    assert not empty.keys_closed


def test_a_share_before_the_key_list_is_closed_is_refused() -> None:
    made = story.setting(3)
    story.exchange_keys(made)
    adverts = [site.advertise() for site in made.sites.values()]
    with pytest.raises(OutOfOrder, match="still open"):
        made.server.add_share(made.sites["site00"].share(adverts)[1])


def test_a_site_that_never_deals_its_shares_is_named() -> None:
    made = story.setting(5)
    story.exchange_keys(made)
    adverts = made.server.close_keys()
    for name, site in made.sites.items():
        for message in site.share(adverts):
            if name != "site03":
                made.server.add_share(message)
    assert made.server.late_dealers() == ["site03"]
    made.sites["site00"].receive(made.server.shares_for("site00"))
    with pytest.raises(OutOfOrder, match="Shares of site03 are missing"):
        made.sites["site00"].mask(WORDS["site00"], made.kept.append)


def test_a_share_that_does_not_open_names_its_sender() -> None:
    made = story.setting(3)
    story.exchange_keys(made)
    adverts = made.server.close_keys()
    made.sites["site00"].share(adverts)
    good = made.sites["site01"].share(adverts)[0]
    lie = replace(good, sealed=bytes(92)).sign(made.identities["site01"])
    with pytest.raises(MessageRefused, match="site01 sent cannot be opened"):
        made.sites["site00"].receive([lie])


# --- lengths, rings, hashes -------------------------------------------------------------------------


def test_an_input_of_another_length_or_ring_is_refused_on_both_sides() -> None:
    made = shared()
    for words in (np.zeros(65, np.uint32), np.zeros(64, np.uint64)):
        with pytest.raises(OutOfRange, match="another length or ring"):
            made.sites["site00"].mask(words, made.kept.append)
    story.upload(made, WORDS, frozenset())
    survivors = made.server.close()
    lie = replace(made.server.commitments["site01"], words=63).sign(made.identities["site01"])
    with pytest.raises(MessageRefused, match="input of site01 has another length"):
        made.sites["site00"].sign_survivors(survivors, made.server.commitments | {"site01": lie})
    with pytest.raises(MessageRefused, match="input of site01 has another length"):
        made.server.add_commitment(lie)


def opened(change) -> list[np.ndarray]:
    """What `open_sum` gives before it refuses, where `change` alters the chunks of site01."""
    made = shared()
    story.upload(made, WORDS, frozenset())
    story.confirm(made)
    inputs = {name: [words[:40], words[40:]] for name, words in made.inputs.items()}
    inputs["site01"] = change(inputs["site01"])
    given: list[np.ndarray] = []
    with pytest.raises(MessageRefused):
        for chunk in open_sum(made.server, inputs):
            given.append(chunk)
    return given


def test_the_sum_is_never_complete_over_inputs_that_were_not_committed_to() -> None:
    assert sum(map(len, opened(lambda chunks: [chunks[0], chunks[1] ^ 1]))) == 40
    assert sum(map(len, opened(lambda chunks: chunks[:1]))) <= 40
    assert sum(map(len, opened(lambda chunks: [chunks[0], chunks[1][:-1]]))) <= 40
    assert opened(lambda chunks: [chunk.astype(np.uint64) for chunk in chunks]) == []
    assert opened(lambda chunks: [chunk.reshape(-1, 2) for chunk in chunks]) == []


def test_shares_of_two_dealers_have_different_hashes() -> None:
    share = shamir.split(bytes(32), threshold=2, shares=3)[0]
    base = ("seed", b"c" * 32, "a", "b")
    for other in (("mask", *base[1:]), ("seed", b"d" * 32, "a", "b"), ("seed", base[1], "b", "a")):
        assert keys.share_hash(share, *base) != keys.share_hash(share, *other)
