"""Detectors: parameters of the published ones, and their losses against straight formulas in double precision."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FrozenBatchNorm2d

from lshfm.errors import InputError
from lshfm.losses.features import L1, L2
from lshfm.losses.lsh import LSH, HashFunctions, teacher_std
from lshfm.models.detection.backbones import frozen_norm
from lshfm.models.detection.build import DETECTORS, detector
from lshfm.models.detection.transform import Resize, longest_side
from lshfm.objectives.detection import Detect, DetectorTeacher, MimicDetect
from lshfm.objectives.terms import Term, Terms
from tests.models import straight_detection as straight

PARAMETERS = {  # of 21 classes, and of them trained
    "fasterrcnn_resnet50_fpn": (41_396_536, 41_174_136),
    "fasterrcnn_resnet101_fpn": (60_336_440, 60_114_040),
    "fasterrcnn_vgg11_fpn": (26_539_512, 26_463_864),
    "fasterrcnn_vgg16_fpn": (32_033_720, 31_773_560),
    "fasterrcnn_vgg11": (38_467_124, 38_391_476),
    "fasterrcnn_vgg16": (43_961_332, 43_701_172),
    "fasterrcnn_resnet50_c4": (33_238_260, 33_012_916),
    "fasterrcnn_resnet101_c4": (52_230_388, 52_005_044),
    "retinanet_resnet50_fpn": (32_562_849, 32_340_449),
    "retinanet_resnet101_fpn": (51_502_753, 51_280_353),
    "retinanet_vgg11_fpn": (17_738_593, 17_662_945),
    "retinanet_vgg16_fpn": (23_232_801, 22_972_641),
    "retinanet_vgg11": (29_827_319, 29_827_319),
    "retinanet_vgg16": (35_321_527, 35_321_527),
}
BASELINES = (
    "fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_c4", "fasterrcnn_vgg11_fpn", "fasterrcnn_vgg11",
    "retinanet_resnet50_fpn", "retinanet_vgg11_fpn", "retinanet_vgg11",
)  # fmt: skip
PAIRS = (
    ("fasterrcnn_resnet50_fpn", "fasterrcnn_resnet101_fpn"),
    ("fasterrcnn_vgg11", "fasterrcnn_vgg16"),
    ("fasterrcnn_vgg11_fpn", "fasterrcnn_vgg16_fpn"),
    ("retinanet_resnet50_fpn", "retinanet_resnet101_fpn"),
    ("retinanet_vgg11_fpn", "retinanet_vgg16_fpn"),
)
SMALL = "fasterrcnn_mobilenet_v2_fpn", "retinanet_mobilenet_v2_fpn"
BETA = 7.0


@pytest.mark.parametrize("arch", PARAMETERS)
def test_parameters_of_the_published_detectors(arch: str) -> None:
    with torch.device("meta"):
        network = detector(arch, 21)
    parameters = list(network.parameters())
    trained = sum(each.numel() for each in parameters if each.requires_grad)
    assert (sum(each.numel() for each in parameters), trained) == PARAMETERS[arch]
    assert arch.startswith("faster") == (network.num_features in (1024, 2048))
    if arch.startswith("faster"):  # candidates of a level before the RPN's suppression, twice torchvision's
        assert network.rpn._pre_nms_top_n == {"training": 4000, "testing": 2000}
        assert network.rpn._post_nms_top_n == {"training": 2000, "testing": 1000}


@dataclass(frozen=True)
class Draw:
    size: int
    seed: int


@dataclass(frozen=True)
class Batch:
    images: list[Tensor]
    targets: list[dict[str, Tensor]]
    draws: list[Draw]
    progress: float = 0.0


def batch() -> Batch:
    """Two images of other widths, which neither resizing nor rounding changes; the second is without objects."""
    torch.manual_seed(1)
    images = [torch.randn(3, 32, width, dtype=torch.float64) for width in (64, 47)]
    boxes = torch.tensor([[2, 3, 30, 25], [20, 1, 60, 31], [4, 4, 25, 30]], dtype=torch.float64)
    targets = [{"boxes": boxes, "labels": torch.tensor([3, 20, 1])}]
    targets.append({"boxes": torch.zeros(0, 4, dtype=torch.float64), "labels": torch.zeros(0, dtype=torch.int64)})
    return Batch(images, targets, [Draw(32, 0), Draw(32, 1)])


def network(arch: str, seed: int) -> nn.Module:
    """With weights that make some difference, and samplers that take everything."""
    torch.manual_seed(seed)
    design = {"frozen_eps": 0.0} if DETECTORS[arch].has_frozen_norms else {}
    design |= {"fpn_channels": 32} if arch in SMALL else {}
    made = detector(arch, 21, 48, **design).double()
    with torch.no_grad():
        for layer in made.modules():
            if hasattr(layer, "running_var"):
                layer.running_var.uniform_(0.5, 1.5)
                layer.running_mean.normal_(std=0.1)
        for name, parameter in made.named_parameters():
            if "cls_logits.bias" in name:
                parameter.normal_(std=0.5)
            elif name.startswith(("rpn.head", "head")):
                parameter.normal_(std=0.03)
    if hasattr(made, "rpn"):
        for part in (made.rpn, made.roi_heads):
            part.fg_bg_sampler.sampler.batch_size_per_image = 10**6
            part.fg_bg_sampler.sampler.positive_fraction = 0.5
    return made


def straight_losses(net: nn.Module, given: Batch) -> straight.FasterRCNN | straight.RetinaNet:
    pixels = torch.stack([F.pad(image, (0, 64 - image.shape[2])) for image in given.images])
    kind = straight.FasterRCNN if hasattr(net, "rpn") else straight.RetinaNet
    return kind(net, pixels, [(32, image.shape[2]) for image in given.images], given.targets)


def require_close(ours: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(ours) == list(expected)
    for name, loss in ours.items():
        assert loss.item() == pytest.approx(float(expected[name].detach()), rel=1e-6, abs=1e-12), name


def cases(all_of_them: tuple, small: object) -> Iterator[object]:
    yield small
    yield from (pytest.param(each, marks=pytest.mark.slow) for each in all_of_them)


@pytest.mark.parametrize("arch", [*cases(BASELINES, SMALL[0]), SMALL[1]])
def test_losses_of_a_baseline_are_the_straight_formulas(arch: str) -> None:
    net, given = network(arch, 0), batch()
    objective = Detect(net)
    objective.train()
    ours = objective(given)
    net.eval()  # frozen statistics are what the formulas have
    expected = straight_losses(net, given).losses
    require_close(ours, expected)
    assert all(float(loss.detach()) > 0 for loss in expected.values())


@pytest.mark.parametrize("pair", [*cases(PAIRS, (SMALL[0],) * 2), (SMALL[1],) * 2], ids="<-".join)
def test_losses_of_a_mimicking_pair_are_the_straight_formulas(pair: tuple[str, str]) -> None:
    """The teacher's features of the student's own proposals, or of all windows."""
    student, teacher, given = network(pair[0], 0), network(pair[1], 5), batch()
    width = student.num_features
    torch.manual_seed(2)
    std = teacher_std(teacher.classifier.weight)
    functions = HashFunctions(torch.randn(48, width) * std, torch.zeros(48), std, 0, "zero")
    terms = Terms([Term("l2", BETA, L2()), Term("lsh", BETA, LSH(functions)), Term("l1", 1.0, L1())])
    objective = MimicDetect(student, DetectorTeacher(teacher), terms=terms)
    objective.train()
    assert not any(module.training for module in teacher.modules())
    ours = objective(given)
    own = straight_losses(student.eval(), given)
    theirs = own.features_by(teacher, straight.maps_of(teacher, own.pixels))
    weights = functions.weights.double()
    parts = {name: straight.mimicked(own, theirs, name, weights) for name in ("l2", "lsh", "l1")}
    require_close(ours, own.losses | {"l2": BETA * parts["l2"], "lsh": BETA * parts["lsh"], "l1": parts["l1"]})


@pytest.mark.parametrize("arch", SMALL)
def test_matched_positions_alone(arch: str) -> None:
    """Boxes or windows that see an object; halfway through its warm-up beta is half."""
    student, teacher, given = network(arch, 0), network(arch, 5), replace(batch(), progress=1.5)
    terms = Terms([Term("l2", BETA, L2())])
    objective = MimicDetect(student, DetectorTeacher(teacher), terms=terms, positions="matched", beta_warmup=3)
    objective.train()
    ours = objective(given)
    own = straight_losses(student.eval(), given)
    theirs = own.features_by(teacher, straight.maps_of(teacher, own.pixels))
    if arch.startswith("faster"):
        chosen = torch.tensor(own.matched)
        expected = ((own.features - theirs)[chosen] ** 2).mean()
    else:  # the second image has no object
        chosen = (own.matches[0].view(own.features.shape[1], -1) >= 0).any(1)
        expected = ((own.features[0] - theirs[0])[chosen] ** 2).mean()
    assert 0 < chosen.sum() < len(chosen)
    assert ours["l2"].item() == pytest.approx(BETA / 2 * expected.item(), rel=1e-6)


def test_sizes_of_images() -> None:
    """A photograph at the published size; padding is rounded up to 32; of the thinnest picture a pixel is left."""
    resize = Resize(800).eval()
    batch, _ = resize([torch.zeros(3, 375, 500)])
    assert (batch.image_sizes, batch.tensors.shape) == ([(800, 1066)], (1, 3, 800, 1088))
    resize = Resize(64).train()
    images = [torch.zeros(3, 2, 300), torch.zeros(3, 212, 2), torch.zeros(3, 100, 100)]
    targets = [
        {"boxes": torch.tensor([[30.0, 0.0, 60.0, 2.0]])},
        {"boxes": torch.zeros(0, 4)},
        {"boxes": torch.zeros(0, 4)},
    ]
    batch, scaled = resize.resized(images, targets, [Draw(48, 0), Draw(64, 0), Draw(40, 0)])
    assert batch.image_sizes == [(1, 106), (106, 1), (40, 40)]
    torch.testing.assert_close(scaled[0]["boxes"], torch.tensor([[10.6, 0.0, 21.2, 1.0]]))


def test_a_box_is_pooled_from_the_level_of_its_size() -> None:
    """Large boxes from coarser maps: at 224 pixels the third of four."""
    net = detector(SMALL[0], 21, 800, fpn_channels=8)
    maps = {str(level): torch.full((1, 8, 128 >> level, 128 >> level), float(level)) for level in range(4)}
    sides = (30.0, 111.0, 112.0, 223.0, 224.0, 447.0, 448.0, 511.0)
    boxes = torch.tensor([[0.0, 0.0, side, side] for side in sides])
    pooled = net.roi_heads.box_roi_pool(maps, [boxes], [(512, 512)])
    assert pooled[:, 0, 3, 3].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("arch", [SMALL[0], "fasterrcnn_vgg11"])
def test_boxes_are_pooled_alike_whatever_was_seen_first(arch: str) -> None:
    """Also of a picture that is mostly padding: a run that goes on sees another first batch than one from the start."""
    net = detector(arch, 21, 64)
    pool = net.roi_heads.box_roi_pool
    steps = [4, 8, 16, 32] if arch == SMALL[0] else [16]
    maps = {str(level): torch.randn(1, 3, 64 // step, 64 // step) for level, step in enumerate(steps)}
    boxes = [torch.tensor([[3.0, 2.0, 30.0, 27.0], [0.0, 0.0, 32.0, 20.0]])]
    before = pool(maps, boxes, [(64, 64)])
    fresh = detector(arch, 21, 64).roi_heads.box_roi_pool
    fresh(maps, boxes, [(36, 40)])
    assert torch.equal(before, fresh(maps, boxes, [(64, 64)]))
    assert fresh.scales == [1 / step for step in steps]


@pytest.mark.parametrize("arch", SMALL)
def test_no_object_at_all_leaves_nothing_to_mimic(arch: str) -> None:
    """Such images are learnt as background."""
    student, given = network(arch, 0), batch()
    given = replace(given, targets=[given.targets[1]] * 2)
    objective = MimicDetect(
        student, DetectorTeacher(network(arch, 5)), terms=Terms([Term("l2", BETA, L2())]), positions="matched"
    )
    objective.train()
    losses = objective(given)
    sum(losses.values()).backward()
    assert losses["l2"].item() == 0
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert all(each.grad is not None for each in student.parameters() if each.requires_grad)


def test_the_teacher_stays_as_it_is() -> None:
    """In eval mode, without gradients, and only its backbone and box head run."""
    teacher = network(SMALL[0], 5)
    for part in (teacher.rpn, teacher.roi_heads.box_predictor):
        part.forward = None
    objective = MimicDetect(network(SMALL[0], 0), DetectorTeacher(teacher), terms=Terms([Term("l2", BETA, L2())]))
    objective.train()
    sum(objective(batch()).values()).backward()
    assert all(each.grad is None for each in teacher.parameters())


def test_of_the_frozen_networks_the_teachers_backbone_is_wrapped() -> None:
    """As speed=fast compiles it; the losses are the same."""
    wrapped: list[nn.Module] = []

    class Noting(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, pixels: Tensor) -> object:
            wrapped.append(self.module)
            return self.module(pixels)

    teacher = network(SMALL[0], 5)
    backbone = teacher.backbone
    objective = MimicDetect(network(SMALL[0], 0), DetectorTeacher(teacher), terms=Terms([Term("l2", BETA, L2())]))
    before = objective.train()(batch())
    objective.wrap_frozen(Noting)
    after = objective.train()(batch())
    assert wrapped == [backbone]
    assert not backbone.training
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_what_is_sampled_of_an_image_hangs_on_its_seed_alone() -> None:
    torch.manual_seed(1)
    net = detector(SMALL[0], 21, 48, fpn_channels=8)
    matches = [torch.tensor([0] * 900 + [1] * 300), torch.tensor([0] * 700 + [1] * 200)]
    sampler = net.rpn.fg_bg_sampler
    sampler.seeds = [7, 8]
    positive, negative = sampler(matches)
    before = torch.get_rng_state()
    sampler.seeds = [8]
    again, _ = sampler(matches[1:])
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(positive[1], again[0])
    assert [int(each.sum()) for each in (*positive, *negative)] == [128] * 4
    sampler.seeds = [9]
    assert not torch.equal(sampler(matches[1:])[0][0], again[0])


def test_frozen_norms_are_torchvisions_in_one_pass() -> None:
    """Under the same names; and maps in bf16 stay so, which torchvision's makes fp32."""
    torch.manual_seed(0)
    theirs = FrozenBatchNorm2d(6, eps=1e-3)
    ours = frozen_norm(1e-3)(6)
    state = {name: torch.rand(6) + 0.5 for name in theirs.state_dict()}
    for norm in (theirs, ours):
        norm.load_state_dict(state)
    images = torch.randn(2, 6, 5, 4)
    torch.testing.assert_close(ours(images), theirs(images))
    assert ours(images.bfloat16()).dtype == torch.bfloat16


