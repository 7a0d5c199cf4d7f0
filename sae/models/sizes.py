"""How much is done at once. Without torch, since what jobs ask a cluster for follows from it."""

CHUNK = 4096  # Rows that are encoded at once.
# Prepared inputs up to this many bytes are kept in main memory; on a GPU, up to half of what is free there.
RESIDENT = 1 << 30
