"""Files on the web: faults, turns, connections, and the client against a server that does all that one can do."""
