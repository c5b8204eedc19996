"""Flower's SecAgg+ on the same numbers: benchmarks.secure_sum's opponent, run by it in flwr's own Python.

Needs flwr and numpy, nothing of this project. One JSON command a line on standard input, one JSON answer a
line on standard output. Every step that is timed is a call of flwr's own functions, in the order and with the
defaults of its client's `_collect_masked_vectors` and its workflow's `collect_masked_vectors_stage` and
`unmask_stage` (flwr 1.42): all sites are neighbours, clipping range 8, quantisation range 2^22, modulus 2^32,
maximum weight 1,000. Not timed: what only carries bytes (`ndarray_to_bytes`, gRPC), and the dequantisation.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from importlib.metadata import version
from typing import Any

import numpy as np
from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import generate_shared_key
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    factor_combine,
    factor_extract,
    get_parameters_shape,
    parameters_addition,
    parameters_mod,
    parameters_multiply,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.quantization import dequantize, quantize
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from flwr.compat.common.parameter import ndarray_to_bytes
from flwr.supercore.primitives.asymmetric import (
    bytes_to_private_key,
    bytes_to_public_key,
    generate_key_pairs,
    private_key_to_bytes,
    public_key_to_bytes,
)

CLIPPING_RANGE, QUANTISATION_RANGE, MODULUS, MAX_WEIGHT = 8.0, 1 << 22, 1 << 32, 1000.0


class Round:
    """n clients with keys and shared seeds, and the masked vectors that they have sent so far."""

    def __init__(self, sites: int, parameters: int) -> None:
        self.sites, self.parameters = range(sites), parameters
        pairs = [generate_key_pairs() for _ in self.sites]
        self.private = [private_key_to_bytes(private) for private, _ in pairs]
        self.public = [public_key_to_bytes(public) for _, public in pairs]
        self.seeds = [os.urandom(32) for _ in self.sites]
        threshold = 2 * sites // 3 + 1  # as ours
        self.shares = [create_shares(seed, threshold, sites)[:threshold] for seed in self.seeds]
        self.masked: dict[int, list[Any]] = {}

    def client(self, site: int) -> float:
        """CPU seconds of weighting, quantising and masking one update."""
        parameters, examples = [update(site, self.parameters)], examples_of(site)
        self.masked.pop(site, None)
        start = time.process_time()
        q_ratio = round(examples / MAX_WEIGHT * QUANTISATION_RANGE)
        parameters = parameters_multiply(parameters, q_ratio / QUANTISATION_RANGE)
        words = quantize(parameters, CLIPPING_RANGE, QUANTISATION_RANGE)
        words = factor_combine(q_ratio, words)
        shapes = [array.shape for array in words]
        words = parameters_addition(words, pseudo_rand_gen(self.seeds[site], MODULUS, shapes))
        for other in self.sites:
            if other != site:
                key = generate_shared_key(
                    bytes_to_private_key(self.private[site]), bytes_to_public_key(self.public[other])
                )
                mask = pseudo_rand_gen(key, MODULUS, shapes)
                change = parameters_addition if site > other else parameters_subtraction
                words = change(words, mask)
        self.masked[site] = parameters_mod(words, MODULUS)
        return time.process_time() - start

    def coordinator(self) -> tuple[float, list[Any]]:
        """CPU seconds of summing and unmasking, and the opened words."""
        start = time.process_time()
        total: list[Any] | None = None
        for site in self.sites:
            total = self.masked[site] if total is None else parameters_addition(total, self.masked[site])
        assert total is not None
        total = parameters_mod(total, MODULUS)
        for site in self.sites:
            mask = pseudo_rand_gen(combine_shares(self.shares[site]), MODULUS, get_parameters_shape(total))
            total = parameters_subtraction(total, mask)
        total = parameters_mod(total, MODULUS)
        return time.process_time() - start, total

    def error(self, total: list[Any]) -> float:
        """Largest difference of the opened mean from the plain one in float64."""
        q_total, words = factor_extract(total)
        mean = dequantize(words, CLIPPING_RANGE, QUANTISATION_RANGE)[0]
        mean -= (len(self.sites) - 1) * CLIPPING_RANGE
        mean *= QUANTISATION_RANGE / q_total
        return float(np.abs(mean - plain_mean(len(self.sites), self.parameters)).max())

    def transport(self) -> dict[str, float]:
        """What one client sends, and the CPU seconds of making bytes of it."""
        start = time.process_time()
        sent = [ndarray_to_bytes(array) for array in self.masked[0]]
        return {"cpu_s": time.process_time() - start, "bytes": sum(map(len, sent))}


def update(site: int, parameters: int) -> Any:
    """(parameters,) float32 in [-1, 1): the same numbers in both Pythons."""
    return np.random.default_rng(site).random(parameters, dtype=np.float32) * np.float32(2) - np.float32(1)


def examples_of(site: int) -> int:
    """Photos of a site, below flwr's maximum weight."""
    return 100 + 10 * site


def plain_mean(sites: int, parameters: int) -> Any:
    """(parameters,) float64, by definition."""
    total = np.zeros(parameters)
    for site in range(sites):
        total += update(site, parameters).astype(np.float64) * examples_of(site)
    return total / sum(map(examples_of, range(sites)))


def main() -> None:
    facts = {"flwr": version("flwr"), "numpy": version("numpy"), "python": platform.python_version()}
    print(json.dumps(facts), flush=True)
    current: Round | None = None
    total: list[Any] = []
    for line in sys.stdin:
        command, *numbers = json.loads(line)
        answer: Any = None
        if command == "round":
            current = None  # the old one's vectors go first
            current = Round(*numbers)
        elif current is None:
            raise SystemExit("a round comes first")
        elif command == "client":
            answer = current.client(*numbers)
        elif command == "coordinator":
            answer, total = current.coordinator()
        elif command == "error":
            answer = current.error(total)
        elif command == "transport":
            answer = current.transport()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
