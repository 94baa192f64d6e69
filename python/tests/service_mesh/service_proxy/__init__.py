"""What a `ServiceProxy` promises to Python; the rules of a call are proved by the scenarios of `conformance/`."""
