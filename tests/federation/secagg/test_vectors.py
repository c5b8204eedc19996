"""A recorded transcript: what another implementation must compute from the same inputs, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from secagg_story import CONTEXT

from federation.secagg import keys, wire
from federation.secagg.masks import Masker, SignedKey
from federation.secagg.site import SiteSession

RECORDED = Path(__file__).with_name("vectors.json")


def transcript() -> dict[str, object]:
    """Everything of an attempt that does not depend on a random nonce or polynomial."""
    names = ["alpha", "beta", "gamma"]
    identities = {
        name: Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i, name in enumerate(names, 1)
    }
    roster = {name: key.public_key().public_bytes_raw() for name, key in identities.items()}
    secrets = {
        name: keys.AttemptKeys(bytes([i]) * 32, bytes([i + 16]) * 32, bytes([i + 32]) * 32)
        for i, name in enumerate(names, 1)
    }
    sites = {name: SiteSession(name, identities[name], roster, CONTEXT, secrets[name]) for name in names}
    adverts = [sites[name].advertise() for name in names]
    for site in sites.values():
        site.share(adverts)
        masker = Masker([SignedKey(keys.self_key(site.secrets.seed, site.digest, site.site), add=True),
                         *site._pair_keys()])  # fmt: skip
        site.masked = np.arange(6, dtype=np.uint32) * 1000  # type: ignore[attr-defined]
        masker.apply(site.masked)  # type: ignore[attr-defined]
    pair = keys.pair_key(bytes([1]) * 32, secrets["beta"].mask_public, CONTEXT.digest(), "alpha", "beta")
    return {
        "context": CONTEXT.digest().hex(),
        "adverts": [wire.encode(advert).decode() for advert in adverts],
        "keys": wire.keys_digest({advert.site: advert for advert in adverts}).hex(),
        "pair_alpha_beta": pair.hex(),
        "masked": {name: site.masked.tolist() for name, site in sites.items()},  # type: ignore[attr-defined]
    }


def test_the_transcript_is_the_recorded_one() -> None:
    assert transcript() == json.loads(RECORDED.read_text())


def test_the_recorded_masks_cancel_but_for_the_self_masks() -> None:
    recorded = json.loads(RECORDED.read_text())["masked"]
    total = sum(np.array(words, dtype=np.uint32) for words in recorded.values())
    self_masks = [
        SignedKey(keys.self_key(bytes([i + 32]) * 32, CONTEXT.digest(), name), add=False)
        for i, name in enumerate(["alpha", "beta", "gamma"], 1)
    ]
    Masker(self_masks).apply(total)
    assert total.tolist() == [3000 * k for k in range(6)]
