"""The mean of the last epochs' weights: a true mean, of copies, that goes on where it was saved."""

import torch
from torch import nn

from lshfm.engine.average import WeightAverage
from lshfm.models.statistics import renew_statistics


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    model[1].running_mean.normal_()
    model[1].num_batches_tracked += 10 * seed
    return model


def test_it_is_the_mean_of_the_last_three_of_five() -> None:
    average, model = WeightAverage(3, 5), network(0)
    for epoch in range(1, 6):
        model.load_state_dict(network(epoch).state_dict())  # in place: a snapshot by reference would follow it
        average.add(epoch, model)
    states = [network(epoch).state_dict() for epoch in (3, 4, 5)]
    mean = average.mean(model)
    assert average.added == [3, 4, 5]
    for name, tensor in mean.items():
        exact = torch.stack([state[name].double() for state in states]).mean(0)
        expected = states[-1][name] if "num_batches" in name else exact.to(tensor.dtype)
        assert torch.equal(tensor, expected), name


def test_it_goes_on_to_the_bit_where_it_was_saved() -> None:
    whole, first = WeightAverage(3, 5), WeightAverage(3, 5)
    for epoch in range(1, 6):
        whole.add(epoch, network(epoch))
    for epoch in range(1, 5):
        first.add(epoch, network(epoch))
    second = WeightAverage(3, 5)
    second.load_state_dict(first.state_dict())
    second.add(5, network(5))
    states = [each.mean(network(0)) for each in (whole, second)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_fewer_epochs_are_counted_as_they_are() -> None:
    average = WeightAverage(10, 4)
    for epoch in (1, 2):
        average.add(epoch, network(epoch))
    assert average.count == 2
    bias = torch.stack([network(epoch)[3].bias.detach() for epoch in (1, 2)]).double().mean(0).float()
    assert torch.equal(average.mean(network(0))["3.bias"], bias)


def test_a_run_that_is_prolonged_begins_its_mean_anew() -> None:
    short = WeightAverage(2, 4)
    for epoch in (1, 2, 3, 4):
        short.add(epoch, network(epoch))
    longer = WeightAverage(2, 6)
    longer.load_state_dict(short.state_dict())
    for epoch in (5, 6):
        longer.add(epoch, network(epoch))
    assert longer.added == [5, 6]


def test_statistics_taken_anew_are_those_of_the_images() -> None:
    model = network(0).train()
    images = [torch.randn(8, 3, 3, 3) for _ in range(3)]
    renew_statistics(model, images)
    with torch.no_grad():
        maps = [model[0](batch) for batch in images]
    mean = torch.stack([m.mean((0, 2, 3)) for m in maps]).mean(0)
    variance = torch.stack([m.var((0, 2, 3)) for m in maps]).mean(0)
    torch.testing.assert_close(model[1].running_mean, mean)
    torch.testing.assert_close(model[1].running_var, variance)
    assert (model[1].momentum, model[1].training, model.training) == (0.1, True, True)
