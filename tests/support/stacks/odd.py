"""Stacks that no installation has, and a person may write: for the oracle of what changes touch."""

from __future__ import annotations

from support.stacks.stack import Stack

TANGLED = Stack(
    name="tangled",
    schema="""
CREATE TABLE grand (id INT PRIMARY KEY, email VARCHAR(99), KEY (email));
CREATE TABLE parent (id INT PRIMARY KEY, grand INT, domain VARCHAR(99), active TINYINT NOT NULL DEFAULT 1,
  FOREIGN KEY (grand) REFERENCES grand (id) ON DELETE SET NULL ON UPDATE CASCADE);
CREATE TABLE child (id INT AUTO_INCREMENT PRIMARY KEY, address VARCHAR(99), parent_id INT, goto TEXT, KEY (address),
  FOREIGN KEY (parent_id) REFERENCES parent (id) ON DELETE CASCADE ON UPDATE CASCADE);
CREATE VIEW seen AS SELECT child.address, child.goto, parent.domain FROM child, parent
  WHERE child.parent_id = parent.id AND parent.active = 1;
""",
    fill=lambda _: None,
    queries={
        "joined": (
            "SELECT goto FROM child JOIN parent ON parent.id = child.parent_id WHERE address = '%s' AND active = 1",
            "",
        ),
        "viewed": ("SELECT goto FROM seen WHERE address = '%s'", ""),
        "three": (
            (
                "SELECT child.goto FROM child, parent, grand WHERE child.address = '%s'"
                " AND child.parent_id = parent.id AND parent.grand = grand.id"
            ),
            "",
        ),
        "outer": (
            (
                "SELECT child.goto, parent.domain FROM child LEFT JOIN parent ON parent.id = child.parent_id"
                " WHERE child.address = '%s'"
            ),
            "",
        ),
        "counted": ("SELECT COUNT(*) FROM child WHERE address LIKE CONCAT('%%@', '%d')", ""),
        "absent": (
            (
                "SELECT 'free' FROM parent WHERE domain = '%d' AND NOT EXISTS"
                " (SELECT 1 FROM child WHERE child.parent_id = parent.id AND address = '%s')"
            ),
            "",
        ),
        "either": ("SELECT goto FROM child WHERE address = '%s' OR address = '@%d'", ""),
        "listed": (
            "SELECT goto FROM child WHERE address IN ('%s', '%u') UNION SELECT email FROM grand WHERE email = '%s'",
            "",
        ),
        "grouped": (
            "SELECT MAX(goto) FROM child WHERE address = '%s' GROUP BY parent_id HAVING COUNT(*) > 0",
            "",
        ),
        "nested": (
            "SELECT domain FROM parent WHERE id IN (SELECT parent_id FROM child WHERE address = '%s')",
            "",
        ),
    },
    main_cf="",
)
"""What a person may write: cascades over two tables, a view, subqueries, unions, outer joins."""

LOOSE = Stack(
    name="loose",
    schema="""
CREATE TABLE plain (address VARCHAR(99) PRIMARY KEY, goto TEXT);
CREATE TABLE letters (address VARCHAR(99) CHARACTER SET utf8mb4 COLLATE utf8mb4_lithuanian_ci PRIMARY KEY, goto TEXT);
CREATE FUNCTION goto_of(wanted VARCHAR(99)) RETURNS TEXT READS SQL DATA
  RETURN (SELECT plain.goto FROM plain WHERE plain.address = wanted);
""",
    fill=lambda _: None,
    queries={
        "plain": ("SELECT goto FROM plain WHERE address = '%s'", ""),
        "letters": ("SELECT goto FROM letters WHERE address = '%s'", ""),
        "clock": ("SELECT goto FROM plain WHERE address = '%s' AND RIGHT(NOW(6), 1) < '5'", ""),
        "chance": ("SELECT goto FROM plain WHERE address = '%s' AND RAND() < 0.5", ""),
        "routine": ("SELECT goto_of('%s')", ""),
    },
    main_cf="",
)
"""What cannot be followed: the time, chance, a routine; and a collation that takes more for equal than letter case."""
