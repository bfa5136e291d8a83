"""A training step uses only operators whose CUDA kernels repeat to the bit, and none that makes the host wait
for the device. No GPU is needed: the operators that a step dispatches are compared with what PyTorch says of
their kernels.

What no list of operators can show needs a GPU (`python -m benchmarks.gpu`): which algorithms cuDNN chooses,
and copies between host and device.
"""

import functools
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import deeplabx
from deeplabx import registry
from deeplabx.config import schema
from deeplabx.engine.state import TrainState
from deeplabx.loss import one_hot
from deeplabx.loss.contract import Loss
from deeplabx.model import resize
from deeplabx.run.build import freeze, state_of
from tests.conftest import compose_plain

PACKAGE = str(Path(deeplabx.__file__).parent)
CLASSES = 4
torch.manual_seed(0)
IMAGES = torch.randint(0, 256, (2, 33, 33, 3), dtype=torch.uint8)
LABELS = torch.randint(0, CLASSES, (2, 33, 33), dtype=torch.uint8)

# --- what is known of the kernels ---------------------------------------------------------------------------
# Read in PyTorch's sources of 2025 and 2026, and in the documentation of 2.13. ALERT: the kernel adds with
# floating-point atomics, in the order in which threads happen to run, or its result depends on that order
# otherwise, and it calls alertNotDeterministic, in the file of aten/src/ATen/native/cuda named here. DOCS:
# the documentation of torch.use_deterministic_algorithms names it, as an operator with another, slower kernel
# for that setting: its usual kernel is refused here.

NONDETERMINISTIC: dict[str, str] = {
    "upsample_linear1d_backward": "ALERT UpSampleLinear1d.cu",
    "upsample_bilinear2d_backward": "ALERT UpSampleBilinear2d.cu: four fastAtomicAdd of each output pixel",
    "_upsample_bilinear2d_aa_backward": "ALERT UpSampleBilinear2d.cu",
    "upsample_bicubic2d_backward": "ALERT UpSampleBicubic2d.cu",
    "_upsample_bicubic2d_aa_backward": "ALERT UpSampleBilinear2d.cu",
    "upsample_trilinear3d_backward": "ALERT UpSampleTrilinear3d.cu",
    "grid_sampler_2d_backward": "ALERT GridSampler.cpp: atomics into the gradient of the input",
    "grid_sampler_3d_backward": "ALERT GridSampler.cpp",
    "_adaptive_avg_pool2d_backward": "ALERT AdaptiveAveragePooling.cu: atomics where windows overlap",
    "_adaptive_avg_pool3d_backward": "ALERT AdaptiveAveragePooling3d.cu",
    "adaptive_max_pool2d_backward": "ALERT AdaptiveMaxPooling2d.cu",
    "adaptive_max_pool3d_backward": "ALERT AdaptiveMaxPooling3d.cu",
    "fractional_max_pool2d_backward": "ALERT FractionalMaxPool2d.cu",
    "fractional_max_pool3d_backward": "ALERT FractionalMaxPool3d.cu",
    "avg_pool3d_backward": "ALERT AveragePool3d.cu",
    "max_pool3d_with_indices_backward": "DOCS DilatedMaxPool3d.cu: atomics where windows overlap",
    "max_unpool2d": "ALERT MaxUnpooling.cu: duplicate indices",
    "max_unpool3d": "ALERT MaxUnpooling.cu: duplicate indices",
    "reflection_pad1d_backward": "ALERT ReflectionPad.cu",
    "reflection_pad2d_backward": "ALERT ReflectionPad.cu",
    "reflection_pad3d_backward": "ALERT ReflectionPad.cu",
    "replication_pad1d_backward": "DOCS ReplicationPadding.cu",
    "replication_pad2d_backward": "DOCS ReplicationPadding.cu",
    "replication_pad3d_backward": "DOCS ReplicationPadding.cu",
    "_ctc_loss_backward": "ALERT LossCTC.cu",
    "scatter_add": "DOCS ScatterGatherKernel.cu; also what the backward of gather calls",
    "scatter_add_": "DOCS ScatterGatherKernel.cu; also what the backward of gather calls",
    "scatter_reduce": "DOCS, ALERT for prod: ScatterGatherKernel.cu",
    "scatter_reduce_": "DOCS, ALERT for prod: ScatterGatherKernel.cu",
    "index_add": "DOCS Indexing.cu; also what the backward of index_select calls",
    "index_add_": "DOCS Indexing.cu; also what the backward of index_select calls",
    "index_copy": "DOCS IndexKernel.cu: duplicate indices",
    "index_copy_": "DOCS IndexKernel.cu: duplicate indices",
    "index_reduce": "ALERT Indexing.cu",
    "index_reduce_": "ALERT Indexing.cu",
    "put": "ALERT ../TensorAdvancedIndexing.cpp",
    "put_": "ALERT ../TensorAdvancedIndexing.cpp",
    "_embedding_bag_dense_backward": "ALERT EmbeddingBag.cu, for mode max",
    "histc": "ALERT SummaryOps.cu, for floating point",
    "median": "ALERT Sorting.cpp, for the index",
    "nanmedian": "ALERT Sorting.cpp, for the index",
    "kthvalue": "ALERT Sorting.cpp",
}

