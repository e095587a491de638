"""What the verdicts are called where they are on targets, and how they come about."""

from collections.abc import Mapping

from haepo_jax.analysis.verdicts import CONTRADICTED, NO_DIFFERENCE, REPRODUCED, UNDECIDED

WORDS: Mapping[str, str] = {
    REPRODUCED: "reached",
    CONTRADICTED: "missed",
    NO_DIFFERENCE: "not shown",
    UNDECIDED: "undecided",
}
RULE = (
    "A target is reached if its 95% interval lies on the target's side, missed if it lies on the other, and not shown "
    "if it holds the bound. It is undecided in a quick run, with fewer than 5 seeds, and where there is nothing to "
    "compare. One that stands for several comparisons is missed if one of them is, else undecided if one is, and "
    "reached only if each is."
)
"""For readers of a page."""
