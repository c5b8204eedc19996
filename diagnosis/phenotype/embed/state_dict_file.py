"""State dicts that others saved with torch.save (.pt, .pth), read without running anything in them.

A pickle is a program. Two walls stand before it: its opcodes are listed without being run and refused
if they name anything but tensors, and what passes goes through torch.load(weights_only=True).
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Iterator

import torch
from torch import Tensor

from diagnosis.phenotype.embed.weights import BATCH_COUNTER
from diagnosis.phenotype.errors import WeightsRefused

MAX_PICKLE_BYTES = 4 << 20  # the pickle of an iResNet-100 state dict has about 0.1 MB
MAX_ZIP_MEMBERS = 8192
ZIP_MAGIC = b"PK\x03\x04"
ZIP_END_MAGIC = b"PK\x05\x06"
ZIP_END_BYTES = 22  # an end of directory without a comment
PICKLE_MAGIC = b"\x80"

OLD_FORM_PICKLES = 5  # magic number, version, machine, the value, names of the tensors
UNUSUAL_GLOBALS = frozenset({"STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4"})

# All that a state dict of plain tensors needs.
_STORAGES = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
ALLOWED_GLOBALS = frozenset(
    {"collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter"}
    | {f"torch {name}Storage" for name in _STORAGES}
)

_CONVERT = (
    "If you trust where it comes from, load it there with torch, move the network to the CPU, and save "
    "torch.save(network.state_dict(), 'weights.pt'); then install that file."
)


def looks_like_torch_file(data: bytes) -> bool:
    """Whether the first bytes are those of torch.save's zip, or of a bare pickle."""
    return data.startswith((ZIP_MAGIC, PICKLE_MAGIC))


def read_state_dict(data: bytes, *, file_name: str) -> dict[str, Tensor]:
    """Name → CPU tensor of a torch.save file in memory, batch counters left out; values unchecked.

    Raises WeightsRefused, and runs nothing, for a pickle that names code, a whole pickled network, the
    file form before torch 1.6, compressed or lying zips, and anything that is not a mapping of tensors.
    """
    if not data.startswith(ZIP_MAGIC):
        _check_pickle(data[:MAX_PICKLE_BYTES], file_name=file_name)
        raise WeightsRefused(
            f"{file_name} is in torch's file form from before version 1.6; load it with "
            "torch.load(…, weights_only=True), save the result again with torch.save, and install that."
        )
    _check_pickle(_pickle_in_zip(data, file_name=file_name), file_name=file_name)
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)  # noqa: TID251
    except Exception as error:  # torch promises no exception type for a damaged file, and each means that
        raise _damaged(file_name) from error
    return _tensors_of(state, file_name=file_name)


def _damaged(file_name: str) -> WeightsRefused:
    return WeightsRefused(f"{file_name} is not a complete torch.save file; get it again from its origin.")


def _pickle_in_zip(data: bytes, *, file_name: str) -> bytes:
    """The bytes of data.pkl, after the zip's directory was found to promise no more than the file has.

    The directory must end the file, so that torch's own zip reader finds the same one.
    """
    if not data[-ZIP_END_BYTES:].startswith(ZIP_END_MAGIC):
        raise _damaged(file_name)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            _check_members(members, size=len(data), file_name=file_name)
            pickles = [member for member in members if member.filename.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise _damaged(file_name)
            return archive.read(pickles[0])
    except WeightsRefused:
        raise
    except Exception as error:  # zipfile, too, raises a dozen types for damaged directories
        raise _damaged(file_name) from error


def _check_members(members: list[zipfile.ZipInfo], *, size: int, file_name: str) -> None:
    """torch.save stores its members uncompressed and once, so honest sizes never exceed the file."""
    compressed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
    too_much = sum(member.file_size for member in members) > size or len(members) > MAX_ZIP_MEMBERS
    large_pickle = any(m.file_size > MAX_PICKLE_BYTES for m in members if m.filename.endswith(".pkl"))
    repeated = len({member.filename for member in members}) != len(members)
    if compressed or too_much or large_pickle or repeated:
        raise WeightsRefused(
            f"{file_name} is a zip that torch.save does not write (compressed, repeated or oversized "
            "members); save the state dict again with torch.save."
        )


def _check_pickle(pickled: bytes, *, file_name: str) -> None:
    """Refuse by the names a pickle would import. Nothing of it runs: its opcodes are only listed."""
    foreign = [name for name in _named_globals(pickled, file_name=file_name) if name not in ALLOWED_GLOBALS]
    if not foreign:
        return
    if any(name.startswith("torch.nn.") for name in foreign):
        raise WeightsRefused(
            f"{file_name} is a whole pickled network, which runs code of its maker when it is opened, and "
            f"was not opened. {_CONVERT}"
        )
    named = foreign[0][:80].replace(" ", ".")
    raise WeightsRefused(
        f"{file_name} would run code when it is opened (it asks for {named}) and was not opened; "
        f"do not use it unless you know why. {_CONVERT}"
    )


def _named_globals(pickled: bytes, *, file_name: str) -> Iterator[str]:
    """Every 'module name' that the pickle asks for, and its way of asking where that is not plain.

    The old file form is several pickles after each other, then the tensors' bytes.
    """
    stream = io.BytesIO(pickled)
    try:
        for _ in range(OLD_FORM_PICKLES):
            for opcode, argument, _position in pickletools.genops(stream):
                if opcode.name == "GLOBAL":
                    yield str(argument)
                elif opcode.name in UNUSUAL_GLOBALS:
                    yield f"{opcode.name.lower()} {argument or ''}".strip()
            if pickled[stream.tell() : stream.tell() + 1] != PICKLE_MAGIC:
                return
    except (ValueError, IndexError, EOFError, UnicodeDecodeError, OverflowError) as error:
        raise _damaged(file_name) from error


def _tensors_of(state: object, *, file_name: str) -> dict[str, Tensor]:
    if not isinstance(state, dict) or not state:
        raise WeightsRefused(f"{file_name} holds no state dict; save network.state_dict() with torch.save.")
    if not all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items()):
        raise WeightsRefused(
            f"{file_name} holds more than a state dict (perhaps a training checkpoint); save only the "
            "network's own state_dict() with torch.save."
        )
    return {name: tensor.detach() for name, tensor in state.items() if not name.endswith(BATCH_COUNTER)}
