"""A recorded transcript: what another implementation must compute from the same inputs, byte for byte.

The masks are computed a second time by hand: HKDF from HMAC (RFC 5869), counter mode from single AES blocks
(NIST SP 800-38A), labels and orders as the specification writes them.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from secagg_story import CONTEXT as SHAPE

from federation.secagg import keys, wire
from federation.secagg.masks import Masker, SignedKey
from federation.secagg.site import SiteSession

RECORDED = Path(__file__).with_name("vectors.json")
NAMES = ["alpha", "beta", "gamma"]
PLAIN = [0, 1000, 2000, 3000, 4000, 5000]
IDENTITIES = {name: Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i, name in enumerate(NAMES, 1)}
ROSTER = {name: key.public_key().public_bytes_raw() for name, key in IDENTITIES.items()}
CONTEXT = replace(SHAPE, roster=wire.roster_digest(ROSTER), words=len(PLAIN))
SECRETS = {
    name: keys.AttemptKeys(bytes([i]) * 32, bytes([i + 16]) * 32, bytes([i + 32]) * 32)
    for i, name in enumerate(NAMES, 1)
}


def transcript() -> dict[str, object]:
    """Everything of an attempt that does not depend on a random nonce or polynomial."""
    sites = {name: SiteSession(name, IDENTITIES[name], ROSTER, CONTEXT, SECRETS[name]) for name in NAMES}
    adverts = [sites[name].advertise() for name in NAMES]
    masked = {}
    for name, site in sites.items():
        site.share(adverts)
        masker = Masker([SignedKey(keys.self_key(site.secrets.seed, site.digest, name), add=True),
                         *site._pair_keys()])  # fmt: skip
        words = np.array(PLAIN, dtype=np.uint32)
        masker.apply(words)
        masked[name] = words.tolist()
    pair = keys.pair_key(bytes([1]) * 32, SECRETS["beta"].mask_public, CONTEXT.digest(), "alpha", "beta")
    return {
        "roster": CONTEXT.roster,
        "context": CONTEXT.digest().hex(),
        "adverts": [wire.encode(advert).decode() for advert in adverts],
        "keys": wire.keys_digest({advert.site: advert for advert in adverts}).hex(),
        "pair_alpha_beta": pair.hex(),
        "masked": masked,
    }


def test_the_transcript_is_the_recorded_one() -> None:
    assert transcript() == json.loads(RECORDED.read_text())


# --- the twin ---------------------------------------------------------------------------------------


def hkdf_by_hand(secret: bytes, purpose: str, *parts: bytes) -> bytes:
    """RFC 5869 with a salt of zeros; one block of output is enough for 32 bytes."""
    info = b"gestaltweb/secagg/1/" + purpose.encode()
    for part in parts:
        info += len(part).to_bytes(4, "big") + part
    extracted = hmac.new(bytes(32), secret, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def stream_by_hand(key: bytes, words: int) -> list[int]:
    """AES of 0, 1, 2, … as 128-bit big-endian numbers, read as little-endian 32-bit words."""
    block = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    data = b"".join(block.update(counter.to_bytes(16, "big")) for counter in range(words // 4 + 1))
    return [int.from_bytes(data[4 * i : 4 * i + 4], "little") for i in range(words)]


def masked_by_hand(name: str, context: bytes) -> list[int]:
    number = NAMES.index(name) + 1
    total = list(PLAIN)
    own = stream_by_hand(hkdf_by_hand(bytes([number + 32]) * 32, "self-mask", context, name.encode()), 6)
    total = [word + mask for word, mask in zip(total, own, strict=True)]
    for other_number, other in enumerate(NAMES, 1):
        if other == name:
            continue
        public = X25519PrivateKey.from_private_bytes(bytes([other_number]) * 32).public_key()
        secret = X25519PrivateKey.from_private_bytes(bytes([number]) * 32).exchange(public)
        low, high = sorted([name.encode(), other.encode()])
        pair = stream_by_hand(hkdf_by_hand(secret, "pair-mask", context, low, high), 6)
        sign = 1 if other > name else -1
        total = [word + sign * mask for word, mask in zip(total, pair, strict=True)]
    return [word % 2**32 for word in total]


@pytest.mark.parametrize("name", NAMES)
def test_the_recorded_masked_inputs_are_those_computed_by_hand(name: str) -> None:
    recorded = json.loads(RECORDED.read_text())
    assert recorded["masked"][name] == masked_by_hand(name, bytes.fromhex(recorded["context"]))


def test_a_context_and_a_key_advert_are_the_bytes_written_by_hand() -> None:
    text = (
        '{"body":{"attempt":1,"base_model":"bb","bits":32,"federation":"f","plan":"cc","purpose":"update",'
        f'"quantiser":"dd","roster":"{CONTEXT.roster}","round":"r1","words":6}},"kind":"context","v":2}}'
    )
    recorded = json.loads(RECORDED.read_text())
    assert hashlib.sha256(text.encode()).hexdigest() == recorded["context"]
    seed = b"gestaltweb/seed/1" + bytes.fromhex(recorded["context"]) + b"alpha\0" + bytes([33]) * 32
    advert = json.loads(recorded["adverts"][0])["body"]
    assert advert["seed_commitment"] == hashlib.sha256(seed).hexdigest()


def test_masks_are_little_endian_words() -> None:
    key, words = bytes(range(32)), np.zeros(5, np.uint32)
    Masker([SignedKey(key, add=True)]).apply(words)
    assert words.tolist() == stream_by_hand(key, 5)
