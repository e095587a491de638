"""The language-model side: data, models, sampling, reward model, trainer."""