# Nondeterministic for some arguments only: a function of them says whether.
DEPENDS: dict[str, tuple[Callable[[Mapping[str, Any]], bool], str]] = {
    "nll_loss2d_forward": (
        lambda given: given["reduction"] != 0,  # at::Reduction::None
        "ALERT NLLLoss2d.cu, for sum and mean: a gpuAtomicAdd of each block. With reduction=none it writes "
        "each pixel's own value",
    ),
    "index_put": (
        lambda given: not given["accumulate"] and not is_mask(given["indices"]),
        "DOCS Indexing.cu: accumulate=False with duplicate indices; accumulate=True sorts on CUDA",
    ),
    "index_put_": (
        lambda given: not given["accumulate"] and not is_mask(given["indices"]),
        "DOCS Indexing.cu: accumulate=False with duplicate indices; accumulate=True sorts on CUDA",
    ),
    "cumsum": (
        lambda given: (given["dtype"] or given["self"].dtype).is_floating_point,
        "ALERT ScanKernels.cpp, for floating point; whole numbers add up to the same in any order",
    ),
    "cumsum_": (
        lambda given: given["self"].is_floating_point(),
        "ALERT ScanKernels.cpp, for floating point",
    ),
    "bincount": (
        lambda given: given["weights"] is not None,
        "ALERT SummaryOps.cu, with weights; without, integers are counted",
    ),
}

# Taken for nondeterministic now and then, or named in older versions, but each thread writes one element of
# the gradient with what it gathers, or adds only integers atomically. Not refused; here so that nobody has to
# read the kernels again.
REPEATS: dict[str, str] = {
    "max_pool2d_with_indices_backward": "DilatedMaxPool2d.cu, max_pool_backward_nhwc and _nchw: a thread for "
    "each pixel of the input gathers from the windows that chose it. No alert",
    "avg_pool2d_backward": "AveragePool2d.cu, avg_pool2d_backward_out_cuda_frame and _nhwc: a thread for "
    "each pixel of the input sums its windows. No alert",
    "upsample_nearest2d_backward": "UpSampleNearest2d.cu: a thread for each input pixel sums its block",
    "nll_loss2d_backward": "NLLLoss2d.cu: each pixel of each class is written once",
    "native_batch_norm_backward": "Normalization.cuh: the last block, found by an integer atomic, sums the "
    "other blocks' parts in their order",
    "linalg_vector_norm": "Reduce.cuh: as in batch norm, a fixed order",
    "sum": "Reduce.cuh: as in batch norm, a fixed order",
    "convolution_backward": "cuDNN chooses an algorithm: repeats with torch.backends.cudnn.deterministic. "
    "Depthwise kernels of DepthwiseConv2d.cu gather, and sum in one block",
}

# Operators with whose result, or with the size of it, the host goes on: it waits until the device has it.
WAITS: dict[str, str] = {
    "_local_scalar_dense": "the value of a tensor as a number: .item(), float(), bool(), a Python if",
    "is_nonzero": "bool() of a tensor",
    "equal": "True or False of two tensors",
    "nonzero": "the size of the result depends on the values",
    "masked_select": "the size of the result depends on the values",
    "_unique": "the size of the result depends on the values",
    "_unique2": "the size of the result depends on the values",
    "unique_dim": "the size of the result depends on the values",
    "unique_consecutive": "the size of the result depends on the values",
    "bincount": "the size of the result depends on the values",
    "lift_fresh": "a tensor of Python numbers (torch.tensor, new_tensor) is copied from unpinned memory",
}
INDEXING = ("index", "index_put", "index_put_")


def is_mask(indices: Sequence[Tensor | None]) -> bool:
    return any(one is not None and one.dtype in (torch.bool, torch.uint8) for one in indices)


def waits_for_mask(name: str, given: Mapping[str, Any]) -> bool:
    """Whether it indexes with a mask, whose nonzero elements the host has to count. Writing a single value
    through one is masked_fill, which does not count them.
    """
    if name not in INDEXING or not is_mask(given["indices"]):
        return False
    return name == "index" or bool(given["values"].numel() != 1)


