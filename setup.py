"""Installation of haepo_jax: `pip install .` for the losses, `'.[train]'` for all that trains on environments.

`make demo` and `make test` install into an environment of their own. Why the requirements are split so:
docs/decisions/a_light_installation.md.
"""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

REPOSITORY = ""
"""The address of the public repository, such as https://github.com/OWNER/haepo_jax, where the long description's links
lead. It is empty as the project has no public address yet, and a guessed one would lead nowhere or to somebody else's.
Until then links are plain text, those that stand alone in brackets are left out, and the metadata has the address of
neither a source nor a changelog."""

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "haepo_jax" / "__init__.py").read_text()).group(1)
# Markdown's and HTML's, but for those that are absolute or within the page.
LINK = re.compile(r"(?P<before>\]\(|(?:src|srcset|href)=\")(?P<path>[^\s):#\"]+)")
WHOLE_LINK = re.compile(
    r"!?\[(?P<text>[^\[\]]*)\]\([^):#]+(?:#[^)]*)?\)|<(?:img|source) [^>]*?src(?:set)?=\"[^:\"]+\"[^>]*>"
)
ASIDE = re.compile(r" \(\[[^\[\]]*\]\([^):#]+(?:#[^)]*)?\)\)")  # says nothing but where it leads
IMAGES = {".gif", ".png", ".svg"}


def read_long_description() -> str:
    """Reads README.md, with links that lead somewhere from wherever it is shown."""

    def make_absolute(link: re.Match) -> str:
        view = "raw" if Path(link["path"]).suffix in IMAGES else "blob"
        return f"{link['before']}{REPOSITORY}/{view}/main/{link['path']}"

    text = (HERE / "README.md").read_text()
    if REPOSITORY:
        return LINK.sub(make_absolute, text)
    text = ASIDE.sub("", text)
    for _ in range(2):  # an image may be within a link
        text = WHOLE_LINK.sub(lambda link: link["text"] or "", text)
    return text


class BuildWithConfigs(build_py):
    """Builds the packages, and puts the shipped configs into `haepo_jax/configs`, which a clone has beside it."""

    def run(self) -> None:
        """Builds them."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "haepo_jax" / "configs"
            shutil.copytree(HERE / "configs", target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)


# Older jaxlibs give wrong numbers or deadlock where populations train: docs/decisions/python_and_jax_versions.md.
JAX = ">=0.11.2,<0.12"
TRAIN = [
    "absl-py>=2.3,<3",
    "chex>=0.1.92,<0.2",
    "distrax>=0.1.9,<0.2",
    "flax>=0.12.12,<0.13",
    "gymnax>=1.0.1,<2",
    f"jax{JAX}",
    "matplotlib>=3.10,<4",
    "ml-collections>=1.1,<2",
    "numpy>=2.1,<3",
    "optax>=0.2.8,<0.3",
    "orbax-checkpoint>=0.12.8,<0.13",
    "pyarrow>=20,<27",
    "rich>=14,<16",
    "scipy>=1.15,<2",
    "six>=1.16,<2",  # gymnax imports it without declaring it
]
WITH_TRAIN = "haepo_jax[train]"  # in each extra, so that one is enough
LANGUAGE = ["jinja2>=3.1,<4", "safetensors>=0.6,<0.9", "tokenizers>=0.22,<0.24"]
JAXMARL, PGX, TENSORBOARD = "jaxmarl>=0.2,<0.3", "pgx>=2.6,<3", "tensorboardX>=2.6,<3"

setup(
    name="haepo_jax",
    version=VERSION,
    description="Trajectory-level policy optimisation in JAX: HAEPO, its losses and its experiments.",
    long_description=read_long_description(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords=["reinforcement learning", "policy optimisation", "JAX", "HAEPO", "GRPO", "PPO", "RLHF"],
    project_urls={
        "Paper": "https://arxiv.org/abs/2508.18884",
        **({"Source": REPOSITORY, "Changelog": f"{REPOSITORY}/blob/main/CHANGELOG.md"} if REPOSITORY else {}),
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    packages=find_packages(include=["haepo_jax", "haepo_jax.*", "experiments", "experiments.*"]),
    package_data={"haepo_jax": ["py.typed"], "haepo_jax.reports": ["page.css", "page.js"]},
    cmdclass={"build_py": BuildWithConfigs},
    entry_points={"console_scripts": ["haepo = experiments.cli.console:main"]},
    python_requires=">=3.12",
    # What the losses need, of the oldest versions with which their tests were run; the extras ask for more.
    install_requires=["chex>=0.1.90,<0.2", "jax>=0.6.2"],
    extras_require={
        # Everything that trains on environments.
        "train": TRAIN,
        # Libraries of environments: docs/environments.md has the versions that were run.
        "brax": [WITH_TRAIN, "brax>=0.14.2,<0.15"],
        "craftax": [WITH_TRAIN, "craftax>=1.6,<2"],
        "jaxmarl": [WITH_TRAIN, JAXMARL],
        "jumanji": [WITH_TRAIN, "jumanji>=1.1.2,<2"],
        "multi_agent": [WITH_TRAIN, JAXMARL, PGX],
        "navix": [WITH_TRAIN, "navix>=4,<5"],
        "pgx": [WITH_TRAIN, PGX],
        "playground": [WITH_TRAIN, "playground>=0.2,<0.3"],
        "tunix": [WITH_TRAIN, "google-tunix==0.1.7"],
        "language": [WITH_TRAIN, *LANGUAGE],
        "tensorboard": [WITH_TRAIN, TENSORBOARD],
        "wandb": [WITH_TRAIN, "wandb>=0.22,<1"],
        "mlflow": [WITH_TRAIN, "mlflow-skinny>=3,<4"],
        "cuda": [WITH_TRAIN, f"jax[cuda13]{JAX}"],
        "tpu": [WITH_TRAIN, f"jax[tpu]{JAX}"],
        "docs": [
            WITH_TRAIN,
            *LANGUAGE,
            "equinox>=0.13.8,<0.14",  # of a tutorial
            "furo>=2025.12,<2027",
            "latex2mathml>=3.81,<4",
            "myst-nb>=1.4,<2",
            "sphinx>=9.1,<10",
            "sphinx-copybutton>=0.5.2,<0.6",
        ],
        "test": [
            WITH_TRAIN,
            *LANGUAGE,
            TENSORBOARD,
            "duckdb>=1.3,<3",
            "hypothesis>=6.130,<7",
            "mypy>=2,<3",
            "optuna>=4.5,<6",
            "pandas>=2.3,<4",
            "polars>=1.31,<3",
            "pytest>=9,<10",
            "pytest-timeout>=2.4,<3",
            "pytest-xdist>=3.7,<4",
            "rlax>=0.1.9,<0.2",
            "ruff>=0.17,<0.18",
        ],
    },
)
