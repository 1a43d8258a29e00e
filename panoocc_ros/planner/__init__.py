"""A planner's view of received grids."""
