"""The tests' own house."""

import re

from tests.helpers.commands import ROOT


def test_no_module_imports_a_test_module():
    imports = re.compile(
        r"^\s*(?:from tests\.(?:\w+\.)*test_|from tests[\w.]* import test_|import tests\.\S*test_)", re.M
    )
    assert [path for path in (ROOT / "tests").rglob("*.py") if imports.search(path.read_text())] == []
