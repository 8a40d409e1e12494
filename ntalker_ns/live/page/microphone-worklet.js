// The microphone as 16-bit samples at 16 kHz, 20 ms at a time, whatever rate the machine records at.

const RATE = 16000;
const PIECE = 320;

class Microphone extends AudioWorkletProcessor {
  constructor() {
    super();
    this.step = sampleRate / RATE;
    this.sum = 0;
    this.count = 0;
    this.phase = 0;
    this.piece = new Int16Array(PIECE);
    this.filled = 0;
  }

  process(inputs) {
    const input = inputs[0][0];
    if (!input) return true;
    for (const sample of input) {
      this.sum += sample;
      this.count++;
      if (++this.phase < this.step) continue;
      // The mean of the samples that one of ours stands for: a low-pass that is good enough for speech.
      this.phase -= this.step;
      const value = Math.max(-1, Math.min(1, this.sum / this.count));
      this.sum = this.count = 0;
      this.piece[this.filled++] = Math.round(32767 * value);
      if (this.filled === PIECE) {
        this.port.postMessage(this.piece.slice());
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("microphone", Microphone);
