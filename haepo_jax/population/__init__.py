"""Members (seeds x settings) trained by one compiled program, over devices of any number of processes."""

from haepo_jax.population.population import Population, Trained, make_population

__all__ = ["Population", "Trained", "make_population"]
