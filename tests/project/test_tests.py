"""The tests' own house."""

import ast

import pytest

from tests.helpers.commands import ROOT

MODULES = sorted((ROOT / "tests").rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=[str(path.relative_to(ROOT)) for path in MODULES])
def test_no_module_imports_a_test_module(path):
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    tests = {name for name in imported if any(part.startswith("test_") for part in name.split("."))}
    assert not {name for name in tests if name.startswith("tests.")}
