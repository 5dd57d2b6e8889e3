"""The HTTP door: it speaks HTTP and JSON, asks operations, and decides nothing itself."""
