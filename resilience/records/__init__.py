"""What the history and the logs keep of a call: records, their ids and fingerprints, and their form as log lines."""
