"""What has nothing to do with networks: files, YAML, memory, devices."""
