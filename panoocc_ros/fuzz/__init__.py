"""Bad input by the hundred thousand: everything that reads what others wrote, under Hypothesis (extra `fuzz`)."""
