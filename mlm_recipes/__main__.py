"""`python -m mlm_recipes` and `accelerate launch -m mlm_recipes`: the same as `mlm-recipes`."""

import sys

from .cli import main

sys.exit(main())
