"""What must be said of a checkpoint that was chosen by its numbers on a target domain."""

from __future__ import annotations

from engine.provenance import Provenance


def selection_warning(found: Provenance, name: str, source: str | None) -> str | None:
    """What must be said of a checkpoint that was chosen on a domain other than the source."""
    if found.chosen_by is None:
        return None
    if found.chosen_on is None:
        return (
            f"{name} was chosen as the best by {found.chosen_by}; whether that was measured on the "
            "source or on a target is not recorded"
        )
    if found.chosen_on == source:
        return None
    what = (
        f"a target domain (the source is {source})" if source else "a domain that may be a target"
    )
    return (
        f"{name} was chosen as the best on {found.chosen_on}, {what}: its numbers there, and the "
        "mean over targets, are not those of an unseen domain. Test the last checkpoint, or choose "
        "on the source: default_hooks.checkpoint.save_best="
        f"{source or '<source>'}/{found.chosen_by.rpartition('/')[2]}"
    )
