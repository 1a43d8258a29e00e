"""`make demo`: a drive through the installed node, recorded, scored and drawn."""
