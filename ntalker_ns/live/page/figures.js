/** What tests and the line under the picture read; lists hold the newest. */
export const figures = {
  pictures: 0,
  soundBytes: 0,
  shownAt: [], // ms
  delays: [], // ms from the microphone to the picture
  late: [], // ms by which the sound was ahead of the picture shown with it
  speaking: false,
  interruptMs: null,
  session: null,
  onPicture: null, // called with what shows a picture, and the samples spoken before it
};
window.figures = figures;
