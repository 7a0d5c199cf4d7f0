"""Compare what a run says with what it said before, and run it alike everywhere."""

import pytest
from golden import reading

# A product whose last digit differs can change a rank, and with it detection by a
# hundredth. So runs are told to use what every processor has, and the rest may differ.
SAME_PRODUCTS = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
}
TOLERANCE = {"rtol": 1e-3, "atol": 1e-3}


@pytest.fixture(scope="module")
def same_products():
    """Let the processes that a test starts compute alike on every processor."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SAME_PRODUCTS.items():
            patch.setenv(name, value)
        yield


@pytest.fixture
def compare(file_regression, num_regression):
    """Return a function that compares results with those that are kept.

    It takes the folder of a run, patterns of files in it, and a name for what is kept.
    """

    def check(run, patterns, name):
        texts = []
        numbers = []
        for pattern in patterns:
            files = sorted(run.glob(pattern))
            assert files, f"{pattern} is not there"
            for file in files:
                words, numbers_of_file = reading.reading(file)
                texts.append(f"== {file.relative_to(run)}\n{words}")
                numbers.extend(numbers_of_file)
        file_regression.check("\n".join(texts), basename=f"{name}-words")
        num_regression.check(
            {"number": numbers}, basename=f"{name}-numbers", default_tolerance=TOLERANCE
        )

    return check
