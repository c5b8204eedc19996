"""The coordinator and some hospitals against the real sessions: what they hold, and what it solves for.

They may name different survivor sets to different honest sites, sign whatever helps and pool every share they
hold. Then each honest masked input is one equation: its update, plus or minus the keys' streams that its
masker lays over it. The combinations in which no unknown stream is left are all that is learned. With c
hospitals that is the sum over the honest survivors, or nothing; with c + 1 there is a combination that leaves
one update alone, and it comes out word for word.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import pytest
import secagg_story as story

from federation.secagg import keys, rules, shamir
from federation.secagg.errors import SecAggError
from federation.secagg.masks import Masker, SignedKey
from federation.secagg.site import SiteSession

WORDS = 8


@dataclass
class Adversary:
    """colluders' sessions, and per dealer the shares in their hands by index: of seeds, of mask keys."""

    world: SimpleNamespace
    colluders: list[str]
    seeds: dict[str, dict[int, bytes]] = field(default_factory=dict)
    masks: dict[str, dict[int, bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.colluders:
            for dealer, share in self.world.sites[name].shares.items():
                self._note(self.seeds, dealer, name, share[: keys.KEY_BYTES])
                self._note(self.masks, dealer, name, share[keys.KEY_BYTES :])

    def _note(self, store: dict[str, dict[int, bytes]], dealer: str, giver: str, share: bytes) -> None:
        store.setdefault(dealer, {})[1 + sorted(self.world.server.adverts).index(giver)] = share

    def name_to(self, honest: list[str], survivors: list[str]) -> None:
        """Have these honest sites open `survivors`, with the colluders' signatures; a refusal is an answer."""
        commitments = {name: self.world.server.commitments[name] for name in survivors}
        signatures = []
        for name in (*honest, *self.colluders):
            signer = self._puppet(name) if name in self.colluders else self.world.sites[name]
            try:
                signatures.append(signer.sign_survivors(survivors, commitments))
            except SecAggError:
                continue
        for name in honest:
            try:
                answer = self.world.sites[name].answer(signatures, opened_before=())
            except SecAggError:
                continue
            for store, shares in ((self.seeds, answer.seed_shares), (self.masks, answer.mask_shares)):
                for dealer, share in shares.items():
                    self._note(store, dealer, name, bytes.fromhex(share))

    def _puppet(self, name: str) -> SiteSession:
        """A colluder's session that has forgotten what it signed."""
        return replace(self.world.sites[name], signed=None, answered=None)

    def known_keys(self) -> set[bytes]:
        """Every stream key that the pooled secrets give."""
        world, digest, t = self.world, self.world.context.digest(), rules.threshold(len(self.world.roster))
        private = {name: world.sites[name].secrets.mask_private for name in self.colluders}
        found = set()
        for dealer, advert in world.server.adverts.items():
            if len(shares := self.seeds.get(dealer, {})) >= t:
                seed = shamir.combine(dict(list(shares.items())[:t]))
                assert keys.commitment(seed, digest, dealer) == advert.seed_commitment
                found.add(keys.self_key(seed, digest, dealer))
            if len(shares := self.masks.get(dealer, {})) >= t:
                private[dealer] = shamir.combine(dict(list(shares.items())[:t]))
                assert keys.public_of(private[dealer]) == advert.mask_public
        for owner, secret in private.items():
            others = [advert for name, advert in world.server.adverts.items() if name != owner]
            found |= {keys.pair_key(secret, other.mask_public, digest, owner, other.site) for other in others}
        return found


def streams_of(site: SiteSession) -> list[SignedKey]:
    """What this site's masker lays over its input."""
    return [SignedKey(keys.self_key(site.secrets.seed, site.digest, site.site), add=True), *site._pair_keys()]


def learned(adversary: Adversary) -> tuple[list[str], np.ndarray]:
    """(honest sites whose input arrived, (d, h) orthonormal basis of the combinations of updates learned)."""
    world, known = adversary.world, adversary.known_keys()
    honest = [name for name in world.server.commitments if name not in adversary.colluders]
    streams = {name: streams_of(world.sites[name]) for name in honest}
    column = {key: at for at, key in enumerate({one.key for own in streams.values() for one in own} - known)}
    unknown = np.zeros((len(column), len(honest)))
    for row, name in enumerate(honest):
        for one in streams[name]:
            if one.key in column:
                unknown[column[one.key], row] = 1 if one.add else -1
    if not column:
        return honest, np.eye(len(honest))
    _, values, right = np.linalg.svd(unknown)
    return honest, right[int((values > 1e-9).sum()) :]


def updates_learned(adversary: Adversary) -> dict[str, np.ndarray]:
    """Targets that stand alone in what is learned, with their words, taken out of the masked input."""
    honest, basis = learned(adversary)
    world, known, found = adversary.world, adversary.known_keys(), {}
    for at, name in enumerate(honest):
        if len(basis) and np.isclose(np.linalg.norm(basis[:, at]), 1.0):  # its unit vector lies in the space
            found[name] = world.inputs[name].copy()
            own = [replace(one, add=not one.add) for one in streams_of(world.sites[name])]
            assert {one.key for one in own} <= known
            Masker(own).apply(found[name])
    return found


# --- what the coalition may try -------------------------------------------------------------------------


def attempt(n: int, dropped: frozenset[str]) -> SimpleNamespace:
    """Everybody masked, the inputs of `dropped` never arrived."""
    world = story.setting(n, words=WORDS)
    generator = np.random.default_rng(n)
    world.plain = {name: generator.integers(0, 2**32, WORDS, dtype=np.uint32) for name in world.sites}
    story.exchange_keys(world)
    story.exchange_shares(world)
    story.upload(world, world.plain, dropped)
    return world


Told = list[tuple[int, int, int]]


def stories(n: int, colluders: int) -> Iterator[tuple[frozenset[str], Told]]:
    """(who drops, [(from and to which of the honest a set is told, how many of the others it leaves out)]).

    Every number of honest dropouts. One set for all; one that leaves out one or two whose input is there;
    both in turn; and for every division of the honest in two groups two sets, each without some of the other.
    """
    honest = n - colluders
    for gone in range(0, honest):
        names = frozenset(f"site{index:02d}" for index in range(gone))
        left = honest - gone
        yield names, [(0, left, 0)]
        for out in range(1, min(left, 3)):
            less, everybody = (0, left - out, out), (0, left, 0)
            yield from ((names, told) for told in ([less], [less, everybody], [everybody, less]))
        for first in range(1, left):
            for out in range(0, min(left - first, 2) + 1):
                yield names, [(0, first, out), (first, left, min(first, 2))]


def play(n: int, colluders: int, dropped: frozenset[str], told: Told) -> Adversary:
    world = attempt(n, dropped)
    names = sorted(world.sites)
    adversary = Adversary(world, names[n - colluders :])
    honest = [name for name in names[: n - colluders] if name not in dropped]
    for start, stop, out in told:
        group = honest[start:stop]
        left_out = [name for name in honest if name not in group][:out]
        adversary.name_to(group, sorted({*honest, *adversary.colluders} - set(left_out)))
    return adversary


def is_sum_of_several(combination: np.ndarray) -> bool:
    """Whether it weighs at least two sites, all alike, and the others not at all."""
    weighed = combination[np.abs(combination) > 1e-9]
    return len(weighed) >= 2 and np.allclose(weighed, weighed[0])


SIZES = [3, 4, 5, 6, pytest.param(7, marks=pytest.mark.slow), pytest.param(8, marks=pytest.mark.slow),
         pytest.param(10, marks=pytest.mark.slow)]  # fmt: skip


@pytest.mark.parametrize("n", SIZES)
def test_with_c_hospitals_a_sum_of_several_is_learned_or_nothing(n: int) -> None:
    c = rules.colluders(n)
    sums = []
    for dropped, told in stories(n, c):
        adversary = play(n, c, dropped, told)
        _, basis = learned(adversary)
        assert len(basis) <= 1
        assert all(is_sum_of_several(one) for one in basis)
        assert updates_learned(adversary) == {}
        sums.append(len(basis))
    print(f"n = {n}, {c} colluders: {len(sums)} stories, {sum(sums)} opened a sum, none an update")
    assert 0 < sum(sums) < len(sums) or n < 5


@pytest.mark.parametrize("n", SIZES)
def test_with_one_hospital_more_an_update_comes_out(n: int) -> None:
    """Or else the bound that admins are told would be loose."""
    count, found = 0, set()
    for dropped, told in stories(n, rules.colluders(n) + 1):
        adversary = play(n, rules.colluders(n) + 1, dropped, told)
        count += 1
        for name, words in updates_learned(adversary).items():
            assert np.array_equal(words, adversary.world.plain[name])
            found.add(name)
    print(
        f"n = {n}, {rules.colluders(n) + 1} colluders: {count} stories, updates of {len(found)} sites found"
    )
    assert found


def test_the_coordinator_alone_learns_the_sum_of_all() -> None:
    honest, basis = learned(play(5, 0, frozenset(), [(0, 5, 0)]))
    assert len(honest) == 5
    assert np.allclose(np.abs(basis), 1 / np.sqrt(5)) and is_sum_of_several(basis[0])
    _, basis = learned(play(5, 0, frozenset({"site00", "site01"}), [(0, 3, 0)]))
    assert len(basis) == 0, "three of five are below the threshold: nothing is learned at all"
