"""What can be done with the record, one verb per file. Doors (API, workers) call these only."""
