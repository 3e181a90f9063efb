"""SB3's off-policy algorithms, trained on weights, whose errors become priorities.

Each update is what the algorithm's paper defines, with a transition's loss times its weight
in the critics (Schaul et al. 2016, section 3.4); actors are trained as ever. Losses are
logged under SB3's names.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3 import DQN, SAC, TD3
from stable_baselines3.common.utils import polyak_update
from torch.nn import functional

from reverie.errors import InvalidArgumentError
from reverie.sb3.prioritized import PrioritizedReplayBuffer, PrioritizedReplayBufferSamples


class Prioritized:
    """What the three have in common; stands before SB3's class among the bases."""

    replay_buffer: Any
    replay_buffer_class: Any
    gamma: float
    logger: Any
    policy: Any
    critic: Any
    _vec_normalize_env: Any
    _n_updates: int

    def _setup_model(self) -> None:
        if self.replay_buffer_class is None:
            self.replay_buffer_class = PrioritizedReplayBuffer
        if not issubclass(self.replay_buffer_class, PrioritizedReplayBuffer):
            raise InvalidArgumentError(
                f"replay_buffer_class: found {self.replay_buffer_class!r:.200}, wanted "
                "reverie.sb3.PrioritizedReplayBuffer, the default, or a subclass: "
                f"{type(self).__name__} trains on weights. Others are for SB3's own class."
            )
        super()._setup_model()  # type: ignore[misc]

    def _batch(self, batch_size: int) -> tuple[PrioritizedReplayBufferSamples, Any]:
        """A sample, and what the value of its next states is multiplied by, `[B, 1]`."""
        found = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)
        discounts = self.gamma if found.discounts is None else found.discounts
        return found, (1 - found.dones) * discounts

    def _learn_critics(
        self, batch: PrioritizedReplayBufferSamples, target: Any, share: float
    ) -> float:
        """A step of the critics towards a target `[B, 1]`; new priorities; the loss.

        A transition's error is the mean over the critics of the sizes of theirs.
        """
        errors = [value - target for value in self.critic(batch.observations, batch.actions)]
        loss = share * sum((batch.weights * error**2).mean() for error in errors)
        descend(self.critic.optimizer, loss)
        with torch.no_grad():
            sizes = torch.stack([error.abs() for error in errors]).mean(dim=0)
        self.replay_buffer.update_priorities(batch.keys, sizes)
        return float(loss.detach())

    def _smallest(self, critic: Any, observations: Any, actions: Any) -> Any:
        """The least of the critics' values, `[B, 1]`."""
        return torch.cat(critic(observations, actions), dim=1).amin(dim=1, keepdim=True)

    def _log(self, **losses: list[float]) -> None:
        """The means of what there was, and how many updates."""
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        for name, values in losses.items():
            if values:
                self.logger.record(f"train/{name}", float(np.mean(values)))


