"""The grammar of `--loss`: a loss, or a sum of losses with factors. Plain Python, so that parsing it loads no torch."""

import math

from .errors import ModelError


def loss_terms(text: str) -> dict[str, float]:
    """Return {name: factor} for ce, ce+lovasz or 1.0*ce+0.5*dice. The names are in lower case, and not checked.

    Raises ModelError if a factor is not a number above 0, a loss occurs twice, or a single loss has a factor.
    """
    terms = {}
    for term in text.split("+"):
        factor, star, name = term.rpartition("*")
        name = name.strip().lower()
        if name in terms:
            raise ModelError(f"--loss {text:.80} has {name} twice: add up its factors")
        terms[name] = _factor(factor, text) if star else 1.0
    if len(terms) == 1 and "*" in text:
        raise ModelError(f"--loss {text:.80}: a single loss takes no factor, use --learning_rate instead")
    return terms


def _factor(written: str, text: str) -> float:
    try:
        factor = float(written)
    except ValueError:
        factor = math.nan
    if not 0 < factor < math.inf:
        raise ModelError(f"--loss {text:.80}: {written.strip() or 'nothing'} is not a factor: write 1.0*ce+0.5*dice")
    return factor
