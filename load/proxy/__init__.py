"""A TCP proxy before a Kafka cluster that knows API keys and injects faults into chosen calls."""
