"""A WebSocket client (RFC 6455) that speaks Foxglove's protocol, on a plain socket."""

import base64
import json
import os
import socket
import struct

TIMEOUT_S = 120.0
TEXT, BINARY, PING = 1, 2, 9
MESSAGE_DATA = 1


class Client:
    """Connected to a server; knows the channels that it has advertised."""

    def __init__(self, port):
        self._socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = (
            "GET / HTTP/1.1",
            f"Host: 127.0.0.1:{port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Protocol: foxglove.sdk.v1",
        )
        self._socket.sendall("\r\n".join((*lines, "", "")).encode())
        self._stream = self._socket.makefile("rb")
        self.status = self._stream.readline().decode()
        while self._stream.readline().strip():
            pass
        self.channels, self.topics, self.info = {}, {}, {}  # id -> what was advertised; subscription -> topic

    def _frame(self):
        """Kind and content of the next frame."""
        first, second = self._stream.read(2)
        size = second & 127
        if size > 125:
            size = int.from_bytes(self._stream.read(2 if size == 126 else 8), "big")
        return first & 15, self._stream.read(size)

    def _send(self, message):
        data, mask = json.dumps(message).encode(), os.urandom(4)
        size = bytes([0x80 | len(data)]) if len(data) < 126 else bytes([0x80 | 126]) + len(data).to_bytes(2, "big")
        self._socket.sendall(bytes([0x80 | TEXT]) + size + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data)))

    def wait_for(self, topics):
        """Until all these topics are advertised."""
        while not set(topics) <= {channel["topic"] for channel in self.channels.values()}:
            self._take()

    def subscribe(self):
        """To everything that was advertised."""
        known = {channel: number for number, channel in enumerate(self.channels)}
        self.topics = {number: self.channels[channel]["topic"] for channel, number in known.items()}
        wanted = [{"id": number, "channelId": channel} for channel, number in known.items()]
        self._send({"op": "subscribe", "subscriptions": wanted})

    def messages(self):
        """(topic, stamp in ns, data) as they come."""
        while True:
            message = self._take()
            if message is not None:
                yield message

    def _take(self):
        kind, content = self._frame()
        if kind == TEXT:
            said = json.loads(content)
            if said["op"] == "advertise":
                self.channels |= {channel["id"]: channel for channel in said["channels"]}
            elif said["op"] == "serverInfo":
                self.info = said
        elif kind == BINARY and content[0] == MESSAGE_DATA:
            _, subscription, stamp_ns = struct.unpack("<BIQ", content[:13])
            return self.topics[subscription], stamp_ns, content[13:]
        return None

    def close(self):
        self._stream.close()
        self._socket.close()
