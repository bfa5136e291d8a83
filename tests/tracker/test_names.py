from hypothesis import given, settings
from hypothesis import strategies as st

from deeplabx.tracker.names import Names

ALLOWED = r"\w.\- :"


def test_what_is_allowed_stays_and_the_rest_is_underscored() -> None:
    names = Names(ALLOWED)
    given = ["train/loss", "iou/car", "iou/a/b", "iou/a_b", "iou/..", "iou/ ", "iou/50 %"]
    expected = ["train/loss", "iou/car", "iou/a_b", "iou/a_b_2", "iou/_", "iou/__2", "iou/50 _"]
    assert [names.of(name) for name in given] == expected
    assert [names.of(name) for name in given] == expected


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=8), unique=True, max_size=8))
def test_two_names_never_become_one(classes: list[str]) -> None:
    names = Names(ALLOWED)
    assert len({names.of(f"iou/{name}") for name in classes}) == len(classes)
