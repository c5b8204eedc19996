"""One whole secure sum in memory, by the sessions that hospitals and coordinator really run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation.secagg import wire
from federation.secagg.masks import Words
from federation.secagg.server import ServerSession, open_sum
from federation.secagg.site import SiteSession

FEDERATION = "experiment"
CHUNK_WORDS = 1 << 16


@dataclass
class MemoryFederation:
    """Sites with identities of their own, and what each remembers of the sets that it opened.

    sums, words: how many secure sums were opened so far, and of how many words altogether.
    """

    identities: dict[str, Ed25519PrivateKey]
    opened: dict[tuple[str, str], list[frozenset[str]]] = field(default_factory=dict)
    sums: int = 0
    words: int = 0

    @classmethod
    def of(cls, sites: Sequence[str]) -> MemoryFederation:
        """Fresh identities for these sites, at least three."""
        return cls({site: Ed25519PrivateKey.generate() for site in sorted(sites)})

    @property
    def roster(self) -> dict[str, bytes]:
        """Site → Ed25519 public key."""
        return {site: key.public_key().public_bytes_raw() for site, key in self.identities.items()}

    def secure_sum(self, inputs: Mapping[str, Words], *, purpose: str, base_model: str, plan: str) -> Words:
        """One attempt from keys to the opened sum of the sites in `inputs`; all others drop after sharing.

        inputs: site → (k,) uint32 or uint64. base_model, plan: hex sha256. Refuses as the protocol does.
        """
        context = self._context(next(iter(inputs.values())), purpose, base_model, plan)
        roster = self.roster
        sites = {name: SiteSession(name, key, roster, context) for name, key in self.identities.items()}
        server = ServerSession(roster, context)
        exchange_keys(server, sites)
        masked = upload(server, sites, inputs)
        memory = self.opened.setdefault((base_model, purpose), [])
        confirm(server, sites, memory)
        memory.append(frozenset(server.survivors))
        self.sums, self.words = self.sums + 1, self.words + context.words
        chunks = {name: pieces(masked[name]) for name in server.survivors}
        return np.concatenate(list(open_sum(server, chunks)))

    def _context(self, first: Words, purpose: str, base_model: str, plan: str) -> wire.Context:
        quantiser = hashlib.sha256(f"{purpose}/{first.dtype}".encode()).hexdigest()
        return wire.Context(
            federation=FEDERATION, round=plan, attempt=1, purpose=purpose,
            roster=wire.roster_digest(self.roster), base_model=base_model, plan=plan, quantiser=quantiser,
            words=len(first), bits=8 * first.dtype.itemsize,
        )  # fmt: skip


def exchange_keys(server: ServerSession, sites: Mapping[str, SiteSession]) -> None:
    """Rounds 0 and 1: keys, then sealed shares, over the coordinator."""
    for site in sites.values():
        server.add_advert(site.advertise())
    key_list = server.close_keys()
    for site in sites.values():
        for message in site.share(key_list):
            server.add_share(message)
    for name, site in sites.items():
        site.receive(server.shares_for(name))


def upload(
    server: ServerSession, sites: Mapping[str, SiteSession], inputs: Mapping[str, Words]
) -> dict[str, Words]:
    """Round 2: the masked words of every site that did not drop."""
    masked: dict[str, Words] = {}
    for name, words in inputs.items():
        # In memory nothing outlives a crash, so there is nothing to store durably.
        data, commitment = sites[name].mask(words, lambda _: None)
        server.add_commitment(commitment)
        sent = np.frombuffer(data, dtype=words.dtype.newbyteorder("<"))
        masked[name] = cast(Words, sent.astype(words.dtype))
    return masked


def confirm(
    server: ServerSession, sites: Mapping[str, SiteSession], opened_before: Sequence[frozenset[str]]
) -> None:
    """Rounds 3 and 4: survivors sign the set, then answer with their shares."""
    survivors = server.close()
    for name in survivors:
        server.add_signature(sites[name].sign_survivors(survivors, server.commitments))
    signatures = server.signature_list()
    for name in survivors:
        server.add_answer(sites[name].answer(signatures, opened_before=tuple(opened_before)))


def pieces(words: Words) -> list[Words]:
    """The words as they would travel: in chunks."""
    return [words[start : start + CHUNK_WORDS] for start in range(0, len(words), CHUNK_WORDS)]