def test_boxes_are_resized_as_torchvisions_are() -> None:
    """To the bit, and the targets that were given stay as they are."""
    given = torch.tensor([[3.25, 7.5, 100.125, 44.0], [0.0, 0.0, 131.0, 77.0]])
    resize, theirs = Resize(61), GeneralizedRCNNTransform(61, longest_side(61), [0.0] * 3, [1.0] * 3)
    ours, expected = (each.eval()([torch.rand(3, 77, 131)], [{"boxes": given}])[1][0] for each in (resize, theirs))
    assert torch.equal(ours["boxes"], expected["boxes"])
    assert given[1].tolist() == [0, 0, 131, 77]


def test_retinanets_published_limits() -> None:
    """So many of each class, of any number of candidates, and none without an area; best score first."""
    torch.manual_seed(0)
    net = detector("retinanet_mobilenet_v2_fpn", 4, 96, fpn_channels=16, per_class=3).eval()
    net.score_thresh, net.nms_thresh = 0.0, 1.0
    image = torch.randn(3, 96, 96)
    (ours,) = net([image])
    net.per_class, net.topk_candidates, net.detections_per_img = None, 10**6, 10**6
    (every,) = net([image])
    for label in range(4):
        of_class = every["labels"] == label
        sides = every["boxes"][of_class][:, 2:] - every["boxes"][of_class][:, :2]
        best = every["scores"][of_class][(sides >= 0.01).all(1)][:3]
        assert torch.equal(ours["scores"][ours["labels"] == label], best)
    assert torch.equal(ours["scores"], ours["scores"].sort(descending=True).values)


