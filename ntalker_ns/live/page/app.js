import { call, Connection, lateInCall, SentPictures } from "/page/connection.js";
import { EditCard } from "/page/edit.js";
import { figures } from "/page/figures.js";
import { Player } from "/page/player.js";

const REPORT = 200; // ms between two reports of where the sound is
const byId = (id) => document.getElementById(id);
const [canvas, video, notice, light, message] = ["picture", "video", "notice", "light", "message"].map(byId);
const RATE = 16000;

const KEPT = 500;

function keep(list, value) {
  list.push(value);
  if (list.length > KEPT) list.shift();
}

const player = new Player(canvas);
let peer = null;
let sent = new SentPictures();
let lateBySound = 0; // ms by which a call's pictures are behind its sound in the browser
let microphone = null;
let captured = []; // when samples of the microphone were recorded: [samples so far, ms]
let base = null; // samples that were sent before the microphone's
let interruptedAt = null;
let covering = null; // the block whose picture by the WebSocket covers a call's video, which is behind it
const COVERED = 500; // ms after which it shows again in any case

player.onshown = ({ index, heard, late }) => {
  if (peer && covering === null) return;
  canvas.hidden = false;
  onShown(canvas, performance.now(), index, heard, 40 * late);
};

/** After an interruption: a call's sound and pictures that the browser still holds are from before it. */
function cover(block) {
  covering = block;
  video.muted = true;
  setTimeout(() => covering === block && uncover(), COVERED);
}

function uncover() {
  covering = null;
  canvas.hidden = true;
  video.muted = player.muted;
}

/** A picture is shown: of which block, with how many samples spoken before it, and how many ms behind its sound. */
function onShown(source, now, index, heard, late) {
  figures.pictures++;
  keep(figures.shownAt, now);
  keep(figures.late, late);
  figures.onPicture?.(source, heard);
  if (interruptedAt !== null && index >= player.first) {
    figures.interruptMs = now - interruptedAt;
    interruptedAt = null;
  }
  if (base !== null && figures.speaking) measureDelay(heard - base, now);
}

function watchCall(_, { rtpTimestamp, presentationTime }) {
  if (!peer) return;
  video.requestVideoFrameCallback(watchCall);
  const picture = sent.at(rtpTimestamp);
  if (!picture) return;
  if (covering !== null && picture.block >= covering) uncover();
  if (covering !== null) return;
  figures.heard = picture.heard;
  onShown(video, presentationTime, picture.block, picture.heard, 40 * picture.late + lateBySound);
}

/** From a sample in the microphone to the picture that shows it. */
function measureDelay(sample, now) {
  while (captured.length > 1 && captured[1][0] <= sample) captured.shift();
  if (!captured.length || sample < captured[0][0] || sample <= 0) return;
  const recorded = captured[0][1] - (1000 * (captured[0][0] - sample)) / RATE;
  keep(figures.delays, now - recorded);
}

const connection = new Connection({
  message: receive,
  sound(index, heard, samples) {
    figures.soundBytes += samples ? 2 * samples.length : 0;
    figures.heard = heard;
    player.sound(index, samples);
  },
  picture: (index, heard, bytes) => player.picture(index, heard, bytes),
  lost() {
    figures.session = null;
    notice.textContent = "The server does not answer. Trying again …";
    connection.status().then((status) => {
      if (status === 401) notice.textContent = "This head needs the token that its server printed: open the whole address.";
    });
    light.classList.remove("speaking");
    hangUp();
  },
});

function receive(received) {
  switch (received.type) {
    case "welcome":
      player.reset();
      figures.session = received.session;
      figures.welcome = received;
      notice.textContent = "";
      byId("title").textContent = received.title;
      document.title = `${received.title} – ntalker live`;
      byId("machine").textContent = received.says;
      editCard.show(received.edit);
      if (byId("media").value === "webrtc") startCall();
      break;
    case "queued":
      notice.textContent =
        `This machine keeps ${received.capacity === 1 ? "one head" : `${received.capacity} heads`} at a time, and ` +
        `${received.capacity === 1 ? "it is" : "they are"} taken. You are number ${received.place} in the queue; ` +
        "the head appears here when it is your turn.";
      break;
    case "speaking":
    case "silent":
      figures.speaking = received.type === "speaking";
      light.classList.toggle("speaking", figures.speaking);
      light.title = figures.speaking ? "Speaking" : "Idle";
      break;
    case "talking":
      base = received.heard;
      break;
    case "sent":
      sent.add(received);
      break;
    case "edit":
      editCard.show(received.edit);
      break;
    case "cleared":
      player.clear(received.block);
      if (peer) cover(received.block);
      break;
    case "error":
      say(received.says, true);
  }
}

