"""Our secure aggregation against Flower's SecAgg+ in one run: `python -m benchmarks.secure_sum [--json]`.

10,000,000 float32 parameters, 3, 5 and 10 sites, complete graph, double masks, one thread. Figures are
process CPU time over several repetitions in which ours and flwr's take turns, so that a busy machine hits
both alike: the least (memory warm, nobody else about; the goals are held against it) and the median. flwr is
installed, once, into a Python of its own below var/ (`flower_worker.py` runs there).

- client: weighting, quantising, key agreement and every mask of one site, each side's whole own way
- coordinator: adding up all inputs, reconstructing the seeds, taking the self masks off; nobody dropped
- beside, not within: sha256 of the plain words (kept, so that a crash cannot mask another input) and of the
  masked words (the commitment; the coordinator checks it), and making the bytes that travel
- the coordinator's memory: peak resident size of a fresh process that reads the inputs from files chunk by
  chunk, over what it had before it opened the first
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: E402

from federation.secagg import wire  # noqa: E402
from federation.secagg.masks import Words, little_endian, words_sha256  # noqa: E402
from federation.secagg.quantize import UpdateQuantiser  # noqa: E402
from federation.secagg.server import ServerSession, _add, open_sum  # noqa: E402
from federation.secagg.site import SiteSession  # noqa: E402

FLOWER = "1.42.0"
FLOWER_HOME = ROOT / "var" / f"flwr-{FLOWER}"
PARAMETERS, SITES = 10_000_000, (3, 5, 10)
CLIENT_GOALS = {3: " (goal >= 15)", 10: " (goal >= 8)"}
CHUNK_WORDS = 1 << 18  # 1 MiB
MEMORY_CASES = ((3, 10_000_000), (3, 40_000_000), (10, 10_000_000))


def update(site: int, parameters: int) -> Any:
    """(parameters,) float32 in [-1, 1): the same numbers as the opponent's."""
    return np.random.default_rng(site).random(parameters, dtype=np.float32) * np.float32(2) - np.float32(1)


def examples_of(site: int) -> int:
    """Photos of a site."""
    return 100 + 10 * site


# --- ours ---------------------------------------------------------------------------------------------


