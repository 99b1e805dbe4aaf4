"""What the --help of a verb that takes a recipe's values prints."""

from __future__ import annotations


def print_help(usage: str) -> None:
    """Print how a verb is used, and every value that it takes."""
    from ..recipes.arguments import bundled_recipes
    from ..training.config import MLMConfig, described_fields, field_names, own_fields

    recipe = f"a YAML file, a run folder, or one of {', '.join(bundled_recipes())}."
    print(usage.replace("{RECIPE}", recipe))
    print("--traceback: show the traceback of an error.")
    print("Each --name value overrides the recipe's value, which overrides the default shown here:\n")
    own, ours = own_fields(), described_fields()
    for name, item in own.items():
        print(f"  --{name:22} {item.metadata['help']} (default: {item.default})")
    print("\nEvery field of transformers' TrainingArguments is accepted too:\n")
    for name in field_names():
        if name not in own:
            what = MLMConfig.__dataclass_fields__[name].metadata.get("help", "") if name in ours else ""
            print(f"  --{name:36} {what}{' ' if what else ''}(default: {getattr(MLMConfig, name, None)})")
