"""Provenance: what a query reads, told from its text and the schema. Imported only where changes are followed.

An answer is a function of the rows, joined, that satisfy the query's WHERE for a key. A row that contradicts, for this
key, a condition of its own SELECT that speaks of nothing but its own columns and the key is in no such tuple, neither
before it changed nor after. So for each place where the query reads a table, its equality conditions between columns
and parts of the key are collected; whatever other conditions say can only make the set of keys smaller. This holds for
absent rows, LIMIT, UNION, aggregates and subqueries alike.

    analysis    query and schema → `Provenance`, or CannotTell with the reason in a person's words
    reading     the values: which tables, columns, and parts of the key
    equality    what equals what, through AND, OR, IN, CONCAT and equal columns
    volatile    what changes without any row changing
    reverse     the query that finds keys where no condition names them
    match       which parts of a key a row's values stand for
"""
