from deeplabx.show import show
from tests.conftest import compose_plain


def test_show_tells_the_papers_numbers() -> None:
    text = show(compose_plain("model=deeplabv3", "backbone=mobilenetv2", command="show"))
    assert "2,113,557" in text
    assert "320 x 33 x 33" in text
    assert "billion at 513 x 513" in text
