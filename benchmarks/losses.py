"""What each loss costs beside cross-entropy: the time of its forward and backward, and the memory at its
peak.

python -m benchmarks.losses
python -m benchmarks.losses --device cuda --size 16 21 513 513
python -m benchmarks.losses --device cuda --size 8 19 769 769

Times alternate with those of cross-entropy (A B A B ...), and the ratio is that of the medians: what else
runs on the machine slows down both. On a CPU it is processor time of one thread. Memory is in copies of the
logits, the logits' own and their gradient included; on a CPU it is what PyTorch's operators return, without
what they need inside.

On a GPU each loss is also computed twice with torch.use_deterministic_algorithms(True): the bits of loss and
gradient must be equal, and no operator may complain. It exits with 1 if they are not.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from deeplabx import registry
from deeplabx.engine.kernels import fix_workspace
from deeplabx.loss.contract import Loss

IGNORE = 255
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "cross_entropy, label_smoothing=0.1": ("cross_entropy", {"label_smoothing": 0.1}),
    "ohem, exact=false": ("ohem", {"exact": False}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--size", type=int, nargs=4, default=(4, 21, 129, 129), metavar=("N", "C", "H", "W"))
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    fix_workspace()
    torch.set_num_threads(1)
    device = torch.device(given.device)
    logits, labels = batch(given.size, device)
    base = built("cross_entropy")
    print(f"{' x '.join(map(str, given.size))} float32 on {given.device}, torch {torch.__version__}")
    print(f"cross_entropy: {1000 * seconds(base, logits, labels, given.rounds):.1f} ms")
    print(f"{'loss':36} {'time':>6} {'memory':>7}" + ("  bits" if device.type == "cuda" else ""))
    repeats = True
    for name, (option, settings) in losses().items():
        loss = built(option, **settings).to(device)
        row = f"{name:36} {ratio(loss, base, logits, labels, given.rounds):6.1f} "
        row += f"{copies(loss, logits, labels):7.1f}"
        if device.type == "cuda":
            same = repeated(loss, logits, labels)
            repeats &= same
            row += "  equal" if same else "  DIFFER"
        print(row, flush=True)
    sys.exit(0 if repeats else 1)


def losses() -> dict[str, tuple[str, dict[str, Any]]]:
    """Every loss of the project with its defaults, and some with other settings."""
    names = [name for name in registry.OPTIONS["loss"] if name != "composite"]
    return {**{name: (name, {}) for name in names}, **VARIANTS}


def built(option: str, **settings: Any) -> Loss:
    loss: Loss = registry.build("loss", option, **settings)
    return loss


def batch(size: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Logits in channels_last, as networks give them, and labels in squares of 16 x 16 pixels of up to eight
    classes an image, as photographs have; one in 16 squares is ignored.
    """
    images, classes, height, width = size
    torch.manual_seed(0)
    logits = torch.randn(images, classes, height, width).contiguous(memory_format=torch.channels_last)
    squares = torch.randint(0, min(8, classes), (images, height // 16 + 1, width // 16 + 1))
    squares = (squares + torch.arange(images)[:, None, None]) % classes
    squares[torch.rand(squares.shape) < 1 / 16] = IGNORE
    labels = squares.repeat_interleave(16, dim=1).repeat_interleave(16, dim=2)[:, :height, :width]
    return logits.to(device).requires_grad_(), labels.contiguous().to(device)


def computed(loss: Loss, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Loss and gradient, each part divided by the number of pixels or images as a step does."""
    logits.grad = None
    valid = (labels != IGNORE).flatten(1).sum(dim=1)
    total = torch.zeros((), device=logits.device)
    for weight, part in loss.parts:
        divisor = valid.sum() if part.per == "pixel" else (valid > 0).sum()
        total = total + weight * part(logits, labels, ignore_index=IGNORE) / divisor
    total.backward()
    assert logits.grad is not None
    return total.detach(), logits.grad


def timed(loss: Loss, logits: Tensor, labels: Tensor) -> float:
    if logits.device.type == "cuda":
        torch.cuda.synchronize()
        began = time.perf_counter()
        computed(loss, logits, labels)
        torch.cuda.synchronize()
        return time.perf_counter() - began
    began = time.process_time()
    computed(loss, logits, labels)
    return time.process_time() - began


def seconds(loss: Loss, logits: Tensor, labels: Tensor, rounds: int) -> float:
    timed(loss, logits, labels)  # the first one allocates
    return statistics.median(timed(loss, logits, labels) for _ in range(rounds))


def ratio(loss: Loss, base: Loss, logits: Tensor, labels: Tensor, rounds: int) -> float:
    """How many times as long as `base` it takes."""
    timed(loss, logits, labels)
    pairs = [(timed(loss, logits, labels), timed(base, logits, labels)) for _ in range(rounds)]
    own, others = zip(*pairs, strict=True)
    return statistics.median(own) / statistics.median(others)


class Alive(TorchDispatchMode):
    """The most bytes of operators' results that were alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.storages: dict[int, tuple[StorageWeakRef, int]] = {}
        self.most = 0

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        results = operator(*args, **(kwargs or {}))
        for one in results if isinstance(results, tuple | list) else [results]:
            if isinstance(one, Tensor):
                storage = one.untyped_storage()
                self.storages[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.storages = {key: kept for key, kept in self.storages.items() if not kept[0].expired()}
        self.most = max(self.most, sum(size for _, size in self.storages.values()))
        return results


def copies(loss: Loss, logits: Tensor, labels: Tensor) -> float:
    """The memory at the peak, in copies of the logits."""
    logits.grad = None
    size = logits.untyped_storage().nbytes()
    if logits.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        computed(loss, logits, labels)
        return 1 + (torch.cuda.max_memory_allocated() - before) / size
    with Alive() as alive:
        computed(loss, logits, labels)
    return 1 + alive.most / size


def repeated(loss: Loss, logits: Tensor, labels: Tensor) -> bool:
    """Whether two computations give the same bits, with kernels of PyTorch that repeat."""
    torch.use_deterministic_algorithms(True)
    try:
        first, gradient = computed(loss, logits, labels)
        gradient = gradient.clone()
        second, again = computed(loss, logits, labels)
        return torch.equal(first, second) and torch.equal(gradient, again)
    except RuntimeError as error:
        print(f"{type(loss).__name__}: {error}", file=sys.stderr)
        return False
    finally:
        torch.use_deterministic_algorithms(False)


if __name__ == "__main__":
    main()
