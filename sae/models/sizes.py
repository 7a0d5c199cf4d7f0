"""How much is done at once.

This module does without torch, since what jobs ask a cluster for follows from it.
"""

# Rows that are encoded at once.
CHUNK = 4096
# Prepared inputs up to this many bytes are kept in main memory; on a GPU, up to half of
# what is free there.
RESIDENT = 1 << 30
