"""What the Snakefile needs in Python: settings for each job, and the lock that proves a run alive."""
