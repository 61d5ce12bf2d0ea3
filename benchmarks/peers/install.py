"""Install the peers into an environment of their own.

python benchmarks/peers/install.py [FOLDER]

It borrows torch, numpy and the rest from the interpreter that runs this, so it is small, and what the peers bring along
(other OpenCV builds, MONAI's and FFCV's own needs) stays out of it. Each peer is installed by itself: one that cannot
be is named with the reason, and the others are measured all the same. FFCV is compiled here and needs a C++ compiler,
pkg-config, and the development files of OpenCV and libjpeg-turbo (Debian: libopencv-dev libturbojpeg0-dev pkg-config).
"""

from __future__ import annotations

import argparse
import subprocess
import sysconfig
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DEFAULT = ROOT / "build" / "peers"
BUILD_NEEDS = ("setuptools", "wheel")


def peers() -> list[str]:
    """Return the requirements of the `bench` extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [str(requirement) for requirement in project["optional-dependencies"]["bench"]]


def install(folder: Path) -> dict[str, str]:
    """Make the environment and install every peer; return the reason for each that could not be."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        borrowed = next((folder / "lib").glob("python*")) / "site-packages" / "borrowed.pth"
        borrowed.write_text(sysconfig.get_path("purelib") + "\n")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--no-build-isolation"]
    subprocess.run([*pip, *BUILD_NEEDS], check=True)
    failed = {}
    for requirement in peers():
        done = subprocess.run([*pip, requirement], capture_output=True, text=True)
        if done.returncode:
            lines = [line for line in (done.stdout + done.stderr).splitlines() if "error" in line.lower()]
            failed[requirement] = lines[-1].strip() if lines else f"pip ended with status {done.returncode}"
    return failed


def main() -> None:
    """Install into the folder named, and say what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=DEFAULT)
    folder = parser.parse_args().folder
    failed = install(folder)
    for requirement, reason in failed.items():
        print(f"not installed: {requirement} ({reason})")
    print(f"{len(peers()) - len(failed)} of {len(peers())} peers in {folder}")


if __name__ == "__main__":
    main()