class Round:
    """n sites and a coordinator with keys and shares exchanged, and the masked inputs so far."""

    def __init__(self, sites: int, parameters: int) -> None:
        identities = [Ed25519PrivateKey.generate() for _ in range(sites)]
        self.names = [f"site{index:02d}" for index in range(sites)]
        roster = {
            name: key.public_key().public_bytes_raw()
            for name, key in zip(self.names, identities, strict=True)
        }
        self.context = wire.Context(
            federation="benchmark", round="1", attempt=1, purpose="update", base_model="0", plan="0",
            roster=wire.roster_digest(roster), quantiser="0", words=parameters, bits=32,
        )  # fmt: skip
        self.sessions = [
            SiteSession(name, key, roster, self.context)
            for name, key in zip(self.names, identities, strict=True)
        ]
        self.server, self.masked = ServerSession(roster, self.context), {}
        self.rule = UpdateQuantiser(1.0, sites)
        self.total_examples = sum(map(examples_of, range(sites)))
        self._exchange()

    def _exchange(self) -> None:
        for session in self.sessions:
            self.server.add_advert(session.advertise())
        adverts = self.server.close_keys()
        for session in self.sessions:
            for message in session.share(adverts):
                self.server.add_share(message)
        for session in self.sessions:
            session.receive(self.server.shares_for(session.site))

    def client(self, site: int) -> dict[str, float]:
        """CPU seconds of one site, in parts; "quantise and mask" is what is compared."""
        values, weight = update(site, self.context.words), examples_of(site) / self.total_examples
        self.masked.pop(self.names[site], None)
        times, dumps = {}, []
        start = time.process_time()
        words = self.rule.encode(values, weight)
        times["quantise"] = time.process_time() - start
        plain, times["sha256 of the plain words"] = timed(lambda: words_sha256(words))
        start = time.process_time()
        self.sessions[site].masker(plain, dumps.append).apply(words)
        times["mask"] = time.process_time() - start
        times["quantise and mask"] = times["quantise"] + times["mask"]
        data, times["bytes"] = timed(lambda: little_endian(words))
        _, times["sha256 of the masked words"] = timed(lambda: hashlib.sha256(data).digest())
        self.masked[self.names[site]] = words
        return times

    def close(self) -> None:
        """Everybody commits, signs the survivors and answers."""
        for session in self.sessions:
            digest = hashlib.sha256(self.masked[session.site]).digest()
            self.server.add_commitment(session.commit(digest))
        survivors = self.server.close()
        for session in self.sessions:
            self.server.add_signature(session.sign_survivors(survivors, self.server.commitments))
        for session in self.sessions:
            self.server.add_answer(session.answer(self.server.signature_list(), opened_before=()))

    def coordinator(self) -> dict[str, float]:
        """CPU seconds: adding and unmasking alone, and `open_sum`, which checks every input's hash, too."""
        start = time.process_time()
        masker = self.server.unmasker()
        seeds = time.process_time() - start
        for parts in zip(*(chunks(words) for words in self.masked.values()), strict=True):
            masker.apply(_add(parts))
        bare = time.process_time() - start
        inputs = {name: chunks(words) for name, words in self.masked.items()}
        _, whole = timed(lambda: [None for _ in open_sum(self.server, inputs)])
        return {"sum and unmask": bare, "seeds": seeds, "with the hash of every input": whole}

    def error(self) -> float:
        """Largest difference of the opened mean from the plain one in float64."""
        plain = np.zeros(self.context.words)
        for site in range(len(self.names)):
            share = examples_of(site) / self.total_examples
            plain += update(site, self.context.words).astype(np.float64) * share
        inputs = {name: chunks(words) for name, words in self.masked.items()}
        opened = np.concatenate(list(open_sum(self.server, inputs)))
        return float(np.abs(self.rule.decode(opened) - plain).max())

    def sent(self, site: int) -> dict[str, int]:
        """Bytes that one site sends: its input, and every message of the attempt."""
        name, server = self.names[site], self.server
        dealt = [message for (dealer, _), message in server.shares.items() if dealer == name]
        found = [server.adverts, server.commitments, server.signatures, server.answers]
        messages: list[wire.Signed] = [*dealt, *(store[name] for store in found)]
        return {
            "input": len(little_endian(self.masked[name])),
            "messages": sum(len(wire.encode(message)) for message in messages),
        }


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """(result, CPU seconds)."""
    start = time.process_time()
    result = call()
    return result, time.process_time() - start


def chunks(words: Words) -> Iterator[Words]:
    for start in range(0, len(words), CHUNK_WORDS):
        yield words[start : start + CHUNK_WORDS]


# --- the opponent -------------------------------------------------------------------------------------


class Flower:
    """flwr's functions in a process of their own Python."""

    def __init__(self) -> None:
        worker = Path(__file__).with_name("flower_worker.py")
        environment = os.environ | {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_HOME": str(FLOWER_HOME / "home")}
        self._process = subprocess.Popen(
            [flower_python(), worker], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environment, cwd=FLOWER_HOME,
        )  # fmt: skip
        self.facts = self._answer()
        if self.facts["flwr"] != FLOWER:
            raise SystemExit(
                f"flwr {FLOWER} is wanted, {self.facts['flwr']} is installed: delete {FLOWER_HOME}"
            )

    def ask(self, command: str, *numbers: int) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, *numbers]) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the opponent's process ended; its error stands above")
        return json.loads(line)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)