class Watch(TorchDispatchMode):
    """Notes each operator that is nondeterministic on CUDA or makes the host wait, and where it came from.

    It sees what autograd's backward runs too: on the CPU that is the calling thread.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.found: dict[str, str] = {}

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = operator.overloadpacket.__name__
        self.seen.add(name)
        names = [argument.name for argument in operator._schema.arguments]
        defaults = {one.name: one.default_value for one in operator._schema.arguments}
        given = {**defaults, **dict(zip(names, args, strict=False)), **(kwargs or {})}
        why = self.reason(name, given)
        if why and name not in self.found:
            self.found[name] = f"{why}; {origin()}"
        return operator(*args, **(kwargs or {}))

    @staticmethod
    def reason(name: str, given: Mapping[str, Any]) -> str:
        if name in NONDETERMINISTIC:
            return f"does not repeat: {NONDETERMINISTIC[name]}"
        if name in DEPENDS and DEPENDS[name][0](given):
            return f"does not repeat: {DEPENDS[name][1]}"
        if name in WAITS:
            return f"the host waits: {WAITS[name]}"
        return "the host waits: indexing with a mask" if waits_for_mask(name, given) else ""


def origin() -> str:
    """The innermost line of the package that leads here; in a backward pass, that of the call of it."""
    frames = [frame for frame in traceback.extract_stack() if frame.filename.startswith(PACKAGE)]
    return f"{Path(frames[-1].filename).relative_to(PACKAGE)}:{frames[-1].lineno}" if frames else "a test"


@pytest.fixture(autouse=True)
def kernels_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resizing, and what may make the host wait on a CPU, take the path that they take on a GPU."""
    monkeypatch.setattr(resize, "needs_own_backward", lambda x: True)
    monkeypatch.setattr(one_hot, "waits_are_free", lambda tensor: False)


@functools.cache
def config_of(*overrides: str) -> schema.TrainConfig:
    return compose_plain(
        "augment.crop_size=33",
        "trainer.batch_size=2",
        "trainer.devices=cpu",
        "trainer.precision=fp32",
        *overrides,
    )


def training_state(
    model: str, backbone: str, *overrides: str, norm: str = "batch", **settings: Any
) -> TrainState:
    """The state of `deeplabx train <overrides>` with this model, after what happens once, in its first step.
    settings: the model's own.
    """
    with torch.device("meta"):  # which operators run does not depend on the weights, and drawing them is slow
        network = deeplabx.build_model(model, backbone=backbone, num_classes=CLASSES, norm=norm, **settings)
    for tensor in network.to_empty(device="cpu").state_dict().values():
        tensor.zero_()
    freeze(config_of(*overrides).trainer, network)
    state = state_of(config_of(*overrides), network, ignore_index=255, device=torch.device("cpu"))
    state.normalization(IMAGES)  # mean and std are kept on the device
    return state


def watched(state: TrainState) -> Watch:
    """What a step dispatches."""
    with Watch() as watch:
        state.update(IMAGES, LABELS)
    return watch


BACKBONES = sorted(name for name in registry.OPTIONS["backbone"] if name != "timm")  # timm's are not ours
LIGHT = ("deeplabv3", "mobilenetv3_small")
STEPS: list[tuple[str, str, dict[str, Any]]] = [
    *(("deeplabv3plus", name, {}) for name in BACKBONES),
    ("deeplabv1", "vgg16", {}),
    ("deeplabv2", "resnet18", {"scales": [1.0, 0.75, 0.5]}),
    (*LIGHT, {}),
    ("deeplabv3", "resnet18", {"auxiliary_weight": 0.4, "image_pooling": 33}),
    ("lraspp", "mobilenetv3_small", {}),
    ("lraspp", "mobilenetv3_small", {"pooling": 17}),  # windows
    (*LIGHT, {"norm": "group"}),
    (*LIGHT, {"norm": "frozen"}),
    (*LIGHT, {"align_corners": False}),
]
SETTINGS = [
    *([f"loss={name}"] for name in registry.OPTIONS["loss"]),
    ["loss.class_weights=[1.0,2.0,3.0,4.0]", "loss.keep_priors=true"],
    *([f"optimizer={name}"] for name in registry.OPTIONS["optimizer"] if name != "torch"),
    ["optimizer=torch", "optimizer.algorithm=Adam"],
    ["trainer.clip_norm=1.0"],
    ["trainer.ema_decay=0.9"],
    ["trainer.on_nonfinite=skip"],
    ["trainer.precision=bf16"],
    ["trainer.precision=fp16", "trainer.ema_decay=0.9"],  # which the command refuses on a CPU
    ["trainer.freeze_stride=4"],
]


