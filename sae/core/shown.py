"""Objects that say what they are, in a terminal and in a notebook."""

import html


class Shown:
    """A class whose objects are shown by facts: `Codes(samples=60, latents=16)`, and as a small table in a notebook."""

    def facts(self) -> dict[str, object]:
        """{name: value}, the most telling first; None is left out."""
        raise NotImplementedError

    def _told(self) -> dict[str, str]:
        return {
            name: f"{v:g}" if isinstance(v, float) else str(v)
            for name, v in self.facts().items()
            if v is not None
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value}' for name, value in self._told().items())})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{n}</th><td>{html.escape(v)}</td></tr>"
            for n, v in self._told().items()
        )
        return f"<table><caption>{type(self).__name__}</caption>{rows}</table>"
