"""The contract: feature, projection, dropout and classifier in their places."""

import pytest
import torch
from torch import nn

from lshfm.errors import InputError
from lshfm.models.classifier import Classifier


def tiny(**settings: object) -> Classifier:
    """A backbone that keeps the image, so that every step can be followed by hand."""
    return Classifier("tiny", nn.Identity(), 3, 4, **settings)


IMAGES = torch.arange(24.0).reshape(2, 3, 2, 2)
MEANS = torch.tensor([[1.5, 5.5, 9.5], [13.5, 17.5, 21.5]])


def test_feature_is_the_pooled_map_and_feeds_the_classifier() -> None:
    model = tiny()
    feature, logits = model(IMAGES)
    assert torch.equal(feature, MEANS)
    assert torch.equal(logits, model.classifier(MEANS))
    assert (model.num_features, model.raw_features) == (3, 3)
    assert model.heads == {"classifier": model.classifier}


def test_projection_gives_the_feature() -> None:
    model = tiny(projection=5)
    feature, logits = model(IMAGES)
    assert model.projection is not None
    assert torch.equal(feature, MEANS @ model.projection.weight.T + model.projection.bias)
    assert torch.equal(logits, model.classifier(feature))
    assert (model.num_features, model.raw_features) == (5, 3)
    assert list(model.heads) == ["projection", "classifier"]


@pytest.mark.parametrize("projection", [None, 5])
def test_forward_is_the_head_on_the_raw_feature(projection: int | None) -> None:
    model = tiny(projection=projection, dropout=0.5).train()
    raw = model.raw_feature(IMAGES)
    assert torch.equal(raw, MEANS)
    torch.manual_seed(0)
    whole = model(IMAGES)
    torch.manual_seed(0)
    parts = model.head(raw)
    assert all(torch.equal(one, other) for one, other in zip(whole, parts, strict=True))


def test_dropout_comes_after_the_feature() -> None:
    torch.manual_seed(0)
    model = tiny(dropout=0.5).train()
    feature, logits = model(IMAGES)
    assert torch.equal(feature, MEANS)
    assert not torch.equal(logits, model.classifier(feature))
    assert torch.equal(model.eval()(IMAGES)[1], model.classifier(feature))


def test_without_dropout_training_draws_no_random_numbers() -> None:
    model = tiny().train()
    state = torch.get_rng_state()
    model(IMAGES)
    assert torch.equal(torch.get_rng_state(), state)


def test_linear_layers_start_as_told() -> None:
    torch.manual_seed(0)
    model = Classifier("wide", nn.Identity(), 1000, 300, projection=400, linear_std=0.01)
    for head in model.heads.values():
        assert head.weight.std().item() == pytest.approx(0.01, rel=0.02)
        assert head.weight.mean().item() == pytest.approx(0, abs=1e-4)
        assert not head.bias.any()


@pytest.mark.parametrize("projection", [0, -1, True, 2.5, "512"])
def test_projection_must_be_a_width(projection: object) -> None:
    with pytest.raises(InputError, match=r"^projection=.* must be a whole number above 0"):
        tiny(projection=projection)


def test_there_must_be_classes() -> None:
    with pytest.raises(InputError, match="num_classes=0 must be"):
        Classifier("tiny", nn.Identity(), 3, 0)
