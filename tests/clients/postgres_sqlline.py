"""Tests of JDBC through sqlline on a branch: statements, errors, metadata, and a transaction.

Arguments: host, port, token.
"""

from __future__ import annotations

import subprocess
import sys

HOST, PORT, TOKEN = sys.argv[1:4]
COMMANDS = """
CREATE TABLE orders (id BIGINT, product VARCHAR, price DECIMAL(10, 2), day DATE);
INSERT INTO orders VALUES (1, 'tea', 3.50, DATE '2026-11-01'), (2, NULL, 12.00, NULL);
CREATE VIEW cheap AS SELECT id FROM orders WHERE price < 5;
SELECT * FROM orders ORDER BY id;
SELECT id, pric FROM orders;
!tables
!columns orders
!primarykeys orders
!indexes orders
!typeinfo
!metadata getSchemas
!dbinfo
!autocommit off
DELETE FROM orders;
!rollback
SELECT count(*) AS n FROM orders;
!quit
"""

command = ["sqlline", "-u", f"jdbc:postgresql://{HOST}:{PORT}/main", "-n", "ann", "-p", TOKEN]
options = ["-d", "org.postgresql.Driver", "--color=false", "--outputformat=csv"]
done = subprocess.run(
    command + options, input=COMMANDS, capture_output=True, text=True, timeout=120
)
text = done.stdout + done.stderr
for expected in [
    "Connected to: PostgreSQL (version 15.0)",
    "'1','tea','3.50','2026-11-01'",
    "column `pric` is not in `orders`",
    "Hint: Did you mean `price`?",
    "Position: 12 (state=42703,code=0)",
    "'','public','orders','TABLE'",
    "'','public','cheap','VIEW'",
    "'','public','orders','id','-5','int8'",
    "'','public','orders','price','2','numeric','10','','2'",
    "'numeric','2','1000'",
    "'information_schema',''",
    "Rollback complete",
    "'n'\n'2'",
]:
    assert expected in text, f"{expected} is not in {text}"
assert text.count("Error:") == 1, text
