#!/bin/bash
# The last step of the database's first start: see database.sh.
rm -f "$(dirname "$PGDATA")/first-start"
