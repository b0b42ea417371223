from pathlib import Path

import odenas.space

# With another checkout's environment the tests would test that checkout, and pass.
ROOT = Path(__file__).resolve().parents[1]
FOUND = Path(odenas.space.__file__ or "").resolve()
if not FOUND.is_relative_to(ROOT) and "site-packages" not in FOUND.parts:
    raise RuntimeError(f"`odenas` comes from {FOUND.parents[1]}, not {ROOT}")
