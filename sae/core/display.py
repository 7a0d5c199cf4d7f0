"""Objects that show what they are, in a terminal and in a notebook."""

import html


class Shown:
    """A class whose objects are shown by facts about them.

    A terminal shows `Codes(samples=60, latents=16)`, a notebook a small table.
    """

    def facts(self) -> dict[str, object]:
        """Return {name: value}, the most telling first; None is left out."""
        raise NotImplementedError

    def _fact_texts(self) -> dict[str, str]:
        texts = {}
        for name, value in self.facts().items():
            if isinstance(value, float):
                texts[name] = f"{value:g}"
            elif value is not None:
                texts[name] = str(value)
        return texts

    def __repr__(self) -> str:
        facts = [f"{name}={text}" for name, text in self._fact_texts().items()]
        return f"{type(self).__name__}({', '.join(facts)})"

    def _repr_html_(self) -> str:
        rows = [
            f"<tr><th>{name}</th><td>{html.escape(text)}</td></tr>"
            for name, text in self._fact_texts().items()
        ]
        caption = f"<caption>{type(self).__name__}</caption>"
        return f"<table>{caption}{''.join(rows)}</table>"
