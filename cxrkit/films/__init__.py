"""Films of one's own: from a PNG, JPEG, TIFF or DICOM file to the scores of a trained network.

`reading` makes of a file what the data set's authors made of theirs, `scoring` goes on as `cxrkit predict` does, from
the prepared level to the crop; `said` collects age, sex and view, `looks` warns of what the network has never seen.
"""
