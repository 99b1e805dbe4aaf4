"""Names the package that an error asks for, so that the message can say what to install."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from .escaping import one_line

#: What to install for a module whose package has another name, is not on PyPI, or needs a second one to be of use.
_PACKAGES = {
    "apex": ("git+https://github.com/NVIDIA/apex",),  # PyPI's apex is something else
    "apollo_torch": ("git+https://github.com/zhuhanqing/APOLLO",),
    "galore_torch": ("git+https://github.com/jiaweizzhao/GaLore",),
    "fugashi": ("fugashi", "ipadic", "unidic-lite"),  # of the dictionaries, older models need the first
    "google": ("protobuf",),
    "sentencepiece": ("sentencepiece", "protobuf"),  # transformers reads a .model file with both
    "skimage": ("scikit-image",),
    "sklearn": ("scikit-learn",),
    "sudachipy": ("sudachipy", "sudachidict-core"),
    "torchdistx": ("git+https://github.com/pytorch/torchdistx",),
    "yaml": ("pyyaml",),
}

#: How transformers, accelerate, torch and Python say that a package is missing.
_SAID = (
    r"[`'\"]pip install (?P<several>[^`'\"]+)[`'\"]",
    r"pip install (?:-\S+ )*['\"]?(?P<a>(?!git\+)[A-Za-z][\w.-]*)",
    r"need to (?:install|have) `?(?P<b>[A-Za-z][\w-]*)",
    r"requires the (?P<c>[A-Za-z][\w-]*) library",
    r"The '(?P<d>[A-Za-z][\w.-]*)\W[^']*' distribution was not found",
    r"The (?P<e>\w+) dictionary is not installed",
    r"[Pp]lease install (?P<f>(?!https?:)[a-z][\w-]*)",
    r"`?(?P<g>[A-Za-z][\w-]*)`? is (?:required|not installed)",
    r"the package `?(?P<h>[a-z]\w*)`?(?: for \w+)? (?:seems|is|does)",
    r"No module named '(?P<i>\w+)",
)


class MissingPackageError(ImportError, ValueError):
    """A package that a value or a model needs is not installed."""


def missing_package(error: BaseException, what: str, accepted: str) -> MissingPackageError | None:
    """Return an error that names the package that `error` asks for, or None if it asks for none.

    Args:
        error: of any type; its causes are searched too.
        what: the value that needs the package, such as "optim: 'adamw_bnb_8bit'".
        accepted: a complete sentence with the values that need no package.

    >>> print(missing_package(ModuleNotFoundError("No module named 'lorem'"), "optim: 'lorem'", "Accepted: sgd."))
    optim: 'lorem' needs a package that is not installed here: lorem. Accepted: sgd. Install it: pip install lorem
    """
    packages = packages_of(error)
    return needs(what, packages, accepted) if packages else None


def needs(what: str, packages: list[str], accepted: str) -> MissingPackageError:
    """Return the error of `missing_package` for packages that are missing.

    >>> print(needs("optim: 'lorem'", ["lorem", "ipsum"], "Accepted: sgd."))
    optim: 'lorem' needs packages that are not installed here: lorem, ipsum. Accepted: sgd. Install them: pip install \
lorem ipsum
    """
    several = len(packages) > 1
    targets = dict.fromkeys(target for package in packages for target in install_names(package))
    targets = {target: None for target in targets if not is_installed(target)} or targets
    return MissingPackageError(
        f"{what} needs {'packages that are' if several else 'a package that is'} not installed here: "
        f"{', '.join(packages)}. {accepted} Install {'them' if several else 'it'}: pip install {' '.join(targets)}"
    )


def packages_of(error: BaseException) -> list[str]:
    """Return the packages that an error asks for and that are not installed, in the order in which it names them.

    >>> packages_of(ImportError("You need to install `lorem-ipsum` to use it: `pip install -U lorem-ipsum>=2`"))
    ['lorem-ipsum']
    >>> packages_of(ValueError("Update with `pip install --upgrade transformers`")), packages_of(KeyError("x"))
    ([], [])
    """
    for each in _chain(error):
        module = str(each.name or "") if isinstance(each, ModuleNotFoundError) else ""
        named = [module.split(".")[0]] if re.fullmatch(r"[\w.]+", module) else _named(one_line(str(each)))
        if found := [name for name in named if not is_installed(name)]:
            return found
    return []


def install_names(module: str) -> tuple[str, ...]:
    """Return what pip installs for a module.

    >>> install_names("google"), install_names("flash_attn")
    (('protobuf',), ('flash-attn',))
    """
    name = module.lower()
    return _PACKAGES.get(name, (name.replace("_", "-"),))


def is_installed(package: str) -> bool:
    """Tell whether a package, or a module of this name, is installed.

    >>> is_installed("pyyaml"), is_installed("lorem-ipsum")
    (True, False)
    """
    try:
        version(package)
    except PackageNotFoundError:
        return package.isidentifier() and find_spec(package.lower()) is not None
    return True


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it was raised from, the error itself first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _named(text: str) -> list[str]:
    """Return the names of the packages that a message says to install.

    >>> _named("requires `pip install einops lorem_attn`"), _named("The 'lorem>=0.9' distribution was not found")
    (['einops', 'lorem_attn'], ['lorem'])
    """
    if "FlashAttention" in text:
        return ["flash_attn"]
    for pattern in _SAID:
        if match := re.search(pattern, text):
            words = next(filter(None, match.groups())).split()
            names = [re.sub(r"[\[<>=!~].*", "", word).rstrip(".,;:") for word in words if not word.startswith("-")]
            if found := [name for name in names if re.fullmatch(r"[A-Za-z][\w.-]*", name)]:
                return found
    return []
