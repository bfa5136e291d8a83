import pytest
import torch
from torch import nn

from deeplabx.config import schema, stored
from deeplabx.run.description import config_from_plain
from deeplabx.run.effective_batch import norm_words, with_scaled_lr
from deeplabx.run.resolve import resolved
from tests.conftest import Compose

V1 = "+recipe=voc_deeplabv1_vgg16"  # of batch 30; the data set's is 16


@pytest.mark.parametrize(
    ("overrides", "batch"),
    [
        ([], None),
        (["trainer.batch_size=4"], None),
        ([V1], 30),
        ([V1, "trainer.batch_size=4"], 30),
        ([V1, "trainer.batch_size=4", "trainer.lr_batch_size=7"], 7),
        (
            ["+recipe=voc_deeplabv3plus_resnet101", "trainer.batch_size=4"],
            None,
        ),  # its batch is the data set's
    ],
)
def test_a_recipes_batch_is_known_whatever_the_command_line_has(
    compose: Compose, overrides: list[str], batch: int | None
) -> None:
    assert compose(*overrides).trainer.lr_batch_size == batch


@pytest.mark.parametrize(("how", "factor"), [("linear", 4 / 30), ("sqrt", (4 / 30) ** 0.5), ("null", 1.0)])
def test_the_learning_rate_is_scaled_once_and_only_if_asked(
    compose: Compose, how: str, factor: float
) -> None:
    config = compose(V1, "trainer.batch_size=4", f"trainer.scale_lr={how}", "optimizer.lr=0.001")
    once, words = with_scaled_lr(resolved(config, images=9, device=torch.device("cpu")))
    assert once.optimizer.lr == pytest.approx(0.001 * factor)
    assert len(words) == 1
    assert once.trainer.scale_lr is None
    again = config_from_plain(stored.to_plain(once))  # as resume reads it
    twice, words = with_scaled_lr(resolved(again, images=9, device=torch.device("cpu")))
    assert twice == once
    assert bool(words) == (how == "null")


def test_what_the_log_says(compose: Compose) -> None:
    def words(*overrides: str) -> list[str]:
        return with_scaled_lr(compose("dataset=voc", "dataset.root=x", *overrides))[1]

    assert words() == words("trainer.scale_lr=linear") == words("trainer.accumulate=2") == []
    assert words("trainer.batch_size=8") == [
        "batch 8, but optimizer.lr=0.007 is meant for 16 images; trainer.scale_lr=linear would make "
        "it 0.0035, trainer.scale_lr=sqrt 0.00495"
    ]
    assert words("trainer.batch_size=64", "trainer.scale_lr=sqrt") == [
        "optimizer.lr=0.007 is meant for 16 images and scaled by the square root to 64: 0.014"
    ]


@pytest.mark.parametrize(
    ("images", "trained", "said"), [(16, True, False), (8, True, True), (8, False, False)]
)
def test_the_log_says_where_batch_norm_sees_fewer_images(
    compose: Compose, images: int, trained: bool, said: bool
) -> None:
    config = compose("dataset=voc", "dataset.root=x")
    model = nn.BatchNorm2d(3) if trained else nn.Conv2d(3, 3, 1)
    lines = norm_words(config, model, norm_images=images)
    assert bool(lines) == said
    assert all("batch norm sees 8 images at a time" in line for line in lines)


def test_every_recipe_with_a_batch_of_its_own_is_found(compose: Compose) -> None:
    """What is noted is what the recipe composes to, where the recipe sets it."""
    import yaml

    from deeplabx.command.yaml_files import choices, conf_dir

    for name in choices("recipe"):
        table = yaml.safe_load((conf_dir() / "recipe" / f"{name}.yaml").read_text(encoding="utf-8"))
        own = table.get("trainer", {}).get("batch_size")
        if own is not None:
            config = compose(f"+recipe={name}")
            assert config.trainer.lr_batch_size == config.trainer.batch_size == own


def test_a_value_that_is_not_offered_is_refused(compose: Compose) -> None:
    with pytest.raises(Exception, match=r"trainer.scale_lr=squared is not one of linear, sqrt"):
        compose("trainer.scale_lr=squared")
    assert schema.TrainerConfig.__dataclass_fields__["scale_lr"].default is None
