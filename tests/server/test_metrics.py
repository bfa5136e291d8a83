import re

import pytest

from deeplabx.server.metrics import Histogram, Metrics


def test_a_histogram_counts_up_to_each_bound() -> None:
    one = Histogram()
    for seconds in (0.005, 0.01, 0.2, 2.0, 100.0):
        one.add(seconds)
    counts = dict(re.findall(r'le="([^"]+)"} (\d+)', "\n".join(one.lines("x", ""))))
    assert counts == {
        **{"0.01": "2", "0.03": "2", "0.1": "2", "0.3": "3", "1.0": "3", "3.0": "4", "10.0": "4"},
        **{"30.0": "4", "+Inf": "5"},
    }
    assert one.mean == pytest.approx(102.215 / 5)


def test_the_text_is_what_prometheus_reads() -> None:
    """Each line is a comment or `name{labels} number`; each name has one type, which comes first."""
    metrics = Metrics()
    metrics.answered("/predict", 200, seconds=0.1)
    typed: set[str] = set()
    for line in metrics.text(accepted=1, queue=2).splitlines():
        if found := re.fullmatch(r"# TYPE (\w+) (counter|gauge|histogram)", line):
            assert found[1] not in typed
            typed.add(found[1])
        elif not line.startswith("# HELP "):
            found = re.fullmatch(
                r'(\w+?)(_bucket|_sum|_count)?(\{\w+="[^"\n]*"(,\w+="[^"\n]*")*\})? [\d.e+-]+', line
            )
            assert found, line
            assert found[1] in typed or f"{found[1]}{found[2]}" in typed
