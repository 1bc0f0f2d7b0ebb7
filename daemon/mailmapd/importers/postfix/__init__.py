"""From a running Postfix to mailmapd: which lookups go to MySQL, what each means, how to move it and back.

The parts, each built on the ones above it:

    logical_lines, expansion  → main_cf, master_cf     what the files say
    parameters                                         what Postfix does with each parameter
    map_list, finder                                   every ``mysql:`` in them
    split                                              what may take a table's place without changing an answer
    plan, switch                                       mailmapd.toml, and the lines that switch over and back
"""

from __future__ import annotations
