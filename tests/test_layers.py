"""A folder is a room, and imports point down; the command line starts without the heavy libraries."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import cxrkit

PACKAGE = Path(cxrkit.__file__).parent
# Top to bottom. A room may import from its own floor and from those below it, and never in a circle.
FLOORS = [
    ["__main__"],
    ["cli"],
    ["demo", "doctor"],
    ["reproduce"],
    ["pipeline"],
    ["standards", "films", "export"],
    ["audit", "explain", "report", "external"],
    ["trainers", "predict", "feed"],
    ["imports"],
    ["evaluators"],
    ["loaders"],
    ["prepare", "download"],
    ["recipes", "models", "losses", "trackers"],
    ["runs"],
    ["datasets"],
    ["shards", "sources", "statistics"],
    ["base"],
]
HEIGHT = {room: -floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# The rooms of report, each of which may import from those after it.
REPORT = ["request", "beforehand", "everything", "panel", "data", "each_run", "other_labels", "paper", "comparing"]
REPORT += ["rendering", "evidence", "literature", "document"]


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def modules(path: Path) -> set[str]:
    """Modules that the file imports from anywhere in it: inside functions, and for types alone, too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "cxrkit":
            found |= {f"cxrkit.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names if node.module == "cxrkit.report"}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def imported(path: Path) -> set[str]:
    """Rooms that the file imports from."""
    parts = [module.split(".") for module in modules(path)]
    return {part[1] for part in parts if part[0] == "cxrkit" and len(part) > 1 and not part[1].startswith("__version")}


def rooms() -> dict[str, set[str]]:
    """Each room with the other rooms that it imports from."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        if (room := room_of(path)) != "__init__":
            found.setdefault(room, set()).update(imported(path) - {room})
    return found


def test_every_room_has_its_floor_and_every_floor_its_rooms() -> None:
    assert rooms().keys() == HEIGHT.keys()


def test_imports_point_down() -> None:
    upwards = [
        f"{room} imports {other}"
        for room, others in rooms().items()
        for other in others
        if HEIGHT.get(other, 1) > HEIGHT[room]
    ]
    assert not upwards


def test_no_room_is_in_a_circle() -> None:
    """Rooms of one floor may look into each other, in one direction."""
    left = rooms()
    while free := [room for room, others in left.items() if not others & left.keys()]:
        for room in free:
            del left[room]
    assert not left


def test_imports_in_report_point_down() -> None:
    upwards = []
    for path in (PACKAGE / "report").rglob("*.py"):
        room = path.relative_to(PACKAGE / "report").parts[0].removesuffix(".py")
        if room != "__init__":
            parts = [module.split(".") for module in modules(path)]
            others = {part[2] for part in parts if part[:2] == ["cxrkit", "report"] and len(part) > 2} - {room}
            upwards += [f"{path.name} imports {other}" for other in others if REPORT.index(other) < REPORT.index(room)]
    assert not upwards


def test_every_field_of_a_record_is_documented_by_itself() -> None:
    """By a line below it, a comment behind it, or the help text of a setting."""
    bare = []
    for path in PACKAGE.rglob("*.py"):
        lines = path.read_text().splitlines()
        for record in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(record, ast.ClassDef) and any("dataclass" in ast.unparse(d) for d in record.decorator_list):
                for item, following in zip(record.body, [*record.body[1:], None], strict=True):
                    if not isinstance(item, ast.AnnAssign) or ast.unparse(item.target).startswith("_"):
                        continue
                    below = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
                    behind = "  # " in lines[item.lineno - 1]
                    helped = item.value is not None and "help" in ast.unparse(item.value)
                    helped |= item.value is not None and ast.unparse(item.value).startswith("setting(")
                    if not (below or behind or helped or record.name.startswith("_")):
                        bare.append(f"{path.name}: {record.name}.{ast.unparse(item.target)}")
    assert not bare


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nsys.argv = ['cxrkit', '--help']\nfrom cxrkit.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'torchvision', 'nvidia', 'h5py', 'matplotlib', 'cv2', 'sklearn', 'polars', 'numpy'}\n"
        "print('LOADED', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "LOADED []" in done.stdout
