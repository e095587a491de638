"""Installation of haepo_jax: `pip install .`, or `make demo` and `make test` for an environment of their own."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "haepo_jax" / "__init__.py").read_text()).group(1)

setup(
    name="haepo_jax",
    version=VERSION,
    description="Trajectory-level policy optimisation in JAX: HAEPO, its losses and its experiments.",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["haepo_jax", "haepo_jax.*", "experiments", "experiments.*"]),
    package_data={"haepo_jax": ["py.typed"], "haepo_jax.reports": ["page.css", "page.js"]},
    # Older jaxlibs give wrong numbers or deadlock: docs/decisions/python_and_jax_versions.md.
    python_requires=">=3.12",
    install_requires=[
        "absl-py>=2.3,<3",
        "chex>=0.1.92,<0.2",
        "distrax>=0.1.9,<0.2",
        "flax>=0.12.12,<0.13",
        "gymnax>=1.0.1,<2",
        "jax>=0.11.2,<0.12",
        "matplotlib>=3.10,<4",
        "ml-collections>=1.1,<2",
        "numpy>=2.1,<3",
        "optax>=0.2.8,<0.3",
        "orbax-checkpoint>=0.12.8,<0.13",
        "pyarrow>=20,<27",
        "rich>=14,<16",
        "scipy>=1.15,<2",
        "six>=1.16,<2",  # gymnax imports it without declaring it
    ],
    extras_require={
        # Libraries of environments: docs/environments.md has the versions that were run.
        "brax": ["brax>=0.14.2,<0.15"],
        "craftax": ["craftax>=1.6,<2"],
        "jaxmarl": ["jaxmarl>=0.2,<0.3"],
        "jumanji": ["jumanji>=1.1.2,<2"],
        "multi_agent": ["jaxmarl>=0.2,<0.3", "pgx>=2.6,<3"],
        "navix": ["navix>=4,<5"],
        "pgx": ["pgx>=2.6,<3"],
        "playground": ["playground>=0.2,<0.3"],
        "tunix": ["google-tunix==0.1.7"],
        "language": ["jinja2>=3.1,<4", "safetensors>=0.6,<0.9", "tokenizers>=0.22,<0.24"],
        "tensorboard": ["tensorboardX>=2.6,<3"],
        "wandb": ["wandb>=0.22,<1"],
        "mlflow": ["mlflow-skinny>=3,<4"],
        "cuda": ["jax[cuda13]>=0.11.2,<0.12"],
        "tpu": ["jax[tpu]>=0.11.2,<0.12"],
        "test": [
            "duckdb>=1.3,<3",
            "hypothesis>=6.130,<7",
            "jinja2>=3.1,<4",
            "mypy>=2,<3",
            "optuna>=4.5,<6",
            "pandas>=2.3,<4",
            "polars>=1.31,<3",
            "pytest>=9,<10",
            "pytest-timeout>=2.4,<3",
            "pytest-xdist>=3.6,<4",
            "rlax>=0.1.9,<0.2",
            "ruff>=0.17,<0.18",
            "safetensors>=0.6,<0.9",
            "tensorboardX>=2.6,<3",
            "tokenizers>=0.22,<0.24",
        ],
    },
)
