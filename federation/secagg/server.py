"""The coordinator's side of one attempt. It can open the sum over the survivors and nothing else.

It holds public keys, sealed shares, commitments and one chunk per site; masked inputs stay where the caller
keeps them and are read chunk by chunk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from federation.secagg import keys as k
from federation.secagg import rules, shamir, wire
from federation.secagg.errors import MessageRefused, OutOfOrder
from federation.secagg.masks import Masker, SignedKey, Words


@dataclass
class ServerSession:
    """`roster`: site → Ed25519 public key of the plan's participants."""

    roster: dict[str, bytes]
    context: wire.Context
    adverts: dict[str, wire.KeyAdvert] = field(default_factory=dict)
    shares: dict[tuple[str, str], wire.SealedShare] = field(default_factory=dict)
    commitments: dict[str, wire.MaskedCommitment] = field(default_factory=dict)
    survivors: list[str] = field(default_factory=list)
    signatures: dict[str, wire.SurvivorSet] = field(default_factory=dict)
    answers: dict[str, wire.UnmaskAnswer] = field(default_factory=dict)

    @property
    def digest(self) -> bytes:
        return self.context.digest()

    def _note(self, store: dict, key: object, message: wire.Signed) -> None:
        """Verify and keep; the same message again is fine, a different one is not."""
        message.verify(self.roster, self.digest)
        if store.setdefault(key, message) != message:
            raise MessageRefused(f"{message.site} sent two different messages for one step.")

    def add_advert(self, advert: wire.KeyAdvert) -> None:
        """Round 0."""
        if self.shares and advert.site not in self.adverts:
            raise OutOfOrder("The key list is closed.")
        self._note(self.adverts, advert.site, advert)

    def key_list(self) -> list[wire.KeyAdvert]:
        """Round 0 is over: all adverts, for every site. TooFew below the threshold."""
        rules.require_enough(self.adverts, len(self.roster))
        return [self.adverts[site] for site in sorted(self.adverts)]

    def add_share(self, message: wire.SealedShare) -> None:
        """Round 1: a share to be relayed; the coordinator cannot open it."""
        if message.receiver not in self.adverts or message.site not in self.adverts:
            raise MessageRefused("A share names a site that is not in the key list.")
        if message.keys != wire.keys_digest(self.adverts):
            raise MessageRefused("A share belongs to another key list.")
        self._note(self.shares, (message.site, message.receiver), message)

    def shares_for(self, receiver: str) -> list[wire.SealedShare]:
        """Round 1 is over: what others sealed for `receiver`."""
        return [message for (_, to), message in sorted(self.shares.items()) if to == receiver]

    def add_commitment(self, message: wire.MaskedCommitment) -> None:
        """Round 2: the hash and length of a masked input whose bytes were checked against them."""
        if message.site not in self.adverts:
            raise MessageRefused("A masked input of a site without keys.")
        if self.survivors:
            raise OutOfOrder("The survivor set is closed; this input came too late.")
        self._note(self.commitments, message.site, message)

    def close(self) -> list[str]:
        """Round 3 begins: the survivors are those whose input is here. Named once."""
        if not self.survivors:
            rules.require_enough(self.commitments, len(self.roster))
            if len({message.words for message in self.commitments.values()}) != 1:
                raise MessageRefused("The masked inputs have different lengths.")
            self.survivors = sorted(self.commitments)
        return self.survivors

    def add_signature(self, message: wire.SurvivorSet) -> None:
        """Round 3: a survivor's signature under the set."""
        if message.survivors != self.survivors or message.site not in self.survivors:
            raise MessageRefused("A signature under another survivor set.")
        self._note(self.signatures, message.site, message)

    def signature_list(self) -> list[wire.SurvivorSet]:
        """Round 3 is over when at least t survivors have signed."""
        rules.require_enough(self.signatures, len(self.roster))
        return [self.signatures[site] for site in sorted(self.signatures)]

    def add_answer(self, message: wire.UnmaskAnswer) -> None:
        """Round 4: shares of seeds of all survivors and of mask keys of all dropped sites, never both."""
        dropped = sorted(set(self.adverts) - set(self.survivors))
        if message.site not in self.survivors:
            raise MessageRefused("An answer of a site that did not survive.")
        if sorted(message.seed_shares) != self.survivors or sorted(message.mask_shares) != dropped:
            raise MessageRefused("An answer does not name exactly the survivors and the dropped sites.")
        self._note(self.answers, message.site, message)

    # --- opening ----------------------------------------------------------------------------------------

    def unmasker(self) -> Masker:
        """What takes the remaining masks off the sum of the survivors' inputs.

        Every reconstructed secret is checked: seeds against commitments, mask keys against public keys.
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
            raise MessageRefused(f"The shares of {site}'s seed do not fit its commitment.")
        return seed

    def _mask_private(self, site: str) -> bytes:
        private = self._combine(site, "mask_shares")
        if k.public_of(private) != self.adverts[site].mask_public:
            raise MessageRefused(f"The shares of {site}'s mask key do not fit its public key.")
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

    inputs: survivor → its masked words in chunks of equal lengths, in order. Holds one chunk per site.
    """
    if sorted(inputs) != session.survivors:
        raise OutOfOrder("The inputs are not exactly the survivors'.")
    masker = session.unmasker()
    for chunks in zip(*inputs.values(), strict=True):
        total = chunks[0].copy()
        for chunk in chunks[1:]:
            np.add(total, chunk, out=total)
        masker.apply(total)
        yield total
