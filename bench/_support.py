"""Let benches import `support`, what they share with the tests: it lies in tests/.

Python looks for modules in bench/ alone when it runs a bench.
"""

import sys
from pathlib import Path

# At the end: a folder such as tests/bank is not to stand for bench/bank.py.
sys.path.append(str(Path(__file__).parent.parent / "tests"))
