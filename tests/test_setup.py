"""The installation: what `pip install` makes importable, what it asks for, and what its page says."""

import fnmatch
import functools
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import haepo_jax
from experiments.cli.launch import TRAINING

ROOT = Path(__file__).parent.parent


@functools.cache
def arguments(repository=""):
    """Those of `setup`, without building anything."""
    given = {}
    setuptools, build_py = ModuleType("setuptools"), ModuleType("setuptools.command.build_py")
    setuptools.setup = lambda **keywords: given.update(keywords)
    setuptools.find_packages = lambda include: include
    build_py.build_py = object
    modules = {"setuptools": setuptools, "setuptools.command": ModuleType("command"), build_py.__name__: build_py}
    source = (ROOT / "setup.py").read_text().replace('REPOSITORY = ""', f'REPOSITORY = "{repository}"')
    with pytest.MonkeyPatch.context() as patch:
        for name, module in modules.items():
            patch.setitem(sys.modules, name, module)
        exec(compile(source, "setup.py", "exec"), {"__file__": str(ROOT / "setup.py")})
    return given


def test_an_installation_holds_every_room_of_the_package_and_the_commands():
    folders = {path.parent for name in ("haepo_jax", "experiments") for path in (ROOT / name).rglob("*.py")}
    for folder in folders:
        assert (folder / "__init__.py").exists()
        package = folder.relative_to(ROOT).as_posix().replace("/", ".")
        assert any(fnmatch.fnmatchcase(package, pattern) for pattern in arguments()["packages"]), package


def test_every_file_beside_the_code_is_installed_with_it():
    beside = {
        path.relative_to(ROOT)
        for name in ("haepo_jax", "experiments")
        for path in (ROOT / name).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    held = {
        Path(package.replace(".", "/"), file)
        for package, files in arguments()["package_data"].items()
        for file in files
    }
    assert beside == held


def test_the_losses_ask_for_jax_and_chex_alone():
    assert sorted(re.split("[<>=]", requirement)[0] for requirement in arguments()["install_requires"]) == [
        "chex",
        "jax",
    ]


def test_each_extra_brings_all_that_training_needs():
    extras = arguments()["extras_require"]
    assert [name for name, needed in extras.items() if name != "train" and "haepo_jax[train]" not in needed] == []


def test_a_command_misses_what_the_extra_would_install():
    imported = {"absl-py": "absl", "orbax-checkpoint": "orbax"}
    names = [re.split("[<>=]", requirement)[0] for requirement in arguments()["extras_require"]["train"]]
    modules = {imported.get(name, name.replace("-", "_")) for name in names}
    assert modules - {"chex", "jax", "numpy"} == set(TRAINING)


def test_a_command_of_make_installs_the_extra_that_it_needs():
    makefile = (ROOT / "Makefile").read_text()
    assert re.findall(r"\$\(call install,\[(\w+)\]\)", makefile) == ["train", "test", "docs"]


def test_extras_that_sentences_and_documents_name_exist():
    texts = [path.read_text() for pattern in ("haepo_jax/**/*.py", "configs/**/*.py") for path in ROOT.glob(pattern)]
    texts += [path.read_text() for pattern in ("*.md", "docs/**/*.md") for path in ROOT.glob(pattern)]
    named = {extra for text in texts for extra in re.findall(r"(?:haepo_jax|['\"/]\.|haepo_jax)\[(\w+)\]['\"]", text)}
    assert {"train", "navix", "language"} <= named
    assert named <= arguments()["extras_require"].keys()


class TestLongDescription:
    def test_its_links_lead_to_the_repository(self):
        text = arguments("https://example.org/haepo_jax")["long_description"]
        assert "](https://example.org/haepo_jax/raw/main/docs/figures/speed.svg)" in text
        assert "](https://example.org/haepo_jax/blob/main/docs/" in text
        assert re.findall(r"\]\((?!https?://|#)[^)]*\)", text) == []

    def test_without_a_repository_it_has_no_link_that_leads_nowhere(self):
        text = arguments()["long_description"]
        assert re.findall(r"\]\((?!https?://|#)[^)]*\)", text) == []
        assert re.findall(r"\(\w+\) \|", text) == []  # words that were links alone
        assert re.findall(r"(?:src|srcset|href)=\"(?!https?://)", text) == []

    @pytest.mark.parametrize("repository", ["", "https://example.org/haepo_jax"])
    def test_every_address_of_the_metadata_is_whole(self, repository):
        addresses = arguments(repository)["project_urls"]
        assert ("Source" in addresses) == ("Changelog" in addresses) == bool(repository)
        assert [url for url in addresses.values() if not re.fullmatch(r"https://[^/]+/\S+", url)] == []

    def test_it_says_what_the_readme_says(self):
        assert arguments()["long_description"].splitlines()[0] == "# haepo_jax"
        assert len(arguments()["long_description"]) > 0.8 * len((ROOT / "README.md").read_text())


def test_the_citation_has_the_version_of_the_package():
    assert re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)[1] == haepo_jax.__version__


def test_a_source_distribution_holds_every_folder_that_tests_and_documents_need():
    manifest = (ROOT / "MANIFEST.in").read_text()
    named = {line.split()[1] for line in manifest.splitlines() if line.startswith("graft")}
    assert {"configs", "docs", "examples", "tests"} <= named
