"""The card of published SAEs.

tests/models/test_libraries.py runs its lines, test_imported.py the command.
"""

import string

from sae_workflow import publish


def test_the_card_leaves_names_to_be_filled_in_and_no_other_brace():
    text = publish.CARD.read_text(encoding="utf-8")
    fields = {field for _, field, _, _ in string.Formatter().parse(text) if field}
    assert {"first", "table", "sources"} <= fields
    assert all(field.isidentifier() for field in fields)
