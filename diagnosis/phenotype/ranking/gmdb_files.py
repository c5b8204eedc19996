"""GestaltMatcher's CSV files, read row by row and written: encodings and gallery/test splits.

Encodings: `;`-separated, `img_name;model;flip;gray;class_conf;representations`, one line per image and
ensemble row, representations a JSON list. Splits: `,`-separated, `image_id,label[,subject][,split]`.
Further columns are ignored. Numbers are read as JSON or text, never evaluated.

How an img_name names an image: files in the field carry what the cropping step appended, such as
`123_rot_aligned.jpg` for image 123. `_`-separated parts are taken off the end of the name one at a time;
the first remainder that is a known image_id, as it stands or without its file extension, counts.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from diagnosis.phenotype.errors import FormatError, GalleryError
from diagnosis.phenotype.ranking.distance import AnyFloat, Float32, unit_rows

ENCODING_COLUMNS = ("img_name", "model", "flip", "gray", "class_conf", "representations")
SPLIT_COLUMNS = ("image_id", "label", "subject", "split")
#: class_conf of a model with 10^5 classes is about 2 MB of text; csv's own limit is 128 KiB.
FIELD_LIMIT = 16 * 1024 * 1024


@dataclass(frozen=True)
class Variant:
    """Which of the m rows: ensemble member, flipped or not, grey or not, as text of the file."""

    model: str
    flip: str
    gray: str
    occurrence: int = 0


@dataclass(frozen=True)
class Encodings:
    """rows (N, m, d) float32 unit rows, m in the order of `variants`; image_ids: one per image."""

    image_ids: tuple[str, ...]
    variants: tuple[Variant, ...]
    rows: Float32


@dataclass(frozen=True)
class SplitRow:
    """One image of a gallery or test list. subject and split are "" where the file has no such column."""

    image_id: str
    label: str
    subject: str = ""
    split: str = ""


def read_split(path: Path) -> tuple[SplitRow, ...]:
    """A split CSV. Raises FormatError if it is missing, empty, or lacks image_id or label."""
    rows = []
    with _opened(path) as lines:
        for number, record in _records(lines, path, delimiter=",", required=("image_id", "label")):
            row = SplitRow(*(_identifier(record.get(name, "")) for name in SPLIT_COLUMNS))
            if not row.image_id or not row.label:
                raise _bad(path, number, "image_id or label is empty", "Fill in both or remove the line")
            rows.append(row)
    if not rows:
        raise FormatError(f"{path.name} has no images. Export the split again.")
    return tuple(rows)


def read_encodings(path: Path, image_ids: Collection[str] | None = None) -> Encodings:
    """Encodings of the known images (None: each img_name is its own image_id), others skipped unparsed.

    The k-th line of an image with the same (model, flip, gray) is a variant of its own, so files that name
    all members alike still work; every image must have the same variants. Row by row: peak memory is that
    of the kept float32 values. Raises FormatError naming file, line and remedy.
    """
    collected: dict[str, dict[Variant, Float32]] = {}
    names: dict[str, str] = {}
    size: int | None = None
    with _opened(path) as lines, _long_fields():
        for number, record in _records(lines, path, delimiter=";", required=("img_name", "representations")):
            name = record["img_name"].strip()
            image = name if image_ids is None else known_image(name, image_ids)
            if image is None:
                continue
            if names.setdefault(image, name) != name:
                both = f"{name!r} and {names[image]!r} are both image {image}"
                raise _bad(path, number, both, "Keep one of them")
            vector = _vector(record["representations"], path, number, size)
            size = len(vector)
            variants = collected.setdefault(image, {})
            variants[_variant(record, variants)] = vector
    return _stacked(collected, path)


def known_image(name: str, image_ids: Collection[str]) -> str | None:
    """The image_id that an img_name stands for, by the rule in the module's docstring, or None."""
    parts = name.split("_")
    for stop in range(len(parts), 0, -1):
        shorter = "_".join(parts[:stop])
        for candidate in (shorter, re.sub(r"\.[A-Za-z0-9]{1,5}$", "", shorter)):
            if candidate in image_ids:
                return candidate
    return None


