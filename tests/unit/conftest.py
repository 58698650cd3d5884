"""Puts this folder on the path: what several groups of tests share (`hosts`) lies here once."""
