"""Looking at grids and what belongs to them, without RViz: what is shown at an instant, and where."""
