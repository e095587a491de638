"""The installation: what `pip install` makes importable."""

import ast
import fnmatch
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_an_installation_holds_every_room_of_the_package_and_the_commands():
    calls = [node for node in ast.walk(ast.parse((ROOT / "setup.py").read_text())) if isinstance(node, ast.Call)]
    (found,) = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "find_packages"]
    patterns = next(ast.literal_eval(keyword.value) for keyword in found.keywords if keyword.arg == "include")
    folders = {path.parent for name in ("haepo_jax", "experiments") for path in (ROOT / name).rglob("*.py")}
    for folder in folders:
        assert (folder / "__init__.py").exists()
        package = folder.relative_to(ROOT).as_posix().replace("/", ".")
        assert any(fnmatch.fnmatchcase(package, pattern) for pattern in patterns), package
