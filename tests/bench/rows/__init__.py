"""The rows of the table; each module measures the rows that share their servers."""
