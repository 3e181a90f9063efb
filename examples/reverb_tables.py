"""An actor and a learner over Reverb's tables, in one process and without Reverb.

Two tables share one copy of the steps: a queue that hands each trajectory over once,
in order, and waits where the learner lags; and a prioritized table whose priorities
the learner updates.

    python examples/reverb_tables.py
"""

from __future__ import annotations

import threading

import numpy as np

from reverie import reverb  # or: reverie.install_as_reverb(), then `import reverb`

EPISODES, STEPS, WINDOW = 20, 30, 5


def act(client: reverb.Client) -> None:
    """Appends steps; makes an item of every five, in both tables."""
    rng = np.random.default_rng(0)
    writer = client.trajectory_writer(num_keep_alive_refs=WINDOW)
    for _ in range(EPISODES):
        for t in range(STEPS):
            observation = rng.normal(size=17).astype(np.float32)
            writer.append({"observation": observation, "reward": np.float32(t)})
            if t + 1 < WINDOW:
                continue
            history = writer.history
            trajectory = {
                "states": history["observation"][-WINDOW:],
                "return": history["reward"][-WINDOW + 1 :],
                "last_state": history["observation"][-1],  # one cell, without a time axis
            }
            for table in ("on_policy", "replay"):
                writer.create_item(table, priority=1.0, trajectory=trajectory)
        writer.end_episode()  # waits until the queue has taken all of it


def learn(client: reverb.Client, items: int) -> dict[str, float]:
    """Takes every trajectory of the queue once; replays some, by priority."""
    # Columns come in the order of the sorted names: last_state, return, states.
    returns = []
    for sample in client.sample("on_policy", items, emit_timesteps=False):
        returns.append(float(sample.data[1].sum()))
        if len(returns) % 10:
            continue
        (replayed,) = client.sample("replay", 1, emit_timesteps=False)
        surprise = float(np.abs(replayed.data[1]).mean())
        client.mutate_priorities("replay", updates={replayed.info.key: surprise})
    return {"trajectories": len(returns), "mean return": float(np.mean(returns))}


def main() -> None:
    """Runs both, and looks at the tables at the end."""
    replay = reverb.Table(
        "replay",
        sampler=reverb.selectors.Prioritized(0.8),
        remover=reverb.selectors.Fifo(),
        max_size=300,
        rate_limiter=reverb.rate_limiters.MinSize(1),
    )
    queue = reverb.Table.queue("on_policy", max_size=16)
    server = reverb.Server([replay, queue])
    client = reverb.Client(f"localhost:{server.port}")

    actor = threading.Thread(target=act, args=[client])
    actor.start()
    print(learn(client, EPISODES * (STEPS - WINDOW + 1)))
    actor.join()
    for table in (replay, queue):
        limiter = table.info.rate_limiter_info
        print(f"{table.name}: {table.info.current_size} items,", end=" ")
        print(f"{limiter.insert_stats.completed} inserts,", end=" ")
        print(f"{limiter.sample_stats.completed} samples")
    server.stop()


if __name__ == "__main__":
    main()
