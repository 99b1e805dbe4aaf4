"""The command line: verbs and parsing only; `mlm_recipes.recipes` does the work. `verb_list.py` names every verb.

Nothing heavy is imported at module level, so that `mlm-recipes --help` answers at once.
"""

from .entry_point import main as main
