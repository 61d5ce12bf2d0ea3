"""What a network reads beside the findings: age, sex and view, the border of the film, drains.

`auditing.audit` is the whole of it: it asks the network (`asking`, `probing`), and makes the report (`document`).
"""
