"""The node: settings, network, outputs, and the step that it shares with replay."""
