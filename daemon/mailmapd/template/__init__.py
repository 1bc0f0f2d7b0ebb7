"""Templates: the queries of mysql_table(5), what they send for a key, and what they make of the rows."""
