"""Snippets: configuration of other programs, generated from ours, to be pasted."""
