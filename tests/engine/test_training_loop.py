"""The loop and the state it changes, on a network small enough to follow."""

import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from lshfm.datasets.loader import Batch
from lshfm.engine.assemble import assemble, make_optimizer
from lshfm.engine.journal import Journal
from lshfm.engine.loop import fit
from lshfm.engine.schedule import learning_rate
from lshfm.engine.state import Evaluation, State
from lshfm.engine.step import EagerStep
from lshfm.engine.stop import never
from lshfm.objectives.learner import Learner
from lshfm.runs.record import Metrics

N, BATCH, EPOCHS = 12, 4, 4
SCHEDULE = learning_rate(0.2, cosine_epochs=5, warmup=1)


class Network(nn.Module):
    def __init__(self, *, dropout: float = 0.0, batch_norm: bool = False) -> None:
        super().__init__()
        self.first = nn.Linear(3, 5)
        self.norm = nn.BatchNorm1d(5) if batch_norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(5, 2)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        feature = torch.tanh(self.norm(self.first(images)))
        return feature, self.classifier(self.dropout(feature))


class Objective(Learner):
    """Two named losses."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model, (), "fp32")

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        feature, logits = self.trained(batch.images)
        return {"squares": (logits - batch.labels).square().mean(), "size": 0.1 * feature.abs().mean()}


class Data:
    """A fixed set, in an order that depends on the epoch alone."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(7)
        self.images = torch.randn(N, 3, generator=generator)
        self.labels = torch.randint(-1, 2, (N, 2), generator=generator).to(torch.int8)

    def __len__(self) -> int:
        return N // BATCH

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        order = torch.randperm(N, generator=torch.Generator().manual_seed(epoch)).split(BATCH)
        return (Batch(index, self.images[index], self.labels[index], epoch) for index in order[start:])


