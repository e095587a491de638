"""Command lines, each a thin main over `haepo_jax`."""