def test_an_unknown_detector_and_settings_of_another_are_refused() -> None:
    with pytest.raises(InputError, match="fasterrcnn_resnet50_fp is unknown"):
        detector("fasterrcnn_resnet50_fp", 21)
    with pytest.raises(InputError, match="MobileNetV2's"):
        detector("fasterrcnn_vgg11_fpn", 21, width=0.5)
    with pytest.raises(InputError, match=r"width=-1 must be a number above 0"):
        detector("fasterrcnn_mobilenet_v2_fpn", 2, width=-1)
    with pytest.raises(InputError, match="fpn_channels=64"):
        detector("retinanet_vgg11", 21, fpn_channels=64)


@pytest.mark.parametrize("arch", SMALL)
def test_boxes_are_in_single_precision_under_bf16(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """bf16 counts pixels beyond 512 in fours: anchors, decoded boxes and losses are not in it."""
    net, given, decoded = network(arch, 0).float(), batch(), []
    decode = BoxCoder.decode_single

    def noted(coder: BoxCoder, offsets: Tensor, boxes: Tensor) -> Tensor:
        decoded.extend([decode(coder, offsets, boxes), boxes])
        return decoded[-2]

    monkeypatch.setattr(BoxCoder, "decode_single", noted)
    images = [each.float() for each in given.images]
    targets = [each | {"boxes": each["boxes"].float()} for each in given.targets]
    with torch.autocast("cpu", torch.bfloat16):
        learnt = net.train().learn(images, targets, given.draws)  # type: ignore[operator]
        net.eval()(images)
    assert {each.dtype for each in (*decoded, *learnt.losses.values())} == {torch.float32}