function say(text, failed = false) {
  message.textContent = text;
  message.classList.toggle("failed", failed);
}

async function attempt(work, doing, done = "") {
  say(doing);
  try {
    const answer = await work();
    say(typeof done === "function" ? done(answer) : done);
  } catch (error) {
    say(error.message, true);
  }
}

setInterval(() => {
  const position = player.position();
  if (position !== null && !peer) connection.send({ type: "played", block: position });
  if (peer) lateInCall(peer).then((late) => (lateBySound = late ?? 0));
  const delays = figures.delays;
  const shownAt = figures.shownAt.slice(-50);
  const rate = shownAt.length > 1 ? (1000 * (shownAt.length - 1)) / (shownAt.at(-1) - shownAt[0]) : 0;
  const recent = delays.slice(-50).sort((a, b) => a - b);
  const delay = recent.length ? ` · ${Math.round(recent[recent.length >> 1])} ms from microphone to picture` : "";
  const over = peer ? "WebRTC" : "WebSocket";
  byId("figures").textContent = figures.session ? `${rate.toFixed(0)} frames/s · ${over}${delay}` : " ";
}, REPORT);

// Speaking

byId("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = byId("text").value.trim();
  if (!text) return;
  turnSoundOn();
  attempt(() => connection.post("/speak", JSON.stringify({ text })), "Speaking …");
});

byId("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey) return;
  event.preventDefault();
  byId("say").requestSubmit();
});

byId("file").addEventListener("change", ({ target }) => {
  const file = target.files[0];
  target.value = "";
  if (!file) return;
  turnSoundOn();
  attempt(
    () => connection.post("/speak", file, "application/octet-stream"),
    `Sending ${file.name} …`,
    ({ seconds }) => `${file.name}: ${seconds.toFixed(1)} s`,
  );
});

byId("interrupt").addEventListener("click", interrupt);

function interrupt() {
  interruptedAt = performance.now();
  base = null;
  connection.send({ type: "interrupt" });
}

const talk = byId("talk");
talk.addEventListener("pointerdown", (event) => {
  talk.setPointerCapture(event.pointerId);
  startTalking();
});
for (const name of ["pointerup", "pointercancel"]) talk.addEventListener(name, stopTalking);
talk.addEventListener("keydown", ({ key, repeat }) => key === " " && !repeat && startTalking());
talk.addEventListener("keyup", ({ key }) => key === " " && stopTalking());

async function startTalking() {
  if (microphone) return;
  talk.setAttribute("aria-pressed", "true");
  const opened = (microphone = {});
  turnSoundOn();
  try {
    opened.stream = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: true } });
    opened.context = new AudioContext();
    await opened.context.audioWorklet.addModule("/page/microphone-worklet.js");
  } catch (error) {
    say(`The microphone cannot be used: ${error.message}`, true);
    return stopTalking();
  }
  if (microphone !== opened) return close(opened);
  const node = new AudioWorkletNode(opened.context, "microphone");
  opened.context.createMediaStreamSource(opened.stream).connect(node);
  [captured, base] = [[], null];
  let samples = 0;
  connection.send({ type: "talk" });
  node.port.onmessage = ({ data }) => {
    if (microphone !== opened) return;
    connection.send(data);
    samples += data.length;
    captured.push([samples, performance.now()]);
  };
}

function stopTalking() {
  if (!microphone) return;
  talk.setAttribute("aria-pressed", "false");
  close(microphone);
  microphone = null;
  connection.send({ type: "end" });
}

function close({ stream, context }) {
  stream?.getTracks().forEach((track) => track.stop());
  context?.close();
}

