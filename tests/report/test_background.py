import threading

import pytest

from deeplabx.report.background import Background


def refuse() -> None:
    raise OSError("no space")


def test_functions_run_in_their_order_beside_the_caller() -> None:
    done: list[int] = []
    go = threading.Event()
    with Background() as drawing:
        drawing.run(go.wait, 60)
        drawing.run(done.append, 1)
        drawing.run(done.append, 2)
        assert done == []
        go.set()
    assert done == [1, 2]


def test_an_error_is_raised_by_what_follows_it() -> None:
    with pytest.raises(OSError, match="no space"), Background() as drawing:
        drawing.run(refuse)
    with Background() as drawing:
        drawing.run(refuse)
        with pytest.raises(OSError, match="no space"):
            drawing.wait()
        drawing.run(refuse)
        drawing.pending[0].exception()
        with pytest.raises(OSError, match="no space"):
            drawing.run(print)


def test_an_error_of_the_block_drops_what_has_not_begun() -> None:
    done: list[int] = []
    begun, go = threading.Event(), threading.Event()
    drawing = Background()

    def work() -> None:
        begun.set()
        go.wait(60)

    drawing.run(work)
    drawing.run(done.append, 1)
    assert begun.wait(60)
    threading.Timer(0.2, go.set).start()
    drawing.__exit__(KeyError, KeyError(), None)
    assert go.is_set()
    assert done == []
