"""One image of an archive, as the readers of tars and of parquet files give it."""

from typing import NamedTuple

# What JSON raises that is none, or that holds other things than are read of it.
OTHER_JSON = (ValueError, RecursionError, AttributeError)


class Sample(NamedTuple):
    """One image of an archive.

    Attributes:
        key: its name there.
        location: where its bytes are, as :func:`sae.data.archives.read_image_bytes`
            takes it.
        label: its class number, as the archive has it; None where it has none.
    """

    key: str
    location: str
    label: int | None
