"""Makes the tests' own helper modules importable under importlib mode."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "secagg"))
sys.path.insert(0, str(Path(__file__).parent / "learning"))
