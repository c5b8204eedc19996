"""One hospital's side of one attempt, as a small state machine: messages in, messages out.

Order: advertise → share → mask → survivors → answer. Each step may be repeated with the same input and gives
the same output; with another input it is refused. `dump` and `load` carry a session over a restart; what
they hold is secret and belongs in the vault, outside backups.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation.secagg import keys as k
from federation.secagg import rules, shamir, wire
from federation.secagg.errors import MessageRefused, OutOfOrder
from federation.secagg.masks import Masker, SignedKey, Words

Adverts = dict[str, wire.KeyAdvert]


def share_binding(keys: bytes, context: bytes, sender: str, receiver: str) -> bytes:
    """Associated data of a sealed share: sender, receiver, attempt and key list."""
    return k.derive(context, "share-binding", keys, sender.encode(), receiver.encode())


@dataclass
class SiteSession:
    """`roster`: site → Ed25519 public key of the plan's participants, all confirmed by this site."""

    site: str
    identity: Ed25519PrivateKey
    roster: dict[str, bytes]
    context: wire.Context
    secrets: k.AttemptKeys = field(default_factory=k.AttemptKeys.draw)
    adverts: Adverts = field(default_factory=dict)
    outgoing: list[wire.SealedShare] = field(default_factory=list)
    shares: dict[str, bytes] = field(default_factory=dict)
    commitment: wire.MaskedCommitment | None = None
    answered: wire.UnmaskAnswer | None = None
    answered_set: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.site not in self.roster:
            raise MessageRefused("This site is not on the roster of the plan it signed.")
        rules.require_enough(self.roster, len(self.roster))

    @property
    def digest(self) -> bytes:
        """(32,) bytes: the attempt."""
        return self.context.digest()

    # --- round 0: keys ----------------------------------------------------------------------------------

    def advertise(self) -> wire.KeyAdvert:
        """This site's public keys and seed commitment, signed."""
        return wire.KeyAdvert(
            site=self.site, context=self.digest, signature=b"", mask_public=self.secrets.mask_public,
            share_public=self.secrets.share_public,
            seed_commitment=k.commitment(self.secrets.seed, self.digest, self.site),
        ).sign(self.identity)  # fmt: skip

    # --- round 1: shares --------------------------------------------------------------------------------

    def share(self, adverts: Iterable[wire.KeyAdvert]) -> list[wire.SealedShare]:
        """Check everybody's keys, then seal one share of seed and mask key for each site but this one."""
        accepted = self._accept_adverts(list(adverts))
        if self.adverts:
            if accepted != self.adverts:
                raise OutOfOrder("This attempt has a key list already; another one is not accepted.")
            return self.outgoing
        self.adverts = accepted
        self.outgoing = self._make_shares()
        return self.outgoing

    def _accept_adverts(self, adverts: list[wire.KeyAdvert]) -> Adverts:
        for advert in adverts:
            advert.verify(self.roster, self.digest)
        found = {advert.site: advert for advert in adverts}
        publics = [key for advert in adverts for key in (advert.mask_public, advert.share_public)]
        if len(found) != len(adverts) or len(set(publics)) != len(publics):
            raise MessageRefused("The key list names a site or a key twice.")
        if found.get(self.site) != self.advertise():
            raise MessageRefused("The key list does not hold this site's own keys.")
        rules.require_enough(found, len(self.roster))
        return {site: found[site] for site in sorted(found)}

    def _make_shares(self) -> list[wire.SealedShare]:
        n, t = len(self.adverts), rules.threshold(len(self.roster))
        seeds = shamir.split(self.secrets.seed, threshold=t, shares=n)
        masks = shamir.split(self.secrets.mask_private, threshold=t, shares=n)
        sealed = []
        for receiver, seed, mask in zip(self.adverts, seeds, masks, strict=True):
            if receiver == self.site:
                self.shares[receiver] = seed + mask
            else:
                sealed.append(self._seal(receiver, seed + mask))
        return sealed

    def _seal(self, receiver: str, plain: bytes) -> wire.SealedShare:
        keys = wire.keys_digest(self.adverts)
        binding = share_binding(keys, self.digest, self.site, receiver)
        return wire.SealedShare(
            site=self.site, context=self.digest, signature=b"", receiver=receiver, keys=keys,
            sealed=k.seal_share(self._share_key(self.site, receiver), plain, binding),
        ).sign(self.identity)  # fmt: skip

    def _share_key(self, sender: str, receiver: str) -> bytes:
        """One key per direction, so that a share cannot be sent back to its sender as if new."""
        other = receiver if sender == self.site else sender
        secret = k.agree(self.secrets.share_private, self.adverts[other].share_public)
        return k.derive(secret, "share", self.digest, sender.encode(), receiver.encode())

    def receive(self, shares: Iterable[wire.SealedShare]) -> None:
        """Open the shares that others sealed for this site. A site without all of them cannot mask."""
        keys = wire.keys_digest(self._require_keys())
        for message in shares:
            message.verify({site: self.roster[site] for site in self.adverts}, self.digest)
            if message.receiver != self.site or message.keys != keys or message.site == self.site:
                raise MessageRefused("A share is for another site or another key list.")
            binding = share_binding(keys, self.digest, message.site, self.site)
            plain = k.open_share(self._share_key(message.site, self.site), message.sealed, binding)
            if self.shares.setdefault(message.site, plain) != plain:
                raise MessageRefused(f"{message.site} sent two different shares.")

    # --- round 2: masked input --------------------------------------------------------------------------

    def masker(self) -> Masker:
        """The masks of this site, to be applied once to its words from front to back."""
        if self.commitment is not None:
            raise OutOfOrder("This attempt's input was masked already; send the stored bytes again.")
        if set(self.shares) != set(self._require_keys()):
            raise OutOfOrder("Shares of some sites are missing.")
        return Masker([SignedKey(k.self_key(self.secrets.seed, self.digest, self.site), add=True),
                       *self._pair_keys()])  # fmt: skip

    def _pair_keys(self) -> Iterator[SignedKey]:
        for other, advert in self.adverts.items():
            if other != self.site:
                key = k.pair_key(self.secrets.mask_private, advert.mask_public, self.digest, self.site, other)
                yield SignedKey(key, add=other > self.site)

    def commit(self, sha256: bytes, words: int) -> wire.MaskedCommitment:
        """Note what was masked. Must be durable before the first byte is sent."""
        made = wire.MaskedCommitment(
            site=self.site, context=self.digest, signature=b"", sha256=sha256, words=words
        ).sign(self.identity)
        if self.commitment not in (None, made):
            raise OutOfOrder("This attempt's input was masked already, with other bytes.")
        self.commitment = made
        return made

    def mask(self, words: Words) -> tuple[bytes, wire.MaskedCommitment]:
        """Mask a whole input at once: (little-endian bytes, commitment)."""
        masked = words.copy()
        self.masker().apply(masked)
        data = masked.astype(masked.dtype.newbyteorder("<"), copy=False).tobytes()
        return data, self.commit(hashlib.sha256(data).digest(), len(words))

    # --- round 3 and 4: survivors, answer ---------------------------------------------------------------

    def sign_survivors(
        self, survivors: list[str], commitments: dict[str, wire.MaskedCommitment]
    ) -> wire.SurvivorSet:
        """Sign the set that the coordinator names, after checking all commitments."""
        self._check_survivors(survivors, commitments)
        return wire.SurvivorSet(
            site=self.site, context=self.digest, signature=b"", survivors=sorted(survivors),
            keys=wire.keys_digest(self.adverts), commitments=wire.commitments_digest(commitments),
        ).sign(self.identity)  # fmt: skip

    def _check_survivors(self, survivors: list[str], commitments: dict[str, wire.MaskedCommitment]) -> None:
        if set(commitments) != set(survivors) or len(set(survivors)) != len(survivors):
            raise MessageRefused("The survivor set and the commitments do not fit each other.")
        if not set(survivors) <= set(self._require_keys()):
            raise MessageRefused("A survivor never sent keys.")
        if self.commitment is None or commitments.get(self.site) != self.commitment:
            raise MessageRefused("The survivor set does not hold this site's own input.")
        for site, message in commitments.items():
            message.verify({site: self.roster[site]}, self.digest)
        rules.require_enough(survivors, len(self.roster))

    def answer(
        self,
        signatures: Iterable[wire.SurvivorSet],
        *,
        opened_before: Iterable[frozenset[str]] = (),
    ) -> wire.UnmaskAnswer:
        """Give the shares that open the sum of one survivor set: once per attempt, for one set only.

        `opened_before`: the sets this site has answered for the same base model in other attempts.
        """
        survivors = self._agreed_set(list(signatures))
        if self.answered is not None:
            if survivors != self.answered_set:
                raise OutOfOrder("This attempt was answered for another survivor set.")
            return self.answered
        rules.require_openable(opened_before, frozenset(survivors), len(self.roster))
        self.answered_set, self.answered = survivors, self._answer(survivors)
        return self.answered

    def _agreed_set(self, signatures: list[wire.SurvivorSet]) -> list[str]:
        own = next((message for message in signatures if message.site == self.site), None)
        if own is None:
            raise MessageRefused("This site has not signed that survivor set.")
        same = ("survivors", "keys", "commitments")
        for message in signatures:
            message.verify({site: self.roster[site] for site in own.survivors}, self.digest)
            if any(getattr(message, name) != getattr(own, name) for name in same):
                raise MessageRefused("The survivors signed different sets; somebody is lying.")
        rules.require_enough({message.site for message in signatures}, len(self.roster))
        return own.survivors

    def _answer(self, survivors: list[str]) -> wire.UnmaskAnswer:
        half = k.KEY_BYTES
        alive, dropped = set(survivors), set(self.adverts) - set(survivors)
        return wire.UnmaskAnswer(
            site=self.site, context=self.digest, signature=b"",
            seed_shares={site: self.shares[site][:half].hex() for site in sorted(alive)},
            mask_shares={site: self.shares[site][half:].hex() for site in sorted(dropped)},
        ).sign(self.identity)  # fmt: skip

    def _require_keys(self) -> Adverts:
        if not self.adverts:
            raise OutOfOrder("The key list of this attempt is not known yet.")
        return self.adverts

    # --- over a restart ---------------------------------------------------------------------------------

    def dump(self) -> bytes:
        """Everything but identity and roster, as JSON bytes. Secret: seal it, keep it out of backups."""
        secrets = self.secrets
        body: dict[str, Any] = {
            "secrets": [part.hex() for part in (secrets.mask_private, secrets.share_private, secrets.seed)],
            "adverts": [wire.encode(advert).decode() for advert in self.adverts.values()],
            "outgoing": [wire.encode(message).decode() for message in self.outgoing],
            "shares": {site: share.hex() for site, share in self.shares.items()},
            "commitment": wire.encode(self.commitment).decode() if self.commitment else None,
            "answered": wire.encode(self.answered).decode() if self.answered else None,
            "answered_set": self.answered_set,
        }
        return json.dumps(body).encode()

    @classmethod
    def load(
        cls, data: bytes, *, site: str, identity: Ed25519PrivateKey, roster: dict[str, bytes],
        context: wire.Context,
    ) -> SiteSession:  # fmt: skip
        """The session that `dump` wrote."""
        body = json.loads(data)
        session = cls(site, identity, roster, context,
                      k.AttemptKeys(*(bytes.fromhex(part) for part in body["secrets"])))  # fmt: skip
        read: Any = lambda text: wire.decode(text.encode())  # noqa: E731  one word for many lines
        session.adverts = {advert.site: advert for advert in map(read, body["adverts"])}
        session.outgoing = [read(text) for text in body["outgoing"]]
        session.shares = {name: bytes.fromhex(share) for name, share in body["shares"].items()}
        session.commitment = read(body["commitment"]) if body["commitment"] else None
        session.answered = read(body["answered"]) if body["answered"] else None
        session.answered_set = body["answered_set"]
        return session
