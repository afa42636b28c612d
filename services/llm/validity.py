"""Whether a JSON value fits a JSON Schema that somebody else wrote: nothing is fetched, and no schema can break the check."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

WORDS = 300


def fault(value: object, schema: Mapping[str, object]) -> str:
    """What is wrong with a value, in words; "" if it fits. A schema that makes no sense is what is wrong, too."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import ValidationError, best_match
    from jsonschema.validators import extend
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    def pattern(_: object, wanted: str, instance: object, __: object) -> Iterator[ValidationError]:
        try:
            fits = not isinstance(instance, str) or re.search(wanted, instance) is not None
        except re.error:  # a pattern of another dialect, which a grammar may have kept; it cannot be checked here
            return
        if not fits:
            yield ValidationError(f"{instance!r} does not match {wanted!r}")

    def items(validator: Draft202012Validator, wanted: object, instance: object, whole: object) -> Iterator[ValidationError]:
        if isinstance(wanted, list | tuple):  # a tuple as schemas wrote it before 2020
            yield from usual["prefixItems"](validator, list(wanted), instance, whole)
        else:
            yield from usual["items"](validator, wanted, instance, whole)

    usual = Draft202012Validator.VALIDATORS
    try:
        # The registry knows no address, so that a $ref to one is an error instead of a request.
        checker = extend(Draft202012Validator, {"pattern": pattern, "items": items})(schema, registry=Registry())  # type: ignore[no-untyped-call]
        found = best_match(checker.iter_errors(value))
    except (Unresolvable, RecursionError) as error:
        return f"its schema cannot be followed ({type(error).__name__})"
    except Exception as error:  # jsonschema checks no schema before it uses it, and what it then meets may be anything
        return f"its schema is broken ({str(error)[:WORDS]})"
    if found is None:
        return ""
    place = "".join(f"[{part!r}]" for part in found.absolute_path)
    return f"{place}: {found.message}"[:WORDS] if place else found.message[:WORDS]
