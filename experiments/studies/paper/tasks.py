"""The tasks of the studies: where every method learns under the same conditions."""

from experiments.studies.paper.tuning import Task

CARTPOLE = Task(
    name="cartpole",
    label="CartPole-v1",
    settings={"env": "CartPole-v1", "num_trajectories": 16},
    ppo={"num_trajectories": 4, "ppo.num_steps": 128},  # what PPO codes ship for this task
    budget=150_000,
    max_updates=120,
    metric="episode_return",
    better=1,
    failure=0.0,
    window=8_000,  # one update of 16 full episodes
)
WALK = Task(
    name="walk",
    label="Random walk",
    settings={"env": "RandomWalk-haepo", "num_trajectories": 16},
    ppo={"num_trajectories": 4, "ppo.num_steps": 128},
    budget=150_000,
    max_updates=80,
    metric="success",
    better=1,
    failure=0.0,
    window=8_000,
)


def make_bandit(env: str, num_arms: int) -> Task:
    """Makes a bandit with this many arms; 64 pulls are an update.

    It is judged by its end: tuned by the mean over all pulls, most methods take steps so large that some seeds settle
    on a wrong arm (docs/experiments/bandit_settings.md).
    """
    return Task(
        name=f"{env.partition('-')[0].lower()}_{num_arms}",
        label=f"{env.partition('Bandit')[0]} bandit, K = {num_arms}",
        settings={"env": env, "env_kwargs.num_arms": num_arms, "num_trajectories": 64},
        ppo={"num_trajectories": 16, "ppo.num_steps": 4},
        budget=4_800,
        max_updates=75,
        metric="regret",
        better=-1,
        failure=2.0,  # worse than the mean arm of any of them
        window=320,
        judged_share=0.1,
    )


def make_deep_sea(size: int) -> Task:
    """Makes DeepSea of this size: only one action sequence in two to the power of its size finds the treasure."""
    return Task(
        name=f"deep_sea_{size}",
        label=f"DeepSea, size {size}",
        settings={"env": "DeepSea-bsuite", "env_kwargs.size": size, "num_trajectories": 16},
        ppo={"num_trajectories": 16, "ppo.num_steps": 32},
        budget=16 * size * 150,
        max_updates=150,
        metric="episode_return",
        better=1,
        failure=-0.01,
        window=16 * size * 5,
    )
