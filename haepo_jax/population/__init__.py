"""Members (seeds x settings) trained by one compiled program, over devices of any number of processes."""

from haepo_jax.population.population import Population, make_population
from haepo_jax.population.trained import Trained

__all__ = ["Population", "Trained", "make_population"]
