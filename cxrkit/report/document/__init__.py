"""What a report is before it is shown: tables, rows, cells and figures as plain data."""
