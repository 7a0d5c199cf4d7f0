"""The documentation says what there is; `make docs` builds it, and fails at a broken link."""

import re

from conftest import ROOT

from sae.steps import STEPS

DIRECTIVE = re.compile(r"^\.\. auto(module|function|class|exception):: (\S+)$", re.M)


def test_the_api_has_every_step_and_every_name_that_the_documentation_imports():
    shown = {name: kind for kind, name in DIRECTIVE.findall((ROOT / "docs/api.md").read_text())}
    wanted = {step.function.replace(":", ".") for step in STEPS.values()} | {"sae.load", "sae.score"}
    for page in ("README.md", "docs/extending.md", "docs/other_saes.md"):
        for module, names in re.findall(r"^from (sae[\w.]*) import (.+)$", (ROOT / page).read_text(), re.M):
            wanted |= {f"{module}.{name.split(' as ')[0].strip()}" for name in names.split(",")}

    def there(name):
        # A module that is imported whole has some names there; a whole module has all of its own.
        whole = shown.get(name.rpartition(".")[0]) == "module"
        return whole or any(f"{found}.".startswith(f"{name}.") for found in shown)

    assert [name for name in sorted(wanted) if not there(name)] == []
