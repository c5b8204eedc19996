"""The gallery: embeddings of diagnosed patients' photos, checked once, never changed, cheap to mask.

Consent is read at every use, so a ranking takes an optional mask of allowed images instead of a new
gallery. A gallery is named by a hash of its content that does not depend on the order of its images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from diagnosis.phenotype.errors import GalleryError
from diagnosis.phenotype.ranking.distance import Float32, embedding_digests, first_identical
from diagnosis.phenotype.ranking.grouping import Grouping, Indices
from diagnosis.phenotype.types import EMBEDDING_SIZE

Mask = npt.NDArray[np.bool_]

#: A float32 normalisation leaves about 1e-7. Beyond this a stored row is damaged or was never normalised.
UNIT_TOLERANCE = 1e-5
#: Images checked at a time, so that the check needs megabytes beside a gallery of any size.
CHECK_BLOCK = 256


@dataclass(frozen=True)
class GalleryImage:
    """One photo: rows (m, 512) float32 unit rows. syndrome "" means undiagnosed (ranked as a patient only).

    genes are the patient's own; where empty, the genes of the syndrome stand in for them.
    """

    key: str
    patient: str
    syndrome: str
    rows: Float32
    genes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Gallery:
    """N photos as (N, m, 512) float32 unit rows, C-contiguous, with one key, patient and syndrome each.

    embeddings is kept, not copied, and made read-only: whoever builds a gallery hands the array over.
    image_genes: () or one tuple per image. syndrome_genes: syndrome key → gene symbols.
    Raises GalleryError if the parts do not fit, keys repeat, or a row is not of unit length. N = 0 is legal.
    """

    embeddings: Float32
    image_keys: tuple[str, ...]
    patients: tuple[str, ...]
    syndromes: tuple[str, ...]
    model_sha256: str
    image_genes: tuple[tuple[str, ...], ...] = ()
    syndrome_genes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_shapes(self)
        _check_keys(self)
        _check_unit_rows(self.embeddings)
        self.embeddings.flags.writeable = False

    @classmethod
    def from_images(
        cls,
        images: Sequence[GalleryImage],
        *,
        model_sha256: str,
        rows: int = 1,
        syndrome_genes: Mapping[str, tuple[str, ...]] | None = None,
    ) -> Gallery:
        """Photos in any order. `rows` (m) is used only for an empty gallery."""
        shape = images[0].rows.shape if images else (rows, EMBEDDING_SIZE)
        embeddings = np.empty((len(images), *shape), dtype=np.float32)
        for index, image in enumerate(images):
            if image.rows.shape != shape:
                found = f"Image {image.key!r} has {len(image.rows)} rows, others {shape[0]}"
                raise GalleryError(f"{found}. Embed it again.")
            embeddings[index] = image.rows
        return cls(
            embeddings=embeddings,
            image_keys=tuple(image.key for image in images),
            patients=tuple(image.patient for image in images),
            syndromes=tuple(image.syndrome for image in images),
            model_sha256=model_sha256,
            image_genes=tuple(image.genes for image in images),
            syndrome_genes=dict(syndrome_genes or {}),
        )

    def __len__(self) -> int:
        return len(self.image_keys)

    @property
    def rows(self) -> int:
        """m, the rows per photo."""
        return int(self.embeddings.shape[1])

    @property
    def flat(self) -> Float32:
        """(N, m·512) view of the embeddings, rows laid end to end."""
        return self.embeddings.reshape(len(self), self.rows * EMBEDDING_SIZE)

    @cached_property
    def genes(self) -> tuple[tuple[str, ...], ...]:
        """Genes of each image: the patient's own, else those of the syndrome."""
        own = self.image_genes or ((),) * len(self)
        return tuple(
            mine or tuple(self.syndrome_genes.get(syndrome, ()))
            for mine, syndrome in zip(own, self.syndromes, strict=True)
        )

    @cached_property
    def by_syndrome(self) -> Grouping:
        return Grouping.from_keys([(key,) if key else () for key in self.syndromes])

    @cached_property
    def by_gene(self) -> Grouping:
        return Grouping.from_keys(self.genes)

    @cached_property
    def by_patient(self) -> Grouping:
        return Grouping.from_keys([(key,) for key in self.patients])

    @cached_property
    def patient_index(self) -> Indices:
        """(N,) intp: position of each image's patient in `by_patient.keys`."""
        return self.by_patient.group_of_image(len(self))

    @cached_property
    def syndrome_index(self) -> Indices:
        """(N,) intp: position of each image's syndrome in `by_syndrome.keys`, −1 for undiagnosed."""
        return self.by_syndrome.group_of_image(len(self))

    @cached_property
    def key_place(self) -> Indices:
        """(N,) intp: place of each image when all are sorted by key."""
        ascending = sorted(range(len(self)), key=self.image_keys.__getitem__)
        place = np.empty(len(self), dtype=np.intp)
        place[ascending] = np.arange(len(self))
        return place

    @cached_property
    def first_identical(self) -> Indices | None:
        """(N,) intp: the first image with bit-identical embeddings; None where all images differ."""
        return first_identical(self.flat, self._embedding_digests)

    @cached_property
    def version(self) -> str:
        """sha256 (hex) over model, m and all images; the same for the same images in any order."""
        return self.version_of(None)

    def version_of(self, allowed: Mask | None) -> str:
        """Version of what a mask leaves: equal to `subset(allowed).version`, without the copy."""
        order = self._digest_order
        if allowed is not None:
            order = order[self.checked(allowed)[order]]
        content = hashlib.sha256(f"gestaltweb-gallery-1|{self.model_sha256}|{self.rows}|".encode())
        content.update(self._image_digests[order].tobytes())
        return content.hexdigest()

    def checked(self, allowed: Mask) -> Mask:
        """The mask, if it is (N,) bool; GalleryError otherwise."""
        if allowed.shape != (len(self),) or allowed.dtype != np.bool_:
            raise GalleryError(f"A mask for this gallery is ({len(self)},) bool. Build it from its keys.")
        return allowed

    def subset(self, allowed: Mask) -> Gallery:
        """A new gallery of the images that the (N,) bool mask allows (copies their embeddings)."""
        kept = np.flatnonzero(self.checked(allowed)).tolist()
        return Gallery(
            embeddings=self.embeddings[kept],
            image_keys=tuple(self.image_keys[index] for index in kept),
            patients=tuple(self.patients[index] for index in kept),
            syndromes=tuple(self.syndromes[index] for index in kept),
            model_sha256=self.model_sha256,
            image_genes=tuple(self.image_genes[index] for index in kept) if self.image_genes else (),
            syndrome_genes=self.syndrome_genes,
        )

    def without_patients(self, *patients: str) -> Gallery:
        """A new gallery without any photo of these patients. Patients it never had are ignored."""
        gone = set(patients)
        return self.subset(np.array([patient not in gone for patient in self.patients], dtype=np.bool_))

    @cached_property
    def _embedding_digests(self) -> tuple[bytes, ...]:
        return embedding_digests(self.flat)

    @cached_property
    def _image_digests(self) -> npt.NDArray[np.uint8]:
        """(N, 32) uint8: one digest per image over its key, patient, syndrome, genes and embeddings."""
        digests = bytearray()
        columns = zip(
            self.image_keys, self.patients, self.syndromes, self.genes, self._embedding_digests, strict=True
        )
        for key, patient, syndrome, genes, embedding in columns:
            words = [key, patient, syndrome, *sorted(genes)]
            # Lengths go in front, so that no two different lists of words run together to the same bytes.
            labels = "".join(f"{len(word)}:{word}" for word in words).encode()
            digests += hashlib.sha256(labels + b"|" + embedding).digest()
        return np.frombuffer(bytes(digests), dtype=np.uint8).reshape(len(self), 32)

    @cached_property
    def _digest_order(self) -> Indices:
        rows = [digest.tobytes() for digest in self._image_digests]
        return np.asarray(sorted(range(len(rows)), key=rows.__getitem__), dtype=np.intp)


