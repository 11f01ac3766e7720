"""Imports point inwards (style.md, "Layers"): words, pure cores, shells, node, clusters on one machine, what shows and
measures them, and the command line.

Read by ast, so imports inside functions count too.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "appliance"

WORDS, CORE, SHELL, NODE, LOCAL, SHOW, CLI = range(7)
LAYER = {
    "words": WORDS,
    "consensus": CORE,
    "rounds": CORE,
    "lineage": CORE,
    "aggregation": CORE,
    "envelopes.format": CORE,
    "delivery": CORE,
    "envelopes": SHELL,
    "tokens": SHELL,
    "mesh": SHELL,
    "datagrams": SHELL,
    "storage": SHELL,
    "systemd": SHELL,
    "training": SHELL,
    "operator_api": SHELL,
    "pki": SHELL,
    "node": NODE,
    "node.core": NODE,
    "local": LOCAL,
    "demo": SHOW,
    "experiment": SHOW,
    "cli": CLI,
}
"""The most precise name counts. ``node.core`` joins the cores and is as pure as they are (``PURE``)."""

PURE = {"consensus", "rounds", "lineage", "aggregation", "envelopes.format", "delivery", "node.core"}
IMPURE_MODULES = {
    *("socket", "ssl", "asyncio", "threading", "multiprocessing", "subprocess", "time", "datetime", "os", "pathlib"),
    *("tempfile", "shutil", "logging", "secrets", "random", "torch", "aiohttp", "cryptography"),
}
MAY = {
    # They are handed their source of randomness, and name its type: random.Random. Its functions stay forbidden.
    ("consensus", "random"),
    ("delivery", "random"),
}

NEIGHBOURS = {
    # Whole files, durable and atomic: the one way to write, so that no shell invents a second one (invariant 9).
    ("training", "storage.files"),
    ("pki", "storage.files"),
    # Secrets are read by one function, which refuses a file that others may read too.
    ("datagrams", "storage.guarded"),
    ("pki", "storage.guarded"),
    # The driver of consensus is the shell that keeps its promise "durable, then send": it owns log and socket.
    ("datagrams", "storage.log"),
    # The mesh is mutual TLS: who a peer is, is what its certificate says.
    ("mesh", "pki.identity"),
}
"""Shells that may know another shell, and why. All else goes through node."""

FORBIDDEN_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
FORBIDDEN_CALLS = {"eval", "exec", "torch.load", "numpy.load", "np.load", "__import__"}


def _modules() -> Iterator[tuple[str, ast.Module]]:
    """Yield each module's name below the package, and its tree."""
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        yield name, ast.parse(file.read_text(), str(file))


def _imports(tree: ast.Module) -> Iterator[str]:
    """Yield the dotted name of everything imported: of a module, or of a name in a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _part(module: str) -> str:
    """Return the part of the product that a module belongs to, by the most precise name in LAYER."""
    names = module.split(".")
    found = next((".".join(names[:size]) for size in (2, 1) if ".".join(names[:size]) in LAYER), None)
    assert found is not None, f"{module} belongs to no layer: name its part in LAYER"
    return found


def _own_imports() -> Iterator[tuple[str, str]]:
    """Yield (importing module, imported name), both below the package; the package itself holds only its version."""
    for module, tree in _modules():
        for name in _imports(tree):
            if name.split(".")[0] == "appliance" and name != "appliance.__version__" and module:
                yield module, name.removeprefix("appliance.")


def test_imports_point_inwards_or_stay_at_home() -> None:
    wrong = []
    for module, name in _own_imports():
        part, other = _part(module), _part(name)
        at_home = module.split(".")[0] == name.split(".")[0]
        neighbour = any((part, name[: len(allowed)]) == (user, allowed) for user, allowed in NEIGHBOURS)
        if not at_home and not neighbour and LAYER[other] >= LAYER[part]:
            wrong.append(f"{module} imports {name}")
    assert wrong == []


def test_nothing_at_home_makes_a_core_impure() -> None:
    """What shares a folder with shells must not import them: envelopes' format, and the node's core."""
    own = set(_own_imports())
    wrong = [
        f"{module} imports {name}"
        for module, name in own
        if _part(module) in PURE and _part(name) not in {*PURE, "words"}
    ]
    assert wrong == []


def test_only_the_nodes_core_knows_more_than_one_core() -> None:
    wrong = [
        f"{module} imports {name}"
        for module, name in _own_imports()
        if _part(module) in PURE - {"node.core"} and _part(name) in PURE - {_part(module)}
    ]
    assert wrong == []


def test_cores_do_no_io_and_know_no_clock_thread_or_chance() -> None:
    wrong = []
    for module, tree in _modules():
        if not module or _part(module) not in PURE:
            continue
        for name in _imports(tree):
            top = name.split(".")[0]
            if top in IMPURE_MODULES and (_part(module), top) not in MAY:
                wrong.append(f"{module} imports {name}")
        # A generator that is handed in is called as self._random.uniform: a module's function as random.uniform.
        wrong += [
            f"{module} calls {call}" for call in _calls(tree) if call.startswith("random.") and call != "random.Random"
        ]
        wrong += [f"{module} awaits" for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef | ast.Await)]
        wrong += [f"{module} calls {call}" for call in _calls(tree) if call in {"open", "print", "input"}]
    assert wrong == []


def _calls(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def test_words_import_only_words_and_no_shell_of_the_system() -> None:
    # words.clock holds the one clock of the product beside the protocol that it fills; settings name files as paths.
    may = {("words.clock", "time"), ("words.settings", "pathlib")}
    for module, tree in _modules():
        if module and _part(module) == "words":
            tops = {name.split(".")[0] for name in _imports(tree)}
            assert not {top for top in tops & IMPURE_MODULES if (module, top) not in may}, module


def test_nothing_is_unpickled_or_evaluated() -> None:
    """Invariant 8, for the product; the archives of data sets included."""
    wrong = []
    for module, tree in _modules():
        wrong += [f"{module} imports {name}" for name in _imports(tree) if name.split(".")[0] in FORBIDDEN_MODULES]
        wrong += [f"{module} calls {call}" for call in _calls(tree) if call in FORBIDDEN_CALLS]
    assert wrong == []


@pytest.mark.parametrize("library", ["torch", "torchvision"])
def test_torch_lives_in_training_alone(library: str) -> None:
    users = {
        module.split(".")[0]
        for module, tree in _modules()
        if library in {name.split(".")[0] for name in _imports(tree)}
    }
    assert users == {"training"}


def test_every_exception_is_used() -> None:
    """A permission that nothing needs is one that nobody would miss when it is abused."""
    own = set(_own_imports())
    for part, name in NEIGHBOURS:
        assert any(_part(module) == part and imported.startswith(name) for module, imported in own), (part, name)
    for part, library in MAY:
        assert any(
            library in {name.split(".")[0] for name in _imports(tree)}
            for module, tree in _modules()
            if module and _part(module) == part
        ), (part, library)
