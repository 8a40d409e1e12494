// The WebSocket to the server, opened again whenever it breaks; and the call by WebRTC that it can set up.

const SOUND = 1;
const PICTURE = 2;
const HEADER = 12;

const token = new URLSearchParams(location.hash.slice(1)).get("token");
const query = (extra) => new URLSearchParams({ ...extra, ...(token ? { token } : {}) }).toString();

export class Connection {
  /** @param handlers message(object), sound(index, heard, samples), picture(index, heard, bytes), lost() */
  constructor(handlers) {
    this.handlers = handlers;
    this.session = null;
    this.wait = 250;
    this.open();
  }

  open() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    this.socket = new WebSocket(`${scheme}://${location.host}/ws?${query({})}`);
    this.socket.binaryType = "arraybuffer";
    this.socket.onmessage = ({ data }) => (typeof data === "string" ? this.text(JSON.parse(data)) : this.binary(data));
    this.socket.onclose = () => {
      this.session = null;
      this.handlers.lost();
      setTimeout(() => this.open(), this.wait);
      this.wait = Math.min(2 * this.wait, 4000);
    };
  }

  text(message) {
    if (message.type === "welcome") {
      this.session = message.session;
      this.wait = 250;
    }
    this.handlers.message(message);
  }

  binary(data) {
    const view = new DataView(data);
    const [index, heard] = [view.getUint32(4, true), view.getUint32(8, true)];
    if (view.getUint8(0) === PICTURE) return this.handlers.picture(index, heard, data.slice(HEADER));
    if (view.getUint8(0) !== SOUND) return;
    const pcm = new Int16Array(data.slice(HEADER));
    this.handlers.sound(index, heard, pcm.length ? Float32Array.from(pcm, (value) => value / 32768) : null);
  }

  send(message) {
    if (this.session === null || this.socket.readyState !== WebSocket.OPEN) return;
    this.socket.send(ArrayBuffer.isView(message) ? message : JSON.stringify(message));
  }

  /** What the server answers without a WebSocket: an HTTP status, or null where it does not. */
  async status() {
    return fetch(`/status?${query({})}`).then(
      (response) => response.status,
      () => null,
    );
  }

  /** Posts to the server; the answer, or an error with its sentence. */
  async post(path, body, type = "application/json") {
    return JSON.parse(await (await this.ask(path, { method: "POST", body, headers: { "Content-Type": type } })).text());
  }

  /** The same, where the answer is a picture. */
  async postForPicture(path, body) {
    return (await this.ask(path, { method: "POST", body, headers: { "Content-Type": "application/json" } })).blob();
  }

  /** A picture of the server's. */
  async picture(path) {
    return (await this.ask(path, { headers: {} })).blob();
  }

  async ask(path, request) {
    if (token) request.headers.Authorization = `Bearer ${token}`;
    const session = this.session === null ? {} : { session: this.session };
    const response = await fetch(`${path}?${new URLSearchParams(session)}`, request);
    if (response.ok) return response;
    const text = await response.text();
    let sentence = text.trim();
    try {
      sentence = JSON.parse(text).error;
    } catch {
      // It is no JSON: the text itself.
    }
    throw new Error(sentence || `The server answered ${response.status}.`);
  }
}

/** Sound and pictures by WebRTC into a video element. Fails where no connection comes about. */
export async function call(connection, video, patience = 5000) {
  const peer = new RTCPeerConnection();
  const stream = new MediaStream();
  peer.addTransceiver("audio", { direction: "recvonly" });
  peer.addTransceiver("video", { direction: "recvonly" });
  peer.ontrack = ({ track, receiver }) => {
    receiver.jitterBufferTarget = 0; // ms: no more delay than the network calls for
    stream.addTrack(track);
  };
  try {
    await peer.setLocalDescription(await peer.createOffer());
    await gathered(peer);
    const { sdp, type } = peer.localDescription;
    await peer.setRemoteDescription(await connection.post("/offer", JSON.stringify({ sdp, type })));
    await connected(peer, patience);
  } catch (error) {
    peer.close();
    connection.send({ type: "hang up" });
    throw error;
  }
  video.srcObject = stream;
  await video.play().catch(() => {});
  return peer;
}

function gathered(peer) {
  if (peer.iceGatheringState === "complete") return Promise.resolve();
  return new Promise((resolve) => {
    peer.addEventListener("icegatheringstatechange", () => peer.iceGatheringState === "complete" && resolve());
    setTimeout(resolve, 2000);
  });
}

function connected(peer, patience) {
  return new Promise((resolve, reject) => {
    const fail = () => reject(new Error("WebRTC does not connect here: the WebSocket goes on."));
    setTimeout(fail, patience);
    peer.addEventListener("connectionstatechange", () => {
      if (peer.connectionState === "connected") resolve();
      if (peer.connectionState === "failed") fail();
    });
  });
}

const KNOWN = 100; // pictures of a call that are remembered
const AGREEING = 6; // pictures whose times must agree on where the sender's clock begins
const NEAR = [0, -1, 1]; // browsers' RTP times are rounded: they may be off by one

/**
 * Which block a received picture of a call shows. RTP times count from a random beginning that the sender keeps to itself:
 * it is found from the times of pictures that the server says it sent, which are uneven enough to match in one way only.
 */
export class SentPictures {
  constructor() {
    this.sent = new Map(); // by the server's time
    this.received = [];
    this.beginning = null;
  }

  add(picture) {
    this.sent.set(picture.time, picture);
    if (this.sent.size > KNOWN) this.sent.delete(this.sent.keys().next().value);
  }

  /** What the server said of the picture with an RTP time; undefined where that is not known. */
  at(rtpTimestamp) {
    if (this.beginning === null) this.match(rtpTimestamp);
    if (this.beginning === null) return undefined;
    const found = NEAR.find((off) => this.sent.has((rtpTimestamp - this.beginning + off) >>> 0));
    return found === undefined ? undefined : this.sent.get((rtpTimestamp - this.beginning + found) >>> 0);
  }

  match(rtpTimestamp) {
    this.received = [...this.received, rtpTimestamp].slice(-AGREEING);
    const votes = new Map();
    for (const received of this.received)
      for (const time of this.sent.keys())
        for (const off of NEAR) {
          const beginning = (received - time + off) >>> 0;
          votes.set(beginning, (votes.get(beginning) ?? 0) + 1);
        }
    const [[beginning, count] = [null, 0]] = [...votes].sort((a, b) => b[1] - a[1]);
    if (count === AGREEING) this.beginning = beginning;
  }
}

/** ms by which the pictures that a call shows are behind the sound that it plays; null where the browser does not know. */
export async function lateInCall(peer) {
  const playedOut = {};
  for (const each of (await peer.getStats()).values())
    if (each.type === "inbound-rtp") playedOut[each.kind] = each.estimatedPlayoutTimestamp;
  return playedOut.audio && playedOut.video ? playedOut.audio - playedOut.video : null;
}
