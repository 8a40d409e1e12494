// Shows pictures when their sound is played. Sound is the master: a picture waits for its block, and is left out when the
// next one is due.

const SECONDS = 0.04;

export class Player {
  /** @param {HTMLCanvasElement} canvas where the pictures are drawn */
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.pictures = []; // decoded, by block
    this.shown = -1;
    this.onshown = () => {};
    this.audio = null;
    this.muted = true;
    this.reset();
    const draw = () => {
      this.draw();
      requestAnimationFrame(draw);
    };
    requestAnimationFrame(draw);
  }

  /** Forgets everything: another session begins. */
  reset() {
    this.clear(0);
    this.place = null;
    this.shown = -1;
  }

  /** Sound can be played only after a click; before, a clock of the page's takes its place. */
  async unmute() {
    if (!this.audio) {
      this.audio = new AudioContext({ sampleRate: 16000, latencyHint: "interactive" });
      await this.audio.audioWorklet.addModule("/page/sound-worklet.js");
      this.node = new AudioWorkletNode(this.audio, "sound", { numberOfInputs: 0, outputChannelCount: [1] });
      this.node.port.onmessage = ({ data }) => {
        if (!this.muted) this.place = data;
      };
      this.gain = this.audio.createGain();
      this.node.connect(this.gain).connect(this.audio.destination);
    }
    await this.audio.resume();
    if (!this.muted) return;
    // The sound goes on with the next block that comes: where it is told to begin, it says that it is.
    this.node.port.postMessage({ cleared: this.newest + 1 });
    this.muted = false;
  }

  /** Silence, at the same pace. */
  async mute() {
    this.muted = true;
    const position = this.position();
    this.place = position === null ? null : { position, time: performance.now() / 1000 };
    await this.audio?.suspend();
  }

  sound(index, samples) {
    if (!this.muted) {
      this.node.port.postMessage({ index, samples });
    } else if (this.place === null) {
      this.place = { position: index, time: performance.now() / 1000 };
    }
    this.newest = index;
  }

  async picture(index, heard, jpeg) {
    const bitmap = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }));
    if (index < this.first || index <= this.shown) return bitmap.close();
    this.pictures.push({ index, heard, bitmap });
    this.pictures.sort((a, b) => a.index - b.index);
  }

  /** Drops what comes before a block. */
  clear(index) {
    this.first = index;
    for (const each of this.pictures) each.bitmap.close();
    this.pictures = [];
    this.newest = index - 1;
    this.node?.port.postMessage({ cleared: index });
    if (this.muted) this.place = { position: index, time: performance.now() / 1000 };
  }

  /** The block that is heard now, with its fraction; null before the first. */
  position() {
    if (!this.place) return null;
    if (this.muted) {
      // A clock that runs dry waits, as the sound would.
      const position = this.place.position + (performance.now() / 1000 - this.place.time) / SECONDS;
      return Math.min(position, this.newest + 1);
    }
    const passed = this.audio.currentTime - this.place.time - (this.audio.outputLatency || 0);
    return this.place.position + Math.min(passed, SECONDS) / SECONDS;
  }

  draw() {
    // The first picture after an interruption does not wait: there is no sound that it could be ahead of.
    const position = this.shown < this.first && this.pictures.length ? this.pictures[0].index : this.position();
    if (position === null) return;
    let chosen = null;
    while (this.pictures.length && this.pictures[0].index <= position) {
      chosen?.bitmap.close();
      chosen = this.pictures.shift();
    }
    if (!chosen) return;
    const { bitmap, index, heard } = chosen;
    if (this.canvas.width !== bitmap.width || this.canvas.height !== bitmap.height) {
      this.canvas.width = bitmap.width;
      this.canvas.height = bitmap.height;
      this.canvas.parentElement.style.setProperty("--ratio", bitmap.width / bitmap.height);
    }
    this.context.drawImage(bitmap, 0, 0);
    bitmap.close();
    this.shown = index;
    this.onshown({ index, heard, late: position - index });
  }
}
