"""Calls go down the written layer order and never back up: csrc/LAYERS for the C core, PYTHON_LAYERS here for the package.

What it cannot see: a call through a function pointer (that is the allowed way up) and an import built from a string.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE = ROOT / "csrc"
PACKAGE = ROOT / "tensorcore"
LINE_LIMIT = 500  # a file this long is two files

# Top first. Modules on one line are one layer and may import each other; a package (cli) stands for all its modules.
PYTHON_LAYERS = (
    ("__main__",),
    ("cli",),
    ("__init__",),
    ("_namespace",),
    ("_creation_like", "_data_types", "_elementwise", "_elementwise_pairs", "_manipulation", "_reducing", "fft", "linalg"),
    ("_api",),
    ("simd",),
    ("_simd_device", "_simd_general"),
    ("_hook", "_creation", "_allocation", "kernels"),
    ("_tensor", "_cupy_hook", "_kernel_copies", "_kernel_expression", "_kernel_maps"),
    ("_methods", "_pickling"),
    ("_elements",),
    ("_reductions",),
    ("_compute",),
    ("_device_compute",),
    ("_cupy_pools", "_dlpack", "_kernels", "_torch", "numba_plugin"),
    ("_interfaces", "_transfer"),
    ("_described", "_global", "_simd_expression"),
    ("_pool", "_scope", "_snapshot"),
    ("_scope_statistics", "_pool_base", "_cpu", "_cuda"),
    ("_options", "_runs", "_statistics", "_device_array", "_defaults"),
    ("_backend", "_fake_device", "_runtime_upstream"),
    ("_callbacks", "_upstream"),
    ("_lib",),
    ("_cupy",),
    ("_errors", "_gpus", "_host", "_kernel_operands"),
    ("_cuda_driver", "_import_hook", "_machine", "_nvml", "_registry", "_sheets", "_streams"),
    ("_units",),
)
COMPILED = "_core"  # imported by _lib alone


# ---- C ---------------------------------------------------------------------------------------------------------------------------

COMMENT_OR_STRING = re.compile(r"""/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\])'""", re.DOTALL)
DEFINITION = re.compile(r"^(?!static\b|typedef\b|extern\b)[A-Za-z_][^;{}()=]*?\b(tci?_\w+)\s*\([^;{}]*\)\s*\{", re.MULTILINE)
VARIABLE = re.compile(
    r"^(?!static\b|typedef\b|extern\b|return\b)[A-Za-z_][\w \t*]*?\b(tci_\w+)\s*(?:\[[^\]]*\])?\s*(?:=|;)", re.MULTILINE
)
WORD = re.compile(r"\btci?_\w+")
INCLUDE = re.compile(r'^#include "([^"]+)"', re.MULTILINE)


def read_core_layers() -> dict[str, int]:
    """Return the layer of each file stem of csrc/LAYERS, 0 at the top."""
    lines = [line.split() for line in (CORE / "LAYERS").read_text().splitlines() if line and not line.startswith("#")]
    return {stem: layer for layer, stems in enumerate(lines) for stem in stems}


def defined_names(code: str) -> set[str]:
    """Return the tc_ and tci_ functions and variables that `code`, a C file without comments, defines for other files."""
    return {match[1] for pattern in (DEFINITION, VARIABLE) for match in pattern.finditer(code)}


def upward_names(layers: dict[str, int], sources: dict[str, str]) -> list[str]:
    """Return a line for each name that a file uses and a file of a higher layer defines."""
    code = {stem: COMMENT_OR_STRING.sub(" ", source) for stem, source in sources.items()}
    home = {name: stem for stem, text in code.items() for name in defined_names(text)}
    return sorted(
        f"{stem}.c uses {name} of {home[name]}.c, which stands above it"
        for stem, text in code.items()
        for name in set(WORD.findall(text)) & home.keys()
        if layers[home[name]] < layers[stem]
    )


def core_sources() -> dict[str, str]:
    """Return the text of each C file of the core by its stem."""
    return {path.stem: path.read_text() for path in CORE.glob("*.c")}


def test_every_c_file_has_its_place_in_the_layer_list() -> None:
    """csrc/LAYERS names the core's C files, all of them and nothing else."""
    assert set(read_core_layers()) == set(core_sources())


def test_c_files_use_only_names_of_their_own_layer_or_below() -> None:
    """No C file names a function or variable that a file above it defines."""
    assert upward_names(read_core_layers(), core_sources()) == []


def test_c_files_include_no_header_of_a_higher_layer() -> None:
    """A header that bears the name of a layer's file is included from that layer or above."""
    layers = read_core_layers()
    upward = [
        f"{path.name} includes {included}"
        for path in (*CORE.glob("*.c"), *CORE.glob("*.h"))
        for included in INCLUDE.findall(path.read_text())
        if layers.get(Path(included).stem, len(layers)) < layers.get(path.stem, 0)
    ]
    assert upward == []


def test_the_glue_for_python_knows_only_the_public_header() -> None:
    """csrc/python is a user of the core like any other: it includes the public headers and its own."""
    glue = CORE / "python"
    own = {path.name for path in glue.glob("*.h")}
    included = {name for path in glue.glob("*.[ch]") for name in INCLUDE.findall(path.read_text())}
    assert included - own == {"tensorcore.h", "tensorcore/simd.h"}


