from __future__ import annotations

import pytest

from mlm_recipes.sources.missing_packages import MissingPackageError, missing_package, needs, packages_of


@pytest.mark.parametrize(
    ("said", "packages"),
    [
        # as transformers 5.23, accelerate and Python say it
        ("You need to install `lorem` in order to use lorem optimizers: `pip install -U lorem`", ["lorem"]),
        ("You need to install fugashix to use MecabTokenizer. See https://example.org", ["fugashix"]),
        ("The lorem dictionary is not installed. See https://github.com/lorem for installation.", ["lorem"]),
        ("You need to have `loremao>=0.4.0` to use it. Install it with `pip install loremao` or", ["loremao"]),
        ("Install it with `pip install lorem.`", ["lorem"]),
        ("Using `lorem` requires Lorem: `pip install lorem[gpu,cpu]>=0.3`", ["lorem"]),
        ("packages were not found: a1, flash_attx. Run `pip install a1 flash_attx`", ["a1", "flash_attx"]),
        ("\nLoremExtractor requires the LoremPiece library but it was not found", ["LoremPiece"]),
        ("for The 'lorem>=0.9.3' distribution was not found and is required by this application. ", ["lorem"]),
        ("use lorem FusedAdam but lorem is not installed!", ["lorem"]),
        ("WandbxCallback requires wandbx to be installed. Run `pip install wandbx`.", ["wandbx"]),
        # what is installed is not missing, and these ask for nothing
        ("You can update Transformers with the command `pip install --upgrade transformers`", []),
        ("Please install https://github.com/pytorch/torchdistx", []),
        ("Pandas is required for the TAPAS tokenizer.", []),
        ("The hidden size (32) is not a multiple of the number of attention heads (3)", []),
    ],
)
def test_the_package_is_the_one_that_is_asked_for(said, packages):
    assert packages_of(ImportError(said)) == packages
    assert packages_of(ValueError(said)) == packages


def test_a_cause_is_asked_too():
    def fail():
        try:
            import lorem_ipsum  # noqa: F401
        except ImportError:
            raise ValueError("Trainer failed to import an optimizer.")  # noqa: B904  # as transformers does

    with pytest.raises(ValueError, match="failed to import") as caught:
        fail()
    assert packages_of(caught.value) == ["lorem_ipsum"]


def test_what_is_installed_has_the_packages_name():
    assert "pip install flash-attn" in str(needs("it", ["flash_attn"], ""))
    assert "pip install git+https://github.com/NVIDIA/apex" in str(needs("it", ["apex"], ""))  # PyPI's is another
    assert "pip install fugashi ipadic unidic-lite" in str(needs("it", ["fugashi"], ""))


def test_it_is_a_value_error_and_an_import_error():
    cause = ImportError("You need to install `lorem`")
    error = missing_package(cause, "optim: 'lorem'", "Accepted: sgd.")
    assert isinstance(error, MissingPackageError)
    assert isinstance(error, ValueError)
    assert isinstance(error, ImportError)
    assert missing_package(KeyError("lorem"), "optim: 'lorem'", "Accepted: sgd.") is None
