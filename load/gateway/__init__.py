"""What the gateway can do: requests a second, latency, slow strangers, and kills without loss."""
