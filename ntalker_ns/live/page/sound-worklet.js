// Plays blocks of sound one after the other and says, block by block, where it is.

const BLOCK = 640;
const FADE = 80; // samples over which sound that is cut off fades

class Sound extends AudioWorkletProcessor {
  constructor() {
    super();
    this.queue = [];
    this.offset = 0;
    this.last = 0;
    this.next = 0; // the block that follows what was played
    this.port.onmessage = ({ data }) => {
      if (data.cleared !== undefined) {
        this.queue = [];
        this.offset = 0;
        this.next = data.cleared;
      } else {
        this.queue.push(data);
      }
    };
  }

  process(_, outputs) {
    const out = outputs[0][0];
    for (let i = 0; i < out.length; i++) {
      const block = this.queue[0];
      if (!block) {
        this.last *= 1 - 1 / FADE;
        out[i] = this.last;
        continue;
      }
      this.last = out[i] = block.samples ? block.samples[this.offset] : 0;
      if (++this.offset === BLOCK) {
        this.offset = 0;
        this.queue.shift();
        this.next = block.index + 1;
      }
    }
    const block = this.queue[0];
    const position = block ? block.index + this.offset / BLOCK : this.next;
    this.port.postMessage({ position, time: currentTime + out.length / sampleRate, waiting: this.queue.length });
    return true;
  }
}

registerProcessor("sound", Sound);
