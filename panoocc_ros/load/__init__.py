"""Work when there is more of it than time: the newest job wins, what is optional gives way, threads by their rank."""
