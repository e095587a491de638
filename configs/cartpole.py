"""CartPole-v1."""

from haepo_jax.config import default_config


def get_config():
    config = default_config()
    return config
