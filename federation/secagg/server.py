"""The coordinator's side of one attempt. It can open the sum over the survivors and nothing else.

It holds public keys, sealed shares, commitments and one chunk per site; masked inputs stay where the caller
keeps them and are read chunk by chunk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from federation.secagg import keys as k
from federation.secagg import rules, shamir, wire
from federation.secagg.errors import MessageRefused, OutOfOrder
from federation.secagg.masks import Masker, SignedKey, Words, update_sha256
from federation.secagg.site import require_advert


@dataclass
class ServerSession:
    """`roster`: site → Ed25519 public key of the plan's participants."""

    roster: dict[str, bytes]
    context: wire.Context
    adverts: dict[str, wire.KeyAdvert] = field(default_factory=dict)
    keys_closed: bool = False
    shares: dict[tuple[str, str], wire.SealedShare] = field(default_factory=dict)
    commitments: dict[str, wire.MaskedCommitment] = field(default_factory=dict)
    survivors: list[str] = field(default_factory=list)
    signatures: dict[str, wire.SurvivorSet] = field(default_factory=dict)
    answers: dict[str, wire.UnmaskAnswer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wire.require_roster(self.roster, self.context)

    @property
    def digest(self) -> bytes:
        return self.context.digest()

    def _check(self, message: wire.MessageT, kind: type[wire.MessageT]) -> None:
        wire.check(message, kind, self.roster, self.digest)

    @staticmethod
    def _note(store: dict, key: object, message: wire.Signed) -> None:
        """Keep; the same message again is fine, a different one is not."""
        if store.setdefault(key, message) != message:
            raise MessageRefused(f"{message.site} sent two different messages for one step.")

    def add_advert(self, advert: wire.KeyAdvert) -> None:
        """Round 0."""
        require_advert(advert, self.roster, self.digest)
        if self.keys_closed and advert.site not in self.adverts:
            raise OutOfOrder("The key list is closed.")
        self._note(self.adverts, advert.site, advert)

    def close_keys(self) -> list[wire.KeyAdvert]:
        """End round 0, once: the list for every site, the same at every call. TooFew below the threshold."""
        rules.require_enough(self.adverts, len(self.roster))
        self.keys_closed = True
        return [self.adverts[site] for site in sorted(self.adverts)]

    def add_share(self, message: wire.SealedShare) -> None:
        """Round 1: a share to be relayed; the coordinator cannot open it."""
        self._check(message, wire.SealedShare)
        if not self.keys_closed:
            raise OutOfOrder("The key list is still open.")
        if message.receiver not in self.adverts or message.site not in self.adverts:
            raise MessageRefused("A share names a site that is not in the key list.")
        if message.keys != wire.keys_digest(self.adverts):
            raise MessageRefused(f"A share of {message.site} belongs to another key list.")
        self._note(self.shares, (message.site, message.receiver), message)

    def late_dealers(self) -> list[str]:
        """Sites that advertised and have not dealt all shares: without them nobody can mask.

        The attempt ends by name; the next plan leaves them out.
        """
        wanted = {(dealer, receiver) for dealer in self.adverts for receiver in self.adverts}
        return sorted({dealer for dealer, _ in wanted - set(self.shares)})

    def shares_for(self, receiver: str) -> list[wire.SealedShare]:
        """Round 1 is over: what others sealed for `receiver`."""
        return [message for (_, to), message in sorted(self.shares.items()) if to == receiver]

    def add_commitment(self, message: wire.MaskedCommitment) -> None:
        """Round 2: the hash and length of a masked input whose bytes were checked against them."""
        self._check(message, wire.MaskedCommitment)
        if message.site not in self.adverts:
            raise MessageRefused(f"A masked input of {message.site}, which sent no keys.")
        if message.words != self.context.words:
            raise MessageRefused(f"The input of {message.site} has another length than the plan's.")
        if self.survivors and message.site not in self.survivors:
            raise OutOfOrder("The survivor set is closed; this input came too late.")
        self._note(self.commitments, message.site, message)

    def close(self) -> list[str]:
        """Round 3 begins: the survivors are those whose input is here. Named once."""
        if not self.survivors:
            rules.require_enough(self.commitments, len(self.roster))
            self.survivors = sorted(self.commitments)
        return self.survivors

    def add_signature(self, message: wire.SurvivorSet) -> None:
        """Round 3: a survivor's signature under the set."""
        self._check(message, wire.SurvivorSet)
        if message.survivors != self.survivors or message.site not in self.survivors:
            raise MessageRefused(f"{message.site} signed another survivor set.")
        seen = (wire.keys_digest(self.adverts), wire.commitments_digest(self.commitments))
        if (message.keys, message.commitments) != seen:
            raise MessageRefused(f"{message.site} signed another key list or other commitments.")
        self._note(self.signatures, message.site, message)

    def signature_list(self) -> list[wire.SurvivorSet]:
        """Round 3 is over when at least t survivors have signed."""
        rules.require_enough(self.signatures, len(self.roster))
        return [self.signatures[site] for site in sorted(self.signatures)]

    def add_answer(self, message: wire.UnmaskAnswer) -> None:
        """Round 4: shares of seeds of all survivors and of mask keys of all dropped sites, never both."""
        self._check(message, wire.UnmaskAnswer)
        dropped = sorted(set(self.adverts) - set(self.survivors))
        if message.site not in self.survivors:
            raise MessageRefused(f"An answer of {message.site}, which did not survive.")
        if sorted(message.seed_shares) != self.survivors or sorted(message.mask_shares) != dropped:
            raise MessageRefused(f"The answer of {message.site} does not name exactly survivors and dropped.")
        self._check_shares(message)
        self._note(self.answers, message.site, message)

    def _check_shares(self, message: wire.UnmaskAnswer) -> None:
        """MessageRefused, with the liar's name, unless each share is the one its dealer committed to."""
        for kind, answered in (("seed", message.seed_shares), ("mask", message.mask_shares)):
            for dealer, share in answered.items():
                dealt = self.shares.get((dealer, message.site))
                made = k.share_hash(bytes.fromhex(share), kind, self.digest, dealer, message.site)
                if dealt is None or getattr(dealt, f"{kind}_share_hash") != made:
                    raise MessageRefused(f"{message.site} answered with a wrong share of {dealer}'s secret.")

    # --- opening ----------------------------------------------------------------------------------------

    def unmasker(self) -> Masker:
        """What takes the remaining masks off the sum of the survivors' inputs.

        Every reconstructed secret is checked: seeds against commitments, mask keys against public keys.
        Every share is one that its dealer committed to, so a secret that does not fit is the dealer's fault.
        """
        rules.require_enough(self.answers, len(self.roster))
        seeds = {site: self._seed(site) for site in self.survivors}
        own = [SignedKey(k.self_key(seed, self.digest, site), add=False) for site, seed in seeds.items()]
        return Masker([*own, *self._left_over_pairs()])

    def _left_over_pairs(self) -> Iterator[SignedKey]:
        """Pairwise masks between a survivor and a dropped site cancel with nothing; take them off."""
        for gone in sorted(set(self.adverts) - set(self.survivors)):
            private = self._mask_private(gone)
            for site in self.survivors:
                public = self.adverts[site].mask_public
                yield SignedKey(k.pair_key(private, public, self.digest, gone, site), add=not gone > site)

    def _seed(self, site: str) -> bytes:
        seed = self._combine(site, "seed_shares")
        if k.commitment(seed, self.digest, site) != self.adverts[site].seed_commitment:
            raise MessageRefused(f"{site} dealt shares that are not of the seed it committed to.")
        return seed

    def _mask_private(self, site: str) -> bytes:
        private = self._combine(site, "mask_shares")
        if k.public_of(private) != self.adverts[site].mask_public:
            raise MessageRefused(f"{site} dealt shares that are not of its mask key.")
        return private

    def _combine(self, site: str, kind: str) -> bytes:
        index = {name: number for number, name in enumerate(sorted(self.adverts), start=1)}
        needed = rules.threshold(len(self.roster))
        givers = sorted(self.answers)[:needed]
        return shamir.combine(
            {index[giver]: bytes.fromhex(getattr(self.answers[giver], kind)[site]) for giver in givers}
        )


def open_sum(session: ServerSession, inputs: Mapping[str, Iterable[Words]]) -> Iterator[Words]:
    """The plain sum over the survivors, chunk by chunk.

    inputs: survivor → its masked words in chunks of equal lengths, in order. Holds one chunk per site. The
    last chunk is given only when every input had the plan's length and the hash its site committed to.
    """
    if sorted(inputs) != session.survivors:
        raise OutOfOrder("The inputs are not exactly the survivors'.")
    readers = {site: _Reader(site, session) for site in session.survivors}
    masker, held = session.unmasker(), None
    sources = (readers[site].read(chunks) for site, chunks in inputs.items())
    for chunks in _in_step(sources):
        if held is not None:
            yield held
        held = _add(chunks)
        masker.apply(held)
    for reader in readers.values():
        reader.finish()
    if held is not None:
        yield held


def _in_step(sources: Iterable[Iterator[Words]]) -> Iterator[tuple[Words, ...]]:
    try:
        yield from zip(*sources, strict=True)
    except ValueError as error:
        raise MessageRefused("The masked inputs do not end together; fetch them again.") from error


def _add(chunks: Sequence[Words]) -> Words:
    if len({len(chunk) for chunk in chunks}) != 1:
        raise MessageRefused("The chunks of the masked inputs have different lengths.")
    total = chunks[0].copy()
    for chunk in chunks[1:]:
        np.add(total, chunk, out=total)
    return total


class _Reader:
    """Reads one survivor's masked input and checks it against the site's commitment on the way."""

    def __init__(self, site: str, session: ServerSession) -> None:
        self._site, self._sha256, self._words = site, hashlib.sha256(), 0
        self._commitment, self._dtype = session.commitments[site], np.dtype(f"u{session.context.bits // 8}")

    def read(self, chunks: Iterable[Words]) -> Iterator[Words]:
        for chunk in chunks:
            if chunk.dtype != self._dtype or chunk.ndim != 1:
                raise MessageRefused(f"The masked input of {self._site} is not of the plan's ring.")
            update_sha256(self._sha256, chunk)
            self._words += len(chunk)
            yield chunk

    def finish(self) -> None:
        if (self._words, self._sha256.digest()) != (self._commitment.words, self._commitment.sha256):
            raise MessageRefused(f"The masked input of {self._site} is not the one it committed to.")
