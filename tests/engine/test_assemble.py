"""The parts of a state, in their order."""

import pytest
import torch

from lshfm.engine import assemble as assembling
from lshfm.engine.assemble import assemble
from tests.engine.test_training_loop import Network, Objective


def test_the_parts_are_made_of_the_objective() -> None:
    objective = Objective(Network())
    state = assemble(objective, optimizer="adamw", momentum=0.8, weight_decay=0.1, ema=0.5, constants={"num": 3})
    assert type(state.optimizer) is torch.optim.AdamW
    assert state.optimizer.param_groups[0]["betas"] == (0.8, 0.999)
    assert state.ema
    assert state.model is state.ema.module
    assert state.constants == {"num": 3}
    assert (state.epoch, state.step, state.history) == (0, 0, [])


def test_what_is_replicated_is_what_is_trained_and_reports_to_the_states_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, seen = Objective(Network()), []
    objective.trained, replica = objective.model.first, torch.nn.Identity()
    monkeypatch.setattr(assembling, "replicate", lambda *told: (seen.extend(told), replica)[1])
    state = assemble(objective, optimizer="sgd", momentum=0.9, weight_decay=0.0)
    assert seen == [objective.model.first, state.clock]
    assert objective.trained is replica
    assert state.model is objective.model