def write_encodings(
    path: Path, images: Iterable[tuple[str, AnyFloat]], variants: Sequence[Variant], *, class_conf: str = "[]"
) -> None:
    """Images as (img_name, rows (m, d)), m in the order of `variants`. Nine digits keep float32 exactly."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=";", lineterminator="\n")
        writer.writerow(ENCODING_COLUMNS)
        for name, rows in images:
            if rows.shape[0] != len(variants) or not np.all(np.isfinite(rows)):
                raise GalleryError(f"Image {name!r} needs {len(variants)} finite rows. Embed it again.")
            for variant, row in zip(variants, rows.astype(np.float32), strict=True):
                vector = "[" + ", ".join(f"{value:.9g}" for value in row.tolist()) + "]"
                writer.writerow((name, variant.model, variant.flip, variant.gray, class_conf, vector))


def write_split(path: Path, rows: Iterable[SplitRow]) -> None:
    """A split CSV; the columns subject and split are written where any row has them."""
    kept = list(rows)
    optional = [name for name in ("subject", "split") if any(getattr(row, name) for row in kept)]
    columns = ["image_id", "label", *optional]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([getattr(row, name) for name in columns] for row in kept)


def _records(
    lines: TextIO, path: Path, *, delimiter: str, required: Sequence[str]
) -> Iterator[tuple[int, Mapping[str, str]]]:
    """(line number, column → text) of each line; checks header and number of fields."""
    reader = csv.reader(lines, delimiter=delimiter)
    try:
        header = [name.strip() for name in next(reader, [])]
        absent = [name for name in required if name not in header]
        if absent:
            advice = f"The separator is {delimiter!r}; export the file again"
            raise _bad(path, 1, f"no column {absent[0]!r}", advice)
        for fields in reader:
            if not fields:
                continue
            if len(fields) != len(header):
                found = f"{len(fields)} fields where the header has {len(header)}"
                raise _bad(path, reader.line_num, found, "The file may be cut off; export it again")
            yield reader.line_num, dict(zip(header, fields, strict=True))
    except csv.Error as error:
        raise _bad(path, reader.line_num, f"not a CSV line ({error})", "Export the file again") from error
    except UnicodeDecodeError as error:
        raise FormatError(f"{path.name} is not UTF-8 text. Export it again as a UTF-8 CSV file.") from error


def _vector(text: str, path: Path, line: int, size: int | None) -> Float32:
    """JSON list of numbers (nested once, as some writers do, or flat) → (d,) float32 of unit length."""
    try:
        values = np.asarray(json.loads(text), dtype=np.float64).reshape(-1)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        problem = "representations is not a JSON list of numbers"
        raise _bad(path, line, problem, "Encode the image again") from error
    if size is not None and len(values) != size:
        problem = f"{len(values)} numbers where earlier lines have {size}"
        raise _bad(path, line, problem, "Encode all images with one model")
    try:
        return unit_rows(values)
    except GalleryError as error:
        raise _bad(path, line, "the embedding is zero or not finite", "Encode the image again") from error


def _variant(record: Mapping[str, str], taken: Mapping[Variant, Float32]) -> Variant:
    model, flip, gray = (record.get(name, "").strip() for name in ("model", "flip", "gray"))
    occurrence = 0
    while Variant(model, flip, gray, occurrence) in taken:
        occurrence += 1
    return Variant(model, flip, gray, occurrence)


def _stacked(collected: dict[str, dict[Variant, Float32]], path: Path) -> Encodings:
    """One array from the rows of each image, which are let go as they are copied."""
    if not collected:
        raise FormatError(f"{path.name} holds none of the listed images. Check that img_name starts with it.")
    ids = tuple(collected)
    variants = tuple(sorted(collected[ids[0]], key=lambda v: (v.model, v.flip, v.gray, v.occurrence)))
    size = len(collected[ids[0]][variants[0]])
    rows = np.empty((len(ids), len(variants), size), dtype=np.float32)
    for index, image in enumerate(ids):
        own = collected.pop(image)
        if own.keys() != set(variants):
            problem = f"image {image} has {len(own)} rows, not the {len(variants)} of image {ids[0]}"
            raise FormatError(f"{path.name}: {problem}. Encode all images with the same members and views.")
        for row, variant in enumerate(variants):
            rows[index, row] = own[variant]
    return Encodings(ids, variants, rows)


def _identifier(text: str) -> str:
    """Text of an identifier; `12.0`, as tables with gaps are often written, is 12."""
    return re.sub(r"^(\d+)\.0+$", r"\1", text.strip())


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    try:
        file = path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise FormatError(f"{path.name} cannot be read ({error.strerror}). Check the path.") from error
    with file:
        yield file


@contextmanager
def _long_fields() -> Iterator[None]:
    before = csv.field_size_limit(FIELD_LIMIT)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _bad(path: Path, line: int, problem: str, remedy: str) -> FormatError:
    return FormatError(f"{path.name}, line {line}: {problem}. {remedy}.")
