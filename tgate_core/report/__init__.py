"""What people are told: the record of a run, its text, timeline, cost and pictures, and the preview of a plan."""
