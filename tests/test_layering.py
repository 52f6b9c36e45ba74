"""The rooms of the package: a row imports only from rows above it, and there are no circles."""

import ast
import graphlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "ar_net_jax"

# From bottom to top. Rooms of one row may know each other in one direction.
ROWS = [
    ("errors", "ops", "config", "runtime"),
    ("backbones",),
    ("modules",),
    ("losses", "costs", "topology"),
    ("methods",),
    ("experiment", "recipes"),
    ("data",),
    ("weights",),
    ("checkpoints", "inference"),
    ("evaluation",),
    ("training",),
    ("reporting", "benchmarks", "demo", "compare", "publish"),
    ("cli",),
]
ROW_OF = {room: row for row, rooms in enumerate(ROWS) for room in rooms}
# The package's own names are imported lazily from the rooms that define them.
OUTSIDE = ("__init__", "__main__")


def _imported(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Modules that a file imports, at its top or in a function, with the line.

    What is imported for type checkers alone is no import of the running program.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from (found for other in node.orelse for found in _imported(other))
        elif isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            # `from ar_net_jax import recipes` imports a room too.
            names = [f"{module}.{alias.name}" for alias in node.names]
            yield from ((name, node.lineno) for name in names)
        else:
            yield from _imported(node)


def _arrows(package: Path) -> dict[tuple[str, str], list[str]]:
    """(importing room, imported room) -> where."""
    arrows: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in sorted(package.rglob("*.py")):
        room = path.relative_to(package).parts[0].removesuffix(".py")
        if room in OUTSIDE:
            continue
        for module, line in _imported(ast.parse(path.read_text())):
            names = module.split(".")
            if names[0] == "ar_net_jax" and len(names) > 1 and names[1] != room:
                arrows[room, names[1]].append(f"{path.relative_to(package.parent)}:{line}")
    return arrows


@pytest.fixture(scope="module")
def arrows() -> dict[tuple[str, str], list[str]]:
    return _arrows(PACKAGE)


def test_every_room_has_a_row(arrows: dict[tuple[str, str], list[str]]) -> None:
    parts = {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if path.suffix != ".typed"}
    # In an installed package, the shipped folders lie here.
    assert parts - {*OUTSIDE, "__pycache__", "configs", "datasets"} == set(ROW_OF)
    assert {room for arrow in arrows for room in arrow} <= set(ROW_OF)


def test_a_row_imports_only_from_rows_above_it(arrows: dict[tuple[str, str], list[str]]) -> None:
    wrong = {
        f"{room} imports {other}": where
        for (room, other), where in arrows.items()
        if ROW_OF[other] > ROW_OF[room]
    }
    assert not wrong


def test_there_are_no_circles(arrows: dict[tuple[str, str], list[str]]) -> None:
    sorter = graphlib.TopologicalSorter[str]()
    for room, other in arrows:
        sorter.add(room, other)
    order = list(sorter.static_order())
    assert order.index("cli") == len(order) - 1


def test_imports_are_found_wherever_they_stand(tmp_path: Path) -> None:
    package = tmp_path / "ar_net_jax"
    (package / "ops").mkdir(parents=True)
    (package / "ops" / "x.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "from ar_net_jax import recipes\n"
        "from ar_net_jax.ops.y import z\n"
        "if TYPE_CHECKING:\n"
        "    from ar_net_jax.demo.run import run_demo\n"
        "def f():\n"
        "    import ar_net_jax.training.loop\n"
    )
    assert _arrows(package) == {
        ("ops", "recipes"): ["ar_net_jax/ops/x.py:2"],
        ("ops", "training"): ["ar_net_jax/ops/x.py:7"],
    }
