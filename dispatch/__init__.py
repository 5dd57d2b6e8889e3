"""dispatch is the record: everything that is true whether or not a worker is alive.

workers are the hands: everything that acts on the record.
"""
