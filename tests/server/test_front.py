import pytest

from tests.server.stub import file_of, photo, stub


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000", "LOCALHOST", "localhost."])
def test_the_server_answers_under_its_own_names(host: str) -> None:
    assert stub().get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example:8000", "127.0.0.1.evil.example", "localhost@evil.example", "[::1", "", "x" * 500]
)
def test_another_name_is_refused_so_that_no_other_site_can_lead_here(host: str) -> None:
    for method in ("/", "/metrics", "/health"):
        response = stub().get(method, headers={"host": host})
        assert response.status_code == 421
        assert "localhost" in response.json()["hint"]


def test_a_page_of_another_site_cannot_use_the_server() -> None:
    server = stub()
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)):
        response = server.post("/predict", file_of(photo()), headers={"sec-fetch-site": site})
        assert response.status_code == status
        assert "access-control-allow-origin" not in response.headers


def test_every_answer_has_the_headers_of_a_careful_server() -> None:
    server = stub()
    for response in (server.get("/"), server.get("/nothing"), server.post("/predict", b"x")):
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
        assert response.headers["cache-control"] in ("no-store", "no-cache")


def test_requests_are_counted_by_path_and_status() -> None:
    server = stub()
    for path in ("/classes", "/classes", "/a", "/b", "/%22%7D%201%0A"):
        server.get(path)
    server.post("/predict", b"x")
    server.post("/predict", file_of(photo()))
    lines = server.get("/metrics").text.splitlines()
    assert 'deeplabx_requests_total{path="/classes",status="200"} 2' in lines
    assert 'deeplabx_requests_total{path="other",status="404"} 3' in lines
    assert 'deeplabx_requests_total{path="/predict",status="422"} 1' in lines
    assert "deeplabx_request_seconds_count 1" in lines
    assert "deeplabx_predicted_pixels_total 600" in lines
    assert any(line.startswith("process_resident_memory_bytes ") for line in lines)
