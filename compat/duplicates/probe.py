"""Prints the rows of a consumer's tables as JSON: probe.py DATABASE"""

import json
import sqlite3
import sys

database = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
database.row_factory = sqlite3.Row
rows = lambda table: [dict(row) for row in database.execute(f"SELECT * FROM {table}")]
print(json.dumps({table: rows(table) for table in ["balances", "latest"]}))
