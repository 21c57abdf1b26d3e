import pytest
from small_digits import small


@pytest.fixture(scope="session")
def dataset():
    return small()
