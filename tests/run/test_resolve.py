import pytest
import torch

from deeplabx.errors import DataError
from deeplabx.run.resolve import resolved
from tests.conftest import TINY, Compose

CPU = torch.device("cpu")
WITHOUT_LENGTH = [one for one in TINY if not one.startswith("schedule.max_iters")]  # batches of 4


@pytest.mark.parametrize(("epochs", "steps"), [(1.5, 5), (2, 6), (0.1, 1)])
def test_epochs_become_iterations(compose: Compose, epochs: float, steps: int) -> None:
    config = resolved(compose(*WITHOUT_LENGTH, f"trainer.epochs={epochs}"), images=12, device=CPU)
    assert (config.schedule.max_iters, config.trainer.epochs) == (steps, None)


def test_a_split_without_images_is_an_error(compose: Compose) -> None:
    with pytest.raises(DataError, match="split train of shapes holds no images"):
        resolved(compose(*TINY), images=0, device=CPU)