def test_the_private_prefix_is_kept_for_names_that_cross_files() -> None:
    """Each `tci_` function is used by another file than the one that defines it; the rest are static."""
    code = {path: COMMENT_OR_STRING.sub(" ", path.read_text()) for path in (*CORE.glob("*.[ch]"), *(ROOT / "tests/c").glob("*.c"))}
    counts = {path: Counter(WORD.findall(text)) for path, text in code.items()}
    words = {
        path: {word for word, count in counted.items() if path.suffix == ".c" or count > 1} for path, counted in counts.items()
    }
    # Once in a header is the declaration; twice, an inline function there uses it.
    lonely = [
        f"{path.name}: {name}"
        for path in words
        if path.suffix == ".c"
        for name in defined_names(code[path])
        if name.startswith("tci_") and not any(name in words[other] for other in words if other != path)
    ]
    assert lonely == []


@pytest.mark.parametrize(
    ("low", "found"),
    [
        ("void tci_low(void) { tci_top(1); }", ["low.c uses tci_top of top.c, which stands above it"]),
        ("void tci_low(void) { hook = tci_top; }", ["low.c uses tci_top of top.c, which stands above it"]),
        ("void tci_low(void) { hook(1); } /* tci_top */", []),
    ],
    ids=["a call", "an address taken", "a pointer that was handed down"],
)
def test_the_check_of_c_files_finds_a_call_back_up(low: str, found: list[str]) -> None:
    """A made-up core in which the lower file reaches up is refused; one that goes through a pointer is not."""
    sources = {"top": "int tci_top(int n) {\n  tci_low();\n  return n;\n}", "low": low}
    assert upward_names({"top": 0, "low": 1}, sources) == found


# ---- Python ----------------------------------------------------------------------------------------------------------------------


def module_name(path: Path) -> str:
    """Return the dotted name of a module of the package, without `tensorcore.`: `cli.run`, `_pool`, `__init__`."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def imported_modules(source: str, module: str) -> Iterator[str]:
    """Yield each module of the package that `source` imports at run time, spelt as by `module_name`, wherever it stands."""
    package = ["tensorcore", *module.split(".")[:-1]]
    pending: list[ast.AST] = [ast.parse(source)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            pending.extend(node.orelse)
            continue
        pending.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
            stem = ".".join(filter(None, (base, node.module)))
            names = [f"{stem}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (resolve(name) for name in names if name.split(".")[0] == "tensorcore")


def resolve(dotted: str) -> str:
    """Return the module that holds `tensorcore.a.b`: the longest leading part that is a module, `__init__` where none is."""
    parts = dotted.split(".")[1:]
    while parts:
        path = PACKAGE.joinpath(*parts)
        if path.with_suffix(".py").exists() or parts == [COMPILED]:
            return ".".join(parts)
        if (path / "__init__.py").exists():
            return ".".join((*parts, "__init__"))
        parts.pop()
    return "__init__"


def python_modules() -> dict[str, str]:
    """Return the source of each module of the package by its name."""
    return {module_name(path): path.read_text() for path in PACKAGE.rglob("*.py")}


def layer_of(module: str) -> int:
    """Return the layer of a module, 0 at the top; a module of a package has the package's layer."""
    layers = {stem: layer for layer, stems in enumerate(PYTHON_LAYERS) for stem in stems}
    return layers[module.split(".")[0]]


def test_every_python_module_has_its_place_in_the_layer_list() -> None:
    """PYTHON_LAYERS names the package's modules, all of them and nothing else."""
    assert {name.split(".")[0] for name in python_modules()} == {stem for stems in PYTHON_LAYERS for stem in stems}


def test_python_modules_import_only_their_own_layer_or_below() -> None:
    """No module imports one that stands above it, at the top of the file or inside a function."""
    upward = [
        f"{name} imports {imported}"
        for name, source in python_modules().items()
        for imported in imported_modules(source, name)
        if imported != COMPILED and layer_of(imported) < layer_of(name)
    ]
    assert upward == []


def test_only_lib_imports_the_compiled_core() -> None:
    """Every C call of the package goes through `_lib`, which turns a status into an exception."""
    importers = {name for name, source in python_modules().items() if COMPILED in imported_modules(source, name)}
    assert importers == {"_lib"}


@pytest.mark.parametrize(
    "source",
    [
        "from . import _core",
        "from ._core import lib",
        "import tensorcore._core",
        "from tensorcore import _core",
        "def f():\n import tensorcore._core",
    ],
)
def test_the_check_of_imports_sees_each_way_to_write_one(source: str) -> None:
    """Relative or absolute, at the top or inside a function: the compiled core is seen."""
    assert list(imported_modules(source, "_pool")) == [COMPILED]


# ---- both ------------------------------------------------------------------------------------------------------------------------


def test_no_source_file_is_longer_than_the_limit() -> None:
    """A file over 500 lines would be easier to live in as two."""
    patterns = (
        "csrc/**/*.[ch]",
        "csrc/**/*.hpp",
        "cuda/*",
        "tensorcore/**/*.py",
        "tests/**/*.py",
        "tests/c/*.[ch]",
        "tests/cpp/*.cpp",
    )
    lengths = {path: len(path.read_text().splitlines()) for pattern in patterns for path in ROOT.glob(pattern)}
    assert {str(path.relative_to(ROOT)): length for path, length in lengths.items() if length > LINE_LIMIT} == {}
