"""``make soak``: mixed load for half an hour, after which memory, threads and descriptors must be what they were."""
