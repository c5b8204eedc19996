"""What comes from outside: bytes, types, lengths. Whatever is wrong with it, the answer is MessageRefused."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace

import pytest
import secagg_story as story
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.secagg import wire
from federation.secagg.errors import MessageRefused

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["00" * 32, "ab" * 64]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def one_of_each() -> dict[str, wire.Signed]:
    world = story.setting(3, words=4)
    story.exchange_keys(world)
    story.exchange_shares(world)
    story.upload(world, {name: story.np.arange(4, dtype="u4") for name in world.sites}, frozenset())
    story.confirm(world)
    server = world.server
    found = (server.adverts["site00"], server.shares["site00", "site01"], server.commitments["site00"],
             server.signatures["site00"], server.answers["site00"])  # fmt: skip
    return {type(message).__name__: message for message in found}


MESSAGES = one_of_each()


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"null", b"[1]", b'{"v":2,"kind":"KeyAdvert"}', b"\xff\xfe", b'{"v":2,"kind":"eval"}',
     b"[" * 100_000, b'{"v":' * 50_000, b'{"v":2,"kind":[],"body":{}}', b'{"v":2,"kind":"KeyAdvert","body":7}',
     b'"' + b"a" * (1 << 21) + b'"', b"9" * 5000],
)  # fmt: skip
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    with pytest.raises(MessageRefused):
        wire.decode(data)


@pytest.mark.parametrize("kind", sorted(MESSAGES))
def test_messages_travel_unchanged_and_only_in_canonical_form(kind: str) -> None:
    message = MESSAGES[kind]
    data = wire.encode(message)
    assert wire.decode(data) == message
    with pytest.raises(MessageRefused, match="canonical"):
        wire.decode(data + b" ")


@settings(max_examples=200, deadline=None, derandomize=True)
@given(kind=st.sampled_from(sorted(MESSAGES)), value=JSON_VALUES, data=st.data())
def test_any_value_in_any_field_is_the_message_or_refused(
    kind: str, value: object, data: st.DataObject
) -> None:
    outer = json.loads(wire.encode(MESSAGES[kind]))
    key = data.draw(st.sampled_from(sorted(outer["body"])))
    outer["body"][key] = value
    text = json.dumps(outer, sort_keys=True, separators=(",", ":")).encode()
    try:
        message = wire.decode(text)
    except MessageRefused:
        return
    assert wire.encode(message) == text


@settings(max_examples=200, deadline=None, derandomize=True)
@given(kind=st.sampled_from(sorted(MESSAGES)), at=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_any_byte_changed_is_still_only_refused(kind: str, at: int, byte: int) -> None:
    data = bytearray(wire.encode(MESSAGES[kind]))
    data[at % len(data)] = byte
    with contextlib.suppress(MessageRefused):
        assert wire.encode(wire.decode(bytes(data))) == bytes(data)


@pytest.mark.parametrize(
    ("kind", "change"),
    [("KeyAdvert", {"mask_public": b"\1" * 31}), ("KeyAdvert", {"site": "a/b"}), ("KeyAdvert", {"site": "a" * 65}),
     ("KeyAdvert", {"signature": b""}), ("SealedShare", {"sealed": b"\1" * 91}),
     ("MaskedCommitment", {"words": True}), ("MaskedCommitment", {"words": 0}),
     ("MaskedCommitment", {"words": (1 << 32) + 1}), ("MaskedCommitment", {"words": 4.0}),
     ("SurvivorSet", {"survivors": ["b", "a"]}), ("SurvivorSet", {"survivors": ["a", "a"]}),
     ("SurvivorSet", {"survivors": [1]}), ("SurvivorSet", {"survivors": "ab"}),
     ("UnmaskAnswer", {"seed_shares": []}), ("UnmaskAnswer", {"seed_shares": {"a": "zz" * 32}}),
     ("UnmaskAnswer", {"mask_shares": {"a": "00" * 31}}), ("UnmaskAnswer", {"mask_shares": {"a": 7}})],
)  # fmt: skip
def test_a_field_of_another_type_or_length_is_refused(kind: str, change: dict) -> None:
    lie = replace(MESSAGES[kind], **change)
    with pytest.raises(MessageRefused, match="form"):
        wire.decode(wire.encode(lie))
    with pytest.raises(MessageRefused, match="form"):
        wire.check(lie, type(lie), {}, lie.context)


def test_every_entry_takes_its_own_kind_of_message_only() -> None:
    world = story.setting(3, words=4)
    story.exchange_keys(world)
    story.exchange_shares(world)
    site, server = world.sites["site00"], world.server
    wrong = MESSAGES | {"none": None}
    entries = {
        "KeyAdvert": [server.add_advert, lambda m: world.sites["site01"]._accept_adverts([m])],
        "SealedShare": [server.add_share, lambda m: site.receive([m])],
        "MaskedCommitment": [server.add_commitment],
        "SurvivorSet": [server.add_signature],
        "UnmaskAnswer": [server.add_answer],
    }
    for kind, doors in entries.items():
        for name, message in wrong.items():
            for door in doors:
                with pytest.raises(MessageRefused, match=None if name == kind else "was expected"):
                    door(message)


def test_a_site_named_v_cannot_stand_for_the_version() -> None:
    advert = MESSAGES["KeyAdvert"]
    plain = {"site00": advert, "site01": replace(advert, site="site01")}
    assert wire.keys_digest(plain | {"v": advert}) != wire.keys_digest(
        plain | {"v": replace(advert, site="v")}
    )
    assert wire.keys_digest(plain | {"v": advert}) != wire.keys_digest(plain)


@pytest.mark.parametrize("field", ["mask_public", "share_public", "seed_commitment", "site"])
def test_the_key_lists_hash_covers_whole_messages(field: str) -> None:
    """The same signature over another body must not give the same hash."""
    advert = MESSAGES["KeyAdvert"]
    other = replace(advert, **{field: "site09" if field == "site" else bytes(32)})
    assert wire.keys_digest({"site00": advert}) != wire.keys_digest({"site00": other})


def test_an_input_has_at_least_one_word_and_a_known_ring() -> None:
    for change in ({"words": 0}, {"words": True}, {"words": 1 << 33}, {"bits": 16}):
        with pytest.raises(ValueError, match="words"):
            replace(story.CONTEXT, **change)
