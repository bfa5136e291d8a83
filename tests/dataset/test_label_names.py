from pathlib import Path

import pytest

from deeplabx.dataset.label_names import label_names
from deeplabx.errors import DataError


@pytest.mark.parametrize("label", ["Background", "_background_", "BACKGROUND "])
def test_a_label_that_may_be_the_background_needs_a_classes_yaml(label: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a class, or the background that dataset.unlabelled adds") as error:
        label_names(tmp_path, [label, "cat"], unlabelled="background", where="x.json")
    assert f"classes: [cat] and label_map: {{{label}: background}}" in str(error.value)
    assert label_names(tmp_path, [label, "cat"], unlabelled="ignore", where="x.json").names == [label, "cat"]
    (tmp_path / "classes.yaml").write_text(f"classes: [cat]\nlabel_map: {{{label}: background}}\n")
    found = label_names(tmp_path, [], unlabelled="background", where="x.json")
    assert (found.names, found.train_id(label.strip())) == (["background", "cat"], 0)


@pytest.mark.parametrize("label", ["ignore", "__ignore__"])
@pytest.mark.parametrize("unlabelled", ["background", "ignore"])
def test_a_label_that_may_mean_not_counted_needs_a_classes_yaml(
    label: str, unlabelled: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="a class, or not counted") as error:
        label_names(tmp_path, ["cat", label, "dog"], unlabelled=unlabelled, where="x.json")
    assert f"classes: [cat, dog] and ignore: [{label}]" in str(error.value)
    (tmp_path / "classes.yaml").write_text(f"classes: [cat, dog]\nignore: [{label}]\n")
    found = label_names(tmp_path, [], unlabelled=unlabelled, where="x.json")
    assert found.train_id(label) == found.ignore_index


def test_one_class_may_have_any_name_beside_the_background(tmp_path: Path) -> None:
    found = label_names(tmp_path, ["-"], unlabelled="background", where="x.json")
    assert found.names == ["background", "-"]


@pytest.mark.parametrize("classes", ["{organ: [0, 0, 0]}", "{bone: [9, 9, 9], organ: [0, 0, 0]}"])
def test_no_class_is_as_black_as_the_background_that_is_added(classes: str, tmp_path: Path) -> None:
    (tmp_path / "classes.yaml").write_text(f"classes: {classes}\n")
    with pytest.raises(DataError, match="two classes have the same colour|'organ' is black, as the backgr"):
        label_names(tmp_path, [], unlabelled="background", where="x.json")
