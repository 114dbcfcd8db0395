"""What every test shares: the hypothesis profiles, and `face`, which runs a test body on every face."""

import pytest
from faces import Face, selected_backends, selected_faces
from hypothesis import HealthCheck, settings

# Derandomised, so that the suite does the same everywhere; `--hypothesis-profile=thorough` looks further.
settings.register_profile(
    "steady",
    derandomize=True,
    max_examples=30,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", settings.get_profile("steady"), derandomize=False, max_examples=400)
settings.load_profile("steady")

collect_ignore_glob = [] if "torch" in selected_backends() else ["test_torch*.py"]


@pytest.fixture(scope="session", params=selected_faces(), ids=lambda face: face.name)
def face(request: pytest.FixtureRequest) -> Face:
    """One way to call the library, after another."""
    return request.param
