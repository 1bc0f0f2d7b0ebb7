"""Trace: the story of one lookup, key by key and table by table."""
