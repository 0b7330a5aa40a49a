"""A multithreaded HTTP and WebSocket server for blocking Python."""