// Look

let weight = null; // of the refinement; as it was trained until it is changed
let [wipe, edited] = [0, false];
const editCard = new EditCard(connection, (newWipe, newEdited) => {
  [wipe, edited] = [newWipe, newEdited];
  sendLook();
});

function sendLook() {
  const background = byId("plate").value === "plate" ? "plate" : byId("colour").value;
  const look = { pose: byId("pose").value, eyes: byId("eyes").value, background };
  // A head that is no edited one has no refinement, and a weight that was sent before is taken back.
  look.refinement = edited ? weight : null;
  look.wipe = edited ? wipe : 0;
  connection.send({ type: "look", look });
}

for (const id of ["pose", "eyes", "plate"]) byId(id).addEventListener("change", sendLook);
byId("colour").addEventListener("input", () => {
  byId("plate").value = "colour";
  sendLook();
});
byId("refinement").addEventListener("input", ({ target }) => {
  byId("weight").textContent = target.value;
  weight = Number(target.value);
  sendLook();
});

// Sound and connection

const soundButton = byId("sound");
soundButton.addEventListener("click", () => (player.muted ? turnSoundOn() : turnSoundOff()));

async function turnSoundOn() {
  await player.unmute();
  video.muted = false;
  soundButton.setAttribute("aria-pressed", "true");
  soundButton.textContent = "Sound is on";
}

async function turnSoundOff() {
  await player.mute();
  video.muted = true;
  soundButton.setAttribute("aria-pressed", "false");
  soundButton.textContent = "Sound is off";
}

byId("media").value = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname) ? "ws" : "webrtc";
byId("media").addEventListener("change", ({ target }) => (target.value === "webrtc" ? startCall() : hangUp()));

async function startCall() {
  say("Calling …");
  try {
    video.muted = player.muted;
    sent = new SentPictures();
    peer = await call(connection, video);
    video.requestVideoFrameCallback(watchCall);
    [canvas.hidden, video.hidden] = [true, false];
    say("");
    peer.addEventListener("connectionstatechange", () => peer?.connectionState === "failed" && fallBack("The call broke."));
  } catch (error) {
    fallBack(error.message);
  }
}

function fallBack(reason) {
  byId("media").value = "ws";
  hangUp();
  say(reason, true);
}

function hangUp() {
  if (peer) {
    peer.close();
    connection.send({ type: "hang up" });
  }
  [peer, covering] = [null, null];
  [canvas.hidden, video.hidden] = [false, true];
  video.srcObject = null;
}

// Keeping

function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

byId("snapshot").addEventListener("click", () => {
  if (peer) {
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    canvas.getContext("2d").drawImage(video, 0, 0);
  }
  canvas.toBlob((blob) => download(blob, "head.png"), "image/png");
});

const TYPES = ["video/mp4;codecs=avc1.42E01E,mp4a.40.2", "video/mp4", "video/webm;codecs=vp9,opus", "video/webm"];
let recorder = null;

byId("record").addEventListener("click", async ({ target }) => {
  if (recorder) return recorder.stop();
  await turnSoundOn();
  const mimeType = TYPES.find((type) => MediaRecorder.isTypeSupported(type));
  const sound = player.audio.createMediaStreamDestination();
  player.gain.connect(sound);
  const stream = peer ? video.srcObject : new MediaStream([...canvas.captureStream().getTracks(), ...sound.stream.getTracks()]);
  const parts = [];
  recorder = new MediaRecorder(stream, { mimeType, videoBitsPerSecond: 4e6 });
  recorder.ondataavailable = ({ data }) => parts.push(data);
  recorder.onstop = () => {
    player.gain.disconnect(sound);
    recorder = null;
    target.setAttribute("aria-pressed", "false");
    target.textContent = "Record";
    const ending = mimeType.startsWith("video/mp4") ? "mp4" : "webm";
    const blob = new Blob(parts, { type: mimeType });
    figures.recorded = blob.size;
    download(blob, `head.${ending}`);
  };
  recorder.start();
  target.setAttribute("aria-pressed", "true");
  target.textContent = "Stop recording";
});
