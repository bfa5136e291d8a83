from dataclasses import replace

from deeplabx.backbone.normalization import IMAGENET
from deeplabx.run.build import dataset_of
from deeplabx.run.class_weights import with_class_weights
from deeplabx.run.description import Description
from deeplabx.run.evaluated import without_counted
from tests.conftest import TINY, Compose


def test_a_resumed_run_has_its_own_weights_and_counts_no_label_again(compose: Compose) -> None:
    config = compose(*TINY, "loss.class_balance=enet")
    samples = dataset_of(config.dataset, split="train")
    counted, _ = with_class_weights(config, samples, None, workers=0)
    kept = [float(number) for number in range(1, 8)]
    assert vars(counted.loss)["class_weights"] != kept
    trained = replace(config, loss=replace(config.loss, class_weights=kept))
    stored = Description(trained, samples.classes, samples.palette, samples.ignore_index, IMAGENET)
    assert with_class_weights(config, samples, stored, workers=0) == (trained, [])


def test_weights_that_were_counted_do_not_tell_the_folds_of_a_run_apart() -> None:
    given = {"loss.class_weights": [1.0, 2.0], "loss.class_balance": None}
    assert without_counted(given) == given
    assert without_counted({**given, "loss.class_balance": "enet"})["loss.class_weights"] is None
    parts = [{"name": "dice"}, {"class_balance": "enet", "class_weights": [3.0]}, {"class_weights": [3.0]}]
    found = without_counted({"loss.parts": parts})["loss.parts"]
    assert found == [parts[0], {"class_balance": "enet", "class_weights": None}, parts[2]]
