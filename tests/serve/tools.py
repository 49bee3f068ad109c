"""Programs beside the server that the proofs share."""

import os
import subprocess
from pathlib import Path

from server import KEYS, ROOT


def load_client():
    """The load generator of scripts/bench, built where it is not yet."""
    folder = ROOT / "scripts/bench.d/load"
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "load"
    built = subprocess.run(["cargo", "build", "--release", "--locked", "--quiet"], cwd=folder, stderr=subprocess.PIPE,
                           text=True, env={**os.environ, "CARGO_TARGET_DIR": str(target)})
    if built.returncode:
        raise AssertionError(f"the load generator does not build: {built.stderr[-500:]}")
    return target / "release/load"


def credentials(folder):
    """A credentials file with the keys of the tests."""
    path = folder / "credentials"
    path.write_text(f"[default]\naws_access_key_id = {KEYS['KENNEL_ROOT_ACCESS_KEY_ID']}\n"
                    f"aws_secret_access_key = {KEYS['KENNEL_ROOT_SECRET_ACCESS_KEY']}\n")
    path.chmod(0o600)
    return path
