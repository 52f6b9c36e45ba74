"""No code outside `methods/` and `backbones/` knows a method or a backbone by its name or class."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import ar_net_jax
from ar_net_jax import backbones, methods

PACKAGE = Path(ar_net_jax.__file__).parent
# Set-ups, and the defaults of configs, name what they use: as plain data, which nothing asks for.
SETUPS = (
    "compare/studies.py",
    "compare/study.py",
    "recipes/building.py",
    "recipes/other_methods.py",
    "recipes/paper.py",
    "demo/plan.py",
    "demo/run.py",
    "modules/multi_backbone.py",
    "modules/policy.py",
)
OWN_ROOMS = ("methods", "backbones")
# Other things of the same name: the loss of eq. 11, and a kind of layer.
HOMONYMS = {("losses.py", "'uniform'"), ("weights/released/keys.py", "'lstm'")}


def _classes() -> frozenset[str]:
    """Names of the methods' classes, and of the backbones'."""
    found = {methods.get(name).__name__ for name in methods.registry._SHIPPED}
    return frozenset(found | {type(backbones.get(name)).__name__ for name in backbones._SHIPPED})


def _names() -> frozenset[str]:
    return frozenset(methods.registry._SHIPPED) | frozenset(backbones._SHIPPED)


def _docstrings(tree: ast.Module) -> set[int]:
    """Ids of the constants that are strings standing by themselves: docstrings."""
    return {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }


def _asked(node: ast.AST) -> Iterator[ast.AST]:
    """What a node compares, looks up, or asks the class of."""
    if isinstance(node, ast.Compare):
        yield from (node.left, *node.comparators)
    elif isinstance(node, ast.Dict):
        yield from (key for key in node.keys if key is not None)
    elif isinstance(node, ast.MatchValue):
        yield node.value
    elif isinstance(node, ast.MatchClass):
        yield node.cls
    elif isinstance(node, ast.Subscript):
        yield node.slice
    elif isinstance(node, ast.Call):
        called = node.func.id if isinstance(node.func, ast.Name) else ""
        if called in ("isinstance", "issubclass"):
            yield from node.args[1:]


def _imported(tree: ast.Module) -> set[str]:
    """What a module imports from the two rooms, by the name that it has there."""
    rooms = tuple(f"ar_net_jax.{room}" for room in OWN_ROOMS)
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(rooms)
        for alias in node.names
    }


def _is_class(node: ast.AST, classes: frozenset[str], imported: set[str]) -> bool:
    """Whether a node is a class of the two rooms, by itself or by its module."""
    if isinstance(node, ast.Attribute):
        base = node.value
        return node.attr in classes and isinstance(base, ast.Name) and base.id in imported
    return isinstance(node, ast.Name) and node.id in classes & imported


def find_names(
    source: str, names: frozenset[str], classes: frozenset[str], *, setup: bool = False
) -> list[tuple[int, str]]:
    """Lines that know a method or backbone, and what they know it by.

    Args:
        source: of a module.
        names: of methods and backbones.
        classes: of methods and backbones.
        setup: whether plain data may hold names, which are then only not to be asked for.
    """
    tree = ast.parse(source)
    docstrings, imported, found = _docstrings(tree), _imported(tree), set()
    for node in ast.walk(tree):
        # The keys of a set-up's dictionaries name its variants.
        for asked in () if setup and isinstance(node, ast.Dict) else _asked(node):
            for inner in ast.walk(asked):
                if isinstance(inner, ast.Constant) and inner.value in names:
                    found.add((inner.lineno, repr(inner.value)))
                elif _is_class(inner, classes, imported):
                    found.add((inner.lineno, ast.unparse(inner)))
        plain = isinstance(node, ast.Constant) and not setup and id(node) not in docstrings
        if plain and isinstance(node.value, str) and node.value in names:
            found.add((node.lineno, repr(node.value)))
    return sorted(found)


def _modules() -> Iterator[Path]:
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.relative_to(PACKAGE).parts[0] not in OWN_ROOMS:
            yield path


def test_only_their_own_rooms_know_methods_and_backbones() -> None:
    names, classes = _names(), _classes()
    violations = [
        f"{path.relative_to(PACKAGE.parent)}:{line}: {what}"
        for path in _modules()
        for line, what in find_names(
            path.read_text(), names, classes, setup=path.relative_to(PACKAGE).as_posix() in SETUPS
        )
        if (path.relative_to(PACKAGE).as_posix(), what) not in HOMONYMS
    ]
    assert not violations, "\n" + "\n".join(violations)


IMPORTS = "from ar_net_jax.methods import ar_net\nfrom ar_net_jax.methods.ar_net import ARNet\n"
NAMES, CLASSES = frozenset({"ar_net", "resnet50"}), frozenset({"ARNet"})


@pytest.mark.parametrize(
    "source",
    [
        "x == 'ar_net'",
        "x != 'resnet50'",
        "x in ('ar_net', 'other')",
        "x not in {'resnet50'}",
        "{'ar_net': 1}",
        "table['ar_net']",
        "match x:\n    case 'ar_net':\n        pass",
        "match x:\n    case ARNet():\n        pass",
        "isinstance(x, ARNet)",
        "issubclass(x, (int, ar_net.ARNet))",
        "x is ARNet",
        "run('ar_net')",
        "X = ('resnet50',)",
        "def f(x='ar_net'):\n    pass",
    ],
)
def test_each_way_to_know_one_is_found(source: str) -> None:
    assert find_names(IMPORTS + source, NAMES, CLASSES)


@pytest.mark.parametrize(
    "source",
    [
        "'ar_net'",
        "def f():\n    'ar_net'",
        "import ar_net",
        "x == 'ar_net_2'",
        "x == method.name",
        "x is ARNet",
    ],
)
def test_docstrings_and_other_names_are_none(source: str) -> None:
    assert not find_names(source, NAMES, CLASSES)


def test_a_set_up_may_hold_names_but_not_ask_for_them() -> None:
    assert not find_names("start('ar_net', backbone='resnet50')", NAMES, CLASSES, setup=True)
    assert find_names("x == 'ar_net'", NAMES, CLASSES, setup=True)


def test_a_violation_is_named_by_its_line() -> None:
    assert find_names("y = 1\nx == 'ar_net'\n", NAMES, CLASSES) == [(2, "'ar_net'")]
