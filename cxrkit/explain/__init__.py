"""Where a network looks: maps of what speaks for a finding, drawn on films and held against boxes.

`attribution` makes a map, `placing` carries it back to the film, `panels` and `gallery` show it; `regions`, `cases` and
`measures` are the protocol of Wang et al. 2017 on boxes, and `localisation` the report of it.
"""
