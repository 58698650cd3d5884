"""The data path of one mirror module, in a process of its own (design 2.3)."""
