"""The sum in memory is the plain sum, opened by the real sessions and refused as by them."""

from __future__ import annotations

import numpy as np
import pytest

from federation.experiments import secure
from federation.experiments.secure import MemoryFederation
from federation.secagg.errors import MessageRefused, OpeningRefused, TooFew

HASH = "ab" * 32


def inputs(sites, dtype, words=70_000):
    generator = np.random.default_rng(0)
    high = np.iinfo(dtype).max
    return {site: generator.integers(0, high, words, dtype=dtype, endpoint=True) for site in sites}


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
@pytest.mark.parametrize("count", [3, 5])
def test_the_sum_is_the_plain_sum(dtype, count) -> None:
    sites = [f"s{index}" for index in range(count)]
    words = inputs(sites, dtype)
    federation = MemoryFederation.of(sites)
    total = federation.secure_sum(words, purpose="update", base_model=HASH, plan=HASH)
    assert total.dtype == dtype
    np.testing.assert_array_equal(total, np.sum(list(words.values()), axis=0, dtype=dtype))
    assert (federation.sums, federation.words) == (1, 70_000)


def test_a_site_that_drops_is_not_in_the_sum_and_too_few_open_nothing() -> None:
    sites = [f"s{index}" for index in range(5)]
    words = inputs(sites, np.uint32, 100)
    remaining = {site: words[site] for site in sites[:4]}
    total = MemoryFederation.of(sites).secure_sum(remaining, purpose="u", base_model=HASH, plan=HASH)
    np.testing.assert_array_equal(total, np.sum(list(remaining.values()), axis=0, dtype=np.uint32))
    few = {site: words[site] for site in sites[:3]}
    with pytest.raises(TooFew):
        MemoryFederation.of(sites).secure_sum(few, purpose="u", base_model=HASH, plan=HASH)


def test_the_sites_remember_what_they_opened() -> None:
    sites = [f"s{index}" for index in range(5)]
    words = inputs(sites, np.uint32, 10)
    federation = MemoryFederation.of(sites)
    federation.secure_sum(words, purpose="u", base_model=HASH, plan=HASH)
    federation.secure_sum(words, purpose="u", base_model=HASH, plan="cd" * 32)
    with pytest.raises(OpeningRefused):
        federation.secure_sum(
            {site: words[site] for site in sites[:4]}, purpose="u", base_model=HASH, plan="ef" * 32
        )


def test_what_the_coordinator_holds_is_masked(monkeypatch) -> None:
    sites = ["a", "b", "c"]
    zeros = {site: np.zeros(4000, dtype=np.uint32) for site in sites}
    seen = {}
    honest = secure.upload

    def watched(server, sessions, words):
        seen.update(honest(server, sessions, words))
        return seen

    monkeypatch.setattr(secure, "upload", watched)
    MemoryFederation.of(sites).secure_sum(zeros, purpose="u", base_model=HASH, plan=HASH)
    for masked in seen.values():
        bits = np.unpackbits(masked.view(np.uint8)).mean()
        assert 0.48 < bits < 0.52


def test_a_changed_upload_opens_nothing(monkeypatch) -> None:
    sites = ["a", "b", "c"]
    honest = secure.upload

    def bent(server, sessions, words):
        masked = honest(server, sessions, words)
        masked["b"] = masked["b"] + np.uint32(1)
        return masked

    monkeypatch.setattr(secure, "upload", bent)
    with pytest.raises(MessageRefused):
        MemoryFederation.of(sites).secure_sum(
            inputs(sites, np.uint32, 10), purpose="u", base_model=HASH, plan=HASH
        )
