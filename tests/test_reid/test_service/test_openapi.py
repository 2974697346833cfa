"""The description of the API is complete; random requests made of it never break the service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reid.service import create_app

from .service_world import AUTH, client_of, embed, make_gallery, make_settings

hypothesis = pytest.importorskip("hypothesis")
schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
asgi = pytest.importorskip("schemathesis.python.asgi")
checks = pytest.importorskip("schemathesis.checks")

ROUTES = {
    "/api/gallery": {"get"},
    "/api/search/image": {"post"},
    "/api/search/id": {"post"},
    "/api/search/vector": {"post"},
    "/api/rows": {"get", "post"},
    "/api/rows/{id}": {"get", "patch", "delete"},
    "/api/rows/{id}/thumbnail": {"get"},
    "/api/rows/remove": {"post"},
    "/healthz": {"get"},
    "/metrics": {"get"},
}


@pytest.fixture(scope="module")
def described(client) -> Any:
    return client.get("/api/openapi.json").json()


def test_every_route_is_described(described) -> None:
    paths = {
        path: {method for method in routes if method != "parameters"}
        for path, routes in described["paths"].items()
    }
    assert paths == ROUTES


def test_every_error_has_the_one_shape(described) -> None:
    for path, routes in described["paths"].items():
        for method, route in routes.items():
            errors = {status for status in route["responses"] if int(status) >= 400}
            assert errors >= {"400", "401", "403", "405", "408", "413", "429", "431", "500", "503"}
            assert route["summary"]
            for status in errors:
                schema = route["responses"][status]["content"]["application/json"]["schema"]
                name = schema["$ref"].rpartition("/")[2]
                health = (path, method, status) == ("/healthz", "get", "503")
                assert name == ("Health" if health else "ErrorBody"), (path, method, status)
                if status in ("429", "503") and not health:
                    assert "Retry-After" in route["responses"][status]["headers"]


def test_what_needs_the_token_says_so(described, tmp_path) -> None:
    assert described["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    changing = {
        (path, method)
        for path, routes in described["paths"].items()
        for method, route in routes.items()
        if route.get("security")
    }
    assert changing == {
        ("/api/rows", "post"),
        ("/api/rows/{id}", "patch"),
        ("/api/rows/{id}", "delete"),
        ("/api/rows/remove", "post"),
    }
    with client_of(make_gallery(tmp_path / "g"), make_settings(read_needs_token=True)) as closed:
        paths = closed.get("/api/openapi.json", headers=AUTH).json()["paths"]
    open_ones = {
        path for path, routes in paths.items() if "security" not in next(iter(routes.values()))
    }
    assert open_ones == {"/healthz"}


def fuzz(app: Any, examples: int) -> dict[tuple[str, str], set[int]]:
    """Random requests for every route, good and bad; the statuses of the answers.

    Whatever a check of schemathesis finds is raised: server errors, answers that are not as
    described, refusals that should have come. One check is left out: that what fits the
    description is accepted, for a filter may fit it and still name a field that no row has.
    """
    found: dict[tuple[str, str], set[int]] = {}
    schema = schemathesis.openapi.from_dict(app.openapi())
    schema.app = app
    with asgi.get_client(app) as session:
        for result in schema.get_all_operations():
            operation = result.ok()
            statuses = found.setdefault((operation.method.upper(), operation.path), set())

            def ask(case: Any) -> None:
                response = case.call_and_validate(
                    session=session,
                    base_url="http://127.0.0.1",
                    headers=AUTH,
                    excluded_checks=[checks.positive_data_acceptance],
                )
                statuses.add(response.status_code)  # noqa: B023 - called at once

            hypothesis.settings(
                max_examples=examples,
                database=None,
                deadline=None,
                derandomize=True,
                suppress_health_check=list(hypothesis.HealthCheck),
            )(hypothesis.given(operation.as_strategy())(ask))()
    return found


def run_fuzz(folder: Path, examples: int) -> dict[tuple[str, str], set[int]]:
    gallery = make_gallery(folder / "gallery")
    return fuzz(create_app(gallery, embed, make_settings()), examples)


def test_random_requests_never_break_it(tmp_path) -> None:
    found = run_fuzz(tmp_path, 25)
    assert set(found) == {(m.upper(), path) for path, methods in ROUTES.items() for m in methods}
    assert all(statuses for statuses in found.values())
    assert 200 in found["GET", "/api/rows"] and 422 in found["POST", "/api/search/vector"]


@pytest.mark.slow
def test_many_random_requests_never_break_it(tmp_path) -> None:
    run_fuzz(tmp_path, 300)