class Notes:
    """A journal that keeps what it is told."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int, float, dict[str, float]]] = []
        self.calls: list[str] = []

    def step(self, state: State, index: torch.Tensor, losses: dict[str, torch.Tensor], lr: float) -> None:
        assert len(index) == BATCH
        assert not any(loss.requires_grad for loss in losses.values())
        self.steps.append((state.epoch, state.step, lr, {name: float(loss) for name, loss in losses.items()}))
        self.calls.append("step")

    def flush(self, state: State) -> None:
        self.calls.append("flush")

    def epoch(self, state: State, evaluation: Evaluation | None) -> None:
        self.calls.append("epoch")


def make(
    *, seed: int = 0, optimizer: str = "sgd", ema: float = 0.0, parts: Mapping[str, Any] = {}, **network: Any
) -> State:
    torch.manual_seed(seed)
    objective = Objective(Network(**network))
    return assemble(objective, optimizer=optimizer, momentum=0.9, weight_decay=0.01, ema=ema, **parts)


def run(
    state: State,
    *,
    epochs: int = EPOCHS,
    accumulate: int = 1,
    pause: Callable[[State], None] | None = None,
    save: Callable[[State, Evaluation, bool], None] | None = None,
    evaluate: Callable[[nn.Module], Evaluation] | None = None,
    journal: Journal | None = None,
    is_enough: Callable[[State], bool] = never,
    clip_grad: float | None = None,
    eval_every: int = 1,
) -> Notes:
    """What a journal of these tests was told, unless another one is given."""
    notes = Notes()

    def size(network: nn.Module) -> Evaluation:
        network.eval()  # as real evaluators leave it
        return Evaluation("size", float(sum(p.detach().abs().sum() for p in network.parameters())), {"x": 1})

    fit(
        state, EagerStep(state, accumulate=accumulate, clip_grad=clip_grad), Data(), SCHEDULE, journal or notes,
        epochs=epochs, pause=pause or (lambda _: None), evaluate=evaluate or size, save=save or (lambda *_: None),
        is_enough=is_enough, eval_every=eval_every,
    )  # fmt: skip
    return notes


def equal(a: Any, b: Any) -> bool:
    """Whether nested containers hold the same values, tensors to the bit."""
    if isinstance(a, torch.Tensor):
        return bool(torch.equal(a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)


@pytest.mark.parametrize("accumulate", [2, 4])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_parts_of_a_batch_add_up_to_the_batch(accumulate: int, optimizer: str) -> None:
    whole, parts = make(optimizer=optimizer), make(optimizer=optimizer)
    of_whole, of_parts = run(whole), run(parts, accumulate=accumulate)
    for a, b in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)
    for a, b in zip(of_whole.steps, of_parts.steps, strict=True):
        assert a[:3] == b[:3]
        assert a[3] == pytest.approx(b[3], abs=1e-6)


def test_losses_are_named_and_what_the_objective_said() -> None:
    state = make()
    batch = next(Data().epoch(0))
    before = {name: loss.item() for name, loss in state.objective(batch).items()}
    notes = run(state, epochs=1)
    assert list(before) == ["squares", "size"]
    assert notes.steps[0][3] == pytest.approx(before, abs=1e-7)


def test_a_step_descends_the_sum_of_the_losses() -> None:
    state, by_hand = make(), make()
    run(state, epochs=1)
    for step, batch in enumerate(Data().epoch(0)):
        by_hand.optimizer.param_groups[0]["lr"] = SCHEDULE(step / 3)
        by_hand.optimizer.zero_grad()
        sum(by_hand.objective(batch).values()).backward()  # type: ignore[union-attr]
        by_hand.optimizer.step()
    for a, b in zip(state.model.parameters(), by_hand.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-7, rtol=0)


def test_the_rate_is_set_before_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    state, used = make(), []
    step = state.optimizer.step

    def noting() -> None:
        used.append(state.optimizer.param_groups[0]["lr"])
        step()

    monkeypatch.setattr(state.optimizer, "step", noting)
    notes = run(state)
    assert used == [SCHEDULE(epoch + step / 3) for epoch in range(EPOCHS) for step in range(3)]
    assert used == [lr for _, _, lr, _ in notes.steps]


def test_the_first_step_of_a_warm_up_from_zero_changes_nothing() -> None:
    state = make()
    before = [p.clone() for p in state.model.parameters()]
    state.objective(next(Data().epoch(0)))["squares"].backward()
    state.update(SCHEDULE(0))
    assert all(map(torch.equal, before, state.model.parameters()))
    assert all(p.grad is None for p in state.model.parameters())


def test_an_epoch_is_flushed_synchronised_evaluated_and_saved_in_that_order(monkeypatch: pytest.MonkeyPatch) -> None:
    state, notes, saved = make(), Notes(), []
    monkeypatch.setattr(state, "synchronise", lambda: notes.calls.append("synchronise"))

    def evaluate(_: nn.Module) -> Evaluation:
        notes.calls.append("evaluate")
        return Evaluation("mAP", 1.0, {"a": state.epoch})

    def save(state: State, evaluation: Evaluation, is_best: bool) -> None:
        notes.calls.append("save")
        saved.append((state.epoch, evaluation.report, is_best))

    def pause(state: State) -> None:
        notes.calls.append("pause")

    fit(state, EagerStep(state), Data(), SCHEDULE, notes, epochs=2, pause=pause, evaluate=evaluate, save=save)
    an_epoch = [*["step", "pause"] * 3, "flush", "synchronise", "evaluate", "epoch", "save"]
    assert notes.calls == an_epoch * 2
    assert saved == [(1, {"a": 0}, True), (2, {"a": 1}, False)]
    assert [entry[:2] for entry in notes.steps] == [(epoch, step) for epoch in range(2) for step in (1, 2, 3)]


def test_what_the_flush_refuses_is_neither_evaluated_nor_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Notes, __: State) -> None:
        raise FloatingPointError

    def never(*_: Any) -> Any:
        raise AssertionError("reached")

    monkeypatch.setattr(Notes, "flush", refuse)
    with pytest.raises(FloatingPointError):
        run(make(), save=never, evaluate=never)


def test_every_epoch_trains_in_train_mode() -> None:
    modes = []
    state = make(dropout=0.5)
    state.objective.model.register_forward_hook(lambda module, *_: modes.append(module.training))
    run(state, epochs=2)
    assert modes == [True] * 6


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("ema", [0.0, 0.8])
@pytest.mark.parametrize("stop", [1, 3])
def test_a_resumed_run_is_the_undisturbed_one_to_the_bit(optimizer: str, ema: float, stop: int) -> None:
    kinds: dict[str, Any] = {"optimizer": optimizer, "ema": ema, "dropout": 0.5, "batch_norm": True}
    files: dict[int, io.BytesIO] = {}

    def save(state: State, *_: Any) -> None:
        torch.save(state.state_dict(), files.setdefault(state.epoch, io.BytesIO()))

    undisturbed = make(seed=1, **kinds)
    notes = run(undisturbed, save=save)
    resumed = make(seed=2, **kinds)  # other weights, other random numbers
    files[stop].seek(0)
    resumed.load_state_dict(torch.load(files[stop], weights_only=True))
    assert resumed.epoch == stop
    rest = run(resumed)
    assert rest.steps == notes.steps[3 * stop :]
    assert equal(resumed.state_dict(), undisturbed.state_dict())
    assert [entry["epoch"] for entry in resumed.history] == [1, 2, 3, 4]


OPTIONS: dict[str, dict[str, Any]] = {
    "adam": {"optimizer": "adam"},
    "groups": {"parts": {"head_lr": 3.0, "decay_weights_only": True}},
    "held": {"parts": {"freeze_epochs": 2}, "ema": 0.8},
    "held, adam": {"parts": {"freeze_epochs": 1, "head_lr": 0.5}, "optimizer": "adam"},
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("stop", [(0, 2), (1, 1), (2, 0), (2, 1), (3, 0)])
def test_a_run_with_options_stopped_anywhere_is_the_undisturbed_one_to_the_bit(
    name: str, stop: tuple[int, int]
) -> None:
    kinds: dict[str, Any] = {"dropout": 0.5, "batch_norm": True, **OPTIONS[name]}
    saved = io.BytesIO()

    def keep(state: State, *_: Any) -> None:
        if (state.epoch, state.step) == stop:
            state.synchronise()
            torch.save(state.state_dict(), saved)

    undisturbed = make(seed=1, **kinds)
    notes = run(undisturbed, pause=keep, save=keep, clip_grad=0.3)
    resumed = make(seed=2, **kinds)
    saved.seek(0)
    resumed.load_state_dict(torch.load(saved, weights_only=True))
    rest = run(resumed, clip_grad=0.3)
    assert rest.steps == notes.steps[3 * stop[0] + stop[1] :]
    assert equal(resumed.state_dict(), undisturbed.state_dict())


def test_a_held_backbone_stays_and_then_learns(said: list[str]) -> None:
    """Its weights, its statistics and its average; the optimiser keeps nothing of it until it learns."""
    state = make(parts={"freeze_epochs": 2}, batch_norm=True, ema=0.5)
    assert state.ema
    start = {name: tensor.clone() for name, tensor in state.objective.model.state_dict().items()}
    moved: list[set[str]] = []
    kept: list[int] = []

    def look(state: State, *_: Any) -> None:
        assert state.ema
        now, average = state.objective.model.state_dict(), state.ema.module.state_dict()
        still = {name for name in now if torch.equal(now[name], start[name])}
        moved.append(now.keys() - still)
        assert all(torch.equal(average[name], start[name]) for name in still)
        kept.append(len(state.optimizer.state))

    run(state, save=look)
    head = {"classifier.weight", "classifier.bias"}
    assert moved == [head, head, start.keys(), start.keys()]
    assert kept == [2, 2, 6, 6]
    assert said == ["from epoch 3 on the backbone is no longer held"]
    assert [len(group["params"]) for group in state.optimizer.param_groups] == [6]


def test_what_is_frozen_for_good_stays_frozen_after_the_release() -> None:
    model = Network(batch_norm=True)
    model.first.bias.requires_grad = False
    state = assemble(Objective(model), optimizer="sgd", momentum=0.0, weight_decay=0.0, freeze_epochs=1)
    run(state, epochs=2)
    assert [name for name, parameter in model.named_parameters() if not parameter.requires_grad] == ["first.bias"]


def test_groups_by_hand() -> None:
    """Behind the backbone the rate has a factor; what has one dimension does not decay."""
    state = make(batch_norm=True, parts={"head_lr": 10.0, "decay_weights_only": True})
    model = state.objective.model
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    state.update(0.05)
    for name, parameter in model.named_parameters():
        rate, decay = (0.5 if "classifier" in name else 0.05), (0.01 if parameter.ndim > 1 else 0.0)
        expected = before[name] - rate * (1 + decay * before[name])
        torch.testing.assert_close(parameter.detach(), expected, atol=1e-6, rtol=0)
    assert state.lr == 0.05
    assert sorted((g["lr"], g["weight_decay"], len(g["params"])) for g in state.optimizer.param_groups) == [
        (0.05, 0.0, 3), (0.05, 0.01, 1), (0.5, 0.0, 1), (0.5, 0.01, 1),
    ]  # fmt: skip


def test_the_rate_that_is_told_has_no_factor() -> None:
    """Even where all that learns is behind the backbone, and in the checkpoint of an older version."""
    state = make(parts={"head_lr": 10.0})
    state.objective.model.first.requires_grad_(False)
    state = assemble(state.objective, optimizer="sgd", momentum=0.0, weight_decay=0.0, head_lr=10.0)
    state.update(0.05)
    assert (state.lr, [group["lr"] for group in state.optimizer.param_groups]) == (0.05, [0.5])
    for group in state.optimizer.param_groups:
        del group["base_lr"], group["factor"]
    state.update(0.05)
    assert state.optimizer.param_groups[0]["lr"] == state.lr == 0.05


class Stopped(Exception):
    """What ends a training in the middle."""


@pytest.mark.parametrize("every", [1, 2, 5])
@pytest.mark.parametrize("stop", [(0, 1), (1, 2), (2, 3)])
def test_a_run_stopped_within_an_epoch_is_the_undisturbed_one_to_the_bit(
    tmp_path: Path, stop: tuple[int, int], every: int
) -> None:
    kinds: dict[str, Any] = {"ema": 0.8, "dropout": 0.5, "batch_norm": True}
    saved = io.BytesIO()

    def journal(name: str) -> Journal:
        lines = Metrics(tmp_path / f"{name}.jsonl")
        return Journal(lines, epochs=EPOCHS, steps=3, every=every, name_samples=lambda _: [])

    def pause(state: State) -> None:
        if (state.epoch, state.step) == stop:
            first.settle()
            state.synchronise()
            torch.save({"state": state.state_dict(), "journal": first.state_dict()}, saved)
        if (state.epoch, state.step) > stop:  # steps that are lost, and lines on them that are not
            raise Stopped

    def lines(name: str) -> list[dict[str, Any]]:
        written = (tmp_path / f"{name}.jsonl").read_text().splitlines()
        measured = {"time", "seconds", "images_per_second"}
        return [{k: v for k, v in json.loads(line).items() if k not in measured} for line in written]

    undisturbed, stopped, resumed = make(seed=1, **kinds), make(seed=1, **kinds), make(seed=2, **kinds)
    torch.manual_seed(5)
    run(undisturbed, journal=journal("whole"))
    torch.manual_seed(5)
    first = journal("parts")
    with pytest.raises(Stopped):
        run(stopped, journal=first, pause=pause)
    saved.seek(0)
    content = torch.load(saved, weights_only=True)
    resumed.load_state_dict(content["state"])
    assert (resumed.epoch, resumed.step) == stop
    second = journal("parts")
    second.resume(resumed, content["journal"])
    run(resumed, journal=second)
    assert equal(resumed.state_dict(), undisturbed.state_dict())
    assert lines("parts") == lines("whole")


def test_a_finished_run_has_nothing_left_to_do() -> None:
    state = make()
    run(state)
    assert run(state).calls == []


def test_the_moving_average_by_hand() -> None:
    decay = 0.8
    state = make(ema=decay, batch_norm=True)
    assert state.ema
    average: dict[str, torch.Tensor] = {}
    update = state.update

    def following(lr: float) -> None:
        update(lr)
        for name, tensor in state.objective.model.state_dict().items():
            if tensor.is_floating_point():  # buffers too; the first step is where it starts
                now = tensor.clone()
                average[name] = decay * average[name] + (1 - decay) * now if name in average else now

    state.update = following  # type: ignore[method-assign]
    run(state)
    assert "norm.running_var" in average
    for name, tensor in average.items():
        torch.testing.assert_close(state.model.state_dict()[name], tensor, atol=1e-6, rtol=1e-6)
    assert not torch.equal(state.model.state_dict()["first.weight"], state.objective.model.state_dict()["first.weight"])


def test_the_average_is_what_is_evaluated_and_kept() -> None:
    seen: list[nn.Module] = []
    state = make(ema=0.5)
    run(state, epochs=1, evaluate=lambda network: (seen.append(network), Evaluation("mAP", 0.0, {}))[1])
    assert seen == [state.model]
    assert state.model is not state.objective.model
    assert type(state.model) is Network
    assert make().ema is None


def test_seconds_of_training_and_of_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    state, now = make(), [100.0]
    monkeypatch.setattr("lshfm.engine.timed.time", SimpleNamespace(monotonic=lambda: now[0]))

    def pass_seconds(seconds: float) -> None:
        now[0] += seconds

    @state.evaluating()
    def stopped_evaluation() -> None:
        pass_seconds(0.25)
        raise Stopped

    state.start_clock()
    pass_seconds(3)  # training
    with state.evaluating():
        pass_seconds(0.5)
    pass_seconds(2)  # saving
    state.count_seconds()
    assert (state.seconds, state.evaluation_seconds) == (5, 0.5)
    pass_seconds(1)
    with pytest.raises(Stopped):
        stopped_evaluation()
    state.count_seconds()
    assert (state.seconds, state.evaluation_seconds) == (6, 0.75)
    saved = state.state_dict()
    assert (saved["seconds"], saved["evaluation_seconds"]) == (6, 0.75)


def test_the_best_is_the_earliest_of_equals() -> None:
    state = make()
    scores = [None, 1.0, 3.0, 3.0, None, 2.0, 4.0]
    assert state.best is None
    flags = [state.end_epoch(Evaluation("mAP", score, {"score": score})) for score in scores]
    assert flags == [False, True, True, False, False, False, True]
    assert state.best == {"epoch": 7, "metric": "mAP", "score": 4.0}
    state.history.pop()
    assert state.best == {"epoch": 3, "metric": "mAP", "score": 3.0}
    assert state.report == {"score": 4.0}


def test_sgd_by_hand() -> None:
    state = make()
    weight = state.model.classifier.weight
    values, velocity = weight.detach().clone(), torch.zeros_like(weight)
    for lr in (0.1, 0.05):
        gradient = torch.ones_like(weight)
        weight.grad = gradient.clone()
        velocity = 0.9 * velocity + gradient + 0.01 * values
        values = values - lr * velocity
        state.update(lr)
        torch.testing.assert_close(weight.detach(), values, atol=1e-7, rtol=0)


def test_optimisers_hold_what_learns() -> None:
    objective = Objective(Network())
    objective.model.first.requires_grad_(False)
    for name, kind in (("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)):
        optimizer = make_optimizer(objective, name, momentum=0.7, weight_decay=0.3)
        (group,) = optimizer.param_groups
        assert type(optimizer) is kind
        assert [p.shape for p in group["params"]] == [p.shape for p in objective.model.classifier.parameters()]
        assert group["weight_decay"] == 0.3
        assert group.get("momentum", group.get("betas")) == (0.7 if name == "sgd" else (0.7, 0.999))
        assert not group.get("nesterov", False)