@pytest.mark.parametrize(("model", "backbone", "settings"), STEPS)
def test_a_step_of_every_model_and_backbone_repeats_and_does_not_wait(
    model: str, backbone: str, settings: dict[str, Any]
) -> None:
    watch = watched(training_state(model, backbone, **settings))
    assert not watch.found
    assert {"convolution", "convolution_backward"} <= watch.seen  # the backward pass was watched too


def test_each_model_is_among_them() -> None:
    assert {model for model, _, _ in STEPS} == set(registry.OPTIONS["model"])


@pytest.mark.parametrize("overrides", SETTINGS, ids="-".join)
def test_a_step_of_every_setting_repeats_and_does_not_wait(overrides: list[str]) -> None:
    assert not watched(training_state(*LIGHT, *overrides)).found


def test_a_step_of_two_passes_repeats_and_does_not_wait() -> None:
    state = training_state(*LIGHT, "trainer.accumulate=2", "model.norm=group", norm="group")
    assert state.accumulate == 2
    assert not watched(state).found


# --- the watch itself ---------------------------------------------------------------------------------------


class Wasteful(Loss):
    """Resizes with PyTorch's own backward, takes a mean with atomics, and reads the value."""

    def forward(self, logits: Tensor, labels: Tensor, *, ignore_index: int) -> Tensor:
        larger = F.interpolate(logits, size=(40, 40), mode="bilinear", align_corners=False)
        loss = F.cross_entropy(logits, labels, ignore_index=ignore_index) + larger.mean()
        return loss if float(loss.detach()) > 0 else loss * 2


def test_a_loss_that_does_not_repeat_and_waits_is_found() -> None:
    state = training_state("lraspp", "mobilenetv3_small")
    state.loss = Wasteful()
    found = watched(state).found
    assert {"upsample_bilinear2d_backward", "nll_loss2d_forward", "_local_scalar_dense"} <= set(found)
    assert "engine/state.py" in found["upsample_bilinear2d_backward"]


ROW = torch.tensor([0, 1, 1])
PLANTED: dict[str, Callable[[Tensor], Any]] = {
    "upsample_bilinear2d_backward": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "_adaptive_avg_pool2d_backward": lambda x: F.adaptive_avg_pool2d(x, 3),
    "reflection_pad2d_backward": lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"),
    "nll_loss2d_forward": lambda x: F.nll_loss(x, torch.zeros(2, 5, 5, dtype=torch.long)),
    "scatter_add": lambda x: x.gather(0, torch.zeros(1, 4, 5, 5, dtype=torch.long)),
    "index_add": lambda x: x.index_select(2, ROW),
    "cumsum": lambda x: x.cumsum(0),
    "index_put": lambda x: torch.index_put(x, (ROW,), torch.zeros(3, 4, 5, 5)),
    "index": lambda x: x[x > 0],
    "_local_scalar_dense": lambda x: x * x.max().item(),
    "equal": lambda x: x * torch.equal(x, x),
    "masked_select": lambda x: x.masked_select(x > 0),
    "nonzero": lambda x: x * x.nonzero().shape[0],
    "_unique2": lambda x: x * x.detach().unique().shape[0],
    "lift_fresh": lambda x: x * x.new_tensor([1.0]),
}


@pytest.mark.parametrize("name", PLANTED)
def test_the_watch_finds_what_is_planted(name: str) -> None:
    x = torch.linspace(-1, 1, 200).view(2, 4, 5, 5).requires_grad_()
    with Watch() as watch:
        PLANTED[name](x).sum().backward()
    assert {found.rstrip("_") for found in watch.found} >= {name.rstrip("_")}, watch.seen


HARMLESS: dict[str, Callable[[Tensor], Any]] = {
    "max_pool2d": lambda x: F.max_pool2d(x, 3, stride=2, padding=1),
    "avg_pool2d": lambda x: F.avg_pool2d(x, 3, stride=1),
    "the loss of each pixel": lambda x: F.nll_loss(
        x, torch.zeros(2, 5, 5, dtype=torch.long), reduction="none"
    ),
    "rows by their numbers": lambda x: x[ROW],  # its backward: index_put with accumulate=True
    "a running count": lambda x: x * (x > 0).cumsum(0),
    "one value through a mask": lambda x: x.clone().masked_fill_(x > 0, 0.0),
    "where": lambda x: torch.where(x > 0, x, 0.0),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_the_watch_lets_pass_what_repeats(name: str) -> None:
    x = torch.linspace(-1, 1, 200).view(2, 4, 5, 5).requires_grad_()
    with Watch() as watch:
        HARMLESS[name](x).sum().backward()
    assert not watch.found


def test_every_operator_of_the_tables_exists() -> None:
    tables = [*NONDETERMINISTIC, *DEPENDS, *REPEATS, *WAITS, *INDEXING]
    assert [name for name in tables if not hasattr(torch.ops.aten, name)] == []
