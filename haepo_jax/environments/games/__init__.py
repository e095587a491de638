"""Two-player games in turns: what the rest sees of one, our own, and how one learner meets an opponent in them."""
