import os
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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_no_process_is_forked_while_a_function_runs() -> None:
    begun, go = threading.Event(), threading.Event()
    done: list[int] = []

    def work() -> None:
        begun.set()
        go.wait(60)
        done.append(1)

    with Background() as drawing:
        drawing.run(work)
        assert begun.wait(60)
        threading.Timer(0.2, go.set).start()
        child = os.fork()
        if child == 0:
            with Background() as another:  # it can work in the new process too
                another.run(done.append, 2)
            os._exit(10 + sum(done))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 13