def flower_python() -> Path:
    """flwr's interpreter, installed on first use; never into the project's own environment."""
    python = FLOWER_HOME / "bin" / "python"
    ready = FLOWER_HOME / "installed"
    if not ready.exists():
        print(f"installing flwr {FLOWER} into {FLOWER_HOME.relative_to(ROOT)} …", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", FLOWER_HOME], check=True)
        wanted = [f"flwr=={FLOWER}", *(f"{name}=={version(name)}" for name in ("numpy", "cryptography"))]
        pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *wanted]
        subprocess.run(pip, check=True, stdout=sys.stderr)
        ready.touch()
    return python


# --- memory -------------------------------------------------------------------------------------------


def write_inputs(folder: Path, sites: int, parameters: int) -> None:
    """A finished round: masked inputs as one file per site, and what the coordinator was told."""
    made = Round(sites, parameters)
    for site in range(sites):
        made.client(site)
    made.close()
    for name, words in made.masked.items():
        words.tofile(folder / name)
    server = made.server
    stores = (server.adverts, server.shares, server.commitments, server.signatures, server.answers)
    messages = [[wire.encode(message).decode() for message in store.values()] for store in stores]
    roster = {name: key.hex() for name, key in server.roster.items()}
    told = {"context": asdict(server.context), "roster": roster, "messages": messages}
    (folder / "told.json").write_text(json.dumps(told))


def read_session(folder: Path) -> ServerSession:
    told = json.loads((folder / "told.json").read_text())
    roster = {name: bytes.fromhex(key) for name, key in told["roster"].items()}
    server = ServerSession(roster, wire.Context(**told["context"]))
    adverts, shares, commitments, signatures, answers = (
        [wire.decode(text.encode()) for text in kind] for kind in told["messages"]
    )
    steps: list[tuple[Callable, list, Callable]] = [
        (server.add_advert, adverts, server.close_keys), (server.add_share, shares, server.late_dealers),
        (server.add_commitment, commitments, server.close),
        (server.add_signature, signatures, server.signature_list), (server.add_answer, answers, list),
    ]  # fmt: skip
    for take, messages, end in steps:
        for message in messages:
            take(message)
        end()
    return server


def read_chunks(path: Path) -> Iterator[Words]:
    with path.open("rb", buffering=0) as file:
        while data := file.read(CHUNK_WORDS * 4):
            yield np.frombuffer(data, dtype="<u4")


