"""The node's own steps on a bag: grids, and other people's clouds with labels."""
