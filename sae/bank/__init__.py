"""Many SAEs: what a plan asks for (plan), train what the store lacks (train, store), read what there is (read)."""