def peak_resident() -> int:
    """Bytes. VmHWM starts anew at exec; getrusage's figure would carry the parent's over."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("no VmHWM in /proc/self/status: measure memory on Linux")


def peak_of_opening(folder: Path) -> dict[str, float]:
    """Run in a fresh process: MiB that opening adds to what the process had, and words of the sum."""
    server = read_session(folder)
    before = peak_resident()
    inputs = {name: read_chunks(folder / name) for name in server.survivors}
    words = sum(len(chunk) for chunk in open_sum(server, inputs))
    assert words == server.context.words
    return {"peak_mib": (peak_resident() - before) / 2**20}


def memory(sites: int, parameters: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="secure-sum-") as name:
        write_inputs(Path(name), sites, parameters)
        command = [sys.executable, __file__, "--memory-of", name]
        answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    inputs = sites * parameters * 4 / 2**20
    chunk = sites * CHUNK_WORDS * 4 / 2**20
    return {"inputs_mib": inputs, "one_chunk_per_site_mib": chunk, **json.loads(answer)}


# --- the run ------------------------------------------------------------------------------------------


def compare(flower: Flower, sites: int, parameters: int, repetitions: int) -> dict[str, Any]:
    """Both sides in turn: every client at least once, then the coordinators."""
    ours, _ = Round(sites, parameters), flower.ask("round", sites, parameters)
    turns: dict[str, list[dict[str, float]]] = {"client": [], "coordinator": []}
    for turn in range(max(sites, repetitions)):
        own = ours.client(turn % sites)
        turns["client"].append(own | {"flwr": flower.ask("client", turn % sites)})
    ours.close()
    for _ in range(repetitions):
        own = ours.coordinator()
        theirs, flwr_bytes = flower.ask("coordinator"), flower.ask("transport")
        turns["coordinator"].append(own | {"flwr": theirs, "flwr, bytes": flwr_bytes["cpu_s"]})
    sent, error = ours.sent(0), {"ours (goal <= 1e-6)": ours.error() / 2.0, "flwr": flower.ask("error") / 2.0}
    return report(sites, parameters, turns) | {
        "sent by a site": {
            "ours, bytes/parameter (goal 4.0)": sent["input"] / parameters,
            "flwr, bytes/parameter": flwr_bytes["bytes"] / parameters,
            "ours, messages, bytes": sent["messages"],
        },
        "largest error, share of the data's range": error,
    }


def report(sites: int, parameters: int, turns: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """CPU seconds of each part in each turn → ns/parameter of both sides, their ratios and the goals."""
    client, coordinator = (per_parameter(turns[side], min, parameters) for side in ("client", "coordinator"))
    usual, usually = (per_parameter(turns[side], median, parameters) for side in ("client", "coordinator"))
    own, opened, checked = "quantise and mask", "sum and unmask", "with the hash of every input"
    return {
        "client, ns/parameter": {
            "ours": client[own], "flwr": client["flwr"],
            f"flwr / ours{CLIENT_GOALS.get(sites, '')}": client["flwr"] / client[own],
            "ours, quantise": client["quantise"], "ours, mask": client["mask"],
            "ours, median": usual[own], "flwr, median": usual["flwr"],
            "flwr / ours, medians": usual["flwr"] / usual[own],
        },
        "beside, ns/parameter": {
            "ours, sha256 of the plain words": client["sha256 of the plain words"],
            "ours, sha256 of the masked words": client["sha256 of the masked words"],
            "ours, bytes to send": client["bytes"], "flwr, bytes to send": coordinator["flwr, bytes"],
        },
        "coordinator, ns/parameter": {
            "ours": coordinator[opened], "flwr": coordinator["flwr"],
            "flwr / ours (goal >= 5)": coordinator["flwr"] / coordinator[opened],
            "ours, of it reconstructing the seeds": coordinator["seeds"],
            "ours, median": usually[opened], "flwr, median": usually["flwr"],
            "flwr / ours, medians": usually["flwr"] / usually[opened],
            f"ours, {checked}": coordinator[checked],
            f"flwr / ours, {checked}": coordinator["flwr"] / coordinator[checked],
        },
    }  # fmt: skip


def per_parameter(
    turns: list[dict[str, float]], choose: Callable[[list[float]], float], parameters: int
) -> dict[str, float]:
    """Nanoseconds of each part."""
    return {name: 1e9 / parameters * choose([turn[name] for turn in turns]) for name in turns[0]}


def run(parameters: int, repetitions: int) -> dict[str, Any]:
    flower = Flower()
    result: dict[str, Any] = {
        "opponent": flower.facts, "parameters": parameters, "repetitions": repetitions,
    }  # fmt: skip
    for sites in SITES:
        print(f"{sites} sites …", file=sys.stderr)
        result[f"{sites} sites"] = compare(flower, sites, parameters, repetitions)
    flower.close()
    print("memory …", file=sys.stderr)
    result["coordinator's peak memory over what it had"] = {
        f"{sites} sites, {size:,} parameters": memory(sites, size) for sites, size in MEMORY_CASES
    }
    return result


def show(figures: Any, depth: int = 0) -> None:
    for name, value in figures.items():
        if isinstance(value, dict):
            print("  " * depth + name)
            show(value, depth + 1)
        else:
            print(
                "  " * depth + f"{name:50s} {value:.4g}" if isinstance(value, float) else f"{name}: {value}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--parameters", type=int, default=PARAMETERS)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        print(json.dumps(peak_of_opening(options.memory_of)))
        return
    result = run(options.parameters, options.repetitions)
    print(json.dumps(result)) if options.json else show(result)


if __name__ == "__main__":
    main()
