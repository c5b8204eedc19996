"""The clinic's fixtures (model, photos, gallery, worker) serve the security tests as well."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_path = Path(__file__).resolve().parents[1] / "clinic" / "conftest.py"
_spec = importlib.util.spec_from_file_location("clinic_fixtures", _path)
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)

compact_file = _module.compact_file
install = _module.install
extractor = _module.extractor
photo_bytes = _module.photo_bytes
run_jobs = _module.run_jobs
make_gallery = _module.make_gallery
