"""A whole attempt in memory, for the tests: who drops when, and what comes out."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation.secagg import wire
from federation.secagg.server import ServerSession, open_sum
from federation.secagg.site import SiteSession

CONTEXT = wire.Context(
    federation="f", round="r1", attempt=1, purpose="update", roster="aa", base_model="bb", plan="cc",
    quantiser="dd", words=64, bits=32,
)  # fmt: skip


def setting(n: int, **changes: Any) -> SimpleNamespace:
    """n sites with identities, sessions and a coordinator, before round 0."""
    identities = {f"site{index:02d}": Ed25519PrivateKey.generate() for index in range(n)}
    roster = {name: key.public_key().public_bytes_raw() for name, key in identities.items()}
    context = replace(CONTEXT, **{"roster": wire.roster_digest(roster)} | changes)
    sites = {name: SiteSession(name, identities[name], roster, context) for name in identities}
    return SimpleNamespace(
        sites=sites, roster=roster, identities=identities, context=context, inputs={}, kept=[],
        server=ServerSession(roster, context),
    )  # fmt: skip


def exchange_keys(world: SimpleNamespace, absent: frozenset[str] = frozenset()) -> None:
    for name, site in world.sites.items():
        if name not in absent:
            world.server.add_advert(site.advertise())


def exchange_shares(world: SimpleNamespace) -> None:
    key_list = world.server.close_keys()
    present = [advert.site for advert in key_list]
    for name in present:
        for message in world.sites[name].share(key_list):
            world.server.add_share(message)
    for name in present:
        world.sites[name].receive(world.server.shares_for(name))


def upload(world: SimpleNamespace, words: dict[str, np.ndarray], dropped: frozenset[str]) -> None:
    for name in world.server.adverts:
        if name not in dropped:
            data, commitment = world.sites[name].mask(words[name], world.kept.append)
            world.inputs[name] = np.frombuffer(data, dtype=words[name].dtype)
            world.server.add_commitment(commitment)


def confirm(world: SimpleNamespace, silent: frozenset[str] = frozenset()) -> None:
    survivors = world.server.close()
    for name in survivors:
        if name not in silent:
            world.server.add_signature(world.sites[name].sign_survivors(survivors, world.server.commitments))
    signatures = world.server.signature_list()
    for name in survivors:
        if name not in silent:
            world.server.add_answer(world.sites[name].answer(signatures, opened_before=()))


def total(world: SimpleNamespace, chunk: int = 1000) -> np.ndarray:
    def pieces(words: np.ndarray) -> list[np.ndarray]:
        return [words[start : start + chunk] for start in range(0, len(words), chunk)]

    inputs = {name: pieces(world.inputs[name]) for name in world.server.survivors}
    return np.concatenate(list(open_sum(world.server, inputs)))


def play(
    n: int, words: dict[str, np.ndarray], *, no_keys: frozenset[str] = frozenset(),
    dropped: frozenset[str] = frozenset(), silent: frozenset[str] = frozenset(), **changes: Any,
) -> tuple[np.ndarray, SimpleNamespace]:  # fmt: skip
    """The opened sum. no_keys: never came; dropped: after sharing; silent: after uploading."""
    first = words["site00"]
    world = setting(n, words=len(first), bits=first.dtype.itemsize * 8, **changes)
    exchange_keys(world, no_keys)
    exchange_shares(world)
    upload(world, words, dropped)
    confirm(world, silent)
    return total(world), world