def _check_shapes(gallery: Gallery) -> None:
    array = gallery.embeddings
    if array.ndim != 3 or array.shape[1] < 1 or array.shape[2] != EMBEDDING_SIZE or array.dtype != np.float32:
        got = f"{array.shape} {array.dtype}"
        raise GalleryError(f"Gallery embeddings are (N, m, 512) float32, not {got}. Embed the photos again.")
    if not array.flags.c_contiguous:
        raise GalleryError("Gallery embeddings must lie C-contiguous in memory. Use numpy.ascontiguousarray.")
    columns = {"image_keys": gallery.image_keys, "patients": gallery.patients, "syndromes": gallery.syndromes}
    if gallery.image_genes:
        columns["image_genes"] = gallery.image_genes  # type: ignore[assignment]
    for name, column in columns.items():
        if len(column) != len(array):
            raise GalleryError(f"{len(array)} embeddings but {len(column)} {name}. Give one for each image.")


def _check_keys(gallery: Gallery) -> None:
    if not gallery.model_sha256:
        raise GalleryError("A gallery must name its model. Give the sha256 of the model that embedded it.")
    if len(set(gallery.image_keys)) != len(gallery.image_keys):
        raise GalleryError("Two gallery images have the same key. Give each image its own.")
    if not all(gallery.image_keys) or not all(gallery.patients):
        raise GalleryError("A gallery image has an empty key or no patient. Name both.")


def _check_unit_rows(embeddings: Float32) -> None:
    for start in range(0, len(embeddings), CHECK_BLOCK):
        block = embeddings[start : start + CHECK_BLOCK]
        squares = np.einsum("nmd,nmd->nm", block, block)
        # A NaN compares as False, so ask for "all within" and never for "any outside".
        if not np.all(np.abs(squares - 1.0) <= 2.0 * UNIT_TOLERANCE):
            raise GalleryError("A gallery row is not of unit length. Normalise it or embed that photo again.")
