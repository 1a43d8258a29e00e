"""What is made of one occupancy, for the topics of the node and for bags: one list, its parameters, and its makers."""
