"""Pictures of grids, streets and scores."""
