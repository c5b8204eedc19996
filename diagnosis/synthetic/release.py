"""From trained weights to what ships: calibration and evaluation beside them, and the page that shows both.

Cohorts are rendered into `work` once (recipes.py says who is in them) and their aligned faces kept there:
they do not depend on the extractor.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from diagnosis.phenotype.embed.default import ShippedExtractor, extractor_at
from diagnosis.phenotype.embed.ensemble import Ensemble, load_ensemble
from diagnosis.phenotype.ranking.calibration import Calibration
from diagnosis.phenotype.types import FloatArray
from diagnosis.synthetic.calibrate import REFERENCE, calibrate, evaluate_match, rank_held_out
from diagnosis.synthetic.cohort import write_cohort
from diagnosis.synthetic.cohort_faces import CohortFaces, cached_cohort_faces
from diagnosis.synthetic.extractor_evaluation import (
    Embed,
    embed_with,
    embed_with_network,
    evaluate_extractors,
)
from diagnosis.synthetic.generic import read_generic
from diagnosis.synthetic.manifest import MANIFEST_NAME, Cohort, load_cohort
from diagnosis.synthetic.recipes import CALIBRATION, EVALUATION, CohortRecipe
from diagnosis.synthetic.training import machine
from diagnosis.synthetic.training_data import read_shards
from diagnosis.synthetic.training_losses import NO_SYNDROME
from diagnosis.synthetic.training_render import LandmarkError, shard_jobs, write_shard

Say = Callable[[str], None]


def cohort_of(recipe: CohortRecipe, work: Path, workers: int = 1) -> tuple[Cohort, CohortFaces]:
    """The recipe's cohort and its aligned faces, made on first use."""
    folder = work / recipe.name
    if not (folder / MANIFEST_NAME).exists():
        write_cohort(recipe, folder, workers=workers)
    cohort = load_cohort(folder)
    return cohort, cached_cohort_faces(cohort, work / f"{recipe.name}-faces.npz")


def calibrate_extractor(weights: Path, *, work: Path, error: LandmarkError, workers: int = 1) -> Calibration:
    """Fit bands and match score on the calibration cohort, and write them beside the weights."""
    extractor = extractor_at(weights)
    ensemble = _ensemble(extractor)
    cohort, faces = cohort_of(CALIBRATION, work, workers)
    held_out = rank_held_out(cohort, faces, _rows(embed_with(ensemble), faces), extractor.spec.sha256)
    reference = read_shards([write_shard(job) for job in shard_jobs(REFERENCE, error, work)])
    rows = np.asarray(embed_with(ensemble)(np.asarray(reference["pixels"])), dtype=np.float32)
    affected = np.asarray(reference["syndromes"]) != NO_SYNDROME
    about = {
        "cohort": cohort.name,
        "seed": cohort.seed,
        "held_out_affected": int(held_out.affected.sum()),
        "held_out_unaffected": int((~held_out.affected).sum()),
        "reference_people": len(rows),
        "synthetic": True,
        "notice": extractor.card["notice"],
    }
    calibration = calibrate(held_out, rows, affected, model_sha256=extractor.spec.sha256, about=about)
    _write_calibration(weights, calibration)
    return calibration


def evaluate_extractor(
    weights: Path, *, work: Path, generic: Path | None = None, workers: int = 1, say: Say = print
) -> dict[str, Any]:
    """Measure on the evaluation cohort, against the generic recogniser if its archive is given.

    Writes the evaluation beside the weights and returns it. Needs the calibration that
    `calibrate_extractor` writes.
    """
    extractor = extractor_at(weights)
    started = time.process_time()
    cohort, faces = cohort_of(EVALUATION, work, workers)
    say(f"{EVALUATION.name}: {len(faces.pixels)} of {faces.photos} photos aligned")
    embedders = {"default": embed_with(_ensemble(extractor))}
    if generic is not None:
        embedders["generic"] = embed_with_network(read_generic(generic))
    result, embedded = evaluate_extractors(cohort, faces, embedders)
    rows = np.asarray(embedded["default"].embeddings, dtype=np.float32)
    held_out = rank_held_out(cohort, faces, rows, extractor.spec.sha256)
    result["unaffected"] = evaluate_match(extractor.calibration(), held_out)
    result["model_sha256"] = extractor.spec.sha256
    result["machine"] = machine() | {"cpu_s": time.process_time() - started}
    _write_json(weights.with_suffix(".evaluation.json"), result)
    return result


def _ensemble(extractor: ShippedExtractor) -> Ensemble:
    return load_ensemble(extractor.spec, {extractor.card["sha256"]: extractor.weights})


def _rows(embed: Embed, faces: CohortFaces) -> FloatArray:
    return np.asarray(embed(faces.pixels), dtype=np.float32)


def _write_calibration(weights: Path, calibration: Calibration) -> None:
    arrays, facts = calibration.to_arrays()
    save_file(dict(arrays), weights.with_suffix(".calibration.safetensors"))
    _write_json(weights.with_suffix(".calibration.json"), facts)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