class PrioritizedDQN(Prioritized, DQN):  # type: ignore[misc]
    """SB3's DQN on a PrioritizedReplayBuffer (Mnih et al. 2015; Schaul et al. 2016).

    The loss is Huber's, times the weight. Arguments are DQN's; `replay_buffer_kwargs` may
    hold the buffer's own, such as `alpha` and `beta`.
    """

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """`gradient_steps` updates of the network, each on a sample of the buffer."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        losses: list[float] = []
        for _ in range(gradient_steps):
            batch, discount = self._batch(batch_size)
            with torch.no_grad():
                best = self.q_net_target(batch.next_observations).amax(dim=1, keepdim=True)
                target = batch.rewards + discount * best
            value = self.q_net(batch.observations).gather(1, batch.actions.long())
            each = functional.smooth_l1_loss(value, target, reduction="none")
            loss = (batch.weights * each).mean()
            descend(self.policy.optimizer, loss, self.policy.parameters(), self.max_grad_norm)
            self.replay_buffer.update_priorities(batch.keys, value - target)
            losses.append(float(loss.detach()))
        self._n_updates += gradient_steps
        self._log(loss=losses)


class PrioritizedSAC(Prioritized, SAC):  # type: ignore[misc]
    """SB3's SAC on a PrioritizedReplayBuffer (Haarnoja et al. 2018; Schaul et al. 2016).

    The critics' losses are times the weight. Arguments are SAC's; `replay_buffer_kwargs`
    may hold the buffer's own, such as `alpha` and `beta`.
    """

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """`gradient_steps` updates of critics, actor and temperature."""
        self.policy.set_training_mode(True)
        learned = self.ent_coef_optimizer is not None
        optimizers = [self.actor.optimizer, self.critic.optimizer]
        self._update_learning_rate(optimizers + [self.ent_coef_optimizer] * learned)
        lost: dict[str, list[float]] = {
            name: [] for name in ("ent_coef", "actor_loss", "critic_loss", "ent_coef_loss")
        }
        for step in range(gradient_steps):
            batch, discount = self._batch(batch_size)
            if self.use_sde:
                self.actor.reset_noise()
            actions, chances = self.actor.action_log_prob(batch.observations)
            chances = chances.reshape(-1, 1)
            temperature = self.log_ent_coef.detach().exp() if learned else self.ent_coef_tensor
            lost["ent_coef"].append(float(temperature))
            if learned:
                surplus = (chances + self.target_entropy).detach()
                loss = -(self.log_ent_coef * surplus).mean()
                descend(self.ent_coef_optimizer, loss)
                lost["ent_coef_loss"].append(float(loss.detach()))
            with torch.no_grad():
                after = batch.next_observations
                next_actions, next_chances = self.actor.action_log_prob(after)
                value = self._smallest(self.critic_target, after, next_actions)
                value = value - temperature * next_chances.reshape(-1, 1)
                target = batch.rewards + discount * value
            lost["critic_loss"].append(self._learn_critics(batch, target, 0.5))
            value = self._smallest(self.critic, batch.observations, actions)
            loss = (temperature * chances - value).mean()
            descend(self.actor.optimizer, loss)
            lost["actor_loss"].append(float(loss.detach()))
            if step % self.target_update_interval == 0:
                polyak_update(
                    self.critic.parameters(), self.critic_target.parameters(), self.tau
                )
                polyak_update(self.batch_norm_stats, self.batch_norm_stats_target, 1.0)
        self._n_updates += gradient_steps
        self._log(**lost)


class PrioritizedTD3(Prioritized, TD3):  # type: ignore[misc]
    """SB3's TD3 on a PrioritizedReplayBuffer (Fujimoto et al. 2018; Schaul et al. 2016).

    The critics' losses are times the weight. Arguments are TD3's; `replay_buffer_kwargs`
    may hold the buffer's own, such as `alpha` and `beta`.
    """

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """`gradient_steps` updates of the critics, and the delayed ones of the actor."""
        self.policy.set_training_mode(True)
        self._update_learning_rate([self.actor.optimizer, self.critic.optimizer])
        actor_losses: list[float] = []
        critic_losses: list[float] = []
        for _ in range(gradient_steps):
            self._n_updates += 1
            batch, discount = self._batch(batch_size)
            with torch.no_grad():
                after = batch.next_observations
                noise = torch.randn_like(batch.actions) * self.target_policy_noise
                noise = noise.clamp(-self.target_noise_clip, self.target_noise_clip)
                actions = (self.actor_target(after) + noise).clamp(-1, 1)
                value = self._smallest(self.critic_target, after, actions)
                target = batch.rewards + discount * value
            critic_losses.append(self._learn_critics(batch, target, 1.0))
            if self._n_updates % self.policy_delay == 0:
                chosen = self.actor(batch.observations)
                loss = -self.critic.q1_forward(batch.observations, chosen).mean()
                descend(self.actor.optimizer, loss)
                actor_losses.append(float(loss.detach()))
                self._follow()
        self._log(actor_loss=actor_losses, critic_loss=critic_losses)

    def _follow(self) -> None:
        """The targets come nearer; running statistics are copied."""
        for name in ("actor", "critic"):
            own, target = getattr(self, name), getattr(self, f"{name}_target")
            polyak_update(own.parameters(), target.parameters(), self.tau)
            polyak_update(
                getattr(self, f"{name}_batch_norm_stats"),
                getattr(self, f"{name}_batch_norm_stats_target"),
                1.0,
            )


def descend(optimizer: Any, loss: Any, clipped: Any = (), norm: float = 0.0) -> None:
    """One step down, the gradient of `clipped` being no longer than `norm`."""
    optimizer.zero_grad()
    loss.backward()
    clipped = list(clipped)
    if clipped:
        torch.nn.utils.clip_grad_norm_(clipped, norm)
    optimizer.step()
