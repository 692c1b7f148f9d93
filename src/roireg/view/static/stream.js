// The WebSocket: movements go out, pictures and what is open come in.

const SPEED_MS = 1000;

export class Stream {
  // `on` has a function for each kind of message: state, pose, error, plane, lost, speed.
  constructor(on) {
    this.on = on;
    this.sequence = 0;
    this.sent = new Map();
    this.arrived = [];
    const address = new URL("api/stream", location.href);
    address.protocol = "ws:";
    this.socket = new WebSocket(address);
    this.socket.binaryType = "arraybuffer";
    this.socket.onmessage = (event) => this.receive(event.data);
    this.socket.onclose = () => on.lost();
  }

  send(message) {
    if (this.socket.readyState !== WebSocket.OPEN) return;
    this.sequence += 1;
    this.sent.set(this.sequence, performance.now());
    this.socket.send(JSON.stringify({ ...message, sequence: this.sequence }));
  }

  tell(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  receive(data) {
    if (typeof data === "string") {
      const message = JSON.parse(data);
      this.on[message.type](message);
      return;
    }
    const length = new DataView(data).getUint32(0, true);
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
    const plane = { ...header, pixels: new Uint8Array(data, 4 + length) };
    if (plane.kind === "drr" && !plane.full) {
      this.tell({ type: "seen" });
      this.measure(plane);
    }
    this.on.plane(plane);
  }

  // Pictures a second, and the delay from a movement to the first picture that shows it.
  measure(plane) {
    const now = performance.now();
    const begun = this.sent.get(plane.sequence);
    for (const key of this.sent.keys()) if (key <= plane.sequence) this.sent.delete(key);
    if (plane.view !== 0 || begun === undefined) return;
    this.arrived.push({ now, delay: now - begun });
    this.arrived = this.arrived.filter((one) => now - one.now < SPEED_MS);
    const delays = this.arrived.map((one) => one.delay).sort((a, b) => a - b);
    this.on.speed(this.arrived.length, delays[delays.length >> 1]);
  }
}
