"""Sockets of every kind of listener: what is wanted, binding, activation, and who may come in."""
